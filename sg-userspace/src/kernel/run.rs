//! Packets through the loaded programs without a device: BPF_PROG_TEST_RUN on maps of their own.

use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{ProgramError, ProgramInfo, TestRun as _, TestRunOptions, TestRunResult};
use sg_common::abi::{Counter, Event};
use sg_common::{Decision, Direction, LinkLayer, Verdict};
use zerocopy::FromBytes as _;

use super::hits::{RuleHits, RuleTable};
use super::maps;
use super::object::{Object, Sizes, program};
use super::pod::Abi;
use super::read::{ReasonCount, read_counters};
use super::replay::Replay;
use super::unattached::{Pins, Unattached};
use super::{Instance, KernelError, Paths, require_root};
use crate::compile::TableSpec;

/// `linux/bpf.h`.
const XDP_DROP: u32 = 1;
/// `linux/pkt_cls.h`.
const TC_ACT_SHOT: u32 = 2;

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
    replay: Replay,
    maps: Unattached,
    grace_until: u64,
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
        capacities.hosts_v4,
        capacities.hosts_v6,
        capacities.cidrs_v4,
        capacities.cidrs_v6,
        capacities.own_v4,
        capacities.own_v6,
    ];
    Sizes {
        interfaces: room(capacities.interfaces),
        classes: room(words.iter().sum()),
        permits: room(capacities.permits),
        rules: tables.rule_slots.number(),
        hosts: room(capacities.hosts_v4.max(capacities.hosts_v6)),
        cidrs: room(capacities.cidrs_v4.max(capacities.cidrs_v6)),
        own: room(capacities.own_v4.max(capacities.own_v6)),
        flows: 1 << 12,
        opening: 1 << 12,
        fragments: 1 << 10,
        events: 1 << 20,
    }
}

impl Runner {
    /// Loads the programs for the interface in `slot`, which learn flows from their packets until
    /// `grace_until` by the runner's clock.
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
        grace_until: u64,
    ) -> Result<Self, KernelError> {
        require_root("run a test packet")?;
        let maps = Unattached::make(paths, sizes)?;
        let mut runner = Self::load(maps, tables, slot, link, hook, grace_until)?;
        runner.change(tables)?;
        Ok(runner)
    }

    /// Puts another policy in force, in which the interface has the same slot, VPC and side. Flows stay.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn change(&mut self, tables: &TableSpec) -> Result<(), KernelError> {
        self.maps.change(tables)
    }

    /// Loads the programs for another interface of the same tables, on the same maps.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn beside(
        &self,
        tables: &TableSpec,
        slot: u16,
        link: LinkLayer,
    ) -> Result<Self, KernelError> {
        Self::load(self.maps.clone(), tables, slot, link, self.hook, self.grace_until)
    }

    fn load(
        maps: Unattached,
        tables: &TableSpec,
        slot: u16,
        link: LinkLayer,
        hook: RunHook,
        grace_until: u64,
    ) -> Result<Self, KernelError> {
        let instance = Instance {
            replay: true,
            drop_budget: u32::MAX,
            grace_until,
            ..Unattached::instance(tables, slot, link)?
        };
        let mut object = maps.open(&instance)?;
        match hook {
            RunHook::Tc => _ = object.tc(Direction::Ingress)?,
            RunHook::Xdp => _ = object.xdp()?,
        }
        object.tc(Direction::Egress)?;
        let replay = Replay::of_object(&mut object)?;
        let counters = maps::counters(maps.pins())?;
        let events = maps::events(maps.pins())?;
        Ok(Self { object, hook, replay, maps, grace_until, counters, events, slot })
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
        self.replay.begin(now)?;
        let result = self.run(packet, direction, 1)?;
        let decision = self
            .replay
            .decision()?
            .ok_or_else(|| KernelError::Request("the program left no decision".to_owned()))?;
        Ok(Ran { decision, duration: result.duration })
    }

    /// Sets the runner's clock, for [`Self::verdict`].
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn set_clock(&mut self, now: u64) -> Result<(), KernelError> {
        self.replay.set_time(now)
    }

    /// Judges one packet `times` over, and tells the last verdict: what the program returned, for the price
    /// of one system call.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn verdict(
        &mut self,
        packet: &[u8],
        direction: Direction,
        times: u32,
    ) -> Result<Verdict, RunError> {
        let returned = self.run(packet, direction, times)?.return_value;
        let is_drop = match (self.hook, direction) {
            (RunHook::Xdp, Direction::Ingress) => returned == XDP_DROP,
            (RunHook::Tc, _) | (RunHook::Xdp, Direction::Egress) => returned == TC_ACT_SHOT,
        };
        Ok(if is_drop { Verdict::Drop } else { Verdict::Allow })
    }

    /// What the last packet's decision was, for [`Self::verdict`].
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn last_decision(&self) -> Result<Option<Decision>, KernelError> {
        self.replay.decision()
    }

    fn run(
        &mut self,
        packet: &[u8],
        direction: Direction,
        times: u32,
    ) -> Result<TestRunResult, RunError> {
        let options =
            TestRunOptions { data_in: Some(packet), repeat: times, ..TestRunOptions::new() };
        let result = match (self.hook, direction) {
            (RunHook::Xdp, Direction::Ingress) => self.object.xdp()?.test_run(options),
            (RunHook::Tc, _) | (RunHook::Xdp, Direction::Egress) => {
                self.object.tc(direction)?.test_run(options)
            }
        };
        result.map_err(|error| refused(error, packet.len()))
    }

    /// Counters of the interface, without those that are zero.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<ReasonCount>, KernelError> {
        read_counters(&self.counters, self.slot)
    }

    /// What has passed because of each rule in force, where anything has.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, KernelError> {
        RuleTable::open(self.maps.pins())?.read(self.maps.tables().rules.keys().copied())
    }

    /// Forgets every flow, of the interfaces on the same maps too.
    ///
    /// # Errors
    /// When a map cannot be read or written.
    pub fn forget_flows(&mut self) -> Result<(), KernelError> {
        super::flush::at_rest(self.maps.pins())
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

/// How large the kernel found a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramSize {
    /// Its name in the object.
    pub name: &'static str,
    /// Instructions that the verifier walked through, over all paths.
    pub verified: u32,
    /// Bytes of the program as it is loaded, without what the verifier found unreachable.
    pub translated: u32,
}

