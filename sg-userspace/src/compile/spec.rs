//! What a policy compiles to: every entry of every map that holds policy, by content.
//!
//! Maps are ordered, so that equal policies give equal specs, byte for byte. The kernel's encodings stand
//! beside the readable keys ([`PermitPrefix::key`], [`Prefix::key`]), nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display, Formatter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sg_common::abi::{AddressKey, HostKey, InterfaceVersion, PermitKey, VPC_BITS};
use sg_common::{Attachment, Be16, Direction, V4, V6};

use super::numbering::RuleSlots;
use super::rule_info::{PeerSpec, RuleInfo};
use super::serial;
use crate::policy::model::Side;

/// Everything that the loader writes, and what the numbers in it stand for.
///
/// Numbers keep their meaning: a spec compiled with a previous one at hand gives the same number to the
/// same content, and a number that the previous one did not use to new content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The local interfaces, by slot.
    #[serde(with = "serial::pairs")]
    pub interfaces: BTreeMap<u16, InterfaceSpec>,
    /// Contents of `permits`: the lowest rule that covers the prefix. An entry that would say what the
    /// next shorter one says is left out. The number is a
    /// [`Permit`](sg_common::abi::Permit)'s.
    #[serde(with = "serial::pairs")]
    pub permits: BTreeMap<PermitPrefix, u32>,
    /// The tables of IPv4 addresses.
    pub v4: AddressSpec<Ipv4Addr>,
    /// The tables of IPv6 addresses.
    pub v6: AddressSpec<Ipv6Addr>,
    /// Names of the VPCs with local interfaces, by number.
    #[serde(with = "serial::pairs")]
    pub vpcs: BTreeMap<u32, String>,
    /// What local policies name, by number.
    #[serde(with = "serial::pairs")]
    pub peers: BTreeMap<u32, PeerSpec>,
    /// Classes by number: sorted numbers of their peers, all of one VPC.
    #[serde(with = "serial::pairs")]
    pub classes: BTreeMap<u32, Vec<u32>>,
    /// Policies by number.
    #[serde(with = "serial::pairs")]
    pub policies: BTreeMap<u32, PolicySpec>,
    /// Rules by number, for events and `explain`.
    #[serde(with = "serial::pairs")]
    pub rules: BTreeMap<u32, RuleInfo>,
    /// How many rules can be in force: so many low bits of their numbers tell them apart.
    #[serde(default)]
    pub rule_slots: RuleSlots,
    /// Whether flows that a change no longer allows are cut (`live_flows: cut`).
    pub cut_live_flows: bool,
    /// Where the search for a fresh number goes on.
    pub next: NextNumbers,
}

/// One local interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// Number of its VPC.
    pub vpc: u32,
    /// Name of its VPC.
    pub vpc_name: String,
    /// What the data plane judges it by.
    #[serde(with = "serial::VersionDef")]
    pub version: InterfaceVersion,
    /// Which end of its devices is protected.
    #[serde(with = "serial::SideDef")]
    pub side: Side,
    /// Names of its groups, in file order.
    pub groups: Vec<String>,
    /// The devices that the file names for it.
    pub devices: Vec<String>,
}

/// What a policy number stands for: with the classes it decides every permit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Number of its VPC.
    pub vpc: u32,
    /// Names of the groups that it is the union of, in file order.
    pub groups: Vec<String>,
    /// Numbers of their rules and of the infrastructure entries, sorted.
    pub rules: Vec<u32>,
    /// Whether flows that AWS leaves untracked are marked: dialect `aws`.
    pub marks_untracked: bool,
}

/// Key of an entry of `permits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PermitPrefix {
    /// Number of the policy.
    pub policy: u32,
    /// Number of the class.
    pub class: u32,
    /// Which way the flow opens.
    #[serde(with = "serial::DirectionDef")]
    pub direction: Direction,
    /// Whether it only says that some port, or type and code, will do.
    pub some_port: bool,
    /// IP protocol number; 0 where `bits` leaves it open.
    pub protocol: u8,
    /// First port, or ICMP type and code; bits that `bits` leaves open are 0.
    pub port: u16,
    /// How many bits of the key count: 72, or 80 to 96.
    pub bits: u8,
}

