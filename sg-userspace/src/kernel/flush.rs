//! Forgetting flows.

use std::path::Path;

use aya::maps::{Array, MapData};
use sg_common::abi::FlowKey;

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
    // Elements of the clock whose flow is gone are free to whoever comes by.
    for name in ["OTHERS", "FLOWS_OF"] {
        let mut counts: Array<MapData, u64> = maps::open(pins, name)?;
        for index in 0..counts.len() {
            counts.set(index, 0, 0).map_err(|e| KernelError::map("write", name, e))?;
        }
    }
    Ok(())
}

fn empty<A: 'static>(tables: &mut FlowMaps<A>) -> Result<(), KernelError>
where
    Abi<FlowKey<A>>: aya::Pod,
{
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
