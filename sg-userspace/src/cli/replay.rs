//! `sgctl replay`: a capture through the BPF programs themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;
use sg_common::{Direction, Reason};

use super::table::Table;
use super::{Exit, Format, Global, output, policy_file};
use crate::compile::{Surroundings, TableSpec, compile};
use crate::kernel::run::RunHook;
use crate::kernel::{Paths, require_root};
use crate::replay::{Capture, CapturedPacket, Judged, Replay};

/// Run a capture through the BPF programs
///
/// Every packet is judged by the programs that `attach` would load, at its own time, on tables of their own:
/// nothing is attached and nothing is sent. Ethernet and raw IP captures, pcap and pcapng.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl replay capture.pcap --policy prod.yaml --interface web-1
  sgctl replay capture.pcapng --policy prod.yaml --interface web-1 --summary --oracle")]
pub(super) struct Arguments {
    /// The capture
    capture: PathBuf,
    /// The policy to judge by
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The interface of the policy that the packets meet
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Which way the packets go
    #[arg(long, value_enum, default_value_t)]
    direction: Way,
    /// Which programs judge
    #[arg(long, value_enum, default_value_t)]
    hook: Hook,
    /// Hold the engine on the host against the programs, packet by packet, and fail where they differ
    #[arg(long)]
    oracle: bool,
    /// Totals only
    #[arg(long)]
    summary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Way {
    /// Out where the interface has the source address, in otherwise
    #[default]
    Auto,
    /// All in
    Ingress,
    /// All out
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Hook {
    /// The TC programs
    #[default]
    Tc,
    /// XDP for what comes in
    Xdp,
}

/// A packet as `replay -o json` lists it.
#[derive(Debug, Serialize)]
struct Listed {
    /// Place in the capture, from 1.
    packet: usize,
    /// Seconds since the first packet.
    time: f64,
    /// `ingress` or `egress`.
    direction: &'static str,
    /// `allow` or `drop`.
    verdict: &'static str,
    /// Why.
    reason: &'static str,
    /// The rule in words, where one decided.
    rule: Option<String>,
    /// Length on the wire.
    length: u32,
    /// How long the program took; null where the kernel ran no test and the host judged.
    nanoseconds: Option<u64>,
    /// Whether programs and host disagree.
    differs: bool,
}

/// What all packets came to.
#[derive(Debug, Serialize)]
struct Totals {
    /// Packets in the capture.
    packets: usize,
    /// By direction, verdict and reason.
    outcomes: Vec<Outcome>,
    /// Packets that the kernel runs no test for; the engine on the host has judged them.
    judged_by_host: usize,
    /// Packets and counters of which programs and host say different things.
    differences: usize,
    /// Median time of a program run, one run a packet.
    median_nanoseconds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    direction: &'static str,
    verdict: &'static str,
    reason: &'static str,
    packets: u64,
}

/// What `replay -o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Empty with `--summary`.
    packets: Vec<Listed>,
    /// Differences of counters, in words; with `--oracle`.
    counter_differences: Vec<String>,
    totals: Totals,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("run test packets")?;
    let file = policy_file::open(&arguments.policy, global)?;
    let mut surroundings = Surroundings::of([arguments.interface.as_str()]);
    surroundings.addresses = policy_file::device_addresses(&file.policy, &BTreeMap::new());
    policy_file::warn_without_addresses(&file.policy, &surroundings.addresses);
    let tables = compile(&file.policy, &surroundings, None)?;
    let slot = tables
        .slot(&arguments.interface)
        .with_context(|| format!("the policy has no interface {:?}", arguments.interface))?;
    let capture = Capture::read(&arguments.capture)?;
    match capture.cut_short() {
        0 => {}
        cut => log::warn!(
            "{} of the capture are cut short; what lies beyond the cut counts as missing",
            output::count(cut as u64, "packet")
        ),
    }
    let hook = match arguments.hook {
        Hook::Tc => RunHook::Tc,
        Hook::Xdp => RunHook::Xdp,
    };
    let paths = Paths::from_environment();
    let mut replay = Replay::new(&paths, &tables, slot, capture.link, hook)?;
    let judged = judge_all(arguments, &capture, &mut replay)?;
    let report = report(arguments, &tables, &capture, &judged, &replay)?;
    match global.output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report))?,
    }
    if let Some((packet, why)) = &capture.broken {
        bail!(
            "{} breaks off at packet {packet} ({why}); the packets before it were judged",
            arguments.capture.display()
        );
    }
    let disagree = arguments.oracle && report.totals.differences > 0;
    Ok(if disagree { Exit::Refused } else { Exit::Yes })
}

