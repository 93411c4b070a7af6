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
    /// Identification of the datagram that a fragment is part of.
    pub fragment_id: u32,
    /// Where in that datagram the fragment begins, in bytes.
    pub fragment_offset: u16,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// Whether the packet says of itself that it is a fragment, and be it the only one (RFC 6946).
    pub has_fragment_header: bool,
    /// Offset of what the datagram consists of: of the transport header, or of the extension headers that
    /// stand behind a fragment header.
    pub fragment_start: usize,
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
            fragment_id: 0,
            fragment_offset: 0,
            more_fragments: false,
            has_fragment_header: false,
            fragment_start: 0,
            payload: 0,
            payload_length: 0,
            options: [0; super::ipv4::MAX_OPTIONS],
        }
    }
}

/// How much of a datagram a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its beginning, with the transport header.
    First,
    /// Something behind that.
    Later,
}

impl<A> IpHeader<A> {
    /// How much of its datagram the packet holds.
    #[inline(always)]
    #[must_use]
    pub const fn part(&self) -> Part {
        if self.fragment_offset != 0 {
            Part::Later
        } else if self.more_fragments {
            Part::First
        } else {
            Part::Whole
        }
    }

    /// Refuses a fragment that cannot be: empty, not in units of eight bytes though more follow, or
    /// beyond the longest datagram (RFC 791, section 3.2; RFC 8200, section 4.5).
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    #[inline(always)]
    pub(crate) const fn check_fragment(&self, length: usize) -> Result<(), Reason> {
        let beyond = self.fragment_offset as usize + length > LONGEST_DATAGRAM;
        if length == 0 || beyond || self.more_fragments && !length.is_multiple_of(8) {
            return Err(Reason::Malformed);
        }
        Ok(())
    }
}

/// What 13 bits of offset and 16 bits of length can say.
const LONGEST_DATAGRAM: usize = 65535;

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

    /// Reads the header of a packet that an ICMP error quotes at `offset`: most of it may be missing.
    /// What is there ends before `end`.
    ///
    /// # Errors
    /// [`Reason::IcmpError`] when what is quoted is no header.
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &P,
        offset: usize,
        end: usize,
        header: &mut IpHeader<Self>,
    ) -> Result<(), Reason>;
}