/// The tables of one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "A: IpAddress")]
pub struct AddressSpec<A: IpAddress> {
    /// Contents of `hosts`: number of the VPC and address to number of the class.
    #[serde(with = "serial::pairs")]
    pub hosts: BTreeMap<(u32, A), u32>,
    /// Contents of `cidrs`, `space` being the number of the VPC: to number of the class. Each class
    /// holds the peers of every shorter prefix as well.
    #[serde(with = "serial::pairs")]
    pub cidrs: BTreeMap<Prefix<A>, u32>,
    /// Contents of `own`, `space` being the slot of the interface.
    pub own: BTreeSet<Prefix<A>>,
}

/// A prefix in one of several address spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(bound = "A: IpAddress")]
pub struct Prefix<A: IpAddress> {
    /// Number of a VPC, or slot of an interface.
    pub space: u32,
    /// Host bits are clear.
    pub address: A,
    /// Length in bits, without [`VPC_BITS`].
    pub length: u8,
}

/// The numbers that the next fresh content gets, if they are free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextNumbers {
    /// Of a VPC.
    pub vpc: u32,
    /// Of a peer.
    pub peer: u32,
    /// Of a class.
    pub class: u32,
    /// Of a policy.
    pub policy: u32,
    /// Of a rule.
    pub rule: u32,
}

/// Entries per map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capacities {
    /// Elements of `interfaces`: the highest slot and one.
    pub interfaces: usize,
    /// Entries of `permits`.
    pub permits: usize,
    /// Number of classes.
    pub classes: usize,
    /// Entries of `hosts`, IPv4.
    pub hosts_v4: usize,
    /// Entries of `hosts`, IPv6.
    pub hosts_v6: usize,
    /// Entries of `cidrs`, IPv4.
    pub cidrs_v4: usize,
    /// Entries of `cidrs`, IPv6.
    pub cidrs_v6: usize,
    /// Entries of `own`, IPv4.
    pub own_v4: usize,
    /// Entries of `own`, IPv6.
    pub own_v6: usize,
    /// Number of policies.
    pub policies: usize,
    /// Number of rules.
    pub rules: usize,
}

impl TableSpec {
    /// Nothing, in tables that count the hits of so many rules.
    #[must_use]
    pub fn empty(rule_slots: RuleSlots) -> Self {
        Self { rule_slots, ..Self::default() }
    }

    /// How many entries each map must hold.
    #[must_use]
    pub fn capacities(&self) -> Capacities {
        Capacities {
            interfaces: self.interface_slots(),
            permits: self.permits.len(),
            classes: self.classes.len(),
            hosts_v4: self.v4.hosts.len(),
            hosts_v6: self.v6.hosts.len(),
            cidrs_v4: self.v4.cidrs.len(),
            cidrs_v6: self.v6.cidrs.len(),
            own_v4: self.v4.own.len(),
            own_v6: self.v6.own.len(),
            policies: self.policies.len(),
            rules: self.rules.len(),
        }
    }

    /// Elements of `interfaces`: the highest slot and one.
    #[must_use]
    pub fn interface_slots(&self) -> usize {
        self.interfaces.last_key_value().map_or(0, |(&slot, _)| usize::from(slot) + 1)
    }

    /// Gives every interface a part of the flow table of its own, so that none can starve another: what the
    /// policy says, and to the others equal shares of the rest. Whether it all fits is for the caller to see.
    pub fn share_flows(&mut self, flows: u32) {
        let limits = self.interfaces.values().map(|interface| interface.version.flow_limit);
        let (shared, given): (Vec<u32>, Vec<u32>) =
            limits.partition(|&limit| limit == InterfaceVersion::SHARED_FLOWS);
        let taken = given.iter().fold(0_u32, |sum, &limit| sum.saturating_add(limit));
        let sharers = u32::try_from(shared.len()).unwrap_or(u32::MAX).max(1);
        let share = (flows.saturating_sub(taken) / sharers).max(1);
        let mut base = 0_u32;
        for interface in self.interfaces.values_mut() {
            let version = &mut interface.version;
            if version.flow_limit == InterfaceVersion::SHARED_FLOWS {
                version.flow_limit = share;
            }
            version.flow_base = base;
            base = base.saturating_add(version.flow_limit);
        }
    }

