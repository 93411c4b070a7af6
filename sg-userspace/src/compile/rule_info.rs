//! What a rule's number stands for, in the words of the policy file.

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sg_common::Direction;
use sg_common::wire::ip;

use super::serial;
use crate::policy::model::Traffic;
use crate::policy::{PeerRef, RuleId};

/// A rule that a local policy holds.
///
/// Everything but the description is its identity: while that stays, its number does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Which rule.
    #[serde(flatten)]
    pub identity: RuleIdentity,
    /// Free text of the file.
    pub description: String,
}

/// What makes two rules the same rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleIdentity {
    /// Name of the VPC.
    pub vpc: String,
    /// Who says so.
    pub origin: Origin,
    /// Which way the flow opens.
    #[serde(with = "serial::DirectionDef")]
    pub direction: Direction,
    /// Which packets.
    #[serde(with = "serial::TrafficDef")]
    pub traffic: Traffic,
    /// Which other end.
    pub peer: PeerName,
    /// What of the peer is compiled apart.
    pub everybody: Everybody,
}

impl RuleIdentity {
    /// The identifier that users know the rule by; `None` for infrastructure. What is compiled apart is no part
    /// of it: the rule is the same when its prefix list comes to hold everybody.
    #[must_use]
    pub fn id(&self) -> Option<RuleId> {
        let Origin::Group(group) = &self.origin else { return None };
        let peer = match &self.peer {
            PeerName::Cidr(net) => PeerRef::Cidr(*net),
            PeerName::Group(name) => PeerRef::Group(name),
            PeerName::PrefixList(name) => PeerRef::PrefixList(name),
        };
        Some(RuleId::new(&self.vpc, group, self.direction, self.traffic, peer))
    }
}

/// Who says a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A group of the file.
    Group(String),
    /// An infrastructure entry (rule 12), by its name in the file: `dns`, `metadata`, ...
    Infrastructure(String),
}

/// What the other end must be, by name, so that it outlives the file it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerName {
    /// An address range.
    Cidr(IpNet),
    /// The members of a group of the same VPC.
    Group(String),
    /// A prefix list of the same VPC.
    PrefixList(String),
}

/// A peer of one VPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerSpec {
    /// Number of the VPC.
    pub vpc: u32,
    /// Which peer of it.
    pub name: PeerName,
}

/// What a peer holds besides the entries of address tables: everybody needs none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Everybody {
    /// 0.0.0.0/0 is the peer, or in the prefix list that is.
    pub v4: bool,
    /// `::/0` is the peer, or in the prefix list that is.
    pub v6: bool,
    /// So is 169.254.0.0/16, where everybody does not include it (dialect `kakao`, group `default`).
    pub link_local: bool,
}

impl Display for RuleInfo {
    /// `group alb ingress tcp/80 from 0.0.0.0/0 (description)`
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let RuleIdentity { origin, direction, traffic, peer, .. } = &self.identity;
        let preposition = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let (direction, traffic) = (direction.name(), TrafficText(*traffic));
        write!(formatter, "{origin} {direction} {traffic} {preposition} {peer}")?;
        if self.description.is_empty() {
            return Ok(());
        }
        write!(formatter, " ({})", self.description)
    }
}

impl Display for Origin {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(formatter, "group {name}"),
            Self::Infrastructure(name) => write!(formatter, "infrastructure {name}"),
        }
    }
}

impl Display for PeerName {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => write!(formatter, "{net}"),
            Self::Group(name) => write!(formatter, "group {name}"),
            Self::PrefixList(name) => write!(formatter, "prefix list {name}"),
        }
    }
}

/// Packets in a few words: `tcp/80`, `udp/5000-5010`, `icmp type 8 code 0`, `protocol 47`, `all`.
#[derive(Debug, Clone, Copy)]
pub struct TrafficText(pub Traffic);

impl Display for TrafficText {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Traffic::All => formatter.write_str("all"),
            Traffic::Protocol(protocol) => protocol_name(protocol, formatter),
            Traffic::Ports { protocol, first, last } => {
                protocol_name(protocol, formatter)?;
                match (first, last) {
                    (0, u16::MAX) => Ok(()),
                    (first, last) if first == last => write!(formatter, "/{first}"),
                    (first, last) => write!(formatter, "/{first}-{last}"),
                }
            }
            Traffic::Icmp { protocol, kind } => {
                protocol_name(protocol, formatter)?;
                let Some((kind, code)) = kind else { return Ok(()) };
                write!(formatter, " type {kind}")?;
                code.map_or(Ok(()), |code| write!(formatter, " code {code}"))
            }
        }
    }
}

fn protocol_name(protocol: u8, formatter: &mut Formatter<'_>) -> fmt::Result {
    let name = match protocol {
        ip::TCP => "tcp",
        ip::UDP => "udp",
        ip::ICMP => "icmp",
        ip::ICMPV6 => "icmpv6",
        ip::SCTP => "sctp",
        other => return write!(formatter, "protocol {other}"),
    };
    formatter.write_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_like_sentences() {
        let rule = |origin, direction, traffic, peer, description: &str| RuleInfo {
            identity: RuleIdentity {
                vpc: "prod".to_owned(),
                origin,
                direction,
                traffic,
                peer,
                everybody: Everybody::default(),
            },
            description: description.to_owned(),
        };
        let group = |name: &str| Origin::Group(name.to_owned());
        let cidr = |text: &str| PeerName::Cidr(text.parse().expect("a block"));
        let ports = |protocol, first, last| Traffic::Ports { protocol, first, last };
        for (info, text) in [
            (
                rule(group("alb"), Direction::Ingress, ports(6, 80, 80), cidr("0.0.0.0/0"), "web"),
                "group alb ingress tcp/80 from 0.0.0.0/0 (web)",
            ),
            (
                rule(
                    Origin::Infrastructure("dns".to_owned()),
                    Direction::Egress,
                    ports(17, 53, 53),
                    cidr("169.254.169.253/32"),
                    "",
                ),
                "infrastructure dns egress udp/53 to 169.254.169.253/32",
            ),
            (
                rule(
                    group("a"),
                    Direction::Egress,
                    Traffic::Icmp { protocol: 1, kind: Some((8, Some(0))) },
                    PeerName::Group("b".to_owned()),
                    "",
                ),
                "group a egress icmp type 8 code 0 to group b",
            ),
            (
                rule(
                    group("a"),
                    Direction::Ingress,
                    ports(132, 0, 65535),
                    PeerName::PrefixList("office".to_owned()),
                    "",
                ),
                "group a ingress sctp from prefix list office",
            ),
            (
                rule(group("a"), Direction::Ingress, Traffic::Protocol(47), cidr("::/0"), ""),
                "group a ingress protocol 47 from ::/0",
            ),
        ] {
            assert_eq!(info.to_string(), text);
        }
    }
}
