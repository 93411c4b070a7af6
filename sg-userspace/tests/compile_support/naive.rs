//! DESIGN section 2 read aloud: no tables, no classes, no numbers.

use std::net::IpAddr;

use ipnet::IpNet;
use sg_common::Direction;
use sg_userspace::engine::Probe;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{
    Dialect, Interface, Peer, Rule, SecurityGroup, Side, Traffic, Vpc,
};

/// Whether the first packet of a new flow passes.
pub(crate) fn allows(policy: &Policy, vpc: &Vpc, interface: &Interface, probe: &Probe) -> bool {
    source_is_legal(interface, probe) && is_permitted(policy, vpc, interface, probe)
}

/// Whether a rule or a service covers it, whatever its source.
pub(crate) fn is_permitted(
    policy: &Policy,
    vpc: &Vpc,
    interface: &Interface,
    probe: &Probe,
) -> bool {
    let some_rule = !matching(policy, vpc, interface, probe).is_empty();
    some_rule || service(policy, vpc, interface, probe)
}

/// The rules of the interface's groups that cover it.
pub(crate) fn matching<'p>(
    policy: &Policy,
    vpc: &'p Vpc,
    interface: &Interface,
    probe: &Probe,
) -> Vec<(&'p SecurityGroup, &'p Rule)> {
    let rules = interface.groups.iter().flat_map(|&group| {
        let group = &vpc.groups[group];
        let rules = match probe.direction {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        };
        rules.iter().map(move |rule| (group, rule))
    });
    rules.filter(|(group, rule)| matches(policy, vpc, group, rule, probe)).collect()
}

/// Rule 13, for addresses that are neither loopback nor multicast.
fn source_is_legal(interface: &Interface, probe: &Probe) -> bool {
    let own = |address: IpAddr| interface.addresses.iter().any(|net| net.contains(&address));
    let checked = interface.side == Side::Workload && interface.source_dest_check;
    let local = probe.direction == Direction::Ingress || !checked || own(probe.local);
    local && !own(probe.remote)
}

fn matches(policy: &Policy, vpc: &Vpc, group: &SecurityGroup, rule: &Rule, probe: &Probe) -> bool {
    covers(rule.traffic, probe.traffic) && holds(policy, vpc, group, &rule.peer, probe.remote)
}

/// Whether the peer of one of the group's rules holds an address.
pub(crate) fn holds(
    policy: &Policy,
    vpc: &Vpc,
    group: &SecurityGroup,
    peer: &Peer,
    remote: IpAddr,
) -> bool {
    let holds = |net: &IpNet| {
        let link_local: IpNet = "169.254.0.0/16".parse().expect("a block");
        let narrowed = policy.dialect == Dialect::Kakao && group.name != "default";
        let apart = narrowed && net.prefix_len() == 0 && link_local.contains(&remote);
        net.contains(&remote) && !apart
    };
    match peer {
        Peer::Cidr(net) => holds(net),
        Peer::PrefixList(list) => vpc.prefix_lists[*list].cidrs.iter().any(holds),
        Peer::Group(index) => {
            let members = vpc.interfaces.iter().filter(|it| it.groups.contains(index));
            members.flat_map(|it| &it.addresses).any(|net| net.contains(&remote))
        }
    }
}

fn covers(rule: Traffic, packet: Traffic) -> bool {
    match (rule, packet) {
        (Traffic::All, _) => true,
        (
            Traffic::Ports { protocol, first, last },
            Traffic::Ports { protocol: sent, first: port, .. },
        ) => protocol == sent && (first..=last).contains(&port),
        (Traffic::Icmp { protocol, kind }, Traffic::Icmp { protocol: sent, kind: message }) => {
            let (sent_type, sent_code) = message.expect("a packet has a type");
            protocol == sent
                && kind.is_none_or(|(kind, code)| {
                    kind == sent_type && code.is_none_or(|code| Some(code) == sent_code)
                })
        }
        (Traffic::Protocol(protocol), Traffic::Protocol(sent)) => protocol == sent,
        _ => false,
    }
}

/// Rule 12's link-local services; the universe's VPC has 10.0.0.0/16 and 10.1.0.0/24.
fn service(policy: &Policy, vpc: &Vpc, interface: &Interface, probe: &Probe) -> bool {
    if probe.direction == Direction::Ingress {
        return false;
    }
    let on = policy.infrastructure;
    let is = |addresses: &[&str]| addresses.contains(&probe.remote.to_string().as_str());
    let to = |protocol, port| probe.traffic == Traffic::Ports { protocol, first: port, last: port };
    let dns = is(&["169.254.169.253", "fd00:ec2::253", "10.0.0.2", "10.1.0.2"]);
    let router = interface.addresses.iter().any(|net| {
        let subnet = vpc.subnets.iter().chain(&vpc.cidrs).find(|block| block.contains(net));
        let first = subnet.expect("addresses lie in the VPC").network();
        matches!(first, IpAddr::V4(first) if probe.remote == IpAddr::V4((first.to_bits() + 1).into()))
    });
    on.dns && dns && (to(17, 53) || to(6, 53))
        || on.metadata && is(&["169.254.169.254", "169.254.170.2", "fd00:ec2::254"]) && to(6, 80)
        || on.time && is(&["169.254.169.123", "fd00:ec2::123"]) && to(17, 123)
        || on.licences && is(&["169.254.169.250", "169.254.169.251"]) && to(6, 1688)
        || on.subnet_router && router
}
