//! Random policies and packets over a small universe, and what rules say of them.

pub(crate) mod naive;

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sg_common::Direction;
use sg_userspace::engine::Probe;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{
    ConnectionTracking, Dialect, Infrastructure, Interface, LiveFlows, Peer, PrefixList, Quotas,
    Rule, SecurityGroup, Side, Traffic, Vpc,
};

/// Groups, prefix lists and interfaces of each VPC.
const GROUPS: usize = 4;
const LISTS: usize = 2;
const INTERFACES: usize = 4;

const CIDRS: &[&str] = &[
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.1.0/24",
    "10.0.1.128/25",
    "10.0.1.130/32",
    "128.0.0.0/1",
    "168.0.0.0/7",
    "169.254.0.0/16",
    "169.254.169.0/24",
    "fd00::/8",
    "fd00:16::/56",
    "fd00:16:0:1::/64",
    "fd00:16::5/128",
    "8000::/1",
    "2001:db8::/32",
];

const MEMBERS: &[&str] = &[
    "10.0.1.130/32",
    "10.0.1.131/32",
    "10.0.2.5/32",
    "10.0.2.16/28",
    "10.0.2.17/32",
    "10.1.0.0/24",
    "fd00:16::5/128",
    "fd00:16::6/128",
    "fd00:16:0:1::/64",
    "fd00:16:0:1::7/128",
];

const ADDRESSES: &[&str] = &[
    "8.8.8.8",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "10.0.1.129",
    "10.0.1.130",
    "10.0.1.131",
    "10.0.2.1",
    "10.0.2.5",
    "10.0.2.16",
    "10.0.2.17",
    "10.1.0.9",
    "10.200.0.1",
    "129.0.0.1",
    "169.1.1.1",
    "169.254.169.123",
    "169.254.169.253",
    "169.254.169.254",
    "169.254.7.7",
    "2001:db8::1",
    "fd00:16::1",
    "fd00:16::5",
    "fd00:16::6",
    "fd00:16:0:1::7",
    "fd00:16:0:1::8",
    "fd00:99::1",
    "fd00:ec2::253",
    "fd00:ec2::254",
];

const fn ports(protocol: u8, first: u16, last: u16) -> Traffic {
    Traffic::Ports { protocol, first, last }
}

const RULED: &[Traffic] = &[
    Traffic::All,
    ports(6, 80, 80),
    ports(6, 0, 65535),
    ports(6, 1000, 2000),
    ports(6, 79, 1688),
    ports(17, 53, 53),
    ports(17, 0, 1023),
    ports(132, 5000, 5001),
    Traffic::Icmp { protocol: 1, kind: None },
    Traffic::Icmp { protocol: 1, kind: Some((8, None)) },
    Traffic::Icmp { protocol: 1, kind: Some((8, Some(0))) },
    Traffic::Icmp { protocol: 58, kind: Some((128, None)) },
    Traffic::Protocol(47),
];

const SENT: &[Traffic] = &[
    ports(6, 0, 0),
    ports(6, 53, 53),
    ports(6, 80, 80),
    ports(6, 1000, 1000),
    ports(6, 1688, 1688),
    ports(6, 2000, 2000),
    ports(6, 2001, 2001),
    ports(17, 53, 53),
    ports(17, 123, 123),
    ports(132, 5001, 5001),
    ports(132, 5002, 5002),
    Traffic::Icmp { protocol: 1, kind: Some((8, Some(0))) },
    Traffic::Icmp { protocol: 1, kind: Some((8, Some(1))) },
    Traffic::Icmp { protocol: 1, kind: Some((13, Some(0))) },
    Traffic::Icmp { protocol: 58, kind: Some((128, Some(0))) },
    Traffic::Protocol(47),
    Traffic::Protocol(89),
];

fn net(text: &str) -> IpNet {
    text.parse().expect("a block of the universe")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn traffic() -> impl Strategy<Value = Traffic> {
    select(RULED)
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        select(nets(CIDRS)).prop_map(Peer::Cidr),
        (0..GROUPS).prop_map(Peer::Group),
        (0..LISTS).prop_map(Peer::PrefixList),
    ]
}

/// A file has no rule twice.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::hash_set((traffic(), peer()), 0..4).prop_map(|rules| {
        let mut rules: Vec<_> = rules.into_iter().collect();
        rules.sort_unstable();
        let rule =
            |(traffic, peer)| Rule { traffic, peer, description: String::new(), expires: None };
        rules.into_iter().map(rule).collect()
    })
}

fn group(index: usize) -> impl Strategy<Value = SecurityGroup> {
    let name = if index == 0 { "default".to_owned() } else { format!("group-{index}") };
    (rules(), rules()).prop_map(move |(ingress, egress)| SecurityGroup {
        name: name.clone(),
        description: String::new(),
        ingress,
        egress,
    })
}

fn list(index: usize) -> impl Strategy<Value = PrefixList> {
    subsequence(nets(CIDRS), 0..5).prop_map(move |cidrs| PrefixList {
        name: format!("list-{index}"),
        max_entries: None,
        cidrs,
    })
}

