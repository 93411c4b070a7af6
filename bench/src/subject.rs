//! What is measured: the programs of `sgctl`, under a policy that its compiler has compiled and its commit has
//! written. Flows come into being by packets alone, and every batch is held against the programs' own counters.

use std::cell::RefCell;

use ::tests::case::check::Folders;
use anyhow::{Context as _, Result, ensure};
use sg_common::{Direction, Reason};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::kernel::Sizes;
use sg_userspace::kernel::bench::{Judge, StreamTotals};
use sg_userspace::policy::Policy;

use crate::driver::{Driver, Hook, Walk};
use crate::floor::WARM;
use crate::frames::{Family, Packets, Stage};
use crate::rounds::Contender;

/// The name of its column.
pub(crate) const OURS: &str = "ours";
/// Packets of new flows in a batch, at most: as many events as the ring holds, and those before it that are not
/// timed.
pub(crate) const MOST_FRESH: u32 = 1 << 15;
/// Those before it.
const WARM_FRESH: u32 = 1 << 12;
/// Flows that are opened before they are completed: fewer than may be half-open.
const AT_ONCE: u32 = 1 << 13;

/// The programs of one interface, host's side.
pub(crate) struct Subject {
    judge: RefCell<Judge>,
    // Behind the programs, whose pins are in them.
    _folders: Folders,
}

/// What the programs have counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets of known flows.
    pub(crate) flow: u64,
    /// Packets that opened one.
    pub(crate) rule: u64,
    /// Packets that no rule allows.
    pub(crate) no_rule: u64,
    /// Every other.
    pub(crate) other: u64,
    /// Events, whatever became of them.
    pub(crate) events: u64,
    /// Of them, those that the ring took.
    pub(crate) emitted: u64,
    /// Of them, those that found no room.
    pub(crate) lost: u64,
    /// Of them, those beyond the budget.
    pub(crate) suppressed: u64,
}

impl Totals {
    /// What has been counted since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            flow: self.flow - before.flow,
            rule: self.rule - before.rule,
            no_rule: self.no_rule - before.no_rule,
            other: self.other - before.other,
            events: self.events - before.events,
            emitted: self.emitted - before.emitted,
            lost: self.lost - before.lost,
            suppressed: self.suppressed - before.suppressed,
        }
    }
}

/// Compiles a policy for the interfaces of these names.
pub(crate) fn compiled(policy: &Policy, local: &[String]) -> Result<TableSpec> {
    Ok(compile(policy, &Surroundings::of(local.iter().map(String::as_str)), None)?)
}

/// The usual sizes, and more where the policy or the flows need more.
pub(crate) fn sizes(tables: &TableSpec, flows: u32) -> Sizes {
    let usual = Sizes::default();
    let needed = tables.capacities();
    let room = |entries: usize| u32::try_from(entries).unwrap_or(u32::MAX).next_power_of_two();
    let addresses = needed.hosts_v4 + needed.hosts_v6 + needed.cidrs_v4 + needed.cidrs_v6;
    Sizes {
        classes: usual.classes.max(room(addresses)),
        permits: usual.permits.max(room(needed.permits)),
        cidrs: usual.cidrs.max(room(needed.cidrs_v4.max(needed.cidrs_v6))),
        // The usual table up to half of it, as its owner would choose it.
        flows: usual.flows.max(flows.saturating_mul(2).next_power_of_two()),
        ..usual
    }
}

impl Subject {
    /// The programs of the interface of this name, with room for so many flows.
    pub(crate) fn new(tables: &TableSpec, interface: &str, sizes: &Sizes) -> Result<Self> {
        let slot = tables.slot(interface).context("the interface has no slot")?;
        let folders = Folders::new();
        let judge = Judge::new(folders.paths(), tables, slot, sizes)?;
        Ok(Self { judge: RefCell::new(judge), _folders: folders })
    }

    /// The same programs on the same maps, but silent.
    pub(crate) fn silent(&self) -> Result<Self> {
        let judge = RefCell::new(self.judge.borrow().silent()?);
        Ok(Self { judge, _folders: Folders::new() })
    }

    /// The programs themselves.
    pub(crate) fn judge(&self) -> &RefCell<Judge> {
        &self.judge
    }

