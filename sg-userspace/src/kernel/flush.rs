//! Forgetting flows.

use std::path::Path;

use aya::maps::{Array, MapData};
use sg_common::abi::{ClockEntry, FlowKey};

use super::maps::{self, FlowMaps, Hash};
use super::pod::Abi;
use super::{KernelError, Paths};

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
