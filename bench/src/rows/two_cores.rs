//! Row 11: two processors at once against one.

use std::sync::Barrier;
use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::{Lab, Row};
use crate::driver::{Driver, Run, Step, Walk};
use crate::floor::Floor;
use crate::frames::{ACK, Family, Packets, SYN, Stage};
use crate::report::{Bound, Measured, Point};
use crate::stats::Spread;
use crate::subject::{Subject, Totals, compiled, sizes};
use crate::{machine, policies, rings};

pub(super) struct TwoCores;

const BOUND: Bound = Bound::at_most(1.1);
const DATA: Packets = Packets { family: Family::V4, stage: Stage::Data };
/// Flows of each processor.
const RING: usize = 1 << 15;
/// One of so many packets opens a flow.
const FRESH: usize = 10;
/// Packets of a batch: the events of both processors fit into the ring buffer.
const BATCH: u32 = 1 << 17;
/// Packets before it that are not timed.
const WARM: u32 = 1 << 14;

impl Row for TwoCores {
    fn number(&self) -> u8 {
        11
    }

    fn title(&self) -> &'static str {
        "two processors at once / one, 10 % new flows"
    }

    fn method(&self) -> &'static str {
        "The same programs on the same maps, each processor with 32 768 flows of its own, one packet of ten a SYN of \
         a new flow. Processor time a packet, mean of both, at once and one after the other. Beside it F, lookups \
         only: what the machine itself does to two at once. XDP."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        let [first, second] = match *machine::processors()? {
            [first, second, ..] => [first, second],
            _ => {
                measured.note("this machine has one processor".to_owned());
                return Ok(measured);
            }
        };
        let mut scene = Scene::new([first, second])?;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        // One round before those that count.
        for round in 0..=lab.plan().rounds {
            ensure!(!tests::interrupt::requested(), "interrupted");
            let (our_line, floor_line) = (scene.ours()?, scene.floor()?);
            if round > 0 {
                ours.push(our_line);
                floor.push(floor_line);
            }
        }
        machine::on_last_processor()?;
        measured.point(point("ours", &ours, BOUND));
        measured.point(point("F, for comparison", &floor, Bound::none()));
        Ok(measured)
    }
}

/// Nanoseconds a packet of both processors.
#[derive(Clone, Copy)]
struct Line {
    alone: f64,
    at_once: f64,
}

fn point(name: &str, lines: &[Line], bound: Bound) -> Point {
    Point::new(name, Spread::of(lines.iter().map(|line| line.at_once / line.alone)), bound)
        .with("one at a time", Spread::of(lines.iter().map(|line| line.alone)))
        .with("both at once", Spread::of(lines.iter().map(|line| line.at_once)))
}

/// What one processor runs.
struct Lane {
    processor: usize,
    ring: Driver,
    walk: Walk,
}

struct Scene {
    subject: Subject,
    ours: Vec<Lane>,
    floor: Vec<Lane>,
    _floor: Floor,
}

impl Scene {
    fn new(processors: [usize; 2]) -> Result<Self> {
        let all = rings::from_anybody(2 * RING, DATA.family, false);
        let tables = compiled(&policies::open(), &[policies::host_name()])?;
        let sizes = sizes(&tables, u32::try_from(all.len())?);
        let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
        let floors = Floor::new(sizes.flows)?;
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for (processor, steps) in processors.into_iter().zip(all.chunks(RING)) {
            let ring = Driver::new(steps)?;
            floors.fill(&ring, DATA)?;
            floor.push(Lane { processor, ring, walk: floors.lookup_walk(DATA)? });
            let mut ring = Driver::new(steps)?;
            subject.establish(&ring, DATA.family)?;
            ring.write(&mixed(steps))?;
            // In the first round the ports of new flows are still those of the established ones.
            let walk = subject.walk(DATA)?.beginning_at(1, &ring);
            ours.push(Lane { processor, ring, walk });
        }
        Ok(Self { subject, ours, floor, _floor: floors })
    }

    fn ours(&mut self) -> Result<Line> {
        let Self { subject, ours, .. } = self;
        line(ours, |lanes| {
            let mut batch = Batch::default();
            let counted = subject.counted(|| {
                batch = run(lanes)?;
                Ok(())
            })?;
            let (rule, flow) = (batch.fresh, batch.packets - batch.fresh);
            let expected =
                Totals { rule, flow, events: rule, no_rule: 0, other: 0, lost: 0, ..counted };
            ensure!(counted == expected, "of {batch:?} were counted {counted:?}");
            Ok(batch)
        })
    }

    fn floor(&mut self) -> Result<Line> {
        line(&mut self.floor, run)
    }
}

/// One after the other, then both.
fn line(lanes: &mut [Lane], mut run: impl FnMut(&mut [Lane]) -> Result<Batch>) -> Result<Line> {
    let at_once = run(lanes)?.each;
    let mut alone = Vec::new();
    for lane in lanes.chunks_mut(1) {
        alone.push(run(lane)?.each);
    }
    Ok(Line { alone: alone.iter().sum::<f64>() / crate::stats::number(alone.len()), at_once })
}

/// What came of a batch of each lane.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    /// Nanoseconds a packet, mean of the lanes.
    each: f64,
    /// Packets, those that were not timed included.
    packets: u64,
    /// Of them, those that opened flows.
    fresh: u64,
}

/// A batch of each lane at the same time.
fn run(lanes: &mut [Lane]) -> Result<Batch> {
    let (count, start) = (lanes.len(), Barrier::new(lanes.len()));
    let on_lane = |lane: &mut Lane| -> Result<[Run; 2]> {
        let pinned = machine::on_processor(lane.processor);
        let warm = lane.ring.run(&mut lane.walk, WARM);
        // Whatever failed: the other waits.
        start.wait();
        pinned?;
        Ok([warm?, lane.ring.run(&mut lane.walk, BATCH)?])
    };
    let ran: Vec<Result<[Run; 2]>> = thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(|| on_lane(lane))).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, Result<[Run; 2]>>| {
            thread.join().unwrap_or_else(|_panic| Err(anyhow!("a lane failed")))
        };
        threads.into_iter().map(ended).collect()
    });
    let mut batch = Batch::default();
    for runs in ran {
        let [warm, timed] = runs?;
        let each = timed.time.as_secs_f64() * 1e9 / f64::from(BATCH);
        batch.each += each / crate::stats::number(count);
        batch.packets += u64::from(WARM + BATCH);
        batch.fresh += warm.fresh + timed.fresh;
    }
    Ok(batch)
}

/// Every so many-th packet is the SYN of a new flow.
fn mixed(steps: &[Step]) -> Vec<Step> {
    let mixed = |(index, step): (usize, &Step)| {
        if index % FRESH == 0 { Step { fresh: 1, flags: SYN ^ ACK, ..*step } } else { *step }
    };
    steps.iter().enumerate().map(mixed).collect()
}