fn interface(vpc: usize, index: usize) -> impl Strategy<Value = Interface> {
    let groups = subsequence((0..GROUPS).collect::<Vec<_>>(), 1..3);
    let addresses = subsequence(nets(MEMBERS), 0..4);
    (groups, addresses, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        move |(groups, addresses, workload, checked, mac)| Interface {
            name: format!("interface-{vpc}-{index}"),
            addresses,
            auto_addresses: false,
            groups,
            devices: Vec::new(),
            side: if workload { Side::Workload } else { Side::Host },
            source_dest_check: checked,
            mac: mac.then_some([2, 0, 0, 0, 0, 7]),
            connection_tracking: ConnectionTracking::default(),
        },
    )
}

fn vpc(index: usize) -> impl Strategy<Value = Vpc> {
    let groups: Vec<_> = (0..GROUPS).map(group).collect();
    let lists: Vec<_> = (0..LISTS).map(list).collect();
    let interfaces: Vec<_> = (0..INTERFACES).map(|it| interface(index, it)).collect();
    let subnets = subsequence(nets(&["10.0.1.0/24", "10.0.2.0/24"]), 0..=2);
    (groups, lists, interfaces, subnets).prop_map(
        move |(groups, prefix_lists, interfaces, subnets)| Vpc {
            name: format!("vpc-{index}"),
            cidrs: nets(&["10.0.0.0/16", "10.1.0.0/24", "fd00:16::/56"]),
            subnets,
            prefix_lists,
            groups,
            interfaces,
        },
    )
}

fn infrastructure() -> impl Strategy<Value = Infrastructure> {
    any::<[bool; 5]>().prop_map(|[dns, metadata, time, licences, subnet_router]| Infrastructure {
        arp: true,
        dhcp: true,
        neighbour_discovery: true,
        router_discovery: true,
        multicast_listener: true,
        dns,
        metadata,
        time,
        licences,
        subnet_router,
    })
}

/// Two VPCs over the same addresses.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), infrastructure(), [vpc(0), vpc(1)]).prop_map(|(kakao, mut on, vpcs)| {
        if kakao {
            let off = Infrastructure { dns: false, metadata: false, time: false, ..on };
            on = Infrastructure { licences: false, subnet_router: false, ..off };
        }
        Policy {
            dialect: if kakao { Dialect::Kakao } else { Dialect::Aws },
            live_flows: LiveFlows::Keep,
            infrastructure: on,
            quotas: Quotas::default(),
            vpcs: vpcs.into(),
            tests: Vec::new(),
        }
    })
}

/// Which parts of a policy are taken from another one of the same universe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    groups: u8,
    interfaces: u8,
    lists: u8,
    settings: bool,
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    (any::<[u8; 3]>(), prop::bool::weighted(0.2)).prop_map(
        |([groups, interfaces, lists], settings)| Edit { groups, interfaces, lists, settings },
    )
}

impl Edit {
    pub(crate) fn apply(self, old: &Policy, other: &Policy) -> Policy {
        let mut new = old.clone();
        if self.settings {
            new.dialect = other.dialect;
            new.infrastructure = other.infrastructure;
        }
        let (vpc, from) = (&mut new.vpcs[0], &other.vpcs[0]);
        patch(&mut vpc.groups, &from.groups, self.groups);
        patch(&mut vpc.interfaces, &from.interfaces, self.interfaces);
        patch(&mut vpc.prefix_lists, &from.prefix_lists, self.lists);
        new
    }
}

/// Takes the elements whose bits are set.
fn patch<T: Clone>(into: &mut [T], from: &[T], bits: u8) {
    for (index, (old, new)) in into.iter_mut().zip(from).enumerate() {
        if bits >> index & 1 == 1 {
            old.clone_from(new);
        }
    }
}

/// Names of the interfaces of a policy that are local: `bits` picks of both VPCs.
pub(crate) fn local(policy: &Policy, bits: u8) -> Vec<&str> {
    let interfaces = policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
    let names = interfaces.map(|interface| interface.name.as_str());
    names.enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, name)| name).collect()
}

/// Whether it leaves, remote address, packet, and which of its addresses the interface uses.
pub(crate) type Packet = (bool, IpAddr, Traffic, usize);

pub(crate) fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let remotes: Vec<IpAddr> = ADDRESSES.iter().map(|it| it.parse().expect(it)).collect();
    let packet = (any::<bool>(), select(remotes), select(SENT), 0..4_usize);
    // The other family's ICMP has neither type nor code.
    let packet =
        packet.prop_filter("ICMP of the family", |(_, remote, traffic, _)| match traffic {
            Traffic::Icmp { protocol, .. } => (*protocol == 1) == remote.is_ipv4(),
            Traffic::All | Traffic::Ports { .. } | Traffic::Protocol(_) => true,
        });
    prop::collection::vec(packet, 1..40)
}

/// A probe of `interface`; from an address of another's where it has none of the family.
pub(crate) fn probe(interface: &Interface, (egress, remote, traffic, which): Packet) -> Probe {
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == remote.is_ipv4();
    let own: Vec<&IpNet> = interface.addresses.iter().filter(of_family).collect();
    let stranger = if remote.is_ipv4() { "10.0.77.77" } else { "fd00:16::77" };
    let stranger = stranger.parse().expect("an address");
    let local = own.get(which % own.len().max(1)).map_or(stranger, |net| net.addr());
    let direction = if egress { Direction::Egress } else { Direction::Ingress };
    Probe::new(direction, local, remote, traffic)
}
