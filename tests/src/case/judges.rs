//! The levels without devices: the engine on the host, and the loaded programs in test runs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sg_common::abi::{Event, RuleCounter};
use sg_common::{Decision, Direction, LinkLayer, Reason};
use sg_userspace::compile::TableSpec;
use sg_userspace::engine::{HostTables, Limits};
use sg_userspace::kernel::read::{ReasonCount, RuleHits};
use sg_userspace::kernel::run::{RunError, RunHook, Runner, run_sizes};
use sg_userspace::kernel::{Paths, Sizes};

use super::Case;
use super::check::Judge;
use crate::stale::{BPFFS, unique_name};

/// The host's engine, one view of the same state for each interface.
pub(super) fn host(case: &Case) -> Result<Vec<HostTables<'_>>> {
    let mut tables: Vec<HostTables<'_>> = Vec::new();
    for interface in &case.interfaces {
        tables.push(match tables.first() {
            None => HostTables::new(&case.spec, interface.slot, Limits::default())?
                .in_grace(case.grace_until),
            Some(first) => first.with(&case.spec, interface.slot)?,
        });
    }
    Ok(tables)
}

impl<'c> Judge<'c> for Vec<HostTables<'c>> {
    fn judge(
        &mut self,
        at: usize,
        way: Direction,
        frame: &[u8],
        now: u64,
    ) -> Result<Option<Decision>> {
        Ok(Some(self[at].judge(frame, way, LinkLayer::Ethernet, now)))
    }

    fn counters(&mut self, at: usize) -> Result<Vec<(Direction, Reason, u64)>> {
        let slot = sg_common::Tables::attachment(&self[at]).slot;
        let all = self[at].counters().into_iter();
        let own = all.filter(|((it, ..), _)| *it == slot);
        Ok(own.map(|((_, way, reason), count)| (way, reason, count.packets)).collect())
    }

    fn hits(&mut self) -> Result<Vec<RuleHits>> {
        let hits = self.first().map(HostTables::rule_hits).unwrap_or_default();
        let hits = hits.into_iter().map(|RuleCounter { rule, since, packets, bytes, last }| {
            RuleHits { rule, packets, bytes, last: Some(last), since: since.into() }
        });
        Ok(hits.collect())
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        Ok(self.first().map(HostTables::take_events).unwrap_or_default())
    }

    fn change(&mut self, spec: &'c TableSpec) -> Result<()> {
        for tables in self {
            *tables = tables.with(spec, sg_common::Tables::attachment(tables).slot)?;
        }
        Ok(())
    }

    fn begin(&mut self, spec: &'c TableSpec) -> Result<()> {
        self.first().inspect(|first| first.forget_flows());
        // Numbers mean other things in another case.
        self.first().inspect(|first| first.forget_hits());
        self.change(spec)
    }
}

/// Entries of a map that take whatever a case's policy has.
const ROOM: u32 = 4096;

/// The loaded programs, one set for each interface on the same maps.
pub(crate) struct Programs {
    runners: Vec<Runner>,
    _folders: Folders,
}

pub(crate) fn programs(case: &Case, hook: RunHook) -> Result<Programs> {
    let link = LinkLayer::Ethernet;
    let sizes = Sizes { permits: ROOM, cidrs: ROOM, classes: 2 * ROOM, ..run_sizes(&case.spec) };
    let folders = Folders::new();
    let mut runners: Vec<Runner> = Vec::new();
    for interface in &case.interfaces {
        runners.push(match runners.first() {
            None => Runner::new(
                folders.paths(),
                &case.spec,
                interface.slot,
                link,
                hook,
                &sizes,
                case.grace_until,
            )?,
            Some(first) => first.beside(&case.spec, interface.slot, link)?,
        });
    }
    Ok(Programs { runners, _folders: folders })
}

/// Directories of our own, under names that a later run sweeps. Gone when dropped.
#[derive(Debug)]
pub struct Folders(Paths);

impl Folders {
    /// Names that nothing else has; whoever writes there makes them.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        let name = unique_name("case");
        let elsewhere = std::env::temp_dir().join(&name);
        Self(Paths {
            bpffs: Path::new(BPFFS).join(&name).join("sg"),
            run: elsewhere.join("run"),
            state: elsewhere.join("state"),
        })
    }

    /// As the kernel's side takes them.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.0
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in [self.0.bpffs.parent(), self.0.run.parent()].into_iter().flatten() {
            // A drop has no one to tell; a later run sweeps.
            _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Counters as the kernel's readers give them.
pub(super) fn plain(counters: Vec<ReasonCount>) -> Vec<(Direction, Reason, u64)> {
    counters.into_iter().map(|one| (one.key.0, one.key.1, one.packets)).collect()
}

impl<'c> Judge<'c> for Programs {
    fn judge(
        &mut self,
        at: usize,
        way: Direction,
        frame: &[u8],
        now: u64,
    ) -> Result<Option<Decision>> {
        let Some(runner) = self.runners.get_mut(at) else { bail!("no runner {at}") };
        match runner.judge(frame, way, now) {
            Ok(ran) => Ok(Some(ran.decision)),
            Err(RunError::Length(_)) => Ok(None),
            Err(RunError::Kernel(error)) => Err(error.into()),
        }
    }

    fn counters(&mut self, at: usize) -> Result<Vec<(Direction, Reason, u64)>> {
        Ok(plain(self.runners[at].counters()?))
    }

    fn hits(&mut self) -> Result<Vec<RuleHits>> {
        Ok(self.runners.first().map_or(Ok(Vec::new()), Runner::rule_hits)?)
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        // The ring is shared, and so is the place where its reader stands.
        Ok(self.runners.first_mut().map(Runner::events).unwrap_or_default())
    }

    fn change(&mut self, spec: &'c TableSpec) -> Result<()> {
        // The others judge by the same maps.
        Ok(self.runners.first_mut().map_or(Ok(()), |first| first.change(spec))?)
    }

    fn begin(&mut self, spec: &'c TableSpec) -> Result<()> {
        let first = self.runners.first_mut().context("no runner")?;
        first.forget_flows()?;
        // Numbers mean other things in another case: nothing of the last one may be taken over.
        first.change(&TableSpec::default())?;
        Ok(first.change(spec)?)
    }
}
