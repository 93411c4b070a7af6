//! The programs as a device gets them, on maps of their own and on no device, for `cargo xtask bench`: it runs them
//! by BPF_PROG_TEST_RUN, and asks the maps whether they did what they were to do. No command needs it.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::ProgramFd;
use sg_common::abi::{Counter, Flow, FlowKey, StreamCounters};
use sg_common::{Address, Direction, LinkLayer, V4, V6};

use super::object::{Sizes, program};
use super::pod::Abi;
use super::read::{ReasonCount, read_counters};
use super::unattached::Unattached;
use super::{Instance, KernelError, Paths, bpf, maps, measure, require_root};
use crate::compile::TableSpec;

/// What became of events, over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Written into the ring buffer.
    pub emitted: u64,
    /// Beyond the budget, or of silent programs.
    pub suppressed: u64,
    /// Not written, because the ring buffer was full.
    pub lost: u64,
}

/// What one map takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapMemory {
    /// Its name.
    pub name: &'static str,
    /// Bytes of a key, as the map has it.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Entries that it can hold.
    pub capacity: u32,
    /// Bytes that the kernel charges for it, its own included.
    pub charged: u64,
}

/// The programs of one interface.
pub struct Judge {
    /// Of XDP's ingress.
    pub xdp: ProgramFd,
    /// Of TC's ingress.
    pub tc_ingress: ProgramFd,
    /// Of TC's egress.
    pub tc_egress: ProgramFd,
    maps: Unattached,
    slot: u16,
    counters: PerCpuArray<MapData, Abi<Counter>>,
    stream: PerCpuArray<MapData, Abi<StreamCounters>>,
    events: RingBuf<MapData>,
}

impl Judge {
    /// Loads the programs for the interface in `slot`, and puts the policy in force.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn new(
        paths: &Paths,
        tables: &TableSpec,
        slot: u16,
        sizes: &Sizes,
    ) -> Result<Self, KernelError> {
        require_root("run a test packet")?;
        let maps = Unattached::make(paths, sizes)?;
        let mut judge = Self::load(maps, tables, slot, false)?;
        judge.maps.change(tables)?;
        Ok(judge)
    }

    /// The same programs on the same maps, which report nothing.
    ///
    /// # Errors
    /// Any [`KernelError`].
    pub fn silent(&self) -> Result<Self, KernelError> {
        Self::load(self.maps.clone(), self.maps.tables(), self.slot, true)
    }

    fn load(
        maps: Unattached,
        tables: &TableSpec,
        slot: u16,
        silent: bool,
    ) -> Result<Self, KernelError> {
        let instance =
            Instance { silent, ..Unattached::instance(tables, slot, LinkLayer::Ethernet)? };
        let mut object = maps.open(&instance)?;
        let tc = |fd: Result<&ProgramFd, _>| {
            let named = |source| KernelError::program("of TC", source);
            fd.map_err(named)?.try_clone().map_err(descriptor)
        };
        let xdp = object.xdp()?.fd().map_err(|e| KernelError::program(program::XDP_INGRESS, e))?;
        Ok(Self {
            xdp: xdp.try_clone().map_err(descriptor)?,
            tc_ingress: tc(object.tc(Direction::Ingress)?.fd())?,
            tc_egress: tc(object.tc(Direction::Egress)?.fd())?,
            slot,
            counters: maps::counters(maps.pins())?,
            stream: maps::stream(maps.pins())?,
            events: maps::events(maps.pins())?,
            maps,
        })
    }

    /// Counters of the interface, without those that are zero.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<ReasonCount>, KernelError> {
        read_counters(&self.counters, self.slot)
    }

    /// What became of events so far.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stream(&self) -> Result<StreamTotals, KernelError> {
        let values = self.stream.get(&0, 0).map_err(|e| KernelError::map("read", "STREAM", e))?;
        Ok(values.iter().fold(StreamTotals::default(), |sum, Abi(one)| StreamTotals {
            emitted: sum.emitted + one.emitted,
            suppressed: sum.suppressed + one.suppressed,
            lost: sum.lost + one.lost,
        }))
    }

    /// Takes every event out of the ring; how many they were.
    pub fn drain(&mut self) -> u64 {
        let mut count = 0;
        while self.events.next().is_some() {
            count += 1;
        }
        count
    }

    /// Entries of all flow tables, dead ones that have not been reclaimed included.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn flow_entries(&self) -> Result<usize, KernelError> {
        let mut count = 0;
        for [v4, v6] in [
            ["FLOWS_V4", "FLOWS_V6"],
            ["OPENED_IN_V4", "OPENED_IN_V6"],
            ["OPENED_OUT_V4", "OPENED_OUT_V6"],
        ] {
            count += self.entries::<V4>(v4)? + self.entries::<V6>(v6)?;
        }
        Ok(count)
    }

    fn entries<A: Address>(&self, name: &'static str) -> Result<usize, KernelError>
    where
        Abi<FlowKey<A>>: aya::Pod,
    {
        let failed = |source| KernelError::Syscall { call: "read a flow table", source };
        let path = self.maps.pins().join(name);
        let entries: Vec<(Abi<FlowKey<A>>, Abi<Flow>)> = bpf::entries(&path).map_err(failed)?;
        Ok(entries.len())
    }

    /// What each map takes, by the kernel's own account.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn memory(&self) -> Result<Vec<MapMemory>, KernelError> {
        MAPS.iter().map(|&name| self.memory_of(name)).collect()
    }

    fn memory_of(&self, name: &'static str) -> Result<MapMemory, KernelError> {
        let path = self.maps.pins().join(name);
        let map = bpf::open_pin(&path)
            .map_err(|source| KernelError::Syscall { call: "BPF_OBJ_GET", source })?;
        let told = measure::told_of(&map)?;
        let number = |of| u32::try_from(told.number(of)).unwrap_or(u32::MAX);
        Ok(MapMemory {
            name,
            key: number("key_size"),
            value: number("value_size"),
            capacity: number("max_entries"),
            charged: told.number("memlock"),
        })
    }
}

fn descriptor(source: std::io::Error) -> KernelError {
    KernelError::Syscall { call: "fcntl", source }
}

/// The maps that are pinned.
const MAPS: [&str; 26] = [
    "GENERATION",
    "INTERFACES",
    "CLASSES",
    "PERMITS",
    "HOSTS_V4",
    "HOSTS_V6",
    "CIDRS_V4",
    "CIDRS_V6",
    "OWN_V4",
    "OWN_V6",
    "FLOWS_V4",
    "FLOWS_V6",
    "OPENED_IN_V4",
    "OPENED_IN_V6",
    "OPENED_OUT_V4",
    "OPENED_OUT_V6",
    "FRAGMENTS_V4",
    "FRAGMENTS_V6",
    "CLOCK_V4",
    "CLOCK_V6",
    "HANDS",
    "OTHERS",
    "COUNTERS",
    "RULE_HITS",
    "STREAM",
    "EVENTS",
];
