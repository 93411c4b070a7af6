//! What is missing where no rule allows a packet: the rules that come near, and one that would do.

use std::net::IpAddr;

use serde::Serialize;
use sg_common::Direction;
use sg_common::wire::ip;

use crate::compile::TrafficText;
use crate::engine::Probe;
use crate::policy::model::{Interface, Peer, Rule, Traffic, Vpc};

/// A rule that allows a packet but for one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Near {
    /// The rule in words.
    pub rule: String,
    /// What it asks for and the packet has not.
    pub differs: String,
}

/// The rules of the interface's groups that match the packet's peer or its traffic, but not both.
#[must_use]
pub fn near_rules(vpc: &Vpc, interface: &Interface, probe: &Probe) -> Vec<Near> {
    let groups = interface.groups.iter().filter_map(|&group| vpc.groups.get(group));
    groups
        .flat_map(|group| {
            let rules = match probe.direction {
                Direction::Ingress => &group.ingress,
                Direction::Egress => &group.egress,
            };
            rules.iter().filter_map(|rule| near(vpc, &group.name, rule, probe))
        })
        .collect()
}

fn near(vpc: &Vpc, group: &str, rule: &Rule, probe: &Probe) -> Option<Near> {
    let preposition = preposition(probe.direction);
    let peer = peer_text(vpc, &rule.peer);
    let differs = match (holds(vpc, &rule.peer, probe.remote), covers(rule.traffic, probe.traffic))
    {
        (true, false) => format!("it allows {}", TrafficText(rule.traffic)),
        (false, true) => format!("{} is not in {peer}", probe.remote),
        (true, true) | (false, false) => return None,
    };
    let (direction, traffic) = (probe.direction.name(), TrafficText(rule.traffic));
    Some(Near {
        rule: format!("group {group} {direction} {traffic} {preposition} {peer}"),
        differs,
    })
}

/// A rule that would allow the packet, as a line of a policy file.
#[must_use]
pub fn remedy(probe: &Probe) -> String {
    let traffic = match probe.traffic {
        Traffic::All => "protocol: all".to_owned(),
        Traffic::Ports { protocol, first, .. } => {
            let name = match protocol {
                ip::TCP => "tcp".to_owned(),
                ip::UDP => "udp".to_owned(),
                ip::SCTP => "sctp".to_owned(),
                other => other.to_string(),
            };
            format!("protocol: {name}, ports: {first}")
        }
        Traffic::Icmp { protocol, kind } => {
            let name = if protocol == ip::ICMP { "icmp" } else { "icmpv6" };
            match kind {
                Some((kind, Some(code))) => {
                    format!("protocol: {name}, icmp_type: {kind}, icmp_code: {code}")
                }
                Some((kind, None)) => format!("protocol: {name}, icmp_type: {kind}"),
                None => format!("protocol: {name}"),
            }
        }
        Traffic::Protocol(protocol) => format!("protocol: {protocol}"),
    };
    let (direction, preposition) = (probe.direction.name(), preposition(probe.direction));
    format!("{direction}: [{{{traffic}, {preposition}: \"{}\"}}]", probe.remote)
}

const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

fn peer_text(vpc: &Vpc, peer: &Peer) -> String {
    match peer {
        Peer::Cidr(net) => net.to_string(),
        Peer::Group(group) => {
            vpc.groups.get(*group).map_or_else(String::new, |one| format!("group {}", one.name))
        }
        Peer::PrefixList(list) => vpc
            .prefix_lists
            .get(*list)
            .map_or_else(String::new, |one| format!("prefix list {}", one.name)),
    }
}

fn holds(vpc: &Vpc, peer: &Peer, address: IpAddr) -> bool {
    match peer {
        Peer::Cidr(net) => net.contains(&address),
        Peer::PrefixList(list) => vpc
            .prefix_lists
            .get(*list)
            .is_some_and(|list| list.cidrs.iter().any(|net| net.contains(&address))),
        Peer::Group(group) => vpc
            .interfaces
            .iter()
            .filter(|interface| interface.groups.contains(group))
            .any(|interface| interface.addresses.iter().any(|net| net.contains(&address))),
    }
}

