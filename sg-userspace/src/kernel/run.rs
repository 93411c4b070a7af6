//! Packets through the loaded programs without a device: BPF_PROG_TEST_RUN on maps of their own.

use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use sg_common::abi::{Counter, DecisionRecord, Event};
use sg_common::{Decision, Direction, LinkLayer, Reason};
use zerocopy::FromBytes as _;

use super::commit::{Prepared, Slots};
use super::maps::{self, PolicyMaps};
use super::object::{Object, Sizes};
use super::pod::Abi;
use super::read::{ReasonCount, read_counters};
use super::{Instance, KernelError, Paths, paths, require_root};
use crate::compile::TableSpec;

/// Which program judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunHook {
    /// The TC programs, both directions.
    Tc,
    /// The XDP program for ingress, TC for egress.
    Xdp,
}

/// What one run gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// What the program decided.
    pub decision: Decision,
    /// How long it took, as the kernel measured it; one run, with a cold cache.
    pub duration: Duration,
}

/// Why a packet could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel's test run takes no such packet: shorter than an Ethernet header, or longer than a page.
    #[error("the kernel runs no test packet of {0} bytes")]
    Length(usize),
    /// Anything else.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The programs of one interface on maps of their own, with a clock of their own.
pub struct Runner {
    object: Object,
    hook: RunHook,
    time: Array<MapData, u64>,
    decision: PerCpuArray<MapData, Abi<DecisionRecord>>,
    counters: PerCpuArray<MapData, Abi<Counter>>,
    events: RingBuf<MapData>,
    slot: u16,
}

/// Sizes for a run: small, made and gone in milliseconds.
#[must_use]
pub fn run_sizes(tables: &TableSpec) -> Sizes {
    let capacities = tables.capacities();
    let room = |entries: usize| u32::try_from(entries + 64).unwrap_or(u32::MAX);
    let words = [
        capacities.hosts_v4, capacities.hosts_v6, capacities.cidrs_v4, capacities.cidrs_v6,
        capacities.own_v4, capacities.own_v6,
    ];
    Sizes {
        interfaces: room(capacities.interfaces),
        classes: room(words.iter().sum()),
        permits: room(capacities.permits),
        hosts: room(capacities.hosts_v4.max(capacities.hosts_v6)),
        cidrs: room(capacities.cidrs_v4.max(capacities.cidrs_v6)),
        own: room(capacities.own_v4.max(capacities.own_v6)),
        flows: 1 << 12,
        opening: 1 << 12,
        events: 1 << 20,
    }
}

impl Runner {
    /// Loads the programs for the interface in `slot`.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn new(
        paths: &Paths,
        tables: &TableSpec,
        slot: u16,
        link: LinkLayer,
        hook: RunHook,
        sizes: &Sizes,
    ) -> Result<Self, KernelError> {
        require_root("run a test packet")?;
        let interface = tables
            .interfaces
            .get(&slot)
            .ok_or_else(|| KernelError::Request(format!("no interface in slot {slot}")))?;
        let side = interface.attachment(slot).side;
        let instance = Instance {
            replay: true,
            drop_budget: u32::MAX,
            ..Instance::new(slot, interface.vpc, side, link)
        };
        let pins = Pins::make(paths)?;
        let mut object = Object::open(&pins.0, sizes, &instance)?;
        let prepared = Prepared::write(
            PolicyMaps::open(&pins.0)?,
            &TableSpec::default(),
            tables,
            &Slots::default(),
        )?;
        prepared.flip()?;
        object.tc(Direction::Ingress)?;
        object.tc(Direction::Egress)?;
        if hook == RunHook::Xdp {
            object.xdp()?;
        }
        let time = convert(object.take_map("REPLAY_TIME")?, "REPLAY_TIME")?;
        let decision = convert(object.take_map("REPLAY_DECISION")?, "REPLAY_DECISION")?;
        let counters = maps::counters(&pins.0)?;
        let events = maps::events(&pins.0)?;
        Ok(Self { object, hook, time, decision, counters, events, slot })
    }

    /// Judges one packet at a time of the runner's clock.
    ///
    /// # Errors
    /// [`RunError::Length`] for what the kernel does not run, [`RunError::Kernel`] otherwise.
    pub fn judge(
        &mut self,
        packet: &[u8],
        direction: Direction,
        now: u64,
    ) -> Result<Ran, RunError> {
        self.time
            .set(0, now, 0)
            .map_err(|e| KernelError::map("write", "REPLAY_TIME", e))?;
        self.clear_decision()?;
        let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::new() };
        let result = match (self.hook, direction) {
            (RunHook::Xdp, Direction::Ingress) => self.object.xdp()?.test_run(options),
            (RunHook::Tc, _) | (RunHook::Xdp, Direction::Egress) => {
                self.object.tc(direction)?.test_run(options)
            }
        };
        let result = result.map_err(|error| refused(error, packet.len()))?;
        Ok(Ran { decision: self.read_decision()?, duration: result.duration })
    }

    fn clear_decision(&mut self) -> Result<(), KernelError> {
        let failed = |e| KernelError::map("write", "REPLAY_DECISION", e);
        let processors = self.decision.get(&0, 0).map_err(failed)?.len();
        let empty = vec![Abi(DecisionRecord::default()); processors];
        let empty = aya::maps::PerCpuValues::try_from(empty).map_err(|source| {
            KernelError::Syscall { call: "per-processor values", source }
        })?;
        self.decision.set(0, empty, 0).map_err(failed)
    }

    fn read_decision(&self) -> Result<Decision, KernelError> {
        let values = self
            .decision
            .get(&0, 0)
            .map_err(|e| KernelError::map("read", "REPLAY_DECISION", e))?;
        values
            .iter()
            .find_map(|Abi(record)| {
                let reason = Reason::from_number(record.reason)?;
                Some(Decision { reason, rule: record.rule })
            })
            .ok_or_else(|| KernelError::Request("the program left no decision".to_owned()))
    }

    /// Counters of the interface, without those that are zero.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<ReasonCount>, KernelError> {
        read_counters(&self.counters, self.slot)
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.events.next() {
            events.extend(Event::read_from_bytes(&item));
        }
        events
    }
}

fn refused(error: aya::programs::ProgramError, length: usize) -> RunError {
    let aya::programs::ProgramError::SyscallError(source) = &error else {
        return RunError::Kernel(KernelError::program("in a test run", error));
    };
    match source.io_error.raw_os_error() {
        Some(libc::EINVAL | libc::EMSGSIZE | libc::ENOMEM) => RunError::Length(length),
        _ => RunError::Kernel(KernelError::program("in a test run", error)),
    }
}

fn convert<M>(map: aya::maps::Map, name: &'static str) -> Result<M, KernelError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    M::try_from(map).map_err(|e| KernelError::map("open", name, e))
}

/// A folder of pins that goes when its maps are open.
struct Pins(PathBuf);

impl Pins {
    fn make(paths: &Paths) -> Result<Self, KernelError> {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = paths.bpffs.parent().unwrap_or(&paths.bpffs);
        let name =
            format!("sg-run-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = parent.join(name);
        paths::create_private(&path).map_err(|error| {
            if error.raw_os_error() == Some(libc::EPERM) {
                KernelError::NoBpffs { path: path.clone() }
            } else {
                KernelError::file("make", &path)(error)
            }
        })?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        for entry in entries {
            // Nothing else to do: the folder's name says whose it was.
            let _best_effort = std::fs::remove_file(entry.path());
        }
        let _best_effort = std::fs::remove_dir(&self.0);
    }
}
