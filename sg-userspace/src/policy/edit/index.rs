//! Where things stand in the policy, by name and by address, kept in step with every edit.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use crate::policy::cidr::Ranges;
use crate::policy::model::{Interface, Policy, Vpc};
use crate::policy::names::Table;
use crate::policy::source::Span;

/// Where text of the policy stands: nowhere.
const NOWHERE: Span = Span { start: 0, end: 0 };

/// The index of a policy.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) vpcs: Vec<VpcIndex>,
    /// VPC and position of each interface.
    interfaces: HashMap<String, (usize, usize)>,
    devices: HashMap<String, String>,
}

/// The index of a VPC.
#[derive(Debug)]
pub(super) struct VpcIndex {
    pub(super) ranges: Ranges,
    pub(super) groups: Table,
    pub(super) lists: Table,
    pub(super) owners: Owners,
}

impl Index {
    pub(super) fn new(policy: &Policy) -> Self {
        let count = policy.vpcs.iter().map(|vpc| vpc.interfaces.len()).sum();
        let mut index = Self {
            vpcs: policy.vpcs.iter().map(VpcIndex::new).collect(),
            interfaces: HashMap::with_capacity(count),
            devices: HashMap::new(),
        };
        for (vpc, of) in policy.vpcs.iter().enumerate() {
            for (at, interface) in of.interfaces.iter().enumerate() {
                index.add(vpc, at, interface);
            }
        }
        index
    }

    pub(super) fn interface(&self, name: &str) -> Option<(usize, usize)> {
        self.interfaces.get(name.trim_end_matches(' ')).copied()
    }

    /// The interface that has a device.
    pub(super) fn holder(&self, device: &str) -> Option<&str> {
        self.devices.get(device).map(String::as_str)
    }

    pub(super) fn add(&mut self, vpc: usize, at: usize, interface: &Interface) {
        self.interfaces.insert(interface.name.clone(), (vpc, at));
        for device in &interface.devices {
            self.devices.insert(device.clone(), interface.name.clone());
        }
        self.vpcs[vpc].owners.add(interface, at);
    }

    pub(super) fn remove(&mut self, vpc: usize, interface: &Interface) {
        self.interfaces.remove(&interface.name);
        for device in &interface.devices {
            self.devices.remove(device);
        }
        self.vpcs[vpc].owners.remove(interface);
    }
}

impl VpcIndex {
    fn new(vpc: &Vpc) -> Self {
        let mut groups = Table::folded();
        let mut lists = Table::exact();
        // None is there twice: the policy was read from a file, or has been edited.
        for (at, group) in vpc.groups.iter().enumerate() {
            let _ = groups.insert(&group.name, at, NOWHERE);
        }
        for (at, list) in vpc.prefix_lists.iter().enumerate() {
            let _ = lists.insert(&list.name, at, NOWHERE);
        }
        Self { ranges: Ranges::new(&vpc.cidrs), groups, lists, owners: Owners::default() }
    }
}

/// Whose an address is. Blocks of different interfaces never overlap.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_block: BTreeMap<IpNet, usize>,
    /// How many blocks there are of each length, IPv4 and IPv6: which containers need be asked for.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl Owners {
    fn add(&mut self, interface: &Interface, at: usize) {
        for &net in &interface.addresses {
            if self.by_block.insert(net, at).is_none() {
                *self.lengths[family(&net)].entry(net.prefix_len()).or_default() += 1;
            }
        }
    }

    fn remove(&mut self, interface: &Interface) {
        for net in &interface.addresses {
            if self.by_block.remove(net).is_none() {
                continue;
            }
            let lengths = &mut self.lengths[family(net)];
            if let Some(count) = lengths.get_mut(&net.prefix_len()) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&net.prefix_len());
                }
            }
        }
    }

    /// A block that overlaps `net`, and the position of its interface.
    pub(super) fn overlapping(&self, net: IpNet) -> Option<(IpNet, usize)> {
        let container = |&length: &u8| {
            let outer = IpNet::new(net.addr(), length).ok()?.trunc();
            self.by_block.get(&outer).map(|&at| (outer, at))
        };
        let lengths = self.lengths[family(&net)].range(..=net.prefix_len());
        if let Some(found) = lengths.rev().find_map(|(length, _)| container(length)) {
            return Some(found);
        }
        // A block inside begins at or behind its container, and sorts behind it.
        let (&inner, &at) = self.by_block.range(net..).next()?;
        net.contains(&inner).then_some((inner, at))
    }
}

fn family(net: &IpNet) -> usize {
    usize::from(!net.addr().is_ipv4())
}
