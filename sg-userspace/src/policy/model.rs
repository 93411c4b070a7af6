//! The validated policy: what remains of a policy file once every check has passed.
//!
//! Values of these types come only from [`super::load`] and [`super::edit`]; names are resolved, CIDRs are canonical, every
//! rule names exactly one protocol match and one peer (as one AWS security group rule does), and
//! defaults have been filled in. Nothing here knows YAML or the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whose defaults and quirks the file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Amazon VPC security groups.
    Aws,
    /// Kakao Cloud VPC security groups.
    Kakao,
}

/// What a rule's removal does to flows that it had let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiveFlows {
    /// They go on until they are idle for their timeout.
    Keep,
    /// They are judged again at their next packet.
    Cut,
}

/// Which kinds of infrastructure traffic pass without a rule; all of them unless the file says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Infrastructure {
    /// ARP.
    pub arp: bool,
    /// DHCP and DHCPv6, client to server and back.
    pub dhcp: bool,
    /// IPv6 neighbour solicitation and advertisement.
    pub neighbour_discovery: bool,
    /// Router solicitation out, router advertisement in.
    pub router_discovery: bool,
    /// IGMP and MLD.
    pub multicast_listener: bool,
    /// Dialect `aws`: DNS at 169.254.169.253, fd00:ec2::253 and the VPC's base + 2.
    pub dns: bool,
    /// Dialect `aws`: instance and container metadata.
    pub metadata: bool,
    /// Dialect `aws`: the time service.
    pub time: bool,
    /// Dialect `aws`: the licence service.
    pub licences: bool,
    /// Dialect `aws`: the subnet's first address.
    pub subnet_router: bool,
}

impl Infrastructure {
    /// All of it that a dialect has: kakao has none of the link-local services (rule 12).
    #[must_use]
    pub fn of(dialect: Dialect) -> Self {
        let services = dialect == Dialect::Aws;
        Self {
            arp: true,
            dhcp: true,
            neighbour_discovery: true,
            router_discovery: true,
            multicast_listener: true,
            dns: services,
            metadata: services,
            time: services,
            licences: services,
            subnet_router: services,
        }
    }
}

/// A whole validated policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose defaults apply.
    pub dialect: Dialect,
    /// What a removed rule does to live flows.
    pub live_flows: LiveFlows,
    /// Which infrastructure traffic passes.
    pub infrastructure: Infrastructure,
    /// How much there may be of what.
    pub quotas: Quotas,
    /// The VPCs, in file order.
    pub vpcs: Vec<Vpc>,
    /// The reachability tests, in file order.
    pub tests: Vec<ReachabilityTest>,
}

/// Rule 15's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quotas {
    /// Rules per group, direction and family.
    pub rules_per_direction: usize,
    /// Groups per interface, at most 16.
    pub groups_per_interface: usize,
    /// What the product of the two may not exceed.
    pub rules_per_interface: usize,
    /// Groups per VPC.
    pub groups_per_vpc: usize,
}

impl Default for Quotas {
    /// AWS's.
    fn default() -> Self {
        Self {
            rules_per_direction: 60,
            groups_per_interface: 5,
            rules_per_interface: 1000,
            groups_per_vpc: 2500,
        }
    }
}

/// One VPC: an address space of its own, with its groups and interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpc {
    /// Unique in the file.
    pub name: String,
    /// Address ranges of the VPC, canonical.
    pub cidrs: Vec<IpNet>,
    /// Subnets, canonical, each inside one of `cidrs`. May be empty.
    pub subnets: Vec<IpNet>,
    /// Prefix lists, in file order.
    pub prefix_lists: Vec<PrefixList>,
    /// Groups, in file order; `default` is always among them.
    pub groups: Vec<SecurityGroup>,
    /// Interfaces, in file order.
    pub interfaces: Vec<Interface>,
}

/// A named list of CIDRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixList {
    /// Unique in its VPC.
    pub name: String,
    /// Canonical, without duplicates.
    pub cidrs: Vec<IpNet>,
    /// How far it may grow, where that is declared.
    pub max_entries: Option<usize>,
}

impl PrefixList {
    /// What the list counts towards the quota of rules.
    #[must_use]
    pub fn size(&self) -> usize {
        self.max_entries.unwrap_or(0).max(self.cidrs.len())
    }
}

