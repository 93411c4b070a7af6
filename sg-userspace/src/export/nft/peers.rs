//! Peers as matches: an address, a block, or a set with the members of a group or the blocks of a list.

use std::collections::BTreeMap;

use ipnet::IpNet;
use sg_common::{Direction, Family};

use super::Export;
use super::names::comment;
use crate::compile::{Everybody, PeerName, RuleInfo, without_host_bits};
use crate::policy::model::{Dialect, Vpc};

/// What dialect `kakao` takes out of everybody.
const LINK_LOCAL: &str = "169.254.0.0/16";

/// Sets of those peers that rules name.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<(String, PeerName), PeerSets>);

#[derive(Debug)]
struct PeerSets {
    name: String,
    addresses: Vec<IpNet>,
    /// A group may get members of either family later.
    both: bool,
}

impl Peers {
    /// Every set that a rule names.
    pub(super) fn sets(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((vpc, peer), sets) in &self.0 {
            for family in [Family::V4, Family::V6] {
                if let Some(name) = sets.of(family) {
                    let title = format!("{peer} of VPC {vpc}");
                    lines.extend(set(&name, family, &title, &sets.addresses));
                }
            }
        }
        lines
    }
}

impl PeerSets {
    fn of(&self, family: Family) -> Option<String> {
        let has = self.addresses.iter().any(|net| is_of(net, family));
        (self.both || has).then(|| set_name(&self.name, family))
    }
}

pub(super) fn set_name(name: &str, family: Family) -> String {
    format!("{name}_v{}", family.number())
}

pub(super) fn is_of(net: &IpNet, family: Family) -> bool {
    matches!((net, family), (IpNet::V4(_), Family::V4) | (IpNet::V6(_), Family::V6))
}

/// `ip` or `ip6`, as matches name the header.
pub(super) const fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// The lines of a set.
pub(super) fn set(name: &str, family: Family, title: &str, addresses: &[IpNet]) -> Vec<String> {
    let kind = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    let mut lines = vec![
        String::new(),
        format!("    set {name} {{"),
        format!("        type {kind}"),
        "        flags interval".to_owned(),
        // Blocks of a list and members may overlap.
        "        auto-merge".to_owned(),
        format!("       {}", comment(title)),
    ];
    let elements: Vec<String> =
        addresses.iter().filter(|net| is_of(net, family)).map(element).collect();
    if !elements.is_empty() {
        lines.push("        elements = {".to_owned());
        lines.extend(elements.iter().map(|element| format!("            {element},")));
        lines.push("        }".to_owned());
    }
    lines.push("    }".to_owned());
    lines
}

/// A single address without its length, as people write it.
fn element(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

impl Export<'_> {
    /// What the other end of a rule's packets must be; each with its family, none where nobody is meant.
    pub(super) fn peer(&mut self, rule: &RuleInfo) -> Vec<(Family, String)> {
        let end = match rule.identity.direction {
            Direction::Ingress => "saddr",
            Direction::Egress => "daddr",
        };
        let mut matches = everybody(rule.identity.everybody, self.policy.dialect, end);
        let place = |family, set: String| (family, format!("{} {end} {set}", header(family)));
        match &rule.identity.peer {
            PeerName::Cidr(net) if net.prefix_len() > 0 => {
                let family = if matches!(net, IpNet::V4(_)) { Family::V4 } else { Family::V6 };
                matches.push(place(family, element(net)));
            }
            // Everybody.
            PeerName::Cidr(_) => {}
            peer @ (PeerName::Group(_) | PeerName::PrefixList(_)) => {
                let sets = self.sets(&rule.identity.vpc, peer);
                let families = [Family::V4, Family::V6].into_iter();
                let named = families.filter_map(|it| Some(place(it, format!("@{}", sets.of(it)?))));
                matches.extend(named);
            }
        }
        matches
    }

    fn sets(&mut self, vpc: &str, peer: &PeerName) -> &PeerSets {
        let key = (vpc.to_owned(), peer.clone());
        let found = self.policy.vpcs.iter().find(|one| one.name == vpc);
        let addresses = found.map(|vpc| self.addresses_of(vpc, peer)).unwrap_or_default();
        let names = &mut self.names;
        self.peers.0.entry(key).or_insert_with(|| PeerSets {
            name: names.unique(&peer.to_string()),
            addresses,
            both: matches!(peer, PeerName::Group(_)),
        })
    }

    fn addresses_of(&self, vpc: &Vpc, peer: &PeerName) -> Vec<IpNet> {
        let mut addresses: Vec<IpNet> = match peer {
            PeerName::Cidr(net) => vec![*net],
            PeerName::PrefixList(name) => {
                let lists = vpc.prefix_lists.iter().filter(|list| list.name == *name);
                // Everybody has a match of its own.
                lists
                    .flat_map(|list| &list.cidrs)
                    .filter(|net| net.prefix_len() > 0)
                    .copied()
                    .collect()
            }
            PeerName::Group(name) => self.members(vpc, name),
        };
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn members(&self, vpc: &Vpc, group: &str) -> Vec<IpNet> {
        let is_group = |&index: &usize| vpc.groups.get(index).is_some_and(|it| it.name == group);
        let members =
            vpc.interfaces.iter().filter(|interface| interface.groups.iter().any(is_group));
        let addresses = members.flat_map(|interface| {
            let auto = self.surroundings.addresses.get(&interface.name);
            let found = if interface.auto_addresses { auto } else { Some(&interface.addresses) };
            found.into_iter().flatten().copied().map(without_host_bits)
        });
        addresses.collect()
    }
}

fn everybody(everybody: Everybody, dialect: Dialect, end: &str) -> Vec<(Family, String)> {
    let narrowed = dialect == Dialect::Kakao && !everybody.link_local;
    let v4 =
        if narrowed { format!("ip {end} != {LINK_LOCAL}") } else { "meta nfproto ipv4".to_owned() };
    let v4 = everybody.v4.then_some((Family::V4, v4));
    let v6 = everybody.v6.then(|| (Family::V6, "meta nfproto ipv6".to_owned()));
    v4.into_iter().chain(v6).collect()
}