fn judge_all(
    arguments: &Arguments,
    capture: &Capture,
    replay: &mut Replay<'_>,
) -> anyhow::Result<Vec<Judged>> {
    let direction = match arguments.direction {
        Way::Auto => None,
        Way::Ingress => Some(Direction::Ingress),
        Way::Egress => Some(Direction::Egress),
    };
    let judge = |packet| Ok(replay.judge(packet, direction)?);
    capture.packets.iter().map(judge).collect()
}

fn report(
    arguments: &Arguments,
    tables: &TableSpec,
    capture: &Capture,
    judged: &[Judged],
    replay: &Replay<'_>,
) -> anyhow::Result<Report> {
    let judged_by_host = judged.iter().filter(|one| one.kernel.is_none()).count();
    // Counters can agree only where every packet met both.
    let counter_differences = if arguments.oracle && judged_by_host == 0 {
        replay.counter_differences()?
    } else {
        Vec::new()
    };
    let differing = judged.iter().filter(|one| one.differs()).count();
    let totals = Totals {
        packets: judged.len(),
        outcomes: outcomes(judged),
        judged_by_host,
        differences: differing + counter_differences.len(),
        median_nanoseconds: median(judged),
    };
    let packets = capture.packets.iter().zip(judged).enumerate();
    let packets = packets
        .filter(|(_, (_, one))| !arguments.summary || arguments.oracle && one.differs())
        .map(|(index, (packet, one))| listed(tables, index + 1, packet, one))
        .collect();
    Ok(Report { packets, counter_differences, totals })
}

fn listed(tables: &TableSpec, number: usize, packet: &CapturedPacket, judged: &Judged) -> Listed {
    let decision = judged.decision();
    Listed {
        packet: number,
        time: packet.time.as_secs_f64(),
        direction: judged.direction.name(),
        verdict: decision.verdict().name(),
        reason: decision.reason.name(),
        rule: tables.rules.get(&decision.rule).map(ToString::to_string),
        length: packet.length,
        nanoseconds: judged.kernel.map(|(_, duration)| nanoseconds(duration)),
        differs: judged.differs(),
    }
}

fn outcomes(judged: &[Judged]) -> Vec<Outcome> {
    let mut counted: BTreeMap<(Direction, Reason), u64> = BTreeMap::new();
    for one in judged {
        *counted.entry((one.direction, one.decision().reason)).or_default() += 1;
    }
    let outcome = |((direction, reason), packets): ((Direction, Reason), u64)| Outcome {
        direction: direction.name(),
        verdict: reason.verdict().name(),
        reason: reason.name(),
        packets,
    };
    counted.into_iter().map(outcome).collect()
}

fn median(judged: &[Judged]) -> Option<u64> {
    let durations = judged.iter().filter_map(|one| one.kernel);
    let mut times: Vec<u64> = durations.map(|(_, duration)| nanoseconds(duration)).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for one in &report.packets {
        let rule = one.rule.as_ref().map_or_else(String::new, |rule| format!(" ({rule})"));
        let time = one.nanoseconds.map_or("host".to_owned(), |time| format!("{time} ns"));
        let differs = if one.differs { "  DIFFERS from the host's engine" } else { "" };
        let Listed { packet, time: since, direction, verdict, reason, length, .. } = one;
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "{packet:>6} {since:>12.6} {verdict:<5} {direction:<7} {reason}{rule} {length} B {time}{differs}"
        );
    }
    for difference in &report.counter_differences {
        let _ = writeln!(text, "counters differ: {difference}");
    }
    let totals = &report.totals;
    let mut table = Table::new(["DIRECTION", "VERDICT", "REASON", "PACKETS"]);
    for one in &totals.outcomes {
        let packets = one.packets.to_string();
        table.add_row([one.direction, one.verdict, one.reason, packets.as_str()]);
    }
    text.push_str(&table.text(""));
    let median = totals
        .median_nanoseconds
        .map_or_else(String::new, |median| format!(", median {median} ns a run"));
    let _ = writeln!(
        text,
        "{}, {} by the host's engine alone, {}{median}",
        output::count(totals.packets as u64, "packet"),
        totals.judged_by_host,
        output::count(totals.differences as u64, "difference"),
    );
    text
}
