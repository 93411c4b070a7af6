//! What loading and judging cost, for benchmarks: no command needs it.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData};
use sg_common::abi::{CLASS_FIRST_FREE, ClassWord, HostKey};
use sg_common::{LinkLayer, Side};

use super::bpf::{program_by_id, wait_for_programs};
use super::commit::{Planned, Prepared, Slots};
use super::journal::Begun;
use super::maps::PolicyMaps;
use super::object::Object;
use super::pod::Abi;
use super::unattached::Pins;
use super::{Instance, KernelError, Sizes, maps};
use crate::compile::{IpAddress as _, TableSpec};

/// How elements get into maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As a commit writes them: thousands by one system call.
    Batch,
    /// By one system call for each step of each: the class, the address, where it leads, the class levelled.
    OneByOne,
}

/// What a load took.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// From the first write to the last, grace periods included.
    pub whole: Duration,
    /// What of it the grace periods were.
    pub waiting: Duration,
    /// Addresses that lead to their class afterwards.
    pub found: usize,
}

/// Loads so many addresses into fresh maps, pinned meanwhile in a folder on bpffs that is not there yet.
///
/// # Errors
/// When maps cannot be made or written.
pub fn load(folder: &Path, addresses: u32, way: Way) -> Result<Load, KernelError> {
    let pins = Pins::at(folder.to_owned())?;
    let sizes = Sizes { classes: addresses, hosts: addresses, cidrs: 1, own: 1, ..small() };
    let instance = Instance::new(0, 1, Side::Host, LinkLayer::Ethernet);
    let _object = Object::open(&pins.0, &sizes, &instance)?;
    let maps = PolicyMaps::open(&pins.0)?;
    let mut tables = TableSpec::default();
    for index in 0..addresses {
        // Of a large network, in no order: an odd factor meets every address once.
        let bits = index.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff;
        tables.v4.hosts.insert((1, Ipv4Addr::from_bits(0x0a00_0000 | bits)), CLASS_FIRST_FREE);
    }
    let (whole, waiting) = match way {
        Way::Batch => by_batch(maps, &tables, &sizes)?,
        Way::OneByOne => one_by_one(maps, &pins.0, &tables)?,
    };
    Ok(Load { whole, waiting, found: found(&pins.0, &tables)? })
}

/// How many of the addresses lead to their class in both versions.
fn found(pins: &Path, tables: &TableSpec) -> Result<usize, KernelError> {
    let maps = PolicyMaps::open(pins)?;
    let classes: Array<MapData, Abi<ClassWord>> = maps::open(pins, "CLASSES")?;
    let failed = |e| KernelError::map("read", "an element", e);
    let mut found = 0;
    for (&(vpc, address), &number) in &tables.v4.hosts {
        let key = Abi(HostKey { vpc, address: address.wire() });
        let slot = maps.hosts_v4.map.get(&key, 0).map_err(failed)?;
        let Abi(word) = classes.get(&slot, 0).map_err(failed)?;
        found += usize::from(word == ClassWord::new([number; 2]));
    }
    Ok(found)
}

type Times = (Duration, Duration);

fn by_batch(maps: PolicyMaps, tables: &TableSpec, sizes: &Sizes) -> Result<Times, KernelError> {
    let slots = Slots::default();
    let planned = Planned::between(&TableSpec::default(), tables, &slots, sizes)?;
    let waiting = grace_periods()?;
    let started = Instant::now();
    Prepared::write(&Begun::unrecorded(), maps, planned, &slots)?.flip()?;
    Ok((started.elapsed(), waiting))
}

fn one_by_one(mut maps: PolicyMaps, pins: &Path, tables: &TableSpec) -> Result<Times, KernelError> {
    let mut classes: Array<MapData, Abi<ClassWord>> = maps::open(pins, "CLASSES")?;
    let class = |e| KernelError::map("write", "CLASSES", e);
    let host = |e| KernelError::map("write", "HOSTS_V4", e);
    let key = |&(vpc, address): &(u32, Ipv4Addr)| Abi(HostKey { vpc, address: address.wire() });
    let waiting = grace_periods()?;
    let started = Instant::now();
    for (slot, (address, &number)) in (0..).zip(&tables.v4.hosts) {
        classes.set(slot, Abi(ClassWord::new([0, number])), 0).map_err(class)?;
        maps.hosts_v4.map.insert(key(address), slot, 0).map_err(host)?;
    }
    maps.generation.set(0, 1, 0).map_err(|e| KernelError::map("write", "GENERATION", e))?;
    wait_for_programs()?;
    for (address, &number) in &tables.v4.hosts {
        let slot = maps.hosts_v4.map.get(&key(address), 0).map_err(host)?;
        classes.set(slot, Abi(ClassWord::new([number; 2])), 0).map_err(class)?;
    }
    wait_for_programs()?;
    Ok((started.elapsed(), waiting))
}

/// What the two of a change take at the moment.
fn grace_periods() -> Result<Duration, KernelError> {
    let started = Instant::now();
    wait_for_programs()?;
    wait_for_programs()?;
    Ok(started.elapsed())
}

/// Sizes of tables that stay empty.
fn small() -> Sizes {
    let (permits, rules, flows, opening, fragments) = (1, 1, 1024, 1024, 1024);
    Sizes { permits, rules, flows, opening, fragments, ..Sizes::default() }
}

/// The kernel takes the time of every program run for as long as this lives.
#[derive(Debug)]
pub struct Timing {
    _on: OwnedFd,
}

impl Timing {
    /// From now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start() -> Result<Self, KernelError> {
        let failed = |error: aya::sys::SyscallError| KernelError::Syscall {
            call: "BPF_ENABLE_STATS",
            source: error.io_error,
        };
        aya::sys::enable_stats(aya::sys::Stats::RunTime).map(|on| Self { _on: on }).map_err(failed)
    }
}

/// Runs of a program while they were timed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// What they took together, in nanoseconds.
    pub time: u64,
}

/// The runs of a program so far, by its identifier.
///
/// # Errors
/// When there is no such program.
pub fn runs(program: u32) -> Result<Runs, KernelError> {
    let failed = |source| KernelError::Syscall { call: "program statistics", source };
    let told = told_of(&program_by_id(program).map_err(failed)?)?;
    Ok(Runs { count: told.number("run_cnt"), time: told.number("run_time_ns") })
}

/// What the kernel tells of a program or a map, a line each.
pub(super) struct Told(String);

/// Asks for it.
pub(super) fn told_of(fd: &OwnedFd) -> Result<Told, KernelError> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let failed = |source| KernelError::Syscall { call: "read of /proc/self/fdinfo", source };
    std::fs::read_to_string(path).map(Told).map_err(failed)
}

impl Told {
    /// The number of this name; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> u64 {
        let mut found =
            self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.next().and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_their_whole_name() {
        let text =
            "pos:\t0\nprog_type:\t3\nrun_time_ns:\t1234\nrun_cnt:\t10\nrecursion_misses:\t0\n";
        let told = Told(text.to_owned());
        assert_eq!(told.number("run_cnt"), 10);
        assert_eq!(told.number("run_time_ns"), 1234);
        assert_eq!(told.number("run"), 0);
    }
}
