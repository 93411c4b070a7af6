//! Which flows a command is about, in the words of the policy in force.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::bail;
use ipnet::IpNet;

use super::super::{attached, traffic};
use crate::compile::{AddressSpec, IpAddress, TableSpec};
use crate::kernel::read::FlowRecord;
use crate::policy::model::{Interface, Vpc};
use crate::policy::{Policy, did_you_mean};

/// What `--peer` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PeerArgument {
    /// An address is the range of itself.
    Range(IpNet),
    /// `group:NAME`
    Group(String),
    /// A prefix list's, or else a group's.
    Name(String),
}

impl PeerArgument {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match (text.strip_prefix("group:"), traffic::range(text)) {
            (Some(name), _) => Self::Group(name.to_owned()),
            (None, Ok(range)) => Self::Range(range),
            (None, Err(_)) if looks_like_a_range(text) => {
                return Err("neither an address nor a CIDR block such as 10.0.0.0/8".to_owned());
            }
            (None, Err(_)) => Self::Name(text.to_owned()),
        })
    }
}

/// Digits, dots and colons alone are no name that anybody meant.
fn looks_like_a_range(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_hexdigit() || matches!(it, '.' | ':' | '/'))
        && text.contains(['.', ':'])
}

/// Other ends: ranges, in one VPC or in any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peers {
    vpc: Option<String>,
    ranges: Vec<IpNet>,
}

/// What a flow must fit, each part that is given.
#[derive(Debug, Default)]
pub(super) struct Selection {
    slots: Option<BTreeSet<u16>>,
    peers: Option<Peers>,
    protocol: Option<u8>,
    port: Option<u16>,
}

impl Selection {
    /// Only flows of this protocol, and with this port at one end.
    pub(super) fn of_traffic(protocol: Option<u8>, port: Option<u16>) -> Self {
        Self { protocol, port, ..Self::default() }
    }

    /// Only flows of this interface.
    pub(super) fn interface(&mut self, tables: &TableSpec, name: &str) -> anyhow::Result<()> {
        self.only(BTreeSet::from([attached::slot(tables, name)?]));
        Ok(())
    }

    /// Only flows of this group's members.
    pub(super) fn group(
        &mut self,
        tables: &TableSpec,
        policy: &Policy,
        name: &str,
    ) -> anyhow::Result<()> {
        let (vpc, group) = find(policy, "group", name, groups_of)?;
        let members = tables
            .interfaces
            .iter()
            .filter(|(_, one)| one.vpc_name == vpc.name && one.groups.contains(&group))
            .map(|(&slot, _)| slot);
        self.only(members.collect());
        Ok(())
    }

    /// Only flows with this other end.
    pub(super) fn peer(
        &mut self,
        tables: &TableSpec,
        policy: &Policy,
        peer: &PeerArgument,
    ) -> anyhow::Result<()> {
        self.peers = Some(match peer {
            PeerArgument::Range(range) => Peers { vpc: None, ranges: vec![*range] },
            PeerArgument::Group(name) => members(tables, policy, name)?,
            PeerArgument::Name(name) if named(policy, name, lists_of).is_empty() => {
                if named(policy, name, groups_of).is_empty() {
                    let both = |vpc| lists_of(vpc).into_iter().chain(groups_of(vpc));
                    let near = did_you_mean(name, policy.vpcs.iter().flat_map(both));
                    let hint = near.unwrap_or_else(|| {
                        let [lists, groups] = [lists_of, groups_of].map(|of| all(policy, of));
                        format!("prefix lists: {lists}; groups: {groups}")
                    });
                    bail!("no prefix list and no group is called {name:?} ({hint})");
                }
                members(tables, policy, name)?
            }
            PeerArgument::Name(name) => {
                let (vpc, list) = find(policy, "prefix list", name, lists_of)?;
                let lists = vpc.prefix_lists.iter().filter(|one| one.name == list);
                let ranges = lists.flat_map(|one| &one.cidrs).copied().collect();
                Peers { vpc: Some(vpc.name.clone()), ranges }
            }
        });
        Ok(())
    }

    fn only(&mut self, slots: BTreeSet<u16>) {
        self.slots = Some(match self.slots.take() {
            Some(before) => before.intersection(&slots).copied().collect(),
            None => slots,
        });
    }

