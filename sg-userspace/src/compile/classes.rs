//! From addresses to classes: which peers each address belongs to.
//!
//! Single addresses go into `hosts`, members and what rules name alike, everything with a prefix into `cidrs`. A
//! lookup there finds the longest prefix only, so each entry's class holds the peers of all shorter ones: prefixes
//! either nest or are disjoint, so a walk in sorted order with a stack of what holds the current one sees each once.
//! A single address in `hosts` holds nothing of the blocks around it, which are looked up beside it: a rule for a
//! broad block costs nothing more for the addresses inside that rules name, such as a VPC's own name server.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;

use super::numbering::Numbering;
use super::roles::{Roles, prefix};
use super::spec::{AddressSpec, IpAddress, TableSpec};
use super::{Compiler, Scope};
use crate::policy::model::Peer;

/// Which classes hold a peer, in one list for all: a list for each would lie all over the memory.
pub(super) struct ClassesOf {
    /// Numbers of peers and of classes that hold them, sorted.
    pairs: Vec<(u32, u32)>,
    /// Which of them are a peer's.
    of_peer: HashMap<u32, Range<usize>>,
}

impl ClassesOf {
    fn new(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        let mut of_peer = HashMap::new();
        let mut first = 0;
        for run in pairs.chunk_by(|left, right| left.0 == right.0) {
            of_peer.insert(run[0].0, first..first + run.len());
            first += run.len();
        }
        Self { pairs, of_peer }
    }

    /// Numbers of the classes that hold a peer.
    pub(super) fn get(&self, peer: u32) -> impl Iterator<Item = u32> {
        let pairs = self.of_peer.get(&peer).map_or(&[][..], |range| &self.pairs[range.clone()]);
        pairs.iter().map(|&(_, class)| class)
    }
}

/// What one family's tables are made of.
struct Draft<A> {
    /// Single address, peer.
    hosts: Vec<(A, u32)>,
    /// First address, length, peer.
    prefixes: Vec<(A, u8, u32)>,
}

impl<A> Default for Draft<A> {
    fn default() -> Self {
        Self { hosts: Vec::new(), prefixes: Vec::new() }
    }
}

#[derive(Default)]
struct Drafts {
    v4: Draft<Ipv4Addr>,
    v6: Draft<Ipv6Addr>,
}

impl Compiler<'_> {
    /// Enters every address that a local rule's peer holds.
    pub(super) fn classes(&mut self, scope: &Scope<'_>, roles: &Roles) -> ClassesOf {
        let named = |index| roles.peers.get(&Peer::Group(index)).copied();
        let groups: Vec<Option<u32>> = (0..scope.vpc.groups.len()).map(named).collect();
        let mut drafts = Drafts::default();
        for (index, interface) in scope.vpc.interfaces.iter().enumerate() {
            for peer in interface.groups.iter().filter_map(|&group| groups[group]) {
                scope.addresses(index).iter().for_each(|net| drafts.named(net, peer));
            }
        }
        for (peer, &number) in &roles.peers {
            match peer {
                Peer::Cidr(net) => drafts.named(net, number),
                Peer::PrefixList(list) => {
                    // Everybody has permits of its own.
                    let cidrs = scope.vpc.prefix_lists[*list].cidrs.iter();
                    let shorter = cidrs.filter(|net| net.prefix_len() > 0);
                    shorter.for_each(|net| drafts.named(net, number));
                }
                Peer::Group(_) => {}
            }
        }
        let TableSpec { v4, v6, classes: used, .. } = &mut self.spec;
        let mut pool = Pool {
            numbers: &mut self.numbers.classes,
            used,
            of_one: HashMap::new(),
            of_more: HashMap::new(),
            of_peer: Vec::new(),
        };
        drafts.v4.enter(scope.number, &mut pool, v4);
        drafts.v6.enter(scope.number, &mut pool, v6);
        ClassesOf::new(pool.of_peer)
    }
}

impl Drafts {
    fn named(&mut self, net: &IpNet, peer: u32) {
        match net {
            IpNet::V4(net) => self.v4.named(net.network(), net.prefix_len(), peer),
            IpNet::V6(net) => self.v6.named(net.network(), net.prefix_len(), peer),
        }
    }
}

/// The classes in use.
struct Pool<'c> {
    numbers: &'c mut Numbering<Vec<u32>>,
    used: &'c mut BTreeMap<u32, Vec<u32>>,
    /// The numbers of those used, by their only peer, or by their peers: most members share theirs with others.
    of_one: HashMap<u32, u32>,
    of_more: HashMap<Vec<u32>, u32>,
    /// Peers, and the classes that hold them.
    of_peer: Vec<(u32, u32)>,
}

impl Pool<'_> {
    /// The number of the class of these peers, sorted.
    fn class(&mut self, peers: &[u32]) -> u32 {
        let known = match peers {
            [only] => self.of_one.get(only),
            more => self.of_more.get(more),
        };
        if let Some(&number) = known {
            return number;
        }
        let number = self.numbers.of_once(peers);
        self.of_peer.extend(peers.iter().map(|&peer| (peer, number)));
        self.used.insert(number, peers.to_vec());
        match peers {
            [only] => _ = self.of_one.insert(*only, number),
            more => _ = self.of_more.insert(more.to_vec(), number),
        }
        number
    }
}

impl<A: IpAddress> Draft<A> {
    fn named(&mut self, address: A, length: u8, peer: u32) {
        if length == A::MAX_LENGTH {
            self.hosts.push((address, peer));
        } else {
            self.prefixes.push((address, length, peer));
        }
    }

    fn enter(mut self, vpc: u32, pool: &mut Pool<'_>, tables: &mut AddressSpec<A>) {
        self.hosts.sort_unstable();
        self.hosts.dedup();
        let mut peers = Vec::new();
        let hosts = self.hosts.chunk_by(|left, right| left.0 == right.0).map(|run| {
            peers.clear();
            peers.extend(run.iter().map(|&(_, peer)| peer));
            ((vpc, run[0].0), pool.class(&peers))
        });
        if tables.hosts.is_empty() {
            // Full nodes, in half the time and memory.
            tables.hosts = hosts.collect();
        } else {
            tables.hosts.extend(hosts);
        }
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
        let mut holding: Vec<(A, u8, Vec<u32>)> = Vec::new();
        for run in self.prefixes.chunk_by(|left, right| (left.0, left.1) == (right.0, right.1)) {
            let (address, length, _) = run[0];
            while holding.last().is_some_and(|outer| address.masked(outer.1) != outer.0) {
                holding.pop();
            }
            let inherited = holding.last().map_or(&[][..], |outer| &outer.2);
            let own = run.iter().map(|&(_, _, peer)| peer);
            let peers = sorted(inherited.iter().copied().chain(own).collect());
            // What is no more than the next shorter prefix says needs no entry.
            if peers.len() > inherited.len() {
                let class = pool.class(&peers);
                tables.cidrs.insert(prefix(vpc, address, length), class);
                holding.push((address, length, peers));
            }
        }
    }
}

fn sorted(mut peers: Vec<u32>) -> Vec<u32> {
    peers.sort_unstable();
    peers.dedup();
    peers
}
