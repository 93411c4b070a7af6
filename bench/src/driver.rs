//! Packets: a ring of them, and the program in the kernel that hands them to a program in question one after the
//! other (`sg-bench-ebpf`'s `drive`).

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};

use crate::frames::{Family, Packets};
pub(crate) use step::{Drive, Step};

#[path = "../../sg-bench-ebpf/src/step.rs"]
mod step;

// SAFETY: `repr(C)` without padding, and every bit pattern is a value.
unsafe impl aya::Pod for Step {}
// SAFETY: likewise.
unsafe impl aya::Pod for Drive {}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/drive"));

/// Where a program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Xdp,
    Tc,
}

/// Someone's way through a ring: which program judges which kind of packets, and how far it has come.
pub(crate) struct Walk {
    program: ProgramFd,
    hook: Hook,
    frame: Vec<u8>,
    drive: Drive,
}

impl Walk {
    /// From the ring's first packet.
    pub(crate) fn new(program: &ProgramFd, hook: Hook, packets: Packets) -> Result<Self> {
        let program = program.try_clone().context("duplicating a program's descriptor")?;
        Ok(Self { program, hook, frame: packets.frame()?, drive: packets.drive() })
    }

    /// From another round on, with the sequence numbers of the first: what is fresh is then other flows than in
    /// the first.
    pub(crate) fn beginning_at(mut self, round: u32, ring: &Driver) -> Self {
        self.drive.cursor = u64::from(round) << ring.bits;
        let behind = self.drive.advance.wrapping_mul(round);
        self.drive.sequence = self.drive.sequence.wrapping_sub(behind);
        self
    }
}

/// What a run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Processor time that the whole run took.
    pub(crate) time: Duration,
    /// What the program said of the last packet.
    pub(crate) returned: u32,
    /// How many packets were of flows that were not there before.
    pub(crate) fresh: u64,
}

/// A ring and its driver. One thread at a time.
pub(crate) struct Driver {
    bits: u32,
    fresh: Vec<bool>,
    kernel: RefCell<Kernel>,
}

struct Kernel {
    ebpf: Ebpf,
    ring: Array<MapData, Step>,
    drive: Array<MapData, Drive>,
    failed: Array<MapData, u64>,
    next_xdp: ProgramArray<MapData>,
    next_tc: ProgramArray<MapData>,
}

impl Driver {
    /// Loads a driver for these packets, a power of two of them.
    pub(crate) fn new(steps: &[Step]) -> Result<Self> {
        ensure!(steps.len().is_power_of_two(), "a ring of {} packets", steps.len());
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("RING", u32::try_from(steps.len())?);
        let mut ebpf = loader.load(OBJECT).context("loading the driver")?;
        xdp(&mut ebpf)?.load().context("loading the driver at XDP")?;
        tc(&mut ebpf)?.load().context("loading the driver at TC")?;
        let take = |ebpf: &mut Ebpf, name| ebpf.take_map(name).context(name);
        let kernel = Kernel {
            ring: take(&mut ebpf, "RING")?.try_into()?,
            drive: take(&mut ebpf, "DRIVE")?.try_into()?,
            failed: take(&mut ebpf, "FAILED")?.try_into()?,
            next_xdp: take(&mut ebpf, "NEXT_XDP")?.try_into()?,
            next_tc: take(&mut ebpf, "NEXT_TC")?.try_into()?,
            ebpf,
        };
        let mut driver =
            Self { bits: steps.len().ilog2(), fresh: Vec::new(), kernel: RefCell::new(kernel) };
        driver.write(steps)?;
        Ok(driver)
    }

    /// Puts other packets in the place of the ring's.
    pub(crate) fn write(&mut self, steps: &[Step]) -> Result<()> {
        ensure!(steps.len() == 1 << self.bits, "the ring is of another length");
        let ring = &mut self.kernel.get_mut().ring;
        for (index, step) in (0..).zip(steps) {
            ring.set(index, step, 0)?;
        }
        self.fresh = steps.iter().map(|step| step.fresh != 0).collect();
        Ok(())
    }

    /// Packets in the ring.
    pub(crate) fn len(&self) -> u32 {
        1 << self.bits
    }

    /// Runs so many packets.
    pub(crate) fn run(&self, walk: &mut Walk, count: u32) -> Result<Run> {
        let kernel = &mut *self.kernel.borrow_mut();
        walk.drive.bits = self.bits;
        kernel.drive.set(0, walk.drive, 0)?;
        let failed_before = kernel.failed.get(&0, 0)?;
        let options =
            TestRunOptions { data_in: Some(&walk.frame), repeat: count, ..TestRunOptions::new() };
        let (time, returned) = match walk.hook {
            Hook::Xdp => {
                kernel.next_xdp.set(0, &walk.program, 0)?;
                let program = xdp(&mut kernel.ebpf)?;
                timed(|| program.test_run(options))?
            }
            Hook::Tc => {
                kernel.next_tc.set(0, &walk.program, 0)?;
                let program = tc(&mut kernel.ebpf)?;
                timed(|| program.test_run(options))?
            }
        };
        let after = kernel.drive.get(&0, 0)?.cursor;
        let failed = kernel.failed.get(&0, 0)? - failed_before;
        ensure!(failed == 0, "{failed} of {count} packets met no program");
        let began = std::mem::replace(&mut walk.drive.cursor, after);
        ensure!(after == began + u64::from(count), "{count} packets asked for, {began} to {after}");
        let mask = (1_u64 << self.bits) - 1;
        let is_fresh = |&at: &u64| usize::try_from(at & mask).is_ok_and(|at| self.fresh[at]);
        let fresh = (began..after).filter(is_fresh).count() as u64;
        Ok(Run { time, returned: returned.return_value, fresh })
    }
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(Duration, T)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let began = processor_time()?;
    let done = work().context("in a test run")?;
    Ok((processor_time()?.saturating_sub(began), done))
}

/// What this thread has used of a processor: others on the same machine do not count.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut("drive_xdp").context("no drive_xdp")?.try_into()?)
}

fn tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    Ok(ebpf.program_mut("drive_tc").context("no drive_tc")?.try_into()?)
}

/// The packets' family, for rows that do both.
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
