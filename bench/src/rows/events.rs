//! Row 10: what reporting costs, and whether the account of it is exact.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{FRESH_RING, Lab, Row};
use crate::driver::{Driver, Step};
use crate::floor::{DRIVER, Floor};
use crate::frames::{Family, Packets, Stage};
use crate::report::{Bound, Measured, Point};
use crate::subject::{Subject, Totals, compiled, sizes};
use crate::{machine, policies, rings, rounds};

pub(super) struct Events;

const ON: &str = "events on";
const OFF: &str = "events off";
const BOUND: Bound = Bound::at_most(1.05);
/// More packets than the ring buffer holds events.
const STORM: u32 = 1 << 18;

impl Row for Events {
    fn number(&self) -> u8 {
        10
    }

    fn title(&self) -> &'static str {
        "events on / off under a storm of new flows"
    }

    fn method(&self) -> &'static str {
        "SYNs from random addresses to a port that is open to everybody; off: the same programs on the same maps, \
         loaded so that no event is written. The account: a storm that nobody reads, allowed and denied, of 262 144 \
         packets each; emitted, suppressed and lost must be as many. XDP, program cost."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let family = Family::V4;
        let ring = Driver::new(&rings::from_anybody(FRESH_RING, family, true))?;
        let tables = compiled(&policies::open(), &[policies::host_name()])?;
        let sizes = sizes(&tables, 0);
        let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
        let silent = subject.silent()?;
        let floor = Floor::new(1)?;
        let syn = Packets { family, stage: Stage::Syn };
        // Far from the others' rounds: no flow of the one is known to the other.
        let quiet = silent.walk(syn)?.beginning_at(1 << 14, &ring);
        let contenders = vec![
            floor.driver(&ring, syn)?,
            silent.opening(OFF, &ring, quiet),
            subject.opening(ON, &ring, subject.walk(syn)?),
        ];
        let rounds = rounds::run(lab.plan(), contenders)?;
        let mut measured = Measured::default();
        measured.point(
            Point::against_floor("nobody reads meanwhile", &rounds, ON, OFF, BOUND)?
                .also(&rounds, &[DRIVER])?,
        );
        account(&mut measured, &subject, &ring, "allowed")?;
        let denied: Vec<_> = rings::from_anybody(FRESH_RING, family, true)
            .into_iter()
            .map(|step| Step { local_port: rings::PORT + 1, ..step })
            .collect();
        account(&mut measured, &subject, &Driver::new(&denied)?, "denied")?;
        read_meanwhile(&mut measured, &subject, &ring)?;
        Ok(measured)
    }
}

/// A storm that nobody reads.
fn account(measured: &mut Measured, subject: &Subject, ring: &Driver, what: &str) -> Result<()> {
    let walk = subject.walk(Packets { family: Family::V4, stage: Stage::Syn })?;
    let mut walk = walk.beginning_at(1 << 13, ring);
    let counted = subject.counted(|| ring.run(&mut walk, STORM).map(|_run| ()))?;
    exact(measured, counted, &format!("{what}, not read"));
    Ok(())
}

/// A storm with a reader on the other processor.
fn read_meanwhile(measured: &mut Measured, subject: &Subject, ring: &Driver) -> Result<()> {
    let walk = subject.walk(Packets { family: Family::V4, stage: Stage::Syn })?;
    let mut walk = walk.beginning_at(1 << 12, ring);
    let before = subject.totals()?;
    let stop = AtomicBool::new(false);
    let mut borrowed = subject.judge().borrow_mut();
    let judge = &mut *borrowed;
    judge.drain();
    let (ran, read) = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| -> Result<u64> {
            let pinned = machine::on_the_others();
            let mut read = 0;
            while !stop.load(Relaxed) {
                read += judge.drain();
                thread::sleep(Duration::from_micros(200));
            }
            pinned.map(|()| read + judge.drain())
        });
        let ran = ring.run(&mut walk, STORM);
        stop.store(true, Relaxed);
        let read = reader.join().map_err(|_panic| anyhow::anyhow!("the reader failed"))?;
        Ok((ran?, read?))
    })?;
    drop(borrowed);
    let counted = subject.totals()?.since(before);
    exact(measured, counted, "allowed, read meanwhile");
    measured.exact("events read of those emitted, while a storm lasts", read, counted.emitted);
    let each = ran.time.as_secs_f64() * 1e9 / f64::from(STORM);
    measured.note(format!("with a reader on the other processor a new flow takes {each:.0} ns"));
    Ok(())
}

fn exact(measured: &mut Measured, counted: Totals, what: &str) {
    let Totals { rule, no_rule, events, emitted, suppressed, lost, .. } = counted;
    measured.exact(&format!("emitted + suppressed + lost, {what}"), events, rule + no_rule);
    measured.note(format!("{what}: {emitted} emitted, {suppressed} suppressed, {lost} lost"));
}