/// Loads the programs that a device like `instance` may get, and says how large each is.
///
/// # Errors
/// Any [`KernelError`].
pub fn program_sizes(paths: &Paths, instance: &Instance) -> Result<Vec<ProgramSize>, KernelError> {
    require_root("load programs")?;
    let pins = Pins::make(paths)?;
    let mut object = Object::open(&pins.0, &run_sizes(&TableSpec::default()), instance)?;
    let mut found = vec![
        size(program::TC_INGRESS, object.tc(Direction::Ingress)?.info())?,
        size(program::TC_EGRESS, object.tc(Direction::Egress)?.info())?,
        size(program::ADOPT, object.adopter()?.info())?,
        size(program::FORGET, object.forgetter()?.info())?,
    ];
    // XDP judges only what arrives, and only on a host's Ethernet device.
    if !instance.workload && !instance.link_is_ip {
        found.push(size(program::XDP_INGRESS, object.xdp()?.info())?);
    }
    Ok(found)
}

fn size(
    name: &'static str,
    info: Result<ProgramInfo, ProgramError>,
) -> Result<ProgramSize, KernelError> {
    let info = info.map_err(|source| KernelError::program(name, source))?;
    let (verified, translated) = (info.verified_instruction_count(), info.size_translated());
    let untold = || KernelError::Request(format!("the kernel does not tell the size of {name}"));
    let (verified, translated) = verified.zip(translated).ok_or_else(untold)?;
    Ok(ProgramSize { name, verified, translated })
}

fn refused(error: ProgramError, length: usize) -> RunError {
    let ProgramError::SyscallError(source) = &error else {
        return RunError::Kernel(KernelError::program("in a test run", error));
    };
    match source.io_error.raw_os_error() {
        Some(libc::EINVAL | libc::EMSGSIZE | libc::ENOMEM) => RunError::Length(length),
        _ => RunError::Kernel(KernelError::program("in a test run", error)),
    }
}