/// Whether a rule's traffic holds one packet's.
fn covers(rule: Traffic, packet: Traffic) -> bool {
    match (rule, packet) {
        (Traffic::All, _) => true,
        (
            Traffic::Ports { protocol, first, last },
            Traffic::Ports { protocol: of_packet, first: port, .. },
        ) => protocol == of_packet && (first..=last).contains(&port),
        (
            Traffic::Icmp { protocol, kind },
            Traffic::Icmp { protocol: of_packet, kind: Some((packet_kind, packet_code)) },
        ) => {
            protocol == of_packet
                && kind.is_none_or(|(kind, code)| {
                    kind == packet_kind && (code.is_none() || code == packet_code)
                })
        }
        (Traffic::Protocol(protocol), Traffic::Protocol(of_packet)) => protocol == of_packet,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load;

    const POLICY: &str = r#"
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    prefix_lists: [{name: office, cidrs: [203.0.113.0/24]}]
    security_groups:
      - name: web
        ingress:
          - {type: http, from: 0.0.0.0/0}
          - {type: ssh, from: {prefix_list: office}}
          - {protocol: icmp, icmp_type: 8, from: {group: web}}
    interfaces: [{name: web-1, addresses: [10.0.0.5], groups: [web]}]
"#;

    fn near_to(remote: &str, traffic: Traffic) -> Vec<String> {
        let policy = load("test", POLICY).unwrap().policy;
        let vpc = &policy.vpcs[0];
        let local = "10.0.0.5".parse().unwrap();
        let probe = Probe::new(Direction::Ingress, local, remote.parse().unwrap(), traffic);
        let near = near_rules(vpc, &vpc.interfaces[0], &probe);
        near.into_iter().map(|near| format!("{}: {}", near.rule, near.differs)).collect()
    }

    const fn tcp(port: u16) -> Traffic {
        Traffic::Ports { protocol: ip::TCP, first: port, last: port }
    }

    #[test]
    fn the_wrong_peer_and_the_wrong_port() {
        assert_eq!(
            near_to("198.51.100.7", tcp(22)),
            [
                "group web ingress tcp/80 from 0.0.0.0/0: it allows tcp/80",
                "group web ingress tcp/22 from prefix list office: 198.51.100.7 is not in prefix list office",
            ]
        );
        assert_eq!(
            near_to("203.0.113.9", tcp(443)),
            [
                "group web ingress tcp/80 from 0.0.0.0/0: it allows tcp/80",
                "group web ingress tcp/22 from prefix list office: it allows tcp/22",
            ]
        );
    }

    #[test]
    fn members_of_a_group() {
        let echo = Traffic::Icmp { protocol: ip::ICMP, kind: Some((8, Some(0))) };
        assert_eq!(near_to("10.0.0.5", tcp(22)).len(), 3);
        assert!(near_to("10.0.0.6", echo).iter().any(|near| near.ends_with("not in group web")));
    }

    #[test]
    fn the_remedy_is_a_rule() {
        let policy = load("test", POLICY).unwrap().policy;
        let local = policy.vpcs[0].interfaces[0].addresses[0].addr();
        let remote = "198.51.100.7".parse().unwrap();
        let probe = Probe::new(Direction::Ingress, local, remote, tcp(22));
        let remedy = remedy(&probe);
        assert_eq!(remedy, r#"ingress: [{protocol: tcp, ports: 22, from: "198.51.100.7"}]"#);
        let text = format!(
            "vpcs: [{{name: a, cidrs: [10.0.0.0/8], security_groups: [{{name: g, {remedy}}}]}}]"
        );
        assert!(load("test", &text).is_ok(), "{text}");
    }
}
