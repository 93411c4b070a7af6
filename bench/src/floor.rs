//! The floors: X, which parses; F, which parses, looks one flow up and reads a word of it; and nothing at all
//! (`sg-bench-ebpf`'s `floor`).

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::driver::{Driver, Hook, Walk};
use crate::frames::{Packets, Stage};
use crate::rounds::Contender;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/floor"));

/// `linux/bpf.h`.
const XDP_PASS: u32 = 2;

/// What the driver and the loop around it cost: the program does nothing.
pub(crate) const DRIVER: &str = "driver";
/// X.
pub(crate) const PARSE: &str = "X";
/// F.
pub(crate) const LOOKUP: &str = "F";

/// Programs on a hash table of their own for each family.
pub(crate) struct Floor {
    ebpf: Ebpf,
    misses: RefCell<PerCpuArray<MapData, u64>>,
    read: PerCpuArray<MapData, u64>,
}

impl Floor {
    /// Loads them, with room for so many entries in each table.
    pub(crate) fn new(entries: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FLOOR_V4", entries).map_max_entries("FLOOR_V6", entries);
        let mut ebpf = loader.load(OBJECT).context("loading the floors")?;
        for name in ["nothing_xdp", "parse_xdp", "lookup_xdp", "fill_xdp", "drop_xdp", "pass_xdp"] {
            let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().context(name)?;
        }
        let misses = ebpf.take_map("MISSES").context("MISSES")?.try_into()?;
        let read = ebpf.take_map("READ").context("READ")?.try_into()?;
        Ok(Self { ebpf, misses: RefCell::new(misses), read })
    }

    /// X as a filter that drops what it has read.
    pub(crate) fn drop_program(&self) -> Result<&ProgramFd> {
        self.program("drop_xdp")
    }

    /// X as a filter that lets pass what it has read.
    pub(crate) fn pass_program(&self) -> Result<&ProgramFd> {
        self.program("pass_xdp")
    }

    /// Packets that it has read and dropped.
    pub(crate) fn dropped(&self) -> Result<u64> {
        Ok(self.read.get(&0, 0)?.iter().sum())
    }

    fn program(&self, name: &'static str) -> Result<&ProgramFd> {
        let program: &Xdp = self.ebpf.program(name).context(name)?.try_into()?;
        Ok(program.fd()?)
    }

    /// Enters the key of every packet of the ring.
    pub(crate) fn fill(&self, ring: &Driver, packets: Packets) -> Result<()> {
        let packets = Packets { stage: Stage::Data, ..packets };
        let mut walk = Walk::new(self.program("fill_xdp")?, Hook::Xdp, packets)?;
        self.run(ring, &mut walk, ring.len()).context("filling the table of F").map(|_time| ())
    }

    /// Runs so many packets, each of which must be found.
    pub(crate) fn run(&self, ring: &Driver, walk: &mut Walk, count: u32) -> Result<f64> {
        let before = self.misses()?;
        let run = ring.run(walk, count)?;
        let missed = self.misses()? - before;
        ensure!(missed == 0, "{missed} of {count} packets were not found");
        ensure!(run.returned == XDP_PASS, "the last packet came to {}", run.returned);
        Ok(run.time.as_secs_f64() * 1e9 / f64::from(count))
    }

    fn misses(&self) -> Result<u64> {
        Ok(self.misses.borrow().get(&0, 0)?.iter().sum())
    }

    fn contender<'a>(
        &'a self,
        name: &'static str,
        program: &'static str,
        ring: &'a Driver,
        packets: Packets,
    ) -> Result<Contender<'a>> {
        let mut walk = Walk::new(self.program(program)?, Hook::Xdp, packets)?;
        let warm = ring.len().min(WARM);
        Ok(Contender::new(name, u32::MAX, move |count| {
            self.run(ring, &mut walk, warm)?;
            self.run(ring, &mut walk, count)
        }))
    }

    /// F's way through a ring, for whoever counts by himself.
    pub(crate) fn lookup_walk(&self, packets: Packets) -> Result<Walk> {
        Walk::new(self.program("lookup_xdp")?, Hook::Xdp, packets)
    }

    /// Nothing.
    pub(crate) fn driver<'a>(
        &'a self,
        ring: &'a Driver,
        packets: Packets,
    ) -> Result<Contender<'a>> {
        self.contender(DRIVER, "nothing_xdp", ring, packets)
    }

    /// X.
    pub(crate) fn parse<'a>(&'a self, ring: &'a Driver, packets: Packets) -> Result<Contender<'a>> {
        self.contender(PARSE, "parse_xdp", ring, packets)
    }

    /// F; every packet of the ring has its entry by [`Self::fill`].
    pub(crate) fn lookup<'a>(
        &'a self,
        ring: &'a Driver,
        packets: Packets,
    ) -> Result<Contender<'a>> {
        self.contender(LOOKUP, "lookup_xdp", ring, packets)
    }
}

/// Packets before each batch that are not timed: what ran before has filled the caches with its own.
pub(crate) const WARM: u32 = 1 << 16;