    pub(super) fn fits(&self, tables: &TableSpec, flow: &FlowRecord) -> bool {
        let vpc = || tables.interfaces.get(&flow.slot).map(|one| one.vpc_name.as_str());
        let ports = [flow.local_port, flow.remote_port];
        self.slots.as_ref().is_none_or(|slots| slots.contains(&flow.slot))
            && self.peers.as_ref().is_none_or(|peers| {
                (peers.vpc.is_none() || peers.vpc.as_deref() == vpc())
                    && peers.ranges.iter().any(|range| range.contains(&flow.remote))
            })
            && self.port.is_none_or(|port| flow.has_ports() && ports.contains(&port))
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
    }
}

/// The addresses of a group's members, as far as they are known here.
fn members(tables: &TableSpec, policy: &Policy, name: &str) -> anyhow::Result<Peers> {
    let (vpc, group) = find(policy, "group", name, groups_of)?;
    let index = vpc.groups.iter().position(|one| one.name == group);
    let members =
        vpc.interfaces.iter().filter(|one| index.is_some_and(|it| one.groups.contains(&it)));
    let ranges = members.flat_map(|one| addresses(tables, one)).collect();
    Ok(Peers { vpc: Some(vpc.name.clone()), ranges })
}

fn addresses(tables: &TableSpec, interface: &Interface) -> Vec<IpNet> {
    fn own<A: IpAddress + Into<IpAddr>>(spec: &AddressSpec<A>, slot: u16) -> Vec<IpNet> {
        let own = spec.own.iter().filter(|prefix| prefix.space == u32::from(slot));
        own.filter_map(|one| IpNet::new(one.address.into(), one.length).ok()).collect()
    }
    match tables.slot(&interface.name).filter(|_| interface.auto_addresses) {
        Some(slot) => [own(&tables.v4, slot), own(&tables.v6, slot)].concat(),
        None => interface.addresses.clone(),
    }
}

fn groups_of(vpc: &Vpc) -> Vec<&str> {
    vpc.groups.iter().map(|one| one.name.as_str()).collect()
}

fn lists_of(vpc: &Vpc) -> Vec<&str> {
    vpc.prefix_lists.iter().map(|one| one.name.as_str()).collect()
}

/// What a VPC has of a kind.
type NamesOf = fn(&Vpc) -> Vec<&str>;

/// Those of every VPC that are called so, with or without the VPC's name before them.
fn named<'p>(policy: &'p Policy, name: &str, of: NamesOf) -> Vec<(&'p Vpc, &'p str)> {
    let all = policy.vpcs.iter().flat_map(|vpc| of(vpc).into_iter().map(move |one| (vpc, one)));
    let fits = |vpc: &Vpc, one: &str| {
        one.eq_ignore_ascii_case(name) || format!("{}/{one}", vpc.name).eq_ignore_ascii_case(name)
    };
    all.filter(|(vpc, one)| fits(vpc, one)).collect()
}

fn find<'p>(
    policy: &'p Policy,
    kind: &str,
    name: &str,
    of: NamesOf,
) -> anyhow::Result<(&'p Vpc, String)> {
    match named(policy, name, of)[..] {
        [(vpc, one)] => Ok((vpc, one.to_owned())),
        [] => {
            let near = did_you_mean(name, policy.vpcs.iter().flat_map(of));
            let hint = near.unwrap_or_else(|| format!("there are: {}", all(policy, of)));
            bail!("no {kind} is called {name:?} ({hint})")
        }
        [(vpc, one), ..] => {
            bail!("several VPCs have a {kind} {name:?}; say which, as in {}/{one}", vpc.name)
        }
    }
}

