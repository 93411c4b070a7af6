//! The file format as it is written: every mapping of a policy file, its keys and their shapes.
//!
//! The field documentation is the schema's: `sgctl schema` and editors show it.

use super::record::record;
use super::schema::{
    Address, AutoOr, Boolean, Cidr, Description, DeviceName, DialectWord, ExpectWord, IcmpNumber,
    Instant, LiveFlowsWord, Mac, Name, OneOrMany, PeerOf, Port, PortRange, ProtocolWord, SideWord,
    TypeWord, Whole, Within,
};

record! {
    /// Security groups, the interfaces that they protect, and tests of what they allow.
    File("the file") {
        /// Whose defaults and quirks apply: `aws` (the default) or `kakao`.
        "dialect" optional dialect: DialectWord,
        /// What a removed rule does to flows that it had let in: `keep` (the default) lets them go on until they are idle, `cut` judges them again at their next packet.
        "live_flows" optional live_flows: LiveFlowsWord,
        /// Infrastructure traffic that passes without a rule; each kind is on unless it is set to false.
        "infrastructure" optional infrastructure: Infrastructure<'static>,
        /// Limits, with the defaults of AWS.
        "quotas" optional quotas: Quotas<'static>,
        /// Address spaces, each with its own groups and interfaces.
        "vpcs" required vpcs: Vec<Vpc<'static>>,
        /// Reachability that must hold; checked before every apply.
        "tests" optional tests: Vec<Test<'static>>,
    }
}

record! {
    /// Infrastructure traffic that passes without a rule.
    Infrastructure("`infrastructure`") {
        /// ARP.
        "arp" optional arp: Boolean,
        /// DHCP and DHCPv6 between client and server ports.
        "dhcp" optional dhcp: Boolean,
        /// IPv6 neighbour solicitation and advertisement.
        "neighbour_discovery" optional neighbour_discovery: Boolean,
        /// IPv6 router solicitation out, router advertisement in.
        "router_discovery" optional router_discovery: Boolean,
        /// IGMP and MLD.
        "multicast_listener" optional multicast_listener: Boolean,
        /// Dialect aws: DNS at 169.254.169.253, fd00:ec2::253 and the VPC's base + 2.
        "dns" optional dns: Boolean,
        /// Dialect aws: instance metadata at 169.254.169.254 and fd00:ec2::254, container metadata at 169.254.170.2.
        "metadata" optional metadata: Boolean,
        /// Dialect aws: the time service at 169.254.169.123 and fd00:ec2::123.
        "time" optional time: Boolean,
        /// Dialect aws: the licence service at 169.254.169.250 and fd00:ec2::250.
        "licences" optional licences: Boolean,
        /// Dialect aws: the first address of the subnet.
        "subnet_router" optional subnet_router: Boolean,
    }
}

record! {
    /// Limits. A prefix list counts its `max_entries`; a rule for a group or a prefix list counts for IPv4 and for IPv6.
    Quotas("`quotas`") {
        /// Rules per group, direction and address family; 60 unless given.
        "rules_per_direction" optional rules_per_direction: Whole,
        /// Groups per interface; 5 unless given, at most 16.
        "groups_per_interface" optional groups_per_interface: Whole,
        /// What `rules_per_direction` times `groups_per_interface` may not exceed; 1000 unless given, as in AWS.
        "rules_per_interface" optional rules_per_interface: Whole,
        /// Groups per VPC; 2500 unless given.
        "groups_per_vpc" optional groups_per_vpc: Whole,
    }
}

record! {
    /// One VPC: an address space of its own.
    Vpc("a VPC") {
        /// Unique in the file.
        "name" required name: Name,
        /// The address ranges, IPv4 and IPv6; they may not overlap one another.
        "cidrs" required cidrs: OneOrMany<Cidr>,
        /// Subnets, each inside one of `cidrs`.
        "subnets" optional subnets: Vec<Cidr>,
        /// Named lists of CIDR blocks.
        "prefix_lists" optional prefix_lists: Vec<PrefixList<'static>>,
        /// The groups. A group `default` exists in any case.
        "security_groups" optional security_groups: Vec<SecurityGroup<'static>>,
        /// The protected interfaces, and members that live elsewhere.
        "interfaces" optional interfaces: Vec<Interface<'static>>,
    }
}

record! {
    /// A named list of CIDR blocks.
    PrefixList("a prefix list") {
        /// Unique in its VPC.
        "name" required name: Name,
        /// The blocks; an empty list matches nobody.
        "cidrs" required cidrs: Vec<Cidr>,
        /// What the list counts towards the quota of rules: how far it may grow. The number of its blocks unless given.
        "max_entries" optional max_entries: Whole,
    }
}

