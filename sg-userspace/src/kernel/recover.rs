//! After a command that was killed: the maps made to say exactly what the state in force says.
//!
//! The generation word tells which policy counts, and its file says what that policy is. Whatever else a
//! half-done change left, entries added for a policy that never came or kept for one that has gone, is
//! removed, and both versions of every word are made the same.

use std::collections::BTreeSet;

use aya::maps::lpm_trie::Key;
use sg_common::Address;
use sg_common::abi::{AddressKey, CLASS_NONE, ClassWord, HostKey, Interface, PermitKey};

use super::bpf::wait_for_programs;
use super::commit::Slots;
use super::live::Live;
use super::maps::{Hash, Lpm, PolicyMaps};
use super::pod::Abi;
use super::{KernelError, Paths, journal, maps};
use crate::compile::{AddressSpec, IpAddress, TableSpec};
use crate::files;

/// Levels what an interrupted command left, if one did.
pub(super) fn recover(paths: &Paths, live: &mut Live) -> Result<(), KernelError> {
    let generation = maps::generation(&paths.maps())?;
    let files = journal::Files::find(paths, generation)?;
    if files.is_some_and(|files| !files.is_interrupted) {
        return Ok(());
    }
    log::warn!("an earlier command was interrupted; levelling what it left");
    level(paths, live, generation)
}

/// After a change of policy that failed: the maps are made to say what the kernel's generation says. Before the flip
/// that is the old policy, and the change has failed; behind it the new one is in force, and the change is made, also
/// where what it leaves cannot be levelled now: the next command does that.
pub(super) fn settle(paths: &Paths, before: u64, error: KernelError) -> Result<(), KernelError> {
    if let Err(second) = repair(paths) {
        log::error!("and then, while putting things back: {second}");
    }
    match maps::generation(&paths.maps()) {
        Ok(generation) if generation != before => {
            log::warn!("the change is in force, though not at the first try: {error}");
            Ok(())
        }
        Ok(_) | Err(_) => Err(error),
    }
}

fn repair(paths: &Paths) -> Result<(), KernelError> {
    let mut live = Live::require(paths)?;
    let generation = maps::generation(&paths.maps())?;
    level(paths, &mut live, generation)
}

/// Makes maps and files say what `live` says.
fn level(paths: &Paths, live: &mut Live, generation: u64) -> Result<(), KernelError> {
    restore(paths, live)?;
    // What has never counted may hold the last room, and that for the way back.
    journal::forget_strays(paths, live, generation)?;
    let files = journal::Files::find(paths, generation)?;
    let is_whole = files.is_some_and(|files| !files.is_interrupted);
    match journal::write(paths, live, generation, !is_whole) {
        // On a full disk the state that is there will do: it is true, and tells as much.
        Err(KernelError::File { source, .. }) if is_whole && files::is_full(&source) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => journal::forget_others(paths, Some((live, generation))),
    }
}

/// Makes the maps say what `live` says, whatever they say now.
pub(super) fn restore(paths: &Paths, live: &mut Live) -> Result<(), KernelError> {
    let mut maps = PolicyMaps::open(&paths.maps())?;
    let mut used = BTreeSet::new();
    let tables = &live.tables;
    interfaces(&mut maps, tables, live.sizes.interfaces)?;
    family(&mut maps, &tables.v4, &mut used, |maps| {
        (&mut maps.hosts_v4.map, &mut maps.cidrs_v4.map, &mut maps.own_v4.map)
    })?;
    family(&mut maps, &tables.v6, &mut used, |maps| {
        (&mut maps.hosts_v6.map, &mut maps.cidrs_v6.map, &mut maps.own_v6.map)
    })?;
    permits(&mut maps, tables)?;
    maps.rules.restore(tables.rules.keys().copied())?;
    live.slots = Slots::from_used(&used);
    wait_for_programs()
}

fn interfaces(maps: &mut PolicyMaps, tables: &TableSpec, room: u32) -> Result<(), KernelError> {
    let failed = |e| KernelError::map("level", "INTERFACES", e);
    for slot in 0..room {
        let Abi(now) = maps.interfaces.get(&slot, 0).map_err(failed)?;
        let wanted = u16::try_from(slot)
            .ok()
            .and_then(|slot| tables.interfaces.get(&slot))
            .map_or_else(Default::default, |one| one.version);
        if now.versions != [wanted; 2] {
            let interface = Interface { versions: [wanted; 2] };
            maps.interfaces.set(slot, Abi(interface), 0).map_err(failed)?;
        }
    }
    Ok(())
}

