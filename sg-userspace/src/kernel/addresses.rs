//! `addresses: auto`: the policy has the addresses that its devices have.
//!
//! No process of ours stays to hear of a change, and no program of ours is told of one. So whatever command
//! comes next looks: `attach` compiles with the addresses of that moment, and [`follow`] commits what has
//! changed since, as any change of policy is committed.

use ipnet::IpNet;

use super::commit::Planned;
use super::live::{AttachedDevice, Live};
use super::transaction::commit;
use super::wanted::tables_for;
use super::{Device, KernelError, Lock, Paths, overdue};
use crate::compile::{Surroundings, TableSpec};
use crate::policy::model::Interface;

/// Adds what the attached devices have to what the compiler is told.
pub(super) fn of_attached(live: &Live, surroundings: &mut Surroundings) -> Result<(), KernelError> {
    for attached in &live.devices {
        let found = match open(attached) {
            Some(device) => device.addresses()?,
            None => known(live, &attached.interface),
        };
        surroundings.local.insert(attached.interface.clone());
        surroundings.addresses.entry(attached.interface.clone()).or_default().extend(found);
    }
    Ok(())
}

/// The device itself, never another of its name in another namespace.
fn open(attached: &AttachedDevice) -> Option<Device> {
    let is_here = attached.namespace == Device::namespace_here();
    let device = is_here.then(|| Device::open(&attached.device).ok()).flatten()?;
    (device.index == attached.index).then_some(device)
}

/// What the tables say: of a device that cannot be asked from here, that is all there is.
#[must_use]
pub fn known(live: &Live, interface: &str) -> Vec<IpNet> {
    let Some(slot) = live.tables.slot(interface) else { return Vec::new() };
    live.tables.own_addresses(slot).collect()
}

/// Commits what has changed of the addresses of interfaces with `addresses: auto`, and names those. Nothing is
/// locked before there is something to commit: whoever only reads keeps nobody from changing.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn follow(paths: &Paths) -> Result<Vec<String>, KernelError> {
    let Some(live) = Live::read(paths)? else { return Ok(Vec::new()) };
    if changed(&live)?.is_none() {
        return Ok(Vec::new());
    }
    let lock = Lock::try_take(&paths.lock())?;
    let Some(mut live) = overdue::open_live(paths, &lock)? else { return Ok(Vec::new()) };
    let Some((names, tables)) = changed(&live)? else { return Ok(Vec::new()) };
    let planned = Planned::between(&live.tables, &tables, &live.slots, &live.sizes)?;
    let after = Live { tables, ..live.clone() };
    commit(paths, &mut live, planned, after)?;
    Ok(names)
}

/// Interfaces whose devices have other addresses now, and the tables that say so.
fn changed(live: &Live) -> Result<Option<(Vec<String>, TableSpec)>, KernelError> {
    let loaded = crate::policy::load(&live.source.path, &live.source.text);
    let unreadable = |error| KernelError::Request(format!("the policy in force: {error}"));
    let policy = loaded.map_err(unreadable)?.policy;
    let is_attached =
        |one: &Interface| live.devices.iter().any(|device| device.interface == one.name);
    let mut interfaces = policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
    if !interfaces.any(|interface| interface.auto_addresses && is_attached(interface)) {
        return Ok(None);
    }
    let tables = tables_for(live, &policy)?;
    let moved = moved(&live.tables, &tables);
    Ok((!moved.is_empty()).then_some((moved, tables)))
}

/// Names of interfaces that have other addresses now.
fn moved(old: &TableSpec, new: &TableSpec) -> Vec<String> {
    let addresses =
        |tables: &TableSpec, slot: u16| -> Vec<IpNet> { tables.own_addresses(slot).collect() };
    let differs = |slot: u16| addresses(old, slot) != addresses(new, slot);
    let changed = new.interfaces.iter().filter(|(slot, _)| differs(**slot));
    changed.map(|(_, spec)| spec.name.clone()).collect()
}