record! {
    /// A named set of allow rules.
    SecurityGroup("a security group") {
        /// Unique in its VPC whatever the case.
        "name" required name: Name,
        /// Free text.
        "description" optional description: Description,
        /// What may arrive; nothing unless given. For the group `default`: what comes from its own members.
        "ingress" optional ingress: Vec<IngressRule>,
        /// What may leave; everything to everywhere unless given, nothing with `[]`.
        "egress" optional egress: Vec<EgressRule>,
    }
}

record! {
    /// One allow rule. It stands for as many as it has ports times peers.
    Rule("a rule") {
        /// A type by AWS's name, instead of protocol and ports.
        "type" optional shorthand: TypeWord,
        /// tcp, udp, icmp, icmpv6, sctp, all (or -1), or a number from 0 to 255.
        "protocol" optional protocol: ProtocolWord,
        /// Destination ports of tcp, udp or sctp: one, a range like 8000-8080, or a list of both; every port unless given.
        "ports" optional ports: OneOrMany<PortRange>,
        /// ICMP type, a number or `any`; any unless given.
        "icmp_type" optional icmp_type: IcmpNumber,
        /// ICMP code, a number or `any`; any unless given.
        "icmp_code" optional icmp_code: IcmpNumber,
        /// Ingress: who may send.
        "from" optional from: OneOrMany<PeerOf>,
        /// Egress: who may receive.
        "to" optional to: OneOrMany<PeerOf>,
        /// Free text.
        "description" optional description: Description,
        /// When the rule goes by itself, as in 2030-01-31T18:00:00Z (RFC 3339). One whose time is over counts as absent.
        "expires" optional expires: Instant,
    }
}

/// [`Rule`] as the schema has it for ingress: with `from`, without `to`.
pub(crate) struct IngressRule;

/// [`Rule`] as the schema has it for egress: with `to`, without `from`.
pub(crate) struct EgressRule;

record! {
    /// A peer other than an address block; exactly one of the keys.
    PeerMap("a peer") {
        /// A CIDR block or an address.
        "cidr" optional cidr: Cidr,
        /// The members of a group of the same VPC.
        "group" optional group: Name,
        /// A prefix list of the same VPC.
        "prefix_list" optional prefix_list: Name,
    }
}

record! {
    /// A protected network interface, or a member of groups that lives elsewhere.
    Interface("an interface") {
        /// Unique in the file.
        "name" required name: Name,
        /// Its addresses and prefixes, inside the VPC; or `auto`, what the device has (side host).
        "addresses" required addresses: AutoOr<OneOrMany<Address>>,
        /// Its groups; `default` unless given.
        "groups" optional groups: Vec<Name>,
        /// The network device, or several that share its flows. None: the interface is on another machine.
        "device" optional device: OneOrMany<DeviceName>,
        /// `host` (the default): the device is this machine's own NIC. `workload`: it is the host's end of a veth or tap.
        "side" optional side: SideWord,
        /// Whether packets with foreign source addresses are dropped; true unless given.
        "source_dest_check" optional source_dest_check: Boolean,
        /// The workload's MAC address.
        "mac" optional mac: Mac,
        /// Idle timeouts, and how many flows.
        "connection_tracking" optional connection_tracking: ConnectionTracking<'static>,
    }
}

record! {
    /// Idle timeouts in seconds, with the ranges of AWS, and how many flows.
    ConnectionTracking("`connection_tracking`") {
        /// 60 to 432000; 432000 unless given.
        "tcp_established" optional tcp_established: Within<60, 432_000>,
        /// 30 to 60; 30 unless given.
        "udp" optional udp: Within<30, 60>,
        /// 60 to 180; 180 unless given.
        "udp_stream" optional udp_stream: Within<60, 180>,
        /// Established flows that the interface may have, per address family. Unless given, the table is shared out
        /// among this machine's interfaces.
        "max_flows" optional max_flows: Within<1, 1_073_741_824>,
    }
}

record! {
    /// A packet and what must become of it.
    Test("a test") {
        /// Where it comes from: an interface or an address.
        "from" required from: Name,
        /// Where it goes to: an interface or an address.
        "to" required to: Name,
        /// A type by AWS's name, instead of protocol and port.
        "type" optional shorthand: TypeWord,
        /// tcp, udp, icmp, icmpv6, sctp, or a number from 0 to 255.
        "protocol" optional protocol: ProtocolWord,
        /// Destination port of tcp, udp or sctp.
        "port" optional port: Port,
        /// ICMP type; echo request unless given.
        "icmp_type" optional icmp_type: IcmpNumber,
        /// ICMP code; 0 unless given.
        "icmp_code" optional icmp_code: IcmpNumber,
        /// `allow` or `drop`.
        "expect" required expect: ExpectWord,
    }
}
