//! The clock of programs that are loaded for a replay, and the decisions that they leave.

use aya::maps::{Array, Map, MapData, MapError, MapInfo, PerCpuArray};
use sg_common::abi::DecisionRecord;
use sg_common::{Decision, Reason};

use super::live::AttachedDevice;
use super::object::Object;
use super::pod::Abi;
use super::{KernelError, Paths};

const TIME: &str = "REPLAY_TIME";
const DECISION: &str = "REPLAY_DECISION";

/// Of the programs of one object: in a test run, or of a device that was attached for a replay
/// ([`super::session::AttachRequest::replay`]).
pub struct Replay {
    time: Array<MapData, u64>,
    decision: PerCpuArray<MapData, Abi<DecisionRecord>>,
}

impl Replay {
    /// Opens that of an attached device. The maps are not pinned: its programs know them.
    ///
    /// # Errors
    /// When the device was not attached for a replay, or is one with clsact filters in another namespace.
    pub fn of_device(paths: &Paths, device: &AttachedDevice) -> Result<Self, KernelError> {
        let lacks = || {
            let why = format!("{} tells no program that was loaded for a replay", device.device);
            KernelError::Request(why)
        };
        let hooks = super::read::hook_status(paths, device);
        let ids: Vec<u32> = hooks.iter().filter_map(|hook| hook.program).collect();
        let program = aya::programs::loaded_programs()
            .flatten()
            .find(|program| ids.contains(&program.id()))
            .ok_or_else(lacks)?;
        let failed = |source| KernelError::program("of a device", source);
        let maps = program.map_ids().map_err(failed)?.unwrap_or_default();
        Ok(Self {
            time: open_by_id(&maps, TIME)?.ok_or_else(lacks)?,
            decision: open_by_id(&maps, DECISION)?.ok_or_else(lacks)?,
        })
    }

    /// That of an object whose programs are loaded here.
    pub(super) fn of_object(object: &mut Object) -> Result<Self, KernelError> {
        Ok(Self {
            time: convert(object.take_map(TIME)?, TIME)?,
            decision: convert(object.take_map(DECISION)?, DECISION)?,
        })
    }

    /// Sets the clock.
    pub(super) fn set_time(&mut self, now: u64) -> Result<(), KernelError> {
        self.time.set(0, now, 0).map_err(|e| KernelError::map("write", TIME, e))
    }

    /// Sets the clock and forgets the last decision.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn begin(&mut self, now: u64) -> Result<(), KernelError> {
        self.set_time(now)?;
        let failed = |e| KernelError::map("write", DECISION, e);
        let processors = self.decision.get(&0, 0).map_err(failed)?.len();
        let empty = vec![Abi(DecisionRecord::default()); processors];
        let empty = aya::maps::PerCpuValues::try_from(empty)
            .map_err(|source| KernelError::Syscall { call: "per-processor values", source })?;
        self.decision.set(0, empty, 0).map_err(failed)
    }

    /// What was decided since the clock was set; `None`: nothing yet.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn decision(&self) -> Result<Option<Decision>, KernelError> {
        let values = self.decision.get(&0, 0).map_err(|e| KernelError::map("read", DECISION, e))?;
        Ok(values.iter().find_map(|Abi(record)| {
            let reason = Reason::from_number(record.reason)?;
            Some(Decision { reason, rule: record.rule })
        }))
    }
}

fn open_by_id<M>(ids: &[u32], name: &'static str) -> Result<Option<M>, KernelError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let failed = |source| KernelError::map("open", name, source);
    for &id in ids {
        let info = MapInfo::from_id(id).map_err(failed)?;
        // The kernel keeps the first fifteen bytes of a name.
        if name.as_bytes().starts_with(info.name()) && !info.name().is_empty() {
            let data = MapData::from_id(id).map_err(failed)?;
            return Map::from_map_data(data).and_then(M::try_from).map(Some).map_err(failed);
        }
    }
    Ok(None)
}

fn convert<M>(map: Map, name: &'static str) -> Result<M, KernelError>
where
    M: TryFrom<Map, Error = MapError>,
{
    M::try_from(map).map_err(|e| KernelError::map("open", name, e))
}
