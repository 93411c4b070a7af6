//! Who is judged by which rules: local interfaces, their policies, the rules in those and the peers that
//! the rules name, each with its number.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use sg_common::Direction;
use sg_common::abi::{InterfaceFlags, InterfaceVersion};

use super::rule_info::{Everybody, Origin, PeerName, PeerSpec, RuleIdentity, RuleInfo};
use super::spec::{InterfaceSpec, IpAddress, PolicySpec, Prefix, TableSpec};
use super::{CompileError, Compiler, PeerNumbers, Scope, infrastructure};
use crate::policy::model::{
    Dialect, Interface, LiveFlows, Peer, Policy, Rule, SecurityGroup, Traffic, Vpc,
};

/// The group that every VPC has.
pub(crate) const DEFAULT_GROUP: &str = "default";

/// What dialect `kakao` takes out of everybody.
pub(crate) const LINK_LOCAL: IpNet =
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16));

/// Rules and peers of one VPC's local policies.
#[derive(Default)]
pub(super) struct Roles {
    /// Numbers of the policies.
    pub(super) policies: Vec<u32>,
    /// Rules by number.
    pub(super) rules: HashMap<u32, CompiledRule>,
    /// What those rules name.
    pub(super) peers: PeerNumbers,
}

/// A rule as permits need it.
pub(super) struct CompiledRule {
    pub(super) direction: Direction,
    pub(super) traffic: Traffic,
    pub(super) everybody: Everybody,
    /// Numbers of the peers whose classes it allows: what it names, and what dialect `kakao` adds.
    pub(super) peers: [Option<u32>; 2],
}

/// What a policy is made of, before it has a number.
type Ingredients = (Vec<usize>, Vec<IpNet>);

