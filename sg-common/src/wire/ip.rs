//! What IPv4 and IPv6 headers have in common once they are parsed.

use crate::{Address, Packet, Reason};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IGMP.
pub const IGMP: u8 = 2;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// A network header, walked to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpHeader<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Protocol number of what follows.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Whether it is one of several fragments.
    pub fragment: bool,
    /// Offset of what follows.
    pub payload: usize,
    /// Bytes that follow and belong to the packet, without the link layer's padding.
    pub payload_length: usize,
    /// Room for the options of IPv4 while they are read.
    pub(crate) options: [u8; super::ipv4::MAX_OPTIONS],
}

impl<A: Default> Default for IpHeader<A> {
    fn default() -> Self {
        Self {
            source: A::default(),
            destination: A::default(),
            protocol: 0,
            hop_limit: 0,
            fragment: false,
            payload: 0,
            payload_length: 0,
            options: [0; super::ipv4::MAX_OPTIONS],
        }
    }
}

/// An address family whose header can be read.
pub trait IpVersion: Address {
    /// Reads the header at `offset` into `header`.
    ///
    /// # Errors
    /// The reason to drop the packet; `header` is then not whole.
    fn parse<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason>;
}
