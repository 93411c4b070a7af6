//! `corpus DIR`: every capture under a folder through the loaded programs and the host's engine in lock-step.
//! Each packet must get the same reason and rule from both; `cargo xtask corpus DIR` builds and runs it as root.
//!
//! No capture is an oracle: what is compared are the two backends of the one engine, on packets that nobody
//! here has made up.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sg_common::{Direction, LinkLayer};
use sg_userspace::compile::TableSpec;
use sg_userspace::engine::{HostTables, Limits};
use sg_userspace::kernel::Sizes;
use sg_userspace::kernel::run::{RunError, RunHook, Runner, run_sizes};
use sg_userspace::replay::{Capture, CaptureError};
use tests::case::check::Folders;
use tests::corpus::{POLICIES, addresses, files, own_addresses, slot, tables};

/// As many flows as the programs have room for in a run.
const LIMITS: Limits =
    Limits { clock: 1 << 12, flows: 1 << 12, opening: 1 << 12, fragments: 1 << 12 };
/// From one capture to the next: every flow's timeout is shorter.
const PAUSE: u64 = 10 * 24 * 3600 * 1_000_000_000;

/// What became of all captures.
#[derive(Default)]
struct Totals {
    files: usize,
    packets: usize,
    by_programs: usize,
    by_host_alone: usize,
    other_links: Vec<String>,
    corrupt: Vec<String>,
    differences: usize,
    /// Judgements by reason.
    reasons: BTreeMap<&'static str, usize>,
}

fn main() -> Result<ExitCode> {
    let Some(folder) = std::env::args_os().nth(1) else { bail!("usage: corpus DIR") };
    let files = files(Path::new(&folder))?;
    let mut bench = Bench::new();
    let mut totals = Totals::default();
    for path in &files {
        totals.files += 1;
        let name = path.strip_prefix(&folder).unwrap_or(path).display().to_string();
        match Capture::read(path) {
            Ok(capture) => bench.capture(&name, &capture, &mut totals).context(name)?,
            Err(CaptureError::LinkType { link, .. }) => {
                totals.other_links.push(format!("{name}: link type {link}"));
            }
            Err(error) => totals.corrupt.push(format!("{name}: {error}, no packet before it")),
        }
    }
    Ok(totals.report())
}

impl Totals {
    fn report(&self) -> ExitCode {
        let Self { files, packets, by_programs, by_host_alone, differences, .. } = self;
        for line in self.other_links.iter().chain(&self.corrupt) {
            println!("{line}");
        }
        let reasons = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        println!("{}", reasons.collect::<Vec<_>>().join(", "));
        let (others, corrupt) = (self.other_links.len(), self.corrupt.len());
        println!(
            "{files} files ({others} of other link types, {corrupt} corrupt), {packets} packets, \
             {by_programs} judgements by programs and host, {by_host_alone} by the host alone \
             (no packet that the kernel test-runs), {differences} differences"
        );
        if *differences == 0 && *packets > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The loaded programs by link layer, policy and hook, with what is in force in them.
struct Bench {
    loaded: HashMap<(bool, usize, bool), (Runner, TableSpec)>,
    /// Behind what is pinned there.
    folders: Folders,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self { loaded: HashMap::new(), folders: Folders::new(), now: 0 }
    }

    fn capture(&mut self, name: &str, capture: &Capture, totals: &mut Totals) -> Result<()> {
        if let Some((_, error)) = &capture.broken {
            let before = capture.packets.len();
            totals.corrupt.push(format!("{name}: {error}, {before} packets before it"));
        }
        let link = capture.link;
        totals.packets += capture.packets.len();
        let own = own_addresses(link, capture);
        for (index, (policy, text, hooks)) in POLICIES.iter().enumerate() {
            for &hook in *hooks {
                if hook == RunHook::Xdp && link != LinkLayer::Ethernet {
                    continue;
                }
                self.now += PAUSE;
                let key = (link == LinkLayer::Ethernet, index, hook == RunHook::Xdp);
                let previous = self.loaded.get(&key).map(|(_, spec)| spec);
                let spec = tables(text, &own, previous)?;
                let place = format!("{name}: {policy} {hook:?}");
                self.prepare(key, &spec, link, hook)?;
                let (runner, in_force) = self.loaded.get_mut(&key).context("just prepared")?;
                *in_force = spec;
                lock_step(&place, runner, in_force, link, self.now, &own, capture, totals)?;
            }
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        key: (bool, usize, bool),
        spec: &TableSpec,
        link: LinkLayer,
        hook: RunHook,
    ) -> Result<()> {
        if let Some((runner, _)) = self.loaded.get_mut(&key) {
            runner.forget_flows()?;
            runner.change(spec)?;
        } else {
            let sizes = Sizes { flows: LIMITS.clock, ..run_sizes(spec) };
            let runner =
                Runner::new(self.folders.paths(), spec, slot(spec)?, link, hook, &sizes, 0)?;
            self.loaded.insert(key, (runner, TableSpec::default()));
        }
        Ok(())
    }
}

#[expect(clippy::too_many_arguments, reason = "one loop over everything that was set up")]
fn lock_step(
    place: &str,
    runner: &mut Runner,
    spec: &TableSpec,
    link: LinkLayer,
    start: u64,
    own: &[IpAddr],
    capture: &Capture,
    totals: &mut Totals,
) -> Result<()> {
    let host = HostTables::new(spec, slot(spec)?, LIMITS)?;
    for (index, packet) in capture.packets.iter().enumerate() {
        let leaves = addresses(link, &packet.bytes).is_some_and(|(from, _)| own.contains(&from));
        let direction = if leaves { Direction::Egress } else { Direction::Ingress };
        let now = start + u64::try_from(packet.time.as_nanos())?;
        match runner.judge(&packet.bytes, direction, now) {
            Ok(ran) => {
                totals.by_programs += 1;
                *totals.reasons.entry(ran.decision.reason.name()).or_default() += 1;
                let expected = host.judge(&packet.bytes, direction, link, now);
                if ran.decision != expected {
                    totals.differences += 1;
                    let number = index + 1;
                    println!(
                        "{place}: packet {number} {}: programs {:?}, host {expected:?}",
                        direction.name(),
                        ran.decision
                    );
                }
            }
            Err(RunError::Length(_)) => {
                totals.by_host_alone += 1;
                // Beside the lock-step: the programs' flows do not see it either.
                let aside = HostTables::new(spec, slot(spec)?, LIMITS)?;
                _ = aside.judge(&packet.bytes, direction, link, now);
            }
            Err(RunError::Kernel(error)) => return Err(error.into()),
        }
    }
    Ok(())
}