fn permits(maps: &mut PolicyMaps, tables: &TableSpec) -> Result<(), KernelError> {
    let failed = |e| KernelError::map("level", "PERMITS", e);
    let wanted: BTreeSet<(u32, PermitKey)> = tables.permits.keys().map(|one| one.key()).collect();
    let mut have = BTreeSet::new();
    for key in maps.permits.keys() {
        let key = key.map_err(failed)?;
        have.insert((key.prefix_len(), key.data().0));
    }
    for (bits, data) in have.difference(&wanted) {
        maps.permits.remove(&Key::new(*bits, Abi(*data))).map_err(failed)?;
    }
    for (permit, rule) in &tables.permits {
        let (bits, data) = permit.key();
        if !have.contains(&(bits, data)) {
            maps.permits.insert(&Key::new(bits, Abi(data)), rule, 0).map_err(failed)?;
        }
    }
    Ok(())
}

type FamilyTables<'a, W> =
    (&'a mut Hash<HostKey<W>, u32>, &'a mut Lpm<AddressKey<W>>, &'a mut Lpm<AddressKey<W>>);

fn family<A: IpAddress>(
    maps: &mut PolicyMaps,
    spec: &AddressSpec<A>,
    used: &mut BTreeSet<u32>,
    tables: fn(&mut PolicyMaps) -> FamilyTables<'_, A::Wire>,
) -> Result<(), KernelError>
where
    Abi<HostKey<A::Wire>>: aya::Pod,
    Abi<AddressKey<A::Wire>>: aya::Pod,
    A::Wire: Ord,
{
    let hosts: Vec<_> = spec.host_keys().collect();
    let cidrs: Vec<_> = spec.cidrs.iter().map(|(key, &class)| (key.key(), class)).collect();
    let own: Vec<_> = spec.own.iter().map(|key| (key.key(), 1)).collect();
    let (host_table, cidr_table, own_table) = tables(maps);
    let mut words = level_hosts(host_table, &hosts, used)?;
    words.extend(level_prefixes(cidr_table, &cidrs, used)?);
    words.extend(level_prefixes(own_table, &own, used)?);
    for (slot, class) in words {
        maps.classes.set(slot, ClassWord::new([class; 2]))?;
    }
    Ok(())
}

/// Removes what is not wanted; returns the words of what is. What is wanted is there: a change removes
/// only after its flip, and then only what the policy in force lacks.
fn level_hosts<W: Address + Ord>(
    table: &mut Hash<HostKey<W>, u32>,
    wanted: &[(HostKey<W>, u32)],
    used: &mut BTreeSet<u32>,
) -> Result<Vec<(u32, u32)>, KernelError>
where
    Abi<HostKey<W>>: aya::Pod,
{
    let failed = |e| KernelError::map("level", "a host table", e);
    let keys: BTreeSet<HostKey<W>> = wanted.iter().map(|(key, _class)| *key).collect();
    let mut strangers = Vec::new();
    for key in table.keys() {
        let Abi(key) = key.map_err(failed)?;
        if !keys.contains(&key) {
            strangers.push(key);
        }
    }
    for key in strangers {
        table.remove(&Abi(key)).map_err(failed)?;
    }
    let mut words = Vec::new();
    for (key, class) in wanted {
        let slot = table.get(&Abi(*key), 0).map_err(failed)?;
        used.insert(slot);
        words.push((slot, *class));
    }
    Ok(words)
}

/// As [`level_hosts`], for prefixes.
fn level_prefixes<W: Address + Ord>(
    table: &mut Lpm<AddressKey<W>>,
    wanted: &[((u32, AddressKey<W>), u32)],
    used: &mut BTreeSet<u32>,
) -> Result<Vec<(u32, u32)>, KernelError>
where
    Abi<AddressKey<W>>: aya::Pod,
{
    let failed = |e| KernelError::map("level", "an address table", e);
    let keys: BTreeSet<(u32, AddressKey<W>)> = wanted.iter().map(|(key, _class)| *key).collect();
    let mut strangers = Vec::new();
    for key in table.keys() {
        let key = key.map_err(failed)?;
        let key = (key.prefix_len(), key.data().0);
        if !keys.contains(&key) {
            strangers.push(key);
        }
    }
    for (bits, data) in strangers {
        table.remove(&Key::new(bits, Abi(data))).map_err(failed)?;
    }
    let mut words = Vec::new();
    for ((bits, data), class) in wanted {
        let slot = table.get(&Key::new(*bits, Abi(*data)), 0).map_err(failed)?;
        used.insert(slot);
        words.push((slot, *class));
    }
    Ok(words)
}

/// A class that nothing leads to.
const _: () = assert!(CLASS_NONE == 0, "fresh elements of the maps must mean no class");
