//! What happens to the machine under the programs: a processor that leaves and comes back, a wall clock that
//! jumps. Flows live by the monotonic clock, and counters are per processor, so neither may show.
//!
//! Both touch the whole machine for a second or two and are put right again by guards, on failure too.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime, clock_settime},
};
use sg_common::wire::ip::UDP;

use super::{
    Measured, Options,
    frames::{Ends, udp},
    live::Connections,
    range::{self, Hook, Target},
};

/// Flows that nothing may end.
const FLOWS: usize = 100;
/// What an established flow has left of 432 000 seconds.
const LONG: u64 = 431_000;
/// Frames between two looks at whether the load is to end.
const ROUND: usize = 256;
/// How long the processor is away, each time.
const AWAY: Duration = Duration::from_millis(700);
const TIMES: usize = 2;
const HOUR: i64 = 3600;

pub(super) fn processor(_: &Options) -> Result<Measured> {
    let switch = Path::new("/sys/devices/system/cpu/cpu1/online");
    anyhow::ensure!(switch.exists(), "processor 1 cannot be switched off here");
    played(|| {
        for _ in 0..TIMES {
            let off = ProcessorOff::new(switch)?;
            thread::sleep(AWAY);
            drop(off);
            thread::sleep(AWAY / 2);
        }
        Ok(format!("off and on {TIMES} times"))
    })
}

pub(super) fn clock(_: &Options) -> Result<Measured> {
    played(|| {
        for seconds in [HOUR, -HOUR] {
            let step = ClockStep::new(seconds)?;
            thread::sleep(Duration::from_millis(300));
            drop(step);
        }
        Ok("stepped by an hour, forth and back".to_owned())
    })
}

/// Flows before and after, and a load whose every packet must be in the counters.
fn played(disturb: impl FnOnce() -> Result<String>) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let [ends, _] = target.ends();
    let mut connections = Connections::open(&target, (ends.destination, 80).into(), FLOWS)?;
    let passed_before = target.counted("flow")? + target.counted("rule")?;
    let done = AtomicBool::new(false);
    let (sent, disturbed) = thread::scope(|scope| {
        let load = scope.spawn(|| load(&target, ends, &done));
        let disturbed = disturb();
        done.store(true, Ordering::SeqCst);
        (load.join().expect("no panic in the load"), disturbed)
    });
    let (sent, text) = (sent?, disturbed?);
    let dropped = target.counted("no_rule")?;
    let passed = target.counted("flow")? + target.counted("rule")? - passed_before;
    let tracked = target.flows(&["--established", "--port", "80"])?;
    let whole = tracked.iter().filter(|flow| flow["expires_in"].as_u64() > Some(LONG)).count();
    let alive = connections.alive()?.min(whole);
    let mut measured = Measured::begin();
    measured.add(alive == FLOWS, &format!("{text}: {alive} of {FLOWS} flows live"));
    measured.add(
        (dropped, passed) == (sent.denied, sent.allowed) && sent.denied > 0,
        &format!(
            "counted {dropped} dropped and {passed} passed of {} and {} sent",
            sent.denied, sent.allowed
        ),
    );
    Ok(measured)
}

/// Packets of a load.
#[derive(Default)]
struct Sent {
    allowed: u64,
    denied: u64,
}

/// Two datagrams to a denied port for each to the allowed one, until told to stop.
fn load(target: &Target<'_>, ends: Ends, done: &AtomicBool) -> Result<Sent> {
    let frame = |port| target.link().packet(ends, UDP, &udp((40_000, port), b"load"));
    let (allowed, denied) = (vec![frame(53); ROUND], vec![frame(5353); 2 * ROUND]);
    let mut sent = Sent::default();
    while !done.load(Ordering::SeqCst) {
        target.send(&allowed)?;
        target.send(&denied)?;
        sent.allowed += u64::try_from(allowed.len())?;
        sent.denied += u64::try_from(denied.len())?;
    }
    Ok(sent)
}

/// A processor that is away; back when dropped.
struct ProcessorOff<'p>(&'p Path);

impl<'p> ProcessorOff<'p> {
    fn new(switch: &'p Path) -> Result<Self> {
        // Made first: even a write that fails half-way is undone.
        let off = Self(switch);
        fs::write(switch, "0").context("switching a processor off")?;
        Ok(off)
    }
}

impl Drop for ProcessorOff<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.0, "1") {
            eprintln!("{} could not be switched on again: {error}", self.0.display());
        }
    }
}

/// A wall clock that is wrong by so many seconds; right again when dropped.
struct ClockStep(i64);

impl ClockStep {
    fn new(seconds: i64) -> Result<Self> {
        step(seconds).context("stepping the clock")?;
        Ok(Self(seconds))
    }
}

impl Drop for ClockStep {
    fn drop(&mut self) {
        if let Err(error) = step(-self.0) {
            eprintln!("the clock is wrong by {} s: {error}", self.0);
        }
    }
}

fn step(seconds: i64) -> Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    Ok(clock_settime(ClockId::CLOCK_REALTIME, now + TimeSpec::seconds(seconds))?)
}