    /// A way through a ring: ingress at XDP, egress at TC.
    pub(crate) fn walk(&self, packets: Packets) -> Result<Walk> {
        let judge = self.judge.borrow();
        match packets.stage {
            Stage::SynAck => Walk::new(&judge.tc_egress, Hook::Tc, packets),
            Stage::Syn | Stage::Ack | Stage::Data => Walk::new(&judge.xdp, Hook::Xdp, packets),
        }
    }

    /// What has been counted so far.
    pub(crate) fn totals(&self) -> Result<Totals> {
        let judge = self.judge.borrow();
        let mut totals = Totals::default();
        for count in judge.counters()? {
            match count.key {
                (_, Reason::Flow) => totals.flow += count.packets,
                (Direction::Ingress, Reason::Rule) => totals.rule += count.packets,
                (_, Reason::NoRule) => totals.no_rule += count.packets,
                (_, _) => totals.other += count.packets,
            }
        }
        let StreamTotals { emitted, suppressed, lost } = judge.stream()?;
        Ok(Totals { events: emitted + suppressed + lost, emitted, lost, suppressed, ..totals })
    }

    /// Takes the events out of the ring, and what was counted meanwhile.
    ///
    /// # Errors
    /// When the ring does not hold what the programs say they have written.
    pub(crate) fn counted(&self, work: impl FnOnce() -> Result<()>) -> Result<Totals> {
        self.judge.borrow_mut().drain();
        let before = self.totals()?;
        work()?;
        let counted = self.totals()?.since(before);
        let read = self.judge.borrow_mut().drain();
        ensure!(read == counted.emitted, "{read} events read, {} written", counted.emitted);
        Ok(counted)
    }

    /// Makes a flow of every packet of the ring, by its handshake.
    pub(crate) fn establish(&self, ring: &Driver, family: Family) -> Result<()> {
        let walk = |stage| self.walk(Packets { family, stage });
        let (mut syn, mut syn_ack, mut ack) =
            (walk(Stage::Syn)?, walk(Stage::SynAck)?, walk(Stage::Ack)?);
        let mut left = ring.len();
        while left > 0 {
            let count = left.min(AT_ONCE);
            let counted = self.counted(|| {
                for walk in [&mut syn, &mut syn_ack, &mut ack] {
                    ring.run(walk, count)?;
                }
                Ok(())
            })?;
            let count = u64::from(count);
            let expected = Totals { rule: count, flow: 2 * count, ..counted };
            ensure!(counted == expected && counted.other == 0, "handshakes came to {counted:?}");
            left -= u32::try_from(count)?;
        }
        Ok(())
    }

    /// Runs so many packets, of which those that are fresh must open flows, and all others belong to one.
    pub(crate) fn run(&self, ring: &Driver, walk: &mut Walk, count: u32) -> Result<f64> {
        let mut ran = None;
        let counted = self.counted(|| {
            ran = Some(ring.run(walk, count)?);
            Ok(())
        })?;
        let run = ran.context("nothing ran")?;
        let rule = run.fresh;
        let flow = u64::from(count) - rule;
        let expected =
            Totals { rule, flow, no_rule: 0, other: 0, events: rule, lost: 0, ..counted };
        ensure!(counted == expected, "{count} packets, {rule} of them fresh: {counted:?}");
        Ok(run.time.as_secs_f64() * 1e9 / f64::from(count))
    }

    /// Batches of packets of which none is of a new flow.
    pub(crate) fn established<'a>(
        &'a self,
        ring: &'a Driver,
        family: Family,
    ) -> Result<Contender<'a>> {
        let mut walk = self.walk(Packets { family, stage: Stage::Data })?;
        let warm = ring.len().min(WARM);
        Ok(Contender::new(OURS, u32::MAX, move |count| {
            self.run(ring, &mut walk, warm)?;
            self.run(ring, &mut walk, count)
        }))
    }

    /// Batches of packets of which each is a new flow.
    pub(crate) fn opening<'a>(
        &'a self,
        name: &'static str,
        ring: &'a Driver,
        mut walk: Walk,
    ) -> Contender<'a> {
        Contender::new(name, MOST_FRESH, move |count| {
            self.run(ring, &mut walk, WARM_FRESH)?;
            self.run(ring, &mut walk, count)
        })
    }
}