impl Compiler<'_> {
    /// Numbers everything and enters the local interfaces, with their addresses, into the spec.
    pub(super) fn roles(&mut self, scope: &Scope<'_>) -> Result<Roles, CompileError> {
        let mut roles = Roles::default();
        let rules = self.rules_of_groups(scope, &mut roles);
        let services = infrastructure::services(self.policy.infrastructure, &scope.vpc.cidrs);
        let services: Vec<u32> = services
            .into_iter()
            .map(|it| self.implicit(scope, it.entry, it.traffic, it.peer, &mut roles))
            .collect();
        let mut known: HashMap<Ingredients, u32> = HashMap::new();
        for &index in scope.local {
            let interface = &scope.vpc.interfaces[index];
            let routers = infrastructure::routers(
                self.policy.infrastructure,
                scope.vpc,
                &scope.addresses(index),
            );
            let ingredients = (interface.groups.clone(), routers);
            let policy = match known.get(&ingredients) {
                Some(&policy) => policy,
                None => {
                    let policy = self.policy(scope, &ingredients, &services, &rules, &mut roles);
                    known.insert(ingredients, policy);
                    policy
                }
            };
            self.interface(scope, index, policy)?;
        }
        Ok(roles)
    }

    /// Numbers of the rules of each group that a local interface has.
    fn rules_of_groups(
        &mut self,
        scope: &Scope<'_>,
        roles: &mut Roles,
    ) -> BTreeMap<usize, Vec<u32>> {
        let local = scope.local.iter().map(|&index| &scope.vpc.interfaces[index]);
        let mut groups: BTreeMap<usize, Vec<u32>> =
            local.flat_map(|interface| &interface.groups).map(|&it| (it, Vec::new())).collect();
        let lists: Vec<Everybody> =
            scope.vpc.prefix_lists.iter().map(|list| everybody_in(&list.cidrs)).collect();
        for (&index, numbers) in &mut groups {
            let group = &scope.vpc.groups[index];
            let ingress = group.ingress.iter().map(|rule| (Direction::Ingress, rule));
            let egress = group.egress.iter().map(|rule| (Direction::Egress, rule));
            for (direction, rule) in ingress.chain(egress) {
                let everybody = self.everybody(group, rule, &lists);
                let identity = RuleIdentity {
                    vpc: scope.vpc.name.clone(),
                    origin: Origin::Group(group.name.clone()),
                    direction,
                    traffic: rule.traffic,
                    peer: peer_name(scope.vpc, &rule.peer),
                    everybody,
                };
                let info = RuleInfo { identity, description: rule.description.clone() };
                // A group has no rule twice.
                let number = self.numbers.rules.of_once(&info.identity);
                numbers.push(self.rule(scope, number, info, &rule.peer, roles));
            }
        }
        groups
    }

    /// What of a rule's peer is everybody.
    fn everybody(&self, group: &SecurityGroup, rule: &Rule, lists: &[Everybody]) -> Everybody {
        let found = match &rule.peer {
            Peer::Cidr(net) => everybody_in(std::slice::from_ref(net)),
            Peer::PrefixList(list) => lists[*list],
            Peer::Group(_) => Everybody::default(),
        };
        let kakao = self.policy.dialect == Dialect::Kakao;
        Everybody { link_local: kakao && found.v4 && group.name == DEFAULT_GROUP, ..found }
    }

    /// Numbers an infrastructure entry of a VPC.
    fn implicit(
        &mut self,
        scope: &Scope<'_>,
        entry: &str,
        traffic: Traffic,
        peer: IpNet,
        roles: &mut Roles,
    ) -> u32 {
        let identity = RuleIdentity {
            vpc: scope.vpc.name.clone(),
            origin: Origin::Infrastructure(entry.to_owned()),
            direction: Direction::Egress,
            traffic,
            peer: PeerName::Cidr(peer),
            everybody: Everybody::default(),
        };
        let info = RuleInfo { identity, description: String::new() };
        let number = self.numbers.rules.of(info.identity.clone());
        self.rule(scope, number, info, &Peer::Cidr(peer), roles)
    }

    fn rule(
        &mut self,
        scope: &Scope<'_>,
        number: u32,
        info: RuleInfo,
        peer: &Peer,
        roles: &mut Roles,
    ) -> u32 {
        let RuleIdentity { direction, traffic, everybody, .. } = info.identity;
        let is_whole = matches!(peer, Peer::Cidr(net) if net.prefix_len() == 0);
        let named = (!is_whole).then(|| self.peer(scope, peer, roles));
        let link_local =
            everybody.link_local.then(|| self.peer(scope, &Peer::Cidr(LINK_LOCAL), roles));
        let peers = [named, link_local];
        roles.rules.insert(number, CompiledRule { direction, traffic, everybody, peers });
        self.spec.rules.insert(number, info);
        number
    }

    fn peer(&mut self, scope: &Scope<'_>, peer: &Peer, roles: &mut Roles) -> u32 {
        if let Some(&number) = roles.peers.get(peer) {
            return number;
        }
        let spec = PeerSpec { vpc: scope.number, name: peer_name(scope.vpc, peer) };
        let number = self.numbers.peers.of_once(&spec);
        self.spec.peers.insert(number, spec);
        roles.peers.insert(peer.clone(), number);
        number
    }

    fn policy(
        &mut self,
        scope: &Scope<'_>,
        (groups, routers): &Ingredients,
        services: &[u32],
        rules: &BTreeMap<usize, Vec<u32>>,
        roles: &mut Roles,
    ) -> u32 {
        let mut numbers = services.to_vec();
        for group in groups {
            numbers.extend_from_slice(&rules[group]);
        }
        for &router in routers {
            numbers.push(self.implicit(scope, infrastructure::ROUTER, Traffic::All, router, roles));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let groups = group_names(scope.vpc, groups);
        let marks_untracked = self.policy.dialect == Dialect::Aws;
        let spec = PolicySpec { vpc: scope.number, groups, rules: numbers, marks_untracked };
        let number = self.numbers.policies.of(spec.clone());
        self.spec.policies.insert(number, spec);
        roles.policies.push(number);
        number
    }

    fn interface(
        &mut self,
        scope: &Scope<'_>,
        index: usize,
        policy: u32,
    ) -> Result<(), CompileError> {
        let interface = &scope.vpc.interfaces[index];
        let slot = self.numbers.slots.of(scope.number, &interface.name);
        let slot = slot.ok_or(CompileError::Interfaces(self.surroundings.local.len()))?;
        for net in scope.addresses(index).iter() {
            own(&mut self.spec, slot, net);
        }
        let spec = InterfaceSpec {
            name: interface.name.clone(),
            vpc: scope.number,
            vpc_name: scope.vpc.name.clone(),
            version: version(self.policy, interface, policy),
            side: interface.side,
            groups: group_names(scope.vpc, &interface.groups),
            devices: interface.devices.clone(),
        };
        self.spec.interfaces.insert(slot, spec);
        Ok(())
    }
}

