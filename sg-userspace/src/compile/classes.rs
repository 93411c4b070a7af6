//! From addresses to classes: which peers each address belongs to.
//!
//! Single addresses go into `hosts`, members and what rules name alike, everything with a prefix into `cidrs`. A
//! lookup there finds the longest prefix only, so each entry's class holds the peers of all shorter ones: prefixes
//! either nest or are disjoint, so a walk in sorted order with a stack of what holds the current one sees each once.
//! A single address in `hosts` holds nothing of the blocks around it, which are looked up beside it: a rule for a
//! broad block costs nothing more for the addresses inside that rules name, such as a VPC's own name server.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::numbering::Numbering;
use super::roles::{Roles, prefix};
use super::spec::{AddressSpec, IpAddress, TableSpec};
use super::{Compiler, Scope};
use crate::policy::model::{Peer, Vpc};

/// Numbers of the classes that hold a peer, by the peer's number.
pub(super) type ClassesOf = HashMap<u32, Vec<u32>>;

/// Who is in which groups, asked of the policy: a list for each of a million members would take as much as the tables.
struct Membership<'p> {
    vpc: &'p Vpc,
    /// Numbers of the groups that some rule names.
    groups: Vec<Option<u32>>,
}

impl Membership<'_> {
    /// Numbers of an interface's groups.
    fn of(&self, interface: usize) -> impl Iterator<Item = u32> {
        let groups = self.vpc.interfaces[interface].groups.iter();
        groups.filter_map(|&group| self.groups[group])
    }
}

/// What one family's tables are made of.
struct Draft<A> {
    /// Single addresses and the index of the interface that has them.
    hosts: Vec<(A, usize)>,
    /// Single addresses that rules name, and the peer.
    singles: Vec<(A, u32)>,
    /// First address, length, peer.
    prefixes: Vec<(A, u8, u32)>,
}

impl<A> Default for Draft<A> {
    fn default() -> Self {
        Self { hosts: Vec::new(), singles: Vec::new(), prefixes: Vec::new() }
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
        let members = Membership { vpc: scope.vpc, groups };
        for index in 0..scope.vpc.interfaces.len() {
            if members.of(index).next().is_some() {
                for net in scope.addresses(index).iter() {
                    drafts.member(net, index, &members);
                }
            }
        }
        for (peer, &number) in &roles.peers {
            match peer {
                Peer::Cidr(net) => drafts.prefix(net, number),
                Peer::PrefixList(list) => {
                    // Everybody has permits of its own.
                    let cidrs = scope.vpc.prefix_lists[*list].cidrs.iter();
                    let shorter = cidrs.filter(|net| net.prefix_len() > 0);
                    shorter.for_each(|net| drafts.prefix(net, number));
                }
                Peer::Group(_) => {}
            }
        }
        let TableSpec { v4, v6, classes: used, .. } = &mut self.spec;
        let mut pool = Pool { numbers: &mut self.numbers.classes, used, of_peer: ClassesOf::new() };
        drafts.v4.enter(scope.number, &members, &mut pool, v4);
        drafts.v6.enter(scope.number, &members, &mut pool, v6);
        pool.of_peer
    }
}

impl Drafts {
    fn member(&mut self, net: &IpNet, interface: usize, members: &Membership<'_>) {
        match net {
            IpNet::V4(net) => self.v4.member(net.network(), net.prefix_len(), interface, members),
            IpNet::V6(net) => self.v6.member(net.network(), net.prefix_len(), interface, members),
        }
    }

    fn prefix(&mut self, net: &IpNet, peer: u32) {
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
    of_peer: ClassesOf,
}

impl Pool<'_> {
    /// The number of the class of these peers, sorted.
    fn class(&mut self, peers: Vec<u32>) -> u32 {
        let number = self.numbers.of(peers.clone());
        if let Entry::Vacant(entry) = self.used.entry(number) {
            for &peer in &peers {
                self.of_peer.entry(peer).or_default().push(number);
            }
            entry.insert(peers);
        }
        number
    }
}

impl<A: IpAddress> Draft<A> {
    fn member(&mut self, address: A, length: u8, interface: usize, members: &Membership<'_>) {
        if length == A::MAX_LENGTH {
            self.hosts.push((address, interface));
        } else {
            self.prefixes.extend(members.of(interface).map(|group| (address, length, group)));
        }
    }

    fn named(&mut self, address: A, length: u8, peer: u32) {
        if length == A::MAX_LENGTH {
            self.singles.push((address, peer));
        } else {
            self.prefixes.push((address, length, peer));
        }
    }

    fn enter(
        mut self,
        vpc: u32,
        members: &Membership<'_>,
        pool: &mut Pool<'_>,
        tables: &mut AddressSpec<A>,
    ) {
        self.hosts.sort_unstable();
        self.singles.sort_unstable();
        let mut singles = self.singles.chunk_by(|left, right| left.0 == right.0).peekable();
        let peers_of = |run: &[(A, u32)]| run.iter().map(|&(_, peer)| peer).collect::<Vec<_>>();
        // In order, so that the table is built as a whole and not by a million searches.
        let mut hosts = Vec::with_capacity(self.hosts.len() + self.singles.len());
        for run in self.hosts.chunk_by(|left, right| left.0 == right.0) {
            let address = run[0].0;
            while let Some(named) = singles.next_if(|named| named[0].0 < address) {
                hosts.push(((vpc, named[0].0), pool.class(sorted(peers_of(named)))));
            }
            let groups = run.iter().flat_map(|&(_, interface)| members.of(interface));
            let named = singles.next_if(|named| named[0].0 == address).unwrap_or_default();
            let class = pool.class(sorted(groups.chain(peers_of(named)).collect()));
            hosts.push(((vpc, address), class));
        }
        for named in singles {
            hosts.push(((vpc, named[0].0), pool.class(sorted(peers_of(named)))));
        }
        tables.hosts.append(&mut hosts.into_iter().collect());
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
                let class = pool.class(peers.clone());
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
