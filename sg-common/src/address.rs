//! IPv4 and IPv6 addresses behind one trait, so that every step after parsing is written once.
//!
//! An address holds its bytes in network order, in words: BPF moves words, and a key that is copied byte by
//! byte needs more stack than a program has.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Address family, as events and counters report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

impl Family {
    /// The version number in the header.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// An address, its bytes in network order.
pub trait Address: Copy + Eq + 'static {
    /// Which family.
    const FAMILY: Family;
    /// Length in bits.
    const BITS: u32;
    /// The class number of the peer "everybody" of this family.
    const ANYONE: u32;

    /// All zero bits: 0.0.0.0 or `::`.
    fn is_unspecified(self) -> bool;
    /// 127.0.0.0/8 or `::1`.
    fn is_loopback(self) -> bool;
    /// Not one host's address: multicast (224.0.0.0/4, `ff00::/8`) or 255.255.255.255.
    fn is_multicast(self) -> bool;
    /// 169.254.0.0/16 (RFC 3927) or `fe80::/10` (RFC 4291, section 2.5.6).
    fn is_link_local(self) -> bool;
    /// `::ffff:0:0/96`: an IPv4 address that a socket shows as one of IPv6, and that no packet carries
    /// (RFC 4942, section 2.2): behind the header it would pass for 127.0.0.1 or the interface's own.
    fn is_mapped(self) -> bool;
    /// The address in the first bytes of a fixed record, zero behind it.
    fn widen(self) -> [u32; 4];
    /// The address in such a record.
    fn narrow(wide: [u32; 4]) -> Self;
    /// A number that depends on every bit.
    fn mix(self) -> u32;
    /// Copies word by word; see [`crate::abi::FlowKey::assign`].
    fn assign(&mut self, other: &Self);
}

/// An IPv4 address.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
)]
#[repr(transparent)]
pub struct V4(u32);

/// An IPv6 address.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
)]
#[repr(transparent)]
pub struct V6([u32; 4]);

impl V4 {
    /// From bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl V6 {
    /// From bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(zerocopy::transmute!(bytes))
    }

    /// The bytes in network order.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        zerocopy::transmute!(self.0)
    }
}

impl Address for V4 {
    const FAMILY: Family = Family::V4;
    const BITS: u32 = 32;
    const ANYONE: u32 = crate::abi::CLASS_ANYONE_V4;

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.octets()[0] == 127
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.octets()[0] & 0xf0 == 0xe0 || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let [first, second, ..] = self.octets();
        first == 169 && second == 254
    }

    #[inline(always)]
    fn is_mapped(self) -> bool {
        false
    }

    #[inline(always)]
    fn widen(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }

    #[inline(always)]
    fn narrow([address, ..]: [u32; 4]) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn mix(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn assign(&mut self, other: &Self) {
        self.0 = other.0;
    }
}

impl Address for V6 {
    const FAMILY: Family = Family::V6;
    const BITS: u32 = 128;
    const ANYONE: u32 = crate::abi::CLASS_ANYONE_V6;

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        let Self([a, b, c, d]) = self;
        a | b | c | d == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        let Self([a, b, c, d]) = self;
        a | b | c == 0 && d == u32::from_ne_bytes([0, 0, 0, 1])
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        let [first, second, ..] = self.0[0].to_ne_bytes();
        first == 0xfe && second & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_mapped(self) -> bool {
        let Self([a, b, c, _]) = self;
        a | b == 0 && c == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    #[inline(always)]
    fn widen(self) -> [u32; 4] {
        self.0
    }

    #[inline(always)]
    fn narrow(wide: [u32; 4]) -> Self {
        Self(wide)
    }

    #[inline(always)]
    fn mix(self) -> u32 {
        let Self([a, b, c, d]) = self;
        a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d.rotate_left(24)
    }

    #[inline(always)]
    fn assign(&mut self, other: &Self) {
        self.0[0] = other.0[0];
        self.0[1] = other.0[1];
        self.0[2] = other.0[2];
        self.0[3] = other.0[3];
    }
}

/// A 16-bit field in network byte order: a port, an ICMP identifier.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
)]
#[repr(transparent)]
pub struct Be16(u16);

impl Be16 {
    /// From bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// From a number.
    #[inline(always)]
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value.to_be())
    }

    /// The bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}
