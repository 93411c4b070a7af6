//! What a captured frame says, for tests that ask "did this packet get here?".

use std::net::{IpAddr, SocketAddr};

use etherparse::{InternetSlice, SlicedPacket, TransportSlice};

/// One frame seen by a capture.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the destination MAC on, VLAN tags included.
    pub bytes: Vec<u8>,
    /// Sent by the captured device, rather than received.
    pub outgoing: bool,
}

impl Frame {
    /// Its layers; none for what etherparse calls malformed.
    #[must_use]
    pub fn slice(&self) -> Option<SlicedPacket<'_>> {
        SlicedPacket::from_ethernet(&self.bytes).ok()
    }

    /// Source and destination address of an IP packet.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self.slice()?.net? {
            InternetSlice::Ipv4(ip) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            InternetSlice::Ipv6(ip) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            InternetSlice::Arp(_) => None,
        }
    }

    /// The IP protocol, behind any extension headers.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        Some(self.slice()?.net?.ip_payload_ref()?.ip_number.0)
    }

    /// Source and destination port of a TCP or UDP packet.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.slice()?.transport? {
            TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
            TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
            TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => None,
        }
    }

    /// Is it a TCP or UDP packet to this address and port?
    #[must_use]
    pub fn is_to(&self, to: SocketAddr) -> bool {
        let address = self.addresses().is_some_and(|(_, destination)| destination == to.ip());
        address && self.ports().is_some_and(|(_, destination)| destination == to.port())
    }

    /// Is it an IP packet from one address to another?
    #[must_use]
    pub fn is_between(&self, from: IpAddr, to: IpAddr) -> bool {
        self.addresses() == Some((from, to))
    }

    /// Does it ask for an echo, by ICMP or ICMPv6?
    #[must_use]
    pub fn is_echo_request(&self) -> bool {
        match self.slice().and_then(|slice| slice.transport) {
            Some(TransportSlice::Icmpv4(icmp)) => icmp.type_u8() == 8,
            Some(TransportSlice::Icmpv6(icmp)) => icmp.type_u8() == 128,
            Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_) | TransportSlice::Igmp(_))
            | None => false,
        }
    }

    /// Is it something that hosts say unasked: ARP, neighbour discovery, MLD, IGMP?
    #[must_use]
    pub fn is_chatter(&self) -> bool {
        let Some(slice) = self.slice() else { return false };
        match (&slice.net, &slice.transport) {
            (Some(InternetSlice::Arp(_)), _) => true,
            (_, Some(TransportSlice::Icmpv6(icmp))) => {
                matches!(icmp.type_u8(), 130..=137 | 143)
            }
            _ => self.protocol() == Some(2),
        }
    }
}

impl std::fmt::Debug for Frame {
    /// One line: bytes alone tell a person nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.outgoing { "out" } else { "in" };
        write!(f, "{way} {} bytes", self.bytes.len())?;
        if let Some((from, to)) = self.addresses() {
            write!(f, " {from} > {to}")?;
        }
        if let Some(protocol) = self.protocol() {
            write!(f, " protocol {protocol}")?;
        }
        if let Some((from, to)) = self.ports() {
            write!(f, " ports {from} > {to}")?;
        }
        Ok(())
    }
}
