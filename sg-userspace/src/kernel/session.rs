//! Attaching and detaching: each a transaction that leaves nothing half-done.

use std::collections::BTreeSet;
use std::time::Duration;

use super::adopt::Adopting;
use super::commit::{Planned, Prepared, Slots};
use super::confirmation::refuse_unconfirmed;
use super::detach::{close_history, remove_everything};
pub use super::detach::{detach, detach_all};
use super::fit::{Fit, fits};
use super::hooks::Wanted;
use super::join::{Joining, Work};
use super::live::{Live, Source};
use super::maps::PolicyMaps;
use super::object::Object;
use super::read::monotonic;
use super::recover::{recover, restore};
use super::refit::{Fitted, Refitting};
use super::transaction::{Author, commit, entry};
use super::wanted::tables_with;
use super::{
    Device, Instance, KernelError, Lock, Paths, Sizes, addresses, flush, journal, keeper, overdue,
    require_root, versions,
};
use crate::compile::{RuleSlots, Surroundings, TableSpec, compile};
use crate::history::{self, History, HistoryError, Past};
use crate::policy::Policy;
use crate::policy::model::{Interface, Side};

/// A device to attach, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the device.
    pub device: String,
    /// Name of the interface in the policy.
    pub interface: String,
    /// Another side than the policy says.
    pub side: Option<Side>,
}

/// What `attach` was asked for.
#[derive(Debug, Clone)]
pub struct AttachRequest<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its file.
    pub source: Source,
    /// The devices.
    pub targets: Vec<Target>,
    /// Which hooks.
    pub hooks: Wanted,
    /// Report drops, do not drop.
    pub audit: bool,
    /// Trace every packet.
    pub trace: bool,
    /// Take time from a map and leave decisions in one: for tests of the data plane.
    pub replay: bool,
    /// Drops reported per second and processor.
    pub drop_budget: u32,
    /// Keep what is open already.
    pub adopt: bool,
    /// How long flows are learnt from their packets.
    pub grace: Duration,
    /// Sizes of the maps; they count when the first device is attached.
    pub sizes: Sizes,
}

/// Attaches devices, all or none, and returns what became of each. Those that are attached already get the programs of
/// this sgctl in place of theirs, and keep flows and counters.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn attach(paths: &Paths, request: &AttachRequest<'_>) -> Result<Vec<Fitted>, KernelError> {
    require_root("attach programs")?;
    let devices = request
        .targets
        .iter()
        .map(|target| Device::open(&target.device))
        .collect::<Result<Vec<_>, _>>()?;
    let lock = Lock::take(&paths.lock())?;
    let previous = overdue::open_live(paths, &lock)?;
    refuse_another_policy(paths, previous.as_ref(), request)?;
    let fits = fits(paths, previous.as_ref(), request, &devices)?;
    let sizes = previous.as_ref().map_or(request.sizes, |live| live.sizes);
    let tables = wanted_tables(previous.as_ref(), request, &fits, &sizes)?;
    let empty = TableSpec::default();
    let (old, slots) = previous
        .as_ref()
        .map_or((&empty, Slots::default()), |live| (&live.tables, live.slots.clone()));
    let planned = Planned::between(old, &tables, &slots, &sizes)?;

    let first = previous.is_none();
    let number = match &previous {
        Some(live) => live.number,
        None => begin_history(paths, request)?,
    };
    let live = Live {
        source: request.source.clone(),
        tables,
        slots,
        sizes,
        devices: previous.as_ref().map_or_else(Vec::new, |live| live.devices.clone()),
        gone: previous.as_ref().map_or_else(Default::default, |live| live.gone.clone()),
        number,
        pending: previous.as_ref().and_then(|live| live.pending.clone()),
        next_expiry: request.policy.next_expiry(),
        taken_back: previous.as_ref().and_then(|live| live.taken_back),
    };
    keeper::ensure_if_needed(paths, &live)?;
    let attempt = attach_all(paths, request, &fits, live, planned);
    match attempt {
        Ok(attached) => Ok(attached),
        Err(error) => {
            let undone = if first {
                close_history(paths, number - 1);
                remove_everything(paths)
            } else {
                previous.map_or(Ok(()), |mut live| put_back(paths, &mut live))
            };
            if let Err(second) = undone {
                log::error!("and then, while putting things back: {second}");
            }
            Err(error)
        }
    }
}