    /// How many flows the interfaces' parts of the table are together.
    #[must_use]
    pub fn shared_flows(&self) -> usize {
        let limits =
            self.interfaces.values().map(|interface| interface.version.flow_limit as usize);
        limits.sum()
    }

    /// The slot of the interface with this name.
    #[must_use]
    pub fn slot(&self, interface: &str) -> Option<u16> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|(_, spec)| spec.name == interface).map(|(&slot, _)| slot)
    }

    /// The addresses of the interface in a slot, IPv4 first.
    pub fn own_addresses(&self, slot: u16) -> impl Iterator<Item = IpNet> {
        self.v4.own_of(slot).chain(self.v6.own_of(slot))
    }
}

impl InterfaceSpec {
    /// What a program instance for the interface is told.
    #[must_use]
    pub fn attachment(&self, slot: u16) -> Attachment {
        let side = match self.side {
            Side::Host => sg_common::Side::Host,
            Side::Workload => sg_common::Side::Workload,
        };
        Attachment { slot, vpc: self.vpc, side }
    }
}

impl PermitPrefix {
    /// Prefix length and data of the kernel's key.
    #[must_use]
    pub fn key(&self) -> (u32, PermitKey) {
        let port = Be16::new(self.port);
        let mut key = PermitKey::new(self.policy, self.class, self.direction, self.protocol, port);
        if self.some_port {
            key.direction |= PermitKey::SOME_PORT;
        }
        (self.bits.into(), key)
    }
}

impl<A: IpAddress> Default for AddressSpec<A> {
    fn default() -> Self {
        Self { hosts: BTreeMap::new(), cidrs: BTreeMap::new(), own: BTreeSet::new() }
    }
}

impl<A: IpAddress> AddressSpec<A> {
    fn own_of(&self, slot: u16) -> impl Iterator<Item = IpNet>
    where
        A: Into<IpAddr>,
    {
        let of_slot = self.own.iter().filter(move |prefix| prefix.space == u32::from(slot));
        // Of a compiled prefix the length is never too long.
        of_slot.filter_map(|prefix| IpNet::new(prefix.address.into(), prefix.length).ok())
    }

    /// Keys of `hosts` as the kernel has them, with the numbers of the classes.
    pub fn host_keys(&self) -> impl Iterator<Item = (HostKey<A::Wire>, u32)> {
        let key = |vpc, address: A| HostKey { vpc, address: address.wire() };
        self.hosts.iter().map(move |(&(vpc, address), &class)| (key(vpc, address), class))
    }
}

impl<A: IpAddress> Prefix<A> {
    /// Prefix length and data of the kernel's key, for `cidrs` and `own` alike.
    #[must_use]
    pub fn key(&self) -> (u32, AddressKey<A::Wire>) {
        let data = AddressKey { space: self.space, address: self.address.wire() };
        (VPC_BITS + u32::from(self.length), data)
    }
}

impl<A: IpAddress> Display for Prefix<A> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// An address of either family, so that everything about tables is written once.
pub trait IpAddress:
    Copy + Ord + Hash + Debug + Display + Serialize + DeserializeOwned + 'static
{
    /// As the data plane has it.
    type Wire: sg_common::Address + Hash + Sync;
    /// Length in bits.
    const MAX_LENGTH: u8;

    /// As the data plane has it.
    fn wire(self) -> Self::Wire;

    /// With every bit behind the first `length` cleared.
    #[must_use]
    fn masked(self, length: u8) -> Self;
}

impl IpAddress for Ipv4Addr {
    type Wire = V4;
    const MAX_LENGTH: u8 = 32;

    fn wire(self) -> V4 {
        V4::new(self.octets())
    }

    fn masked(self, length: u8) -> Self {
        let host_bits = u32::from(Self::MAX_LENGTH.saturating_sub(length));
        Self::from_bits(self.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}

impl IpAddress for Ipv6Addr {
    type Wire = V6;
    const MAX_LENGTH: u8 = 128;

    fn wire(self) -> V6 {
        V6::new(self.octets())
    }

    fn masked(self, length: u8) -> Self {
        let host_bits = u32::from(Self::MAX_LENGTH.saturating_sub(length));
        Self::from_bits(self.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}
