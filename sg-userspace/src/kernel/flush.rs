//! Forgetting flows.
//!
//! Beside packets, `sg_forget` takes them out one by one, run by BPF_PROG_TEST_RUN; where no program judges, the
//! tables are emptied as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use aya::maps::{Array, MapData};
use aya::programs::{TestRun as _, TestRunOptions};
use sg_common::abi::{ClockEntry, FlowKey, Forgetting, Forgotten};
use sg_common::{Address as _, Be16, LinkLayer, Side, V4, V6};
use zerocopy::IntoBytes as _;

use super::bpf::wait_for_programs;
use super::maps::{self, FlowMaps, Hash};
use super::object::{Object, program};
use super::pod::Abi;
use super::read::{self, FlowRecord};
use super::session::open_live;
use super::{Instance, KernelError, Lock, Paths};

/// Forgets those live flows that are wanted, and returns them as they were. Flows that open meanwhile are not among
/// them; what a change of rules has cut stays cut.
///
/// # Errors
/// When nothing is attached, or a map cannot be read or written.
pub fn flows(
    paths: &Paths,
    wanted: impl Fn(&FlowRecord) -> bool,
) -> Result<Vec<FlowRecord>, KernelError> {
    // Nobody may take the maps away meanwhile.
    let _lock = Lock::take(&paths.lock())?;
    let live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
    let mut found = read::flows(paths)?;
    found.retain(wanted);
    if found.is_empty() {
        return Ok(found);
    }
    // Keys say which interface a flow is of; the instance is nobody's.
    let nobody = Instance::new(0, 0, Side::Host, LinkLayer::Ethernet);
    let mut object = Object::open(&paths.maps(), &live.sizes, &nobody)?;
    let mut gone = BTreeMap::new();
    let mut opening = Vec::new();
    for flow in found {
        if forget(&mut object, &flow)? {
            gone.insert(key(&flow), flow.clone());
        }
        if !flow.established {
            opening.push(flow);
        }
    }
    // A packet that was about to promote one has entered it among the established flows since.
    if !opening.is_empty() {
        wait_for_programs()?;
    }
    for flow in opening {
        if forget(&mut object, &flow)? {
            gone.entry(key(&flow)).or_insert(flow);
        }
    }
    Ok(gone.into_values().collect())
}

fn key(flow: &FlowRecord) -> impl Ord + use<> {
    let FlowRecord { slot, protocol, kind, local, local_port, remote, remote_port, .. } = *flow;
    (slot, protocol, kind, local, local_port, remote, remote_port)
}

/// Whether the flow was there.
fn forget(object: &mut Object, flow: &FlowRecord) -> Result<bool, KernelError> {
    let record = Forgetting {
        family: if flow.local.is_ipv4() { 4 } else { 6 },
        protocol: flow.protocol,
        local: widen(flow.local),
        remote: widen(flow.remote),
        local_port: Be16::new(flow.local_port),
        remote_port: Be16::new(flow.remote_port),
        slot: Be16::new(flow.slot),
        kind: flow.kind,
        ..Forgetting::default()
    };
    let options = TestRunOptions { data_in: Some(record.as_bytes()), ..TestRunOptions::new() };
    let result = object
        .forgetter()?
        .test_run(options)
        .map_err(|source| KernelError::program(program::FORGET, source))?;
    match Forgotten::from_number(result.return_value) {
        Some(Forgotten::Gone) => Ok(true),
        Some(Forgotten::Unknown) => Ok(false),
        Some(Forgotten::Refused) | None => {
            Err(KernelError::Request(format!("{} takes no flow", program::FORGET)))
        }
    }
}

fn widen(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => V4::new(address.octets()).widen(),
        IpAddr::V6(address) => V6::new(address.octets()).widen(),
    }
}

/// Forgets the flows of interfaces that nobody judges: their slots belonged to others, or they were detached, and
/// what became of their flows since is not known.
pub(super) fn of_slots(
    paths: &Paths,
    object: &mut Object,
    slots: &BTreeSet<u16>,
) -> Result<(), KernelError> {
    if slots.is_empty() {
        return Ok(());
    }
    for flow in read::flows(paths)?.iter().filter(|flow| slots.contains(&flow.slot)) {
        forget(object, flow)?;
    }
    Ok(())
}

/// Empties the flow tables of programs that judge nothing meanwhile, as between two replays.
///
/// # Errors
/// When a map cannot be read or written.
pub fn flows_at_rest(paths: &Paths) -> Result<(), KernelError> {
    at_rest(&paths.maps())
}

pub(super) fn at_rest(pins: &Path) -> Result<(), KernelError> {
    empty(&mut maps::flows_v4(pins)?)?;
    empty(&mut maps::flows_v6(pins)?)?;
    let mut others: Array<MapData, u64> = maps::open(pins, "OTHERS")?;
    for family in 0..others.len() {
        others.set(family, 0, 0).map_err(|e| KernelError::map("write", "OTHERS", e))?;
    }
    Ok(())
}

fn empty<A: Copy + 'static>(tables: &mut FlowMaps<A>) -> Result<(), KernelError>
where
    Abi<FlowKey<A>>: aya::Pod,
    Abi<ClockEntry<A>>: aya::Pod,
{
    let failed = |e| KernelError::map("write", "CLOCK", e);
    let elements: Vec<u32> =
        tables.established.iter().filter_map(|flow| Some(flow.ok()?.1.0.clock_slot)).collect();
    for element in elements {
        let Abi(owned) = tables.clock.get(&element, 0).map_err(failed)?;
        // Free to whoever comes by.
        let free = ClockEntry { deadline: 0, ..owned };
        tables.clock.set(element, Abi(free), 0).map_err(failed)?;
    }
    for table in [&mut tables.established, &mut tables.opened_in, &mut tables.opened_out] {
        empty_one(table)?;
    }
    empty_one(&mut tables.fragments)
}

fn empty_one<A: 'static, V: aya::Pod>(table: &mut Hash<FlowKey<A>, V>) -> Result<(), KernelError>
where
    Abi<FlowKey<A>>: aya::Pod,
{
    let keys: Result<Vec<_>, _> = table.keys().collect();
    for key in keys.map_err(|e| KernelError::map("read", "FLOWS", e))? {
        table.remove(&key).map_err(|e| KernelError::map("write", "FLOWS", e))?;
    }
    Ok(())
}
