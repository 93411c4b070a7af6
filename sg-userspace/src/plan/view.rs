//! One of the two policies as reachability sees it: what each local interface's rules are, and which
//! addresses each peer holds. Peers' addresses are looked up in one store for both policies, where equal
//! sets have one number: what did not change is seen without being looked at.

use std::collections::HashMap;
use std::rc::Rc;

use ipnet::IpNet;
use sg_common::Direction;

use super::addresses::Addresses;
use super::span::Span;
use crate::compile::{DEFAULT_GROUP, LINK_LOCAL, Surroundings, infrastructure};
use crate::policy::Policy;
use crate::policy::model::{Dialect, Interface, Peer, Rule, SecurityGroup, Traffic, Vpc};

/// A set of addresses in [`Sets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SetId(usize);

/// Sets of addresses, each once, and what was found out about pairs of them.
#[derive(Default)]
pub(super) struct Sets {
    sets: Vec<Rc<Addresses>>,
    ids: HashMap<Rc<Addresses>, SetId>,
    differences: HashMap<(SetId, SetId), SetId>,
}

impl Sets {
    pub(super) fn id(&mut self, set: Addresses) -> SetId {
        if let Some(&id) = self.ids.get(&set) {
            return id;
        }
        let (id, set) = (SetId(self.sets.len()), Rc::new(set));
        self.sets.push(Rc::clone(&set));
        self.ids.insert(set, id);
        id
    }

    pub(super) fn get(&self, id: SetId) -> &Rc<Addresses> {
        &self.sets[id.0]
    }

    pub(super) fn minus(&mut self, from: SetId, taken: SetId) -> SetId {
        if let Some(&known) = self.differences.get(&(from, taken)) {
            return known;
        }
        let difference = self.get(from).minus(self.get(taken));
        let id = self.id(difference);
        self.differences.insert((from, taken), id);
        id
    }

    /// Whether `outer` holds all of `inner`.
    pub(super) fn holds(&self, outer: SetId, inner: SetId) -> bool {
        outer == inner || self.get(inner).minus(self.get(outer)).is_empty()
    }

    /// Whether a set of a few addresses lies in an interface's own.
    pub(super) fn is_within(&self, set: SetId, own: SetId) -> bool {
        self.get(set).is_small() && self.holds(own, set)
    }

    pub(super) fn union(&mut self, of: &[SetId]) -> SetId {
        match of {
            [only] => *only,
            _ => {
                let union = Addresses::union(of.iter().map(|&id| &**self.get(id)));
                self.id(union)
            }
        }
    }
}