/// The entry of a first attach, which no policy in force stands behind.
fn begin_history(paths: &Paths, request: &AttachRequest<'_>) -> Result<u64, KernelError> {
    let mut history = match History::open(&paths.state, None) {
        // A host that comes up must be protected, whatever became of what was before.
        Err(HistoryError::Damaged { path, why }) => {
            let aside = history::set_aside(&paths.state)?;
            log::error!(
                "{} is damaged ({why}): the history begins anew, the old one is in {}",
                path.display(),
                aside.display()
            );
            History::open(&paths.state, None)?
        }
        other => other?,
    };
    let number = history.next_number();
    let past: Past = request.source.clone().into();
    let author = Author::of_process(None);
    history.append(entry(number, &author, Vec::new(), past.clone().into()), || past)?;
    Ok(number)
}

/// What is in force, levelled if an earlier command was interrupted.
pub(super) fn open_live(paths: &Paths) -> Result<Option<Live>, KernelError> {
    let mut live = Live::read(paths)?;
    if let Some(live) = &mut live {
        recover(paths, live)?;
    } else {
        // Another version's state is its own.
        versions::refuse(paths)?;
        // What the last reboot or an interrupted first attach has left.
        remove_everything(paths)?;
    }
    Ok(live)
}

fn refuse_another_policy(
    paths: &Paths,
    live: Option<&Live>,
    request: &AttachRequest<'_>,
) -> Result<(), KernelError> {
    let Some(live) = live else { return Ok(()) };
    // What was attached and is gone may come back at any time: until then nothing judges it.
    let is_known = |target: &Target| live.devices.iter().any(|one| one.device == target.device);
    if !request.targets.iter().all(is_known) {
        refuse_unconfirmed(paths, live)?;
    }
    if live.source.text != request.source.text {
        let attached: Vec<_> = live.devices.iter().map(|one| one.device.as_str()).collect();
        let attached = attached.join(", ");
        let Source { path, edits, .. } = &live.source;
        if *edits > 0 && *path == request.source.path {
            return Err(KernelError::EditedSince { path: path.clone(), attached, edits: *edits });
        }
        return Err(KernelError::AnotherPolicy { attached });
    }
    Ok(())
}

/// The tables for what is attached already and what is to be.
fn wanted_tables(
    live: Option<&Live>,
    request: &AttachRequest<'_>,
    fits: &[Fit<'_>],
    sizes: &Sizes,
) -> Result<TableSpec, KernelError> {
    let mut policy = request.policy.clone();
    for Fit { target, .. } in fits {
        if let (Some(side), Some(interface)) =
            (target.side, find_interface_mut(&mut policy, &target.interface))
        {
            interface.side = side;
        }
    }
    let mut surroundings =
        Surroundings::of(request.targets.iter().map(|target| target.interface.as_str()));
    for Fit { target, device, .. } in fits {
        let addresses = surroundings.addresses.entry(target.interface.clone()).or_default();
        addresses.extend(device.addresses()?);
    }
    if let Some(live) = live {
        addresses::of_attached(live, &mut surroundings)?;
        return tables_with(live, &policy, &surroundings);
    }
    let nothing = TableSpec::empty(RuleSlots::new(sizes.rules));
    let mut tables = compile(&policy, &surroundings, Some(&nothing))?;
    tables.share_flows(sizes.flows);
    Ok(tables)
}

fn find_interface_mut<'a>(policy: &'a mut Policy, name: &str) -> Option<&'a mut Interface> {
    policy.vpcs.iter_mut().flat_map(|vpc| &mut vpc.interfaces).find(|one| one.name == name)
}

