//! What stands behind the network header.

use super::{icmp, ip, sctp, tcp};
use crate::{Be16, Family, Packet, Reason};

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

/// Reads the transport header of `protocol` at `offset` of a payload of `length` bytes.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated or a length cannot be.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(
    packet: &P,
    family: Family,
    protocol: u8,
    offset: usize,
    length: usize,
) -> Result<Transport, Reason> {
    match (protocol, family) {
        (ip::TCP, _) => tcp::parse(packet, offset, length).map(Transport::Tcp),
        (ip::UDP, _) => udp(packet, offset, length),
        (ip::SCTP, _) => sctp::parse(packet, offset, length).map(Transport::Sctp),
        // ICMP inside IPv6 and ICMPv6 inside IPv4 are protocols like any other: no host listens.
        (ip::ICMP, Family::V4) | (ip::ICMPV6, Family::V6) => {
            icmp::parse(packet, offset, length).map(Transport::Icmp)
        }
        _ => Ok(Transport::Other),
    }
}

/// UDP (RFC 768). The length field covers header and data; zero is legal in jumbograms and in batches
/// that the stack has yet to cut (RFC 2675).
#[inline(always)]
fn udp<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> Result<Transport, Reason> {
    let b = packet.load::<UDP_HEADER>(offset).ok_or(Reason::Malformed)?;
    let stated = usize::from(u16::from_be_bytes([b[4], b[5]]));
    let possible = stated >= UDP_HEADER && stated <= length || stated == 0 && packet.is_gso();
    if length < UDP_HEADER || !possible {
        return Err(Reason::Malformed);
    }
    Ok(Transport::Udp(Be16::from_bytes([b[0], b[1]]), Be16::from_bytes([b[2], b[3]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_lengths() {
        for (stated, length, ok) in
            [(8, 8, true), (9, 8, false), (7, 8, false), (0, 8, false), (8, 20, true), (8, 7, false)]
        {
            let mut bytes = [0, 53, 4, 210, 0, 0, 0, 0];
            bytes[5] = stated;
            assert_eq!(udp(bytes.as_slice(), 0, length).is_ok(), ok, "{stated} of {length}");
        }
    }

    #[test]
    fn the_other_familys_icmp_is_another_protocol() {
        let bytes = [8_u8, 0, 0, 0, 0, 1, 0, 0];
        for (family, protocol) in [(Family::V6, ip::ICMP), (Family::V4, ip::ICMPV6)] {
            assert_eq!(
                parse(bytes.as_slice(), family, protocol, 0, 8),
                Ok(Transport::Other)
            );
        }
    }
}