/// A named set of allow rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Unique in its VPC whatever the case.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Rules for what arrives.
    pub ingress: Vec<Rule>,
    /// Rules for what leaves.
    pub egress: Vec<Rule>,
}

/// One allow rule: one protocol match, one peer.
///
/// Traffic and peer make it the rule that it is: of one group and direction, none has both alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which packets.
    pub traffic: Traffic,
    /// Which other end.
    pub peer: Peer,
    /// Free text.
    pub description: String,
    /// When it goes by itself, in seconds since 1970.
    pub expires: Option<u64>,
}

/// The protocol part of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// Every protocol.
    All,
    /// TCP (6), UDP (17) or SCTP (132) with a range of destination ports.
    Ports {
        /// IP protocol number.
        protocol: u8,
        /// The first port.
        first: u16,
        /// The last port, not below `first`.
        last: u16,
    },
    /// ICMP (1) or ICMPv6 (58).
    Icmp {
        /// IP protocol number.
        protocol: u8,
        /// `None`: every type. `Some((type, None))`: every code of it.
        kind: Option<(u8, Option<u8>)>,
    },
    /// Any other protocol, by its number.
    Protocol(u8),
}

/// What the other end must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An address range, canonical.
    Cidr(IpNet),
    /// The members of a group of the same VPC: index into [`Vpc::groups`].
    Group(usize),
    /// A prefix list of the same VPC: index into [`Vpc::prefix_lists`].
    PrefixList(usize),
}

/// Which end of the device is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The device is the protected host's own NIC: what arrives on it is ingress.
    Host,
    /// The device is the host's end of a veth or tap: what arrives on it is the workload's egress.
    Workload,
}

impl Side {
    /// As policy files and the command line write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Workload => "workload",
        }
    }
}

/// A protected network interface, or a member that lives elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Unique in the file.
    pub name: String,
    /// Its addresses and prefixes. Empty with `auto_addresses`, until the device tells them.
    pub addresses: Vec<IpNet>,
    /// `addresses: auto`: what the device has. Side `host` only.
    pub auto_addresses: bool,
    /// Indices into [`Vpc::groups`], sorted, at least one.
    pub groups: Vec<usize>,
    /// The devices it is attached to on this machine; none: it lives elsewhere.
    pub devices: Vec<String>,
    /// Which end is protected.
    pub side: Side,
    /// Whether sources are checked.
    pub source_dest_check: bool,
    /// The workload's MAC address, where given.
    pub mac: Option<[u8; 6]>,
    /// AWS's connection tracking specification, and a limit.
    pub connection_tracking: ConnectionTracking,
}

/// Idle timeouts in seconds, with AWS's names, ranges and defaults, and how many flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionTracking {
    /// 60 to 432000, default 432000.
    pub tcp_established: u32,
    /// 30 to 60, default 30.
    pub udp: u32,
    /// 60 to 180, default 180.
    pub udp_stream: u32,
    /// Established flows per address family; none: the interface's share of the table.
    pub max_flows: Option<u32>,
}

impl ConnectionTracking {
    /// More than any table holds.
    pub const MOST_FLOWS: u32 = 1 << 30;
}

impl Default for ConnectionTracking {
    fn default() -> Self {
        Self { tcp_established: 432_000, udp: 30, udp_stream: 180, max_flows: None }
    }
}

/// One line of `tests:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachabilityTest {
    /// Where the packet comes from.
    pub from: Endpoint,
    /// Where it goes to.
    pub to: Endpoint,
    /// The packet: `Ports` has `first == last`.
    pub traffic: Traffic,
    /// What must come out.
    pub expect: Expect,
    /// Line of the test in its file, 1-based.
    pub line: usize,
}

/// One end of a [`ReachabilityTest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// An interface: indices into [`Policy::vpcs`] and [`Vpc::interfaces`].
    Interface {
        /// Index into [`Policy::vpcs`].
        vpc: usize,
        /// Index into [`Vpc::interfaces`].
        interface: usize,
    },
    /// Any other address.
    Address(IpAddr),
}

/// The expected outcome of a [`ReachabilityTest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Allowed by both ends.
    Allow,
    /// Dropped by one of them.
    Drop,
}
