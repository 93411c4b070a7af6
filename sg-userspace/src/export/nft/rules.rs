//! Rules of the policy as rules of nft: peer, packets, accept, with the rule's name as comment.

use sg_common::wire::ip;
use sg_common::{Direction, Family};

use super::names::comment;
use super::{Export, Subject};
use crate::compile::TableSpec;
use crate::policy::model::Traffic;

impl Export<'_> {
    /// What a new flow of one direction must match. What matches nothing is dropped in silence.
    pub(super) fn rules(
        &mut self,
        spec: &TableSpec,
        subject: &Subject<'_>,
        direction: Direction,
    ) -> Vec<String> {
        let policy = spec.policies.get(&subject.spec.version.policy);
        let numbers = policy.into_iter().flat_map(|policy| &policy.rules);
        let mut lines = Vec::new();
        for rule in numbers.filter_map(|number| spec.rules.get(number)) {
            if rule.identity.direction != direction {
                continue;
            }
            let name = comment(&rule.to_string());
            for (family, peer) in self.peer(rule) {
                if let Some(packets) = packets(rule.identity.traffic, family) {
                    lines.push(format!("{peer}{packets} counter accept{name}"));
                }
            }
        }
        lines.push(format!("counter drop{}", comment("no_rule")));
        lines
    }
}

/// A match for a rule's packets, with a blank before it; `None`: no packet of the family is one.
fn packets(traffic: Traffic, family: Family) -> Option<String> {
    Some(match traffic {
        Traffic::All => String::new(),
        Traffic::Protocol(protocol) | Traffic::Icmp { protocol, kind: None } => {
            format!(" meta l4proto {protocol}")
        }
        Traffic::Ports { protocol, first: 0, last: u16::MAX } => {
            format!(" meta l4proto {protocol}")
        }
        Traffic::Ports { protocol, first, last } => {
            let protocol = match protocol {
                ip::TCP => "tcp",
                ip::UDP => "udp",
                ip::SCTP => "sctp",
                // Validation gives ports to these three.
                _ => return None,
            };
            if first == last {
                format!(" {protocol} dport {first}")
            } else {
                format!(" {protocol} dport {first}-{last}")
            }
        }
        Traffic::Icmp { protocol, kind: Some((kind, code)) } => {
            let protocol = match (protocol, family) {
                (ip::ICMP, Family::V4) => "icmp",
                (ip::ICMPV6, Family::V6) => "icmpv6",
                // Of the other family's messages no type is read.
                _ => return None,
            };
            let code = code.map(|code| format!(" {protocol} code {code}")).unwrap_or_default();
            format!(" {protocol} type {kind}{code}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_packets() {
        let icmp = |protocol, kind| Traffic::Icmp { protocol, kind };
        let ports = |protocol, first, last| Traffic::Ports { protocol, first, last };
        for (traffic, v4, v6) in [
            (Traffic::All, Some(""), Some("")),
            (Traffic::Protocol(47), Some(" meta l4proto 47"), Some(" meta l4proto 47")),
            (ports(6, 80, 80), Some(" tcp dport 80"), Some(" tcp dport 80")),
            (ports(17, 5, 9), Some(" udp dport 5-9"), Some(" udp dport 5-9")),
            (ports(132, 0, 65535), Some(" meta l4proto 132"), Some(" meta l4proto 132")),
            (icmp(1, None), Some(" meta l4proto 1"), Some(" meta l4proto 1")),
            (icmp(1, Some((8, None))), Some(" icmp type 8"), None),
            (icmp(1, Some((3, Some(4)))), Some(" icmp type 3 icmp code 4"), None),
            (icmp(58, Some((128, Some(0)))), None, Some(" icmpv6 type 128 icmpv6 code 0")),
        ] {
            assert_eq!(packets(traffic, Family::V4).as_deref(), v4, "{traffic:?}");
            assert_eq!(packets(traffic, Family::V6).as_deref(), v6, "{traffic:?}");
        }
    }
}