fn own(spec: &mut TableSpec, slot: u16, net: &IpNet) {
    match net {
        IpNet::V4(net) => spec.v4.own.insert(prefix(slot.into(), net.addr(), net.prefix_len())),
        IpNet::V6(net) => spec.v6.own.insert(prefix(slot.into(), net.addr(), net.prefix_len())),
    };
}

pub(super) fn prefix<A: IpAddress>(space: u32, address: A, length: u8) -> Prefix<A> {
    Prefix { space, address: address.masked(length), length }
}

fn version(policy: &Policy, interface: &Interface, number: u32) -> InterfaceVersion {
    let on = policy.infrastructure;
    let flags = [
        (on.arp, InterfaceFlags::ARP),
        (on.dhcp, InterfaceFlags::DHCP),
        (on.neighbour_discovery, InterfaceFlags::NEIGHBOUR_DISCOVERY),
        (on.router_discovery, InterfaceFlags::ROUTER_DISCOVERY),
        (on.multicast_listener, InterfaceFlags::MULTICAST_LISTENER),
        (interface.source_dest_check, InterfaceFlags::SOURCE_CHECK),
        (policy.dialect == Dialect::Kakao, InterfaceFlags::ANYONE_WITHOUT_LINK_LOCAL),
        (interface.mac.is_some(), InterfaceFlags::MAC),
        (policy.live_flows == LiveFlows::Cut, InterfaceFlags::CUT_LIVE_FLOWS),
    ];
    let seconds = |timeout: u32| u16::try_from(timeout).unwrap_or(u16::MAX);
    let tracking = interface.connection_tracking;
    InterfaceVersion {
        policy: number,
        flags: flags.iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag),
        tcp_established: tracking.tcp_established,
        udp: seconds(tracking.udp),
        udp_stream: seconds(tracking.udp_stream),
        mac: interface.mac.unwrap_or_default(),
        epoch: 0,
        flow_base: 0,
        flow_limit: tracking.max_flows.unwrap_or(InterfaceVersion::SHARED_FLOWS),
    }
}

fn everybody_in(cidrs: &[IpNet]) -> Everybody {
    let whole = |v4: bool| {
        cidrs.iter().any(|net| net.prefix_len() == 0 && matches!(net, IpNet::V4(_)) == v4)
    };
    Everybody { v4: whole(true), v6: whole(false), link_local: false }
}

fn peer_name(vpc: &Vpc, peer: &Peer) -> PeerName {
    match peer {
        Peer::Cidr(net) => PeerName::Cidr(*net),
        Peer::Group(index) => PeerName::Group(vpc.groups[*index].name.clone()),
        Peer::PrefixList(index) => PeerName::PrefixList(vpc.prefix_lists[*index].name.clone()),
    }
}

fn group_names(vpc: &Vpc, groups: &[usize]) -> Vec<String> {
    groups.iter().map(|&index| vpc.groups[index].name.clone()).collect()
}