fn all(policy: &Policy, of: NamesOf) -> String {
    let names: BTreeSet<_> = policy.vpcs.iter().flat_map(of).collect();
    if names.is_empty() { "none".to_owned() } else { Vec::from_iter(names).join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Surroundings, compile};

    const POLICY: &str = r#"
vpcs:
  - name: prod
    cidrs: [10.0.0.0/16]
    prefix_lists: [{name: office, cidrs: [203.0.113.0/24]}]
    security_groups: [{name: web}, {name: lb}]
    interfaces:
      - {name: web-1, addresses: [10.0.0.5], groups: [web]}
      - {name: lb-1, addresses: [10.0.0.7], groups: [lb]}
      - {name: elsewhere, addresses: [10.0.0.8], groups: [lb]}
  - name: test
    cidrs: [10.0.0.0/16]
    security_groups: [{name: web}]
    interfaces: [{name: web-2, addresses: [10.0.0.5], groups: [web]}]
"#;

    fn bench() -> (Policy, TableSpec) {
        let policy = crate::policy::load("test", POLICY).expect("a policy").policy;
        let local = Surroundings::of(["web-1", "lb-1", "web-2"]);
        let tables = compile(&policy, &local, None).expect("tables");
        (policy, tables)
    }

    fn flow(tables: &TableSpec, interface: &str, remote: [u8; 4], protocol: u8) -> FlowRecord {
        let slot = tables.slot(interface).expect("a slot");
        let (local, remote) = (IpAddr::from([10, 0, 0, 5]), IpAddr::from(remote));
        FlowRecord { protocol, ..FlowRecord::sample(slot, (local, 80), (remote, 40000)) }
    }

    /// Which of four flows fit what `narrow` says.
    fn fitting(
        narrow: impl Fn(&mut Selection, &TableSpec, &Policy) -> anyhow::Result<()>,
    ) -> String {
        let (policy, tables) = bench();
        let mut selection = Selection::default();
        narrow(&mut selection, &tables, &policy).expect("a selection");
        let flows = [
            ('a', flow(&tables, "web-1", [10, 0, 0, 7], 6)),
            ('b', flow(&tables, "web-1", [203, 0, 113, 9], 17)),
            ('c', flow(&tables, "lb-1", [10, 0, 0, 8], 6)),
            ('d', flow(&tables, "web-2", [10, 0, 0, 7], 6)),
        ];
        flows
            .iter()
            .filter(|(_, flow)| selection.fits(&tables, flow))
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn a_flow_must_fit_everything_that_is_given() {
        let peer = |text: &str| PeerArgument::parse(text).expect("a peer");
        for (fits, found) in [
            ("abcd", fitting(|_, _, _| Ok(()))),
            ("ab", fitting(|it, tables, _| it.interface(tables, "web-1"))),
            ("d", fitting(|it, tables, policy| it.group(tables, policy, "test/web"))),
            ("c", fitting(|it, tables, policy| it.group(tables, policy, "LB"))),
            ("ad", fitting(|it, tables, policy| it.peer(tables, policy, &peer("10.0.0.7")))),
            ("acd", fitting(|it, tables, policy| it.peer(tables, policy, &peer("10.0.0.0/24")))),
            ("b", fitting(|it, tables, policy| it.peer(tables, policy, &peer("office")))),
            ("ac", fitting(|it, tables, policy| it.peer(tables, policy, &peer("group:lb")))),
            ("ac", fitting(|it, tables, policy| it.peer(tables, policy, &peer("lb")))),
            (
                "b",
                fitting(|it, _, _| {
                    it.protocol = Some(17);
                    Ok(())
                }),
            ),
            (
                "",
                fitting(|it, _, _| {
                    it.port = Some(22);
                    Ok(())
                }),
            ),
            (
                "abcd",
                fitting(|it, _, _| {
                    it.port = Some(40000);
                    Ok(())
                }),
            ),
            (
                "",
                fitting(|it, tables, policy| {
                    it.interface(tables, "web-1")?;
                    it.group(tables, policy, "lb")
                }),
            ),
        ] {
            assert_eq!(found, fits);
        }
    }

    #[test]
    fn what_there_is_not_is_an_error_that_says_what_there_is() {
        let (policy, tables) = bench();
        let mut it = Selection::default();
        let name = |name: &str| PeerArgument::Name(name.to_owned());
        for (error, part) in [
            (it.interface(&tables, "nope"), "there are: web-1, lb-1, web-2"),
            (it.interface(&tables, "lb1"), "did you mean `lb-1`?"),
            (it.group(&tables, &policy, "wbe"), "did you mean `web`?"),
            (it.peer(&tables, &policy, &name("ofice")), "did you mean `office`?"),
            (it.group(&tables, &policy, "nope"), "there are: default, lb, web"),
            (it.group(&tables, &policy, "web"), "prod/web"),
            (it.peer(&tables, &policy, &name("nope")), "prefix lists: office"),
        ] {
            let error = error.expect_err("an error").to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(PeerArgument::parse("10.0.0.0/33").is_err());
    }
}
