//! Identifiers of rules, in AWS's shape: the same on every machine, and for as long as the rule is the same.
//!
//! What makes a rule that rule is its VPC, group, direction, packets and peer. Not its description, not
//! when it expires, and not what a prefix list or a group holds at the moment.

use std::fmt::{self, Display, Formatter};
use std::hash::Hasher as _;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sg_common::Direction;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::model::{Peer, Rule, SecurityGroup, Traffic, Vpc};

/// What every identifier begins with.
const PREFIX: &str = "sgr-";

/// Hexadecimal digits behind it.
const DIGITS: usize = 17;

/// An identifier: `sgr-` and 17 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u128);

/// A peer by what it is called.
#[derive(Debug, Clone, Copy)]
pub enum PeerRef<'p> {
    /// An address range.
    Cidr(IpNet),
    /// A group.
    Group(&'p str),
    /// A prefix list.
    PrefixList(&'p str),
}

impl RuleId {
    /// The identifier of a rule by its parts.
    #[must_use]
    pub fn new(
        vpc: &str,
        group: &str,
        direction: Direction,
        traffic: Traffic,
        peer: PeerRef<'_>,
    ) -> Self {
        let peer = match peer {
            PeerRef::Cidr(net) => format!("cidr {net}"),
            PeerRef::Group(name) => format!("group {name}"),
            PeerRef::PrefixList(name) => format!("list {name}"),
        };
        let traffic = match traffic {
            Traffic::All => "all".to_owned(),
            Traffic::Ports { protocol, first, last } => format!("{protocol} {first}-{last}"),
            Traffic::Icmp { protocol, kind: None } => format!("{protocol}"),
            Traffic::Icmp { protocol, kind: Some((kind, None)) } => format!("{protocol} {kind}"),
            Traffic::Icmp { protocol, kind: Some((kind, Some(code))) } => {
                format!("{protocol} {kind}/{code}")
            }
            Traffic::Protocol(protocol) => format!("{protocol}"),
        };
        // Names hold no NUL, so no two rules write the same bytes. The hash has a fixed key: it is to be the
        // same everywhere, and who may choose the rules of a group needs no collision to change them.
        let mut hasher = SipHasher13::new();
        for part in [vpc, group, direction.name(), &traffic, &peer] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0);
        }
        Self(hasher.finish128().as_u128() >> (128 - 4 * DIGITS))
    }

    /// The identifier of a rule of the model.
    #[must_use]
    pub fn of(vpc: &Vpc, group: &SecurityGroup, direction: Direction, rule: &Rule) -> Self {
        let peer = match rule.peer {
            Peer::Cidr(net) => PeerRef::Cidr(net),
            Peer::Group(index) => {
                PeerRef::Group(vpc.groups.get(index).map_or("", |group| &group.name))
            }
            Peer::PrefixList(index) => {
                PeerRef::PrefixList(vpc.prefix_lists.get(index).map_or("", |list| &list.name))
            }
        };
        Self::new(&vpc.name, &group.name, direction, rule.traffic, peer)
    }
}

impl Display for RuleId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{:017x}", self.0)
    }
}

/// A text that is no identifier of a rule.
#[derive(Debug, thiserror::Error)]
#[error("an identifier of a rule is `sgr-` and 17 hexadecimal digits")]
pub struct RuleIdError;

impl FromStr for RuleId {
    type Err = RuleIdError;

    fn from_str(text: &str) -> Result<Self, RuleIdError> {
        let digits = text.strip_prefix(PREFIX).ok_or(RuleIdError)?;
        let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits.len() != DIGITS || !hexadecimal {
            return Err(RuleIdError);
        }
        u128::from_str_radix(digits, 16).map(Self).map_err(|_| RuleIdError)
    }
}

impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RuleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(vpc: &str, group: &str, direction: Direction, peer: PeerRef<'_>) -> RuleId {
        RuleId::new(
            vpc,
            group,
            direction,
            Traffic::Ports { protocol: 6, first: 22, last: 22 },
            peer,
        )
    }

    #[test]
    fn identifiers_are_the_same_everywhere_and_for_ever() {
        let peer = PeerRef::Cidr("203.0.113.0/24".parse().expect("a block"));
        let id = ssh("prod", "bastion", Direction::Ingress, peer);
        // Written down: another hash would change the identifiers of every policy in force.
        assert_eq!(id.to_string(), "sgr-4d376e8418bd0cfbe");
        assert_eq!(id.to_string().parse::<RuleId>().expect("its own text"), id);
    }

    #[test]
    fn every_part_counts() {
        let block = PeerRef::Cidr("10.0.0.0/8".parse().expect("a block"));
        let mut ids: Vec<RuleId> = [
            ssh("a", "bc", Direction::Ingress, block),
            ssh("ab", "c", Direction::Ingress, block),
            ssh("a", "bc", Direction::Egress, block),
            ssh("a", "bc", Direction::Ingress, PeerRef::Group("x")),
            ssh("a", "bc", Direction::Ingress, PeerRef::PrefixList("x")),
            RuleId::new("a", "bc", Direction::Ingress, Traffic::All, block),
            RuleId::new("a", "bc", Direction::Ingress, Traffic::Protocol(47), block),
        ]
        .into();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 7);
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        for text in [
            "",
            "sgr-",
            "sgr-0123",
            "sg-0123456789abcdef0",
            "sgr-0123456789abcdefg",
            "sgr-+123456789abcdef0",
        ] {
            assert!(text.parse::<RuleId>().is_err(), "{text}");
        }
    }
}
