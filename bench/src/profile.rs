//! One kind of packet for a while and nothing else, for `perf record` and `bpftool prog dump jited`.

use std::time::{Duration, Instant};

use ::tests::interrupt;
use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::driver::Driver;
use crate::floor::Floor;
use crate::frames::{Family, Packets, Stage};
use crate::subject::{Subject, compiled, sizes};
use crate::{policies, rings, rows};

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Ours, established flows.
    Established,
    /// Ours, new flows.
    Opening,
    /// F.
    Floor,
}

/// Packets of a batch: the ring buffer takes as many events.
const BATCH: u32 = 1 << 15;

/// Runs it beside so many flows, a power of two.
///
/// # Errors
/// When packets do not come to what they should.
pub(crate) fn run(kind: Kind, family: Family, bits: u32, seconds: u64) -> Result<()> {
    ensure!(bits <= 24, "2^{bits} flows");
    let known = Driver::new(&rings::from_anybody(1 << bits, family, false))?;
    let fresh = Driver::new(&rings::from_anybody(rows::FRESH_RING, family, true))?;
    let tables = compiled(&policies::open(), &[policies::host_name()])?;
    let sizes = sizes(&tables, known.len());
    let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
    subject.establish(&known, family)?;
    let floor = Floor::new(sizes.flows)?;
    let packets = |stage| Packets { family, stage };
    floor.fill(&known, packets(Stage::Data))?;
    let mut data = subject.walk(packets(Stage::Data))?;
    let mut syn = subject.walk(packets(Stage::Syn))?.beginning_at(1, &fresh);
    let mut lookup = floor.lookup_walk(packets(Stage::Data))?;
    eprintln!("running");
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut batches, mut sum) = (0_u32, 0.0);
    while Instant::now() < until && !interrupt::requested() {
        sum += match kind {
            Kind::Established => subject.run(&known, &mut data, BATCH)?,
            Kind::Opening => subject.run(&fresh, &mut syn, BATCH)?,
            Kind::Floor => floor.run(&known, &mut lookup, BATCH)?,
        };
        batches += 1;
    }
    println!("{:.1} ns a packet, driver included", sum / f64::from(batches));
    Ok(())
}
