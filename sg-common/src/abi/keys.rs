//! Map keys. Addresses and ports are in network order, so that the bits of a prefix are the first ones;
//! numbers of ours are in host order, and always compared whole.

use crate::{Address, Be16, Direction};

/// What the two port fields of a [`FlowKey`] hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowKind {
    /// Ports of TCP, UDP or SCTP; zero for protocols without ports.
    Ports = 0,
    /// An ICMP query and its replies, asked by the local end: identifier and query type.
    QueryByLocal = 1,
    /// An ICMP query and its replies, asked by the remote end: identifier and query type.
    QueryByRemote = 2,
    /// Another ICMP message sent by the local end, which nothing answers: type and code.
    OneWayByLocal = 3,
    /// Another ICMP message sent by the remote end, which nothing answers: type and code.
    OneWayByRemote = 4,
    /// A datagram in fragments on its way in: identification, high half first.
    DatagramIn = 5,
    /// A datagram in fragments on its way out: identification, high half first.
    DatagramOut = 6,
    /// Two ends between which datagrams in fragments have passed: zero.
    DatagramPair = 7,
    /// A remote end and its datagrams whose first fragment is missing: zero, and for the local end stands
    /// the remote one.
    DatagramPeer = 8,
}

/// Key of the flow and fragment tables. One entry serves both directions: the ends are local and remote, whatever
/// way a packet goes. 16 bytes for IPv4, 40 for IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    /// The protected end.
    pub local: A,
    /// The other end.
    pub remote: A,
    /// See [`FlowKind`].
    pub local_port: Be16,
    /// See [`FlowKind`].
    pub remote_port: Be16,
    /// Slot of the interface, so that equal addresses in two VPCs stay apart.
    pub slot: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`FlowKind`].
    pub kind: u8,
}

/// Key of `hosts`: one address of one VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct HostKey<A> {
    /// Number of the VPC.
    pub vpc: u32,
    /// The address.
    pub address: A,
}

/// Length in bits of the part of an [`AddressKey`] before its address.
pub const VPC_BITS: u32 = 32;

/// Data of the keys of `cidrs` and `own`; the trie's prefix length counts [`VPC_BITS`] more than the
/// CIDR's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct AddressKey<A> {
    /// `cidrs`: number of the VPC. `own`: slot of the interface.
    pub space: u32,
    /// The address, host bits clear.
    pub address: A,
}

/// Data of the keys of `permits`. The fields stand in the order in which a rule may leave them open: a
/// rule for every protocol ends behind `class`, one for every port behind `protocol`, and a port range is
/// a handful of prefixes of `port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct PermitKey {
    /// Number of the policy.
    pub policy: u32,
    /// Number of the peer class.
    pub class: u32,
    /// A [`Direction`], and [`PermitKey::SOME_PORT`].
    pub direction: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; ICMP: type and code.
    pub port: Be16,
}

impl<A: Address> FlowKey<A> {
    /// Copies field by field: a copy of the whole is a call of `memmove`, which on BPF is a loop over bytes.
    #[inline(always)]
    pub fn assign(&mut self, other: &Self) {
        self.local.assign(&other.local);
        self.remote.assign(&other.remote);
        self.local_port = other.local_port;
        self.remote_port = other.remote_port;
        self.slot = other.slot;
        self.protocol = other.protocol;
        self.kind = other.kind;
    }
}

impl PermitKey {
    /// Bits of a key that leaves the protocol open.
    pub const ANY_PROTOCOL_BITS: u32 = 72;
    /// Bits of a key that leaves port, or type and code, open.
    pub const PROTOCOL_BITS: u32 = 80;
    /// Bits of a key that leaves nothing open.
    pub const BITS: u32 = 96;

    /// Bit of `direction`: does some rule allow some port of the protocol, or some type and code? Asked for
    /// fragments that come before the first of their datagram. Permits that leave the port open have no
    /// second one for that.
    pub const SOME_PORT: u8 = 2;

    /// A key that leaves nothing open.
    #[inline(always)]
    #[must_use]
    pub fn new(policy: u32, class: u32, direction: Direction, protocol: u8, port: Be16) -> Self {
        Self { policy, class, direction: direction as u8, protocol, port }
    }
}

impl<A: Address> AddressKey<A> {
    /// A key for looking an address up.
    #[inline(always)]
    #[must_use]
    pub fn new(space: u32, address: A) -> Self {
        Self { space, address }
    }
}

impl<A: Address> HostKey<A> {
    /// The key of an address.
    #[inline(always)]
    #[must_use]
    pub fn new(vpc: u32, address: A) -> Self {
        Self { vpc, address }
    }
}
