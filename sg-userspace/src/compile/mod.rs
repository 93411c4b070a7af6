//! From a validated policy to the entries of the kernel's maps: pure, deterministic, no kernel, no clock.
//!
//! ```text
//! Policy --roles--> who is judged by which rules --classes--> address to class
//!                                                --permits--> (policy, class) to rule
//! ```
//!
//! Only what local interfaces need is compiled: their groups' rules, the peers that those rules name, and
//! the members of those peers. Every step is a sort or a hash lookup over its input; nothing compares all
//! pairs of anything.

mod classes;
mod epochs;
pub(crate) mod infrastructure;
mod members;
mod numbering;
mod permits;
mod prefixes;
mod roles;
mod rule_info;
mod serial;
mod spec;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use crate::policy::Policy;
use crate::policy::model::{Interface, LiveFlows, Vpc};
use numbering::Numbers;

pub use members::{Members, Membership, Patch};
pub use numbering::RuleSlots;
pub use prefixes::port_prefixes;
pub(crate) use roles::{DEFAULT_GROUP, LINK_LOCAL};
pub use rule_info::{Everybody, Origin, PeerName, PeerSpec, RuleIdentity, RuleInfo, TrafficText};
pub use spec::{
    AddressSpec, Capacities, InterfaceSpec, IpAddress, NextNumbers, PermitPrefix, PolicySpec,
    Prefix, TableSpec,
};

/// What the policy file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Names of the interfaces that are judged on this machine.
    pub local: BTreeSet<String>,
    /// What the devices of interfaces with `addresses: auto` have, by name of the interface. One with
    /// host bits set, as devices list them, is that address alone.
    pub addresses: BTreeMap<String, Vec<IpNet>>,
}

impl Surroundings {
    /// Every interface that names a device is local.
    #[must_use]
    pub fn with_devices(policy: &Policy) -> Self {
        let interfaces = policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
        let named = interfaces.filter(|interface| !interface.devices.is_empty());
        Self::of(named.map(|interface| interface.name.as_str()))
    }

    /// The interfaces of these names are local.
    #[must_use]
    pub fn of<'n>(local: impl IntoIterator<Item = &'n str>) -> Self {
        let local = local.into_iter().map(str::to_owned).collect();
        Self { local, addresses: BTreeMap::new() }
    }

    /// The addresses of an interface, as far as they are known.
    pub(crate) fn addresses_of<'i>(&self, interface: &'i Interface) -> Cow<'i, [IpNet]> {
        if !interface.auto_addresses {
            return Cow::Borrowed(&interface.addresses);
        }
        let found = self.addresses.get(&interface.name);
        Cow::Owned(found.into_iter().flatten().copied().map(without_host_bits).collect())
    }
}

/// Why a policy cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A local interface that the policy does not have.
    #[error("the policy has no interface {0:?}")]
    NoInterface(String),
    /// Slots are 16 bits wide.
    #[error("{0} local interfaces, there are slots for {max}", max = 1 << 16)]
    Interfaces(usize),
    /// The permits would fill the machine. A peer that holds many others costs each of its policies one
    /// permit a class below it.
    #[error(
        "more than {MAX_PERMITS} permits, reached at the groups {0}: name fewer blocks inside others"
    )]
    Permits(String),
}

/// The most permits that are compiled: a trie of as many takes more than a gigabyte.
pub const MAX_PERMITS: usize = 1 << 24;

/// Compiles a policy for one machine.
///
/// # Errors
///
/// [`CompileError::NoInterface`] names a local interface that the file lacks,
/// [`CompileError::Interfaces`] says that there are more than fit, those of `previous` included: their
/// slots are not reused at once. [`CompileError::Permits`] stops before the machine's memory does.
pub fn compile(
    policy: &Policy,
    surroundings: &Surroundings,
    previous: Option<&TableSpec>,
) -> Result<TableSpec, CompileError> {
    let local = local_interfaces(policy, surroundings)?;
    let nothing = TableSpec::default();
    let mut compiler = Compiler {
        policy,
        surroundings,
        numbers: Numbers::following(previous.unwrap_or(&nothing)),
        spec: TableSpec::empty(previous.map_or_else(RuleSlots::default, |it| it.rule_slots)),
        permits: Vec::new(),
    };
    for (vpc, local) in policy.vpcs.iter().zip(&local) {
        if !local.is_empty() {
            compiler.vpc(vpc, local)?;
        }
    }
    let Compiler { numbers, mut spec, permits, .. } = compiler;
    spec.permits = permits.into_iter().collect();
    spec.cut_live_flows = policy.live_flows == LiveFlows::Cut;
    spec.next = numbers.next();
    if let Some(previous) = previous {
        epochs::carry_on(&mut spec, previous);
    }
    Ok(spec)
}

/// Positions of the local interfaces of each VPC: each name is looked at once, however many there are.
fn local_interfaces(
    policy: &Policy,
    surroundings: &Surroundings,
) -> Result<Vec<Vec<usize>>, CompileError> {
    let wanted: HashSet<&str> = surroundings.local.iter().map(String::as_str).collect();
    let of = |vpc: &Vpc| -> Vec<usize> {
        let interfaces = vpc.interfaces.iter().enumerate();
        let local = interfaces.filter(|(_, one)| wanted.contains(one.name.as_str()));
        local.map(|(index, _)| index).collect()
    };
    let local: Vec<Vec<usize>> = policy.vpcs.iter().map(of).collect();
    let found: HashSet<&str> = policy
        .vpcs
        .iter()
        .zip(&local)
        .flat_map(|(vpc, local)| local.iter().map(|&index| vpc.interfaces[index].name.as_str()))
        .collect();
    match surroundings.local.iter().find(|name| !found.contains(name.as_str())) {
        Some(unknown) => Err(CompileError::NoInterface(unknown.clone())),
        None => Ok(local),
    }
}

/// A spec in the making.
struct Compiler<'p> {
    policy: &'p Policy,
    surroundings: &'p Surroundings,
    numbers: Numbers,
    spec: TableSpec,
    permits: Vec<(PermitPrefix, u32)>,
}

/// One VPC on its way through the compiler.
struct Scope<'p> {
    vpc: &'p Vpc,
    number: u32,
    /// Positions of its local interfaces.
    local: &'p [usize],
    surroundings: &'p Surroundings,
}

impl Scope<'_> {
    /// The addresses of an interface, as far as they are known.
    fn addresses(&self, interface: usize) -> Cow<'_, [IpNet]> {
        self.surroundings.addresses_of(&self.vpc.interfaces[interface])
    }
}

impl Compiler<'_> {
    fn vpc(&mut self, vpc: &Vpc, local: &[usize]) -> Result<(), CompileError> {
        let number = self.numbers.vpcs.of(vpc.name.clone());
        self.spec.vpcs.insert(number, vpc.name.clone());
        let scope = Scope { vpc, number, local, surroundings: self.surroundings };
        let roles = self.roles(&scope)?;
        let classes = self.classes(&scope, &roles);
        self.permits(&roles, &classes)
    }
}

/// An address with the length of its network is that address alone.
pub(crate) fn without_host_bits(net: IpNet) -> IpNet {
    if net.addr() == net.network() { net } else { IpNet::from(net.addr()) }
}

/// Numbers of a VPC's peers that some local rule names.
type PeerNumbers = HashMap<crate::policy::model::Peer, u32>;
