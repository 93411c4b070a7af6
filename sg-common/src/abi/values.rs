//! Map values other than flows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::FlowKey;
use crate::{Direction, Reason};

/// No peer: the address is in nothing that a rule names.
pub const CLASS_NONE: u32 = 0;
/// Every IPv4 address.
pub const CLASS_ANYONE_V4: u32 = 1;
/// Every IPv6 address.
pub const CLASS_ANYONE_V6: u32 = 2;
/// The first class number that the compiler gives to a set of peers.
pub const CLASS_FIRST_FREE: u32 = 3;

/// Value of `classes`: two versions of a class number in one word, so that neither is ever half written.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct ClassWord(pub u64);

impl ClassWord {
    /// A word with both versions.
    #[must_use]
    pub const fn new(versions: [u32; 2]) -> Self {
        Self(versions[0] as u64 | (versions[1] as u64) << 32)
    }

    /// The class number in the version that `generation` selects.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the word is two 32-bit halves")]
    pub const fn version(self, generation: u64) -> u32 {
        if generation & 1 == 0 { self.0 as u32 } else { (self.0 >> 32) as u32 }
    }
}

/// Bits of [`InterfaceVersion::flags`].
#[derive(Debug, Clone, Copy)]
pub struct InterfaceFlags;

impl InterfaceFlags {
    /// ARP passes.
    pub const ARP: u32 = 1;
    /// DHCP and DHCPv6 pass between client and server ports.
    pub const DHCP: u32 = 1 << 1;
    /// IPv6 neighbour discovery passes.
    pub const NEIGHBOUR_DISCOVERY: u32 = 1 << 2;
    /// Router solicitation out and router advertisement in pass.
    pub const ROUTER_DISCOVERY: u32 = 1 << 3;
    /// IGMP and MLD pass.
    pub const MULTICAST_LISTENER: u32 = 1 << 4;
    /// Sources are checked (`source_dest_check`).
    pub const SOURCE_CHECK: u32 = 1 << 5;
    /// Everybody does not include 169.254.0.0/16 (dialect `kakao`).
    pub const ANYONE_WITHOUT_LINK_LOCAL: u32 = 1 << 6;
    /// [`InterfaceVersion::mac`] is the only source MAC address.
    pub const MAC: u32 = 1 << 7;
    /// Flows that the rules no longer allow are cut (`live_flows: cut`).
    pub const CUT_LIVE_FLOWS: u32 = 1 << 8;
}

/// Names of the flags, in the order of their bits.
pub const INTERFACE_FLAGS: [&str; 9] = [
    "arp",
    "dhcp",
    "neighbour_discovery",
    "router_discovery",
    "multicast_listener",
    "source_dest_check",
    "anyone_without_link_local",
    "mac",
    "cut_live_flows",
];

/// One version of what an interface is judged by.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct InterfaceVersion {
    /// Number of the policy; 0: none, everything is dropped.
    pub policy: u32,
    /// [`InterfaceFlags`].
    pub flags: u32,
    /// Idle timeout of established TCP flows in seconds.
    pub tcp_established: u32,
    /// Idle timeout of UDP flows with at most one request and response, in seconds.
    pub udp: u16,
    /// Idle timeout of UDP flows with more, in seconds.
    pub udp_stream: u16,
    /// See [`InterfaceFlags::MAC`].
    pub mac: [u8; 6],
    /// Rises when a change narrows what the interface lets through: flows judged under another one are
    /// judged again where they must be.
    pub epoch: u16,
    /// Established flows that the interface may have, per address family: its elements of the reclaiming
    /// clock.
    pub flow_limit: u32,
    /// The first of these elements.
    pub flow_base: u32,
}

impl InterfaceVersion {
    /// A `flow_limit` that is not set: the loader puts the interface's share of the table in its place.
    pub const SHARED_FLOWS: u32 = u32::MAX;
}

/// Value of `interfaces`: one cache line an interface.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Interface {
    /// The two versions; the generation's lowest bit selects.
    pub versions: [InterfaceVersion; 2],
}

/// Value of `permits`: a rule, and whether AWS would leave the flow untracked that it opens.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Permit(pub u32);

impl Permit {
    /// The highest rule number.
    pub const MAX_RULE: u32 = u32::MAX >> 1;
    const UNTRACKED: u32 = !Self::MAX_RULE;

    /// A permit of a rule, whose number is at most [`Self::MAX_RULE`].
    #[must_use]
    pub const fn new(rule: u32, untracked: bool) -> Self {
        Self(rule & Self::MAX_RULE | if untracked { Self::UNTRACKED } else { 0 })
    }

    /// Number of the rule.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u32 {
        self.0 & Self::MAX_RULE
    }

    /// Whether the rule is to everywhere, and another to everywhere allows every response.
    #[inline(always)]
    #[must_use]
    pub const fn is_untracked(self) -> bool {
        self.0 & Self::UNTRACKED != 0
    }
}

/// Element of the reclaiming clock: the flow that owns it, and when to look at that flow again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClockEntry<A> {
    /// Nanoseconds of the monotonic clock; 0: nobody owns it.
    pub deadline: u64,
    /// Key of the owner.
    pub key: FlowKey<A>,
}

/// Packets and bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counter {
    /// Number of packets.
    pub packets: u64,
    /// Their bytes, link layer included.
    pub bytes: u64,
}

/// Room for reasons in `counters`: every [`Reason`] number is below.
pub const REASON_SLOTS: u32 = 64;

/// Index into `counters`.
#[inline(always)]
#[must_use]
pub const fn counter_index(slot: u16, direction: Direction, reason: Reason) -> u32 {
    (slot as u32 * 2 + direction as u32) * REASON_SLOTS + reason as u32
}

/// Element of `rule_hits`: what has passed because of one rule. No two rules in force share an element, but a
/// rule that has gone and one that came after it may: each counts only where the element is its own.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuleCounter {
    /// Number of the rule that owns the element; 0: nobody does.
    pub rule: u32,
    /// Since when, in whole seconds of the monotonic clock.
    pub since: u32,
    /// Number of packets.
    pub packets: u64,
    /// Their bytes, link layer included.
    pub bytes: u64,
    /// When the last one came, in nanoseconds of the monotonic clock; 0: none did.
    pub last: u64,
}

impl RuleCounter {
    /// Adds one packet of a rule, if the element is that rule's.
    #[inline(always)]
    pub fn add(&mut self, rule: u32, length: u32, now: u64) {
        if self.rule == rule {
            self.packets += 1;
            self.bytes += u64::from(length);
            self.last = now;
        }
    }
}

/// What became of the events of one processor.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StreamCounters {
    /// Written into the ring buffer.
    pub emitted: u64,
    /// Drops beyond the budget of their second.
    pub suppressed: u64,
    /// Not written, because the ring buffer was full.
    pub lost: u64,
    /// The second to which `used` belongs.
    pub second: u64,
    /// Drops emitted in that second.
    pub used: u64,
}

/// The last packet's decision, left for a test run.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DecisionRecord {
    /// See [`crate::Decision::rule`].
    pub rule: u32,
    /// Number of the [`Reason`].
    pub reason: u8,
    /// Zero.
    pub padding: [u8; 3],
}
