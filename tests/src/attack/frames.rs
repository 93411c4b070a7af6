//! Packets by their fields, for attacks that need many or need them broken in a way of their own.

use std::net::IpAddr;

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
    checksum::Sum16BitWords,
};
use sg_common::wire::ip::{ICMP, ICMPV6, TCP, UDP};

pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
const FRAGMENT_HEADER: u8 = 44;

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// The MAC addresses that frames travel between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) source: [u8; 6],
    pub(crate) destination: [u8; 6],
}

impl Link {
    /// An Ethernet frame.
    pub(crate) fn frame(&self, ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
        [&self.destination[..], &self.source, &ethertype, payload].concat()
    }

    /// A whole IP packet; its checksums are right.
    pub(crate) fn packet(&self, ends: Ends, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.frame(ends.ethertype(), &ends.packet(protocol, payload))
    }

    /// One fragment with any place and any bytes.
    pub(crate) fn fragment(&self, ends: Ends, protocol: u8, place: Place, bytes: &[u8]) -> Vec<u8> {
        self.frame(ends.ethertype(), &ends.fragment(protocol, place, bytes))
    }

    /// A datagram in fragments of `size` bytes.
    pub(crate) fn fragments(
        &self,
        ends: Ends,
        protocol: u8,
        id: u32,
        datagram: &[u8],
        size: usize,
    ) -> Vec<Vec<u8>> {
        let datagram = ends.checksummed(protocol, datagram);
        let mut fragments = Vec::new();
        for (index, bytes) in datagram.chunks(size).enumerate() {
            let more = (index + 1) * size < datagram.len();
            let place = Place { id, offset: index * size, more };
            fragments.push(self.fragment(ends, protocol, place, bytes));
        }
        fragments
    }
}

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) id: u32,
    /// In bytes, a multiple of 8.
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

/// The addresses of a packet, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Ends {
    pub(crate) fn new(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Self {
        Self { source: source.into(), destination: destination.into() }
    }

    pub(crate) const fn reverse(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    pub(crate) const fn is_v4(self) -> bool {
        self.source.is_ipv4()
    }

    /// Its name, for the table.
    pub(crate) const fn family(self) -> &'static str {
        if self.is_v4() { "IPv4" } else { "IPv6" }
    }

    pub(crate) const fn ethertype(self) -> [u8; 2] {
        if self.is_v4() { IPV4 } else { IPV6 }
    }

    /// The protocol number of ICMP in this family.
    pub(crate) const fn icmp(self) -> u8 {
        if self.is_v4() { ICMP } else { ICMPV6 }
    }

    /// IP header and payload, the payload's checksum filled in.
    pub(crate) fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.raw(protocol, None, &self.checksummed(protocol, payload))
    }

    pub(crate) fn fragment(self, protocol: u8, place: Place, bytes: &[u8]) -> Vec<u8> {
        self.raw(protocol, Some(place), bytes)
    }

    fn raw(self, protocol: u8, place: Option<Place>, payload: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    total_len: short(20 + payload.len()),
                    time_to_live: 64,
                    protocol: IpNumber(protocol),
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                if let Some(place) = place {
                    header.identification = (place.id & 0xffff).try_into().unwrap_or_default();
                    header.more_fragments = place.more;
                    header.fragment_offset = offset(place);
                }
                header.header_checksum = header.calc_header_checksum();
                [&header.to_bytes(), payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let part = place.map(|place| Ipv6FragmentHeader {
                    next_header: IpNumber(protocol),
                    fragment_offset: offset(place),
                    more_fragments: place.more,
                    identification: place.id,
                });
                let part = part.map_or(Vec::new(), |part| part.to_bytes().to_vec());
                let header = Ipv6Header {
                    payload_length: short(part.len() + payload.len()),
                    next_header: IpNumber(if part.is_empty() { protocol } else { FRAGMENT_HEADER }),
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                [&header.to_bytes(), &part[..], payload].concat()
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        }
    }

    /// A transport header and its payload with the right checksum.
    pub(crate) fn checksummed(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = payload.to_vec();
        let at = match protocol {
            TCP => 16,
            UDP => 6,
            ICMP | ICMPV6 => 2,
            _ => return bytes,
        };
        if bytes.len() < at + 2 {
            return bytes;
        }
        bytes[at..at + 2].fill(0);
        let mut sum = Sum16BitWords::new();
        if protocol != ICMP {
            for address in [self.source, self.destination] {
                sum = match address {
                    IpAddr::V4(address) => sum.add_slice(&address.octets()),
                    IpAddr::V6(address) => sum.add_slice(&address.octets()),
                };
            }
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            sum = sum.add_slice(&length).add_slice(&[0, protocol]);
        }
        let sum = sum.add_slice(&bytes).to_ones_complement_with_no_zero();
        // As it lies in memory: the sum was taken over words of the machine's own order.
        bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        bytes
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn offset(place: Place) -> IpFragOffset {
    IpFragOffset::try_from(short(place.offset / 8)).unwrap_or(IpFragOffset::ZERO)
}

/// The fields of a segment that attacks choose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    pub(crate) ports: (u16, u16),
    /// As in the header's byte.
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
}

impl Segment {
    pub(crate) fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(self.ports.0, self.ports.1, self.sequence, 64240);
        header.acknowledgment_number = self.acknowledgement;
        let mut bytes = header.to_bytes().to_vec();
        bytes[13] = self.flags;
        bytes.extend(payload);
        bytes
    }
}

pub(crate) fn udp((source_port, destination_port): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = short(UdpHeader::LEN + payload.len());
    let header = UdpHeader { source_port, destination_port, length, checksum: 0 };
    [&header.to_bytes(), payload].concat()
}

/// ICMP of any type; `word` is what stands behind the checksum.
pub(crate) fn icmp(kind: u8, code: u8, word: u32, payload: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0], &word.to_be_bytes()[..], payload].concat()
}

#[cfg(test)]
mod tests {
    use etherparse::{InternetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn checksums_are_right_in_both_families() {
        let link = Link { source: [2; 6], destination: [4; 6] };
        let v4 = Ends::new([10, 0, 0, 1], [10, 0, 0, 2]);
        let v6 = Ends::new([0x20, 1, 0, 0, 0, 0, 0, 1], [0x20, 1, 0, 0, 0, 0, 0, 2]);
        for ends in [v4, v6] {
            let segment = Segment { ports: (1, 2), flags: 2, sequence: 7, acknowledgement: 0 };
            let frame = link.packet(ends, TCP, &segment.bytes(b"odd"));
            let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("TCP") };
            let expected = match packet.net {
                Some(InternetSlice::Ipv4(ip)) => {
                    let header = ip.header();
                    tcp.calc_checksum_ipv4(header.source(), header.destination())
                }
                Some(InternetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    tcp.calc_checksum_ipv6(header.source(), header.destination())
                }
                _ => panic!("IP"),
            };
            assert_eq!(Some(tcp.checksum()), expected.ok());
        }
    }

    #[test]
    fn fragments_cover_the_datagram() {
        let link = Link { source: [2; 6], destination: [4; 6] };
        let ends = Ends::new([10, 0, 0, 1], [10, 0, 0, 2]);
        let fragments = link.fragments(ends, UDP, 7, &udp((1, 2), &[5; 100]), 40);
        let lengths: Vec<_> = fragments.iter().map(|one| one.len() - ETHERNET - 20).collect();
        assert_eq!(lengths, [40, 40, 28]);
    }
}
