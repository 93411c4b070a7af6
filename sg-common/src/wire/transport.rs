//! What stands behind the network header.

use super::ip::IpHeader;
use super::{icmp, ip, sctp, tcp};
use crate::{Address, Be16, Family, Packet, Reason};

/// Length of a UDP header.
const UDP_HEADER: usize = 8;

/// A transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(tcp::Segment),
    /// UDP: source and destination port.
    Udp(Be16, Be16),
    /// ICMP with IPv4, ICMPv6 with IPv6.
    Icmp(icmp::Message),
    /// SCTP.
    Sctp(sctp::Head),
    /// Any other protocol: nothing behind the network header is read.
    Other,
}

/// Reads the transport header that `header` leads to, into `transport`. In the first of several fragments
/// the whole header must stand, not all that it announces.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated or a length cannot be; `transport` is then as it was.
#[inline(always)]
pub fn parse<A: Address, P: Packet + ?Sized>(
    packet: &P,
    header: &IpHeader<A>,
    transport: &mut Transport,
) -> Result<(), Reason> {
    let (offset, length) = (header.payload, header.payload_length);
    let more = header.more_fragments;
    // Each arm writes for itself: a value that joins them has parts that are undefined in some, which the
    // verifier does not let a program store.
    match (header.protocol, A::FAMILY) {
        (ip::TCP, _) => *transport = Transport::Tcp(tcp::parse(packet, offset, length)?),
        (ip::UDP, _) => udp(packet, offset, length, more, transport)?,
        (ip::SCTP, _) => *transport = Transport::Sctp(sctp::parse(packet, offset, length)?),
        // ICMP inside IPv6 and ICMPv6 inside IPv4 are protocols like any other: no host listens.
        (ip::ICMP, Family::V4) | (ip::ICMPV6, Family::V6) => {
            *transport = Transport::Icmp(icmp::parse(packet, offset, length)?);
        }
        _ => *transport = Transport::Other,
    }
    Ok(())
}

/// Bytes of a transport header, as far as a later fragment may not touch it: with what it says of its own
/// length.
#[inline(always)]
pub(crate) fn header_length<A>(header: &IpHeader<A>, transport: &Transport) -> usize {
    match transport {
        Transport::Tcp(segment) => header.payload_length - segment.data as usize,
        Transport::Udp(..) => UDP_HEADER,
        Transport::Icmp(_) => icmp::HEADER,
        Transport::Sctp(_) => sctp::HEADER,
        Transport::Other => 0,
    }
}

/// Bytes that the shortest transport header of a protocol takes.
#[inline(always)]
pub(crate) const fn shortest_header(protocol: u8) -> usize {
    match protocol {
        ip::TCP => tcp::HEADER,
        ip::UDP => UDP_HEADER,
        ip::ICMP | ip::ICMPV6 => icmp::HEADER,
        ip::SCTP => sctp::HEADER,
        _ => 0,
    }
}

/// UDP (RFC 768). The length field covers header and data; zero is legal in jumbograms and in batches
/// that the stack has yet to cut (RFC 2675).
#[inline(always)]
fn udp<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    length: usize,
    more_follows: bool,
    transport: &mut Transport,
) -> Result<(), Reason> {
    let b = packet.load::<UDP_HEADER>(offset).ok_or(Reason::Malformed)?;
    let stated = usize::from(u16::from_be_bytes([b[4], b[5]]));
    let fits = stated <= length || more_follows;
    let possible = stated >= UDP_HEADER && fits || stated == 0 && packet.is_gso();
    if length < UDP_HEADER || !possible {
        return Err(Reason::Malformed);
    }
    let (source, destination) = ([b[0], b[1]], [b[2], b[3]]);
    *transport = Transport::Udp(Be16::from_bytes(source), Be16::from_bytes(destination));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{V4, V6};

    #[test]
    fn udp_lengths() {
        for (stated, length, ok) in [
            (8, 8, true),
            (9, 8, false),
            (7, 8, false),
            (0, 8, false),
            (8, 20, true),
            (8, 7, false),
        ] {
            let mut bytes = [0, 53, 4, 210, 0, 0, 0, 0];
            bytes[5] = stated;
            let mut transport = Transport::Other;
            let parsed = udp(bytes.as_slice(), 0, length, false, &mut transport);
            assert_eq!(parsed.is_ok(), ok, "{stated} of {length}");
        }
    }

    #[test]
    fn the_other_familys_icmp_is_another_protocol() {
        let bytes = [8_u8, 0, 0, 0, 0, 1, 0, 0];
        let mut transport = Transport::Udp(Be16::new(1), Be16::new(2));
        let v4 = IpHeader::<V4> { protocol: ip::ICMPV6, payload_length: 8, ..Default::default() };
        assert_eq!(parse(bytes.as_slice(), &v4, &mut transport), Ok(()));
        assert_eq!(transport, Transport::Other);
        let v6 = IpHeader::<V6> { protocol: ip::ICMP, payload_length: 8, ..Default::default() };
        assert_eq!(parse(bytes.as_slice(), &v6, &mut transport), Ok(()));
        assert_eq!(transport, Transport::Other);
    }
}
