//! Epochs: which interfaces a change narrows.
//!
//! A flow that was judged under another epoch is judged again, where it must be. A raise too many costs a
//! few lookups a flow; one too few lets a flow live on that the rules no longer allow. So whatever is not
//! plainly a widening counts as narrowing.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::{AddressSpec, InterfaceSpec, IpAddress, TableSpec};

/// Gives every interface the epoch of `previous`, raised where the new spec allows less.
pub(super) fn carry_on(spec: &mut TableSpec, previous: &TableSpec) {
    let narrowed: BTreeSet<u32> =
        spec.vpcs.keys().copied().filter(|&vpc| loses_addresses(vpc, previous, spec)).collect();
    let mut epochs = BTreeMap::new();
    for (slot, new) in &spec.interfaces {
        let Some(old) = previous.interfaces.get(slot) else { continue };
        let epoch = old.version.epoch;
        let less = narrowed.contains(&new.vpc) || loses_rules(old, new, previous, spec);
        epochs.insert(*slot, if less { epoch.wrapping_add(1) } else { epoch });
    }
    for (slot, epoch) in epochs {
        if let Some(interface) = spec.interfaces.get_mut(&slot) {
            interface.version.epoch = epoch;
        }
    }
}

/// Whether a rule of the interface's has gone, or AWS's tracking of a flow depends on one that has.
fn loses_rules(
    old: &InterfaceSpec,
    new: &InterfaceSpec,
    previous: &TableSpec,
    spec: &TableSpec,
) -> bool {
    if old.version.policy == new.version.policy {
        return false;
    }
    let rules = |spec: &TableSpec, policy| spec.policies.get(&policy).map(|it| it.rules.clone());
    let before = rules(previous, old.version.policy).unwrap_or_default();
    let after = rules(spec, new.version.policy).unwrap_or_default();
    // Sorted, both.
    before.iter().any(|rule| after.binary_search(rule).is_err())
}

/// Whether an address of the VPC is in fewer peers than it was.
fn loses_addresses(vpc: u32, old: &TableSpec, new: &TableSpec) -> bool {
    let fewer = |before: u32, after: u32| {
        let of = |spec: &TableSpec, class| spec.classes.get(&class).cloned().unwrap_or_default();
        let (before, after) = (of(old, before), of(new, after));
        before.iter().any(|peer| after.binary_search(peer).is_err())
    };
    lost(vpc, &old.v4, &new.v4, &fewer) || lost(vpc, &old.v6, &new.v6, &fewer)
}

fn lost<A: IpAddress>(
    vpc: u32,
    old: &AddressSpec<A>,
    new: &AddressSpec<A>,
    fewer: &impl Fn(u32, u32) -> bool,
) -> bool {
    let hosts = old.hosts.iter().filter(|((of, _), _)| *of == vpc);
    let mut cidrs = old.cidrs.iter().filter(|(prefix, _)| prefix.space == vpc);
    // A removed CIDR may be covered by a wider one, which then has fewer peers.
    cidrs.any(|(key, &class)| new.cidrs.get(key).is_none_or(|&now| fewer(class, now)))
        || hosts
            .into_iter()
            .any(|(key, &class)| new.hosts.get(key).is_none_or(|&now| fewer(class, now)))
}