/// What makes a rule the same rule in both policies: names, not indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RuleKey<'p> {
    pub(super) vpc: &'p str,
    pub(super) origin: OriginKey<'p>,
    pub(super) direction: Direction,
    pub(super) traffic: Traffic,
    pub(super) peer: PeerKey<'p>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum OriginKey<'p> {
    Group(&'p str),
    Infrastructure(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum PeerKey<'p> {
    Cidr(IpNet),
    Group(&'p str),
    PrefixList(&'p str),
}

impl<'p> RuleKey<'p> {
    pub(super) fn new(
        vpc: &'p Vpc,
        group: &'p SecurityGroup,
        direction: Direction,
        rule: &Rule,
    ) -> Self {
        let peer = match rule.peer {
            Peer::Cidr(net) => PeerKey::Cidr(net),
            Peer::Group(index) => PeerKey::Group(&vpc.groups[index].name),
            Peer::PrefixList(index) => PeerKey::PrefixList(&vpc.prefix_lists[index].name),
        };
        Self {
            vpc: &vpc.name,
            origin: OriginKey::Group(&group.name),
            direction,
            traffic: rule.traffic,
            peer,
        }
    }
}

/// A rule that an interface has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'p> {
    pub(super) key: RuleKey<'p>,
    pub(super) span: Span,
    pub(super) peers: SetId,
}

/// What decides an interface's rules: interfaces alike in it have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Role {
    vpc: usize,
    groups: Vec<usize>,
    routers: Vec<IpNet>,
}

/// A policy, ready to be asked for its rules.
pub(super) struct View<'p> {
    pub(super) policy: &'p Policy,
    surroundings: &'p Surroundings,
    interfaces: HashMap<&'p str, (usize, usize)>,
    /// By VPC and group.
    members: Vec<Vec<Vec<usize>>>,
    /// By VPC, peer, and whether link-local addresses are taken out of everybody.
    peers: HashMap<(usize, Peer, bool), SetId>,
    rules: HashMap<Role, Rc<Vec<Held<'p>>>>,
}

impl<'p> View<'p> {
    pub(super) fn new(policy: &'p Policy, surroundings: &'p Surroundings) -> Self {
        let mut interfaces = HashMap::new();
        let mut members = Vec::new();
        for (number, vpc) in policy.vpcs.iter().enumerate() {
            let mut of_groups = vec![Vec::new(); vpc.groups.len()];
            for (index, interface) in vpc.interfaces.iter().enumerate() {
                if surroundings.local.contains(&interface.name) {
                    interfaces.insert(interface.name.as_str(), (number, index));
                }
                for &group in &interface.groups {
                    of_groups[group].push(index);
                }
            }
            members.push(of_groups);
        }
        Self {
            policy,
            surroundings,
            interfaces,
            members,
            peers: HashMap::new(),
            rules: HashMap::new(),
        }
    }

    /// The local interfaces, in file order.
    pub(super) fn local(&self) -> impl Iterator<Item = &'p Interface> {
        let all = self.policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
        all.filter(|interface| self.surroundings.local.contains(&interface.name))
    }

    /// What a local interface's rules depend on, and its own addresses.
    pub(super) fn role(&self, interface: &str, sets: &mut Sets) -> Option<(Role, SetId)> {
        let &(vpc, index) = self.interfaces.get(interface)?;
        let of = &self.policy.vpcs[vpc];
        let interface = &of.interfaces[index];
        let addresses = self.surroundings.addresses_of(interface);
        let routers = infrastructure::routers(self.policy.infrastructure, of, &addresses);
        let own = sets.id(Addresses::of(addresses.iter()));
        Some((Role { vpc, groups: interface.groups.clone(), routers }, own))
    }

    /// The rules of interfaces with this role.
    pub(super) fn rules(&mut self, role: &Role, sets: &mut Sets) -> Rc<Vec<Held<'p>>> {
        if let Some(known) = self.rules.get(role) {
            return Rc::clone(known);
        }
        let policy = self.policy;
        let vpc = &policy.vpcs[role.vpc];
        let mut rules = Vec::new();
        for &group in &role.groups {
            let group = &vpc.groups[group];
            let ingress = group.ingress.iter().map(|rule| (Direction::Ingress, rule));
            let egress = group.egress.iter().map(|rule| (Direction::Egress, rule));
            for (direction, rule) in ingress.chain(egress) {
                let narrowed = policy.dialect == Dialect::Kakao && group.name != DEFAULT_GROUP;
                rules.push(Held {
                    key: RuleKey::new(vpc, group, direction, rule),
                    span: rule.traffic.into(),
                    peers: self.peer(role.vpc, &rule.peer, narrowed, sets),
                });
            }
        }
        let services = infrastructure::services(policy.infrastructure, &vpc.cidrs);
        let services = services.into_iter().map(|it| (it.entry, it.traffic, it.peer));
        let routers = role.routers.iter().map(|&net| (infrastructure::ROUTER, Traffic::All, net));
        for (entry, traffic, net) in services.chain(routers) {
            let key = RuleKey {
                vpc: &vpc.name,
                origin: OriginKey::Infrastructure(entry),
                direction: Direction::Egress,
                traffic,
                peer: PeerKey::Cidr(net),
            };
            rules.push(Held { key, span: traffic.into(), peers: sets.id(Addresses::of([&net])) });
        }
        let rules = Rc::new(rules);
        self.rules.insert(role.clone(), Rc::clone(&rules));
        rules
    }

    fn peer(&mut self, vpc: usize, peer: &Peer, narrowed: bool, sets: &mut Sets) -> SetId {
        let key = (vpc, peer.clone(), narrowed);
        if let Some(&known) = self.peers.get(&key) {
            return known;
        }
        let of = &self.policy.vpcs[vpc];
        let everybody = |nets: &[IpNet]| {
            let block = |net: &IpNet| {
                let set = Addresses::of([net]);
                let apart = narrowed && matches!(net, IpNet::V4(net) if net.prefix_len() == 0);
                if apart { set.minus(&Addresses::of([&LINK_LOCAL])) } else { set }
            };
            let blocks: Vec<_> = nets.iter().map(block).collect();
            Addresses::union(&blocks)
        };
        let set = match peer {
            Peer::Cidr(net) => everybody(std::slice::from_ref(net)),
            Peer::PrefixList(index) => everybody(&of.prefix_lists[*index].cidrs),
            Peer::Group(index) => {
                let members = self.members[vpc][*index].iter().map(|&it| &of.interfaces[it]);
                let nets: Vec<IpNet> = members
                    .flat_map(|it| self.surroundings.addresses_of(it).into_owned())
                    .collect();
                Addresses::of(&nets)
            }
        };
        let id = sets.id(set);
        self.peers.insert(key, id);
        id
    }
}