/// Loads, writes the policy, and only then attaches: no packet is judged by an empty table.
fn attach_all(
    paths: &Paths,
    request: &AttachRequest<'_>,
    fits: &[Fit<'_>],
    mut live: Live,
    planned: Planned,
) -> Result<Vec<Fitted>, KernelError> {
    make_directories(paths)?;
    let mut loaded = Vec::new();
    for fit in fits {
        let mut instance = instance(request, &fit.target, fit.device, &live.tables)?;
        if let Some(at) = fit.entry {
            // What was open then has been learnt; what opens now is judged.
            instance.grace_until = live.devices[at].instance.grace_until;
        }
        loaded.push((instance, Object::open(&paths.maps(), &live.sizes, &instance)?));
    }
    // The last of the files that go.
    let begun = journal::begin(paths)?;
    let maps = PolicyMaps::open(&paths.maps())?;
    let prepared = Prepared::write(&begun, maps, planned, &live.slots)?;
    live.slots = prepared.slots.clone();
    let generation = prepared.next_generation();
    journal::write(paths, &live, generation, false)?;
    prepared.flip()?;
    journal::forget_others(paths, Some((&live, generation)))?;

    let tables = live.tables.clone();
    let mut work = Work { joining: Vec::new(), refitting: Vec::new() };
    for (Fit { target, device, entry }, (instance, object)) in fits.iter().zip(loaded) {
        if let Some(at) = *entry {
            let before = live.devices[at].clone();
            let refitting = Refitting::prepare(before, device, instance, object)?;
            work.refitting.push((at, refitting));
        } else {
            let adopting = request.adopt.then(|| Adopting::new(&tables, &instance, device));
            work.joining.push(Joining { target, device, instance, object, adopting });
        }
    }
    let is_judged = |interface: &str| live.devices.iter().any(|one| one.interface == interface);
    let fresh = work.joining.iter().filter(|one| !is_judged(&one.target.interface));
    let slots: BTreeSet<u16> = fresh.map(|one| one.instance.slot).collect();
    if let Some(any) = work.joining.first_mut() {
        flush::of_slots(paths, &mut any.object, &slots)?;
    }
    work.run(paths, request, &mut live, generation)
}

fn instance(
    request: &AttachRequest<'_>,
    target: &Target,
    device: &Device,
    tables: &TableSpec,
) -> Result<Instance, KernelError> {
    let missing =
        || KernelError::Request(format!("the policy has no interface {:?}", target.interface));
    let slot = tables.slot(&target.interface).ok_or_else(missing)?;
    let interface = tables.interfaces.get(&slot).ok_or_else(missing)?;
    let side = interface.attachment(slot).side;
    Ok(Instance {
        audit: request.audit,
        trace: request.trace,
        replay: request.replay,
        drop_budget: request.drop_budget,
        grace_until: grace_until(request),
        ..Instance::new(slot, interface.vpc, side, device.link)
    })
}

/// By the clock that the programs will read: that of a replay begins at zero.
fn grace_until(request: &AttachRequest<'_>) -> u64 {
    let begins = if request.replay { 0 } else { monotonic() };
    match u64::try_from(request.grace.as_nanos()).unwrap_or(u64::MAX) {
        0 => 0,
        grace => begins.saturating_add(grace),
    }
}

/// Puts the policy that was in force back, after a change that failed half-way.
pub(super) fn put_back(paths: &Paths, live: &mut Live) -> Result<(), KernelError> {
    // What counts now may be the new policy: then the way back is a change like any other, and no packet notices.
    let changed_back = Live::require(paths).and_then(|mut now| {
        let planned = Planned::between(&now.tables, &live.tables, &now.slots, &now.sizes)?;
        if planned.changes().is_empty() {
            return Ok(());
        }
        let after = Live { slots: now.slots.clone(), ..live.clone() };
        commit(paths, &mut now, planned, after).map(|_is_tidy| ())
    });
    if let Err(error) = changed_back {
        log::warn!("the policy before comes back by force: {error}");
    }
    let mut maps = PolicyMaps::open(&paths.maps())?;
    let generation = maps.generation()? + 1;
    journal::write(paths, live, generation, false)?;
    // Both versions are about to say the same, so the flip may come first or last.
    restore(paths, live)?;
    journal::write(paths, live, generation, false)?;
    maps.generation
        .set(0, generation, 0)
        .map_err(|e| KernelError::map("write", "GENERATION", e))?;
    journal::forget_others(paths, Some((live, generation)))
}

fn make_directories(paths: &Paths) -> Result<(), KernelError> {
    if !paths.is_on_bpffs() {
        return Err(KernelError::NoBpffs { path: paths.bpffs.clone() });
    }
    for path in [paths.maps(), paths.links(), paths.run.clone()] {
        crate::files::create_private(&path).map_err(KernelError::file("make", path))?;
    }
    Ok(())
}
