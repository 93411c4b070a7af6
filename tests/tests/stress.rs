//! Recycled map elements: on one processor flows, members, CIDRs and rules come and go as fast as the
//! kernel takes them, on the other one packets are judged meanwhile, and each verdict must be right for the
//! policy before or after the change that is under way.
//!
//! The kernel fills a deleted hash element anew while another processor still reads it, so a reader may
//! find another address's class or another flow's state behind its key. What would show it here: an address
//! that no policy lets in gets in, or a flow that nobody touched has died of a packet of another flow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sg_common::Direction::{Egress, Ingress};
use sg_common::Verdict::{self, Allow, Drop};
use sg_common::{Direction, LinkLayer};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::kernel::Sizes;
use sg_userspace::kernel::run::{RunHook, Runner};
use sg_userspace::policy;
use tests::case::check::Folders;
use tests::case::packet::frame;

/// How long everything churns.
const DURATION: Duration = Duration::from_secs(15);
/// And for how long at most, until enough has been changed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Addresses of each kind.
const MEMBERS: u8 = 64;
/// The judges' clock at the beginning; any time but zero.
const START: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Policy number `change`. Even ones know the friends, odd ones the strangers: each change takes the elements
/// of the ones that the change before it has freed. A rule of its own gives every policy another number.
fn policy_text(change: u64) -> String {
    let (here, third, cidr) = if change.is_multiple_of(2) {
        ("friends", 1, "10.0.3.0/25")
    } else {
        ("strangers", 2, "10.0.4.0/25")
    };
    let mut text = format!(
        r#"vpcs:
  - name: prod
    cidrs: [10.0.0.0/8]
    security_groups:
      - {{name: friends}}
      - {{name: strangers}}
      - name: web
        ingress:
          - {{protocol: tcp, ports: 80, from: {{group: friends}}}}
          - {{protocol: tcp, ports: 81, from: {{group: strangers}}}}
          - {{protocol: tcp, ports: 82, from: {cidr}}}
          - {{protocol: tcp, ports: 83, from: 10.0.5.0/24}}
          - {{protocol: tcp, ports: {other}, from: 10.0.6.0/24}}
      - name: flows
        ingress: [{{protocol: tcp, ports: 90, from: 10.9.0.0/16}}]
        egress: []
    interfaces:
      - {{name: web, addresses: [10.0.0.5], groups: [web]}}
      - name: flows
        addresses: [10.0.0.6]
        groups: [flows]
        connection_tracking: {{tcp_established: 60}}
"#,
        other = 1000 + change % 1000,
    );
    for member in 0..MEMBERS {
        text += &format!(
            "      - {{name: {here}-{member}, addresses: [10.0.{third}.{member}], groups: [{here}]}}\n"
        );
    }
    text
}

fn compiled(change: u64, previous: Option<&TableSpec>) -> Result<TableSpec> {
    let loaded = policy::load("stress", &policy_text(change)).map_err(|rejected| {
        anyhow::anyhow!("{}", rejected.diagnostics.render(policy::Style::OneLine))
    })?;
    Ok(compile(&loaded.policy, &Surroundings::of(["web", "flows"]), previous)?)
}

/// Packets of one kind: who asks for which port, and which policies let them in.
struct Kind {
    third: u8,
    port: u16,
    even: Verdict,
    odd: Verdict,
}

const KINDS: [Kind; 8] = [
    // Friends, strangers, and what is the other's.
    Kind { third: 1, port: 80, even: Allow, odd: Drop },
    Kind { third: 2, port: 81, even: Drop, odd: Allow },
    Kind { third: 1, port: 81, even: Drop, odd: Drop },
    Kind { third: 2, port: 80, even: Drop, odd: Drop },
    // CIDRs that come and go, and one that stays.
    Kind { third: 3, port: 82, even: Allow, odd: Drop },
    Kind { third: 4, port: 82, even: Drop, odd: Allow },
    Kind { third: 5, port: 83, even: Allow, odd: Allow },
    Kind { third: 5, port: 82, even: Drop, odd: Drop },
];

/// Which policy counts: 2 n while policy n does, 2 n + 1 while the change to the next is under way.
#[derive(Default)]
struct Phase(AtomicU64);

/// What the threads share.
#[derive(Default)]
struct Shared {
    phase: Phase,
    stop: AtomicBool,
    changes: AtomicU64,
    recycled: AtomicU64,
    packets: AtomicU64,
    allowed: AtomicU64,
    exact: AtomicU64,
}

impl Shared {
    /// Whether enough was changed while packets were judged.
    fn has_churned(&self) -> bool {
        self.changes.load(SeqCst) > 5 && self.recycled.load(SeqCst) > 1000
    }
}

fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// One policy after another, by the code that commits those of users.
fn change_policies(mut runner: Runner, mut tables: TableSpec, shared: &Shared) -> Result<()> {
    pin(0)?;
    let mut change = 0;
    while !shared.stop.load(SeqCst) {
        let next = compiled(change + 1, Some(&tables))?;
        shared.phase.0.store(2 * change + 1, SeqCst);
        runner.change(&next)?;
        change += 1;
        shared.phase.0.store(2 * change, SeqCst);
        shared.changes.store(change, SeqCst);
        tables = next;
    }
    Ok(())
}

/// Verdicts that no policy explains.
#[derive(Default)]
struct Wrong {
    count: u64,
    first: Vec<String>,
}

impl Wrong {
    fn add(&mut self, times: u32, what: impl FnOnce() -> String) {
        self.count += u64::from(times);
        if self.first.len() < 10 {
            self.first.push(what());
        }
    }
}

/// A frame whose source address and port are filled in later; programs look at no checksum.
struct Template(Vec<u8>);

impl Template {
    fn new(text: &str, direction: Direction) -> Result<Self> {
        Ok(Self(frame(text, direction, None)?))
    }

    /// With this remote end: the source of what arrives, the destination of what leaves.
    fn of(&mut self, direction: Direction, remote: [u8; 4], port: u16) -> &[u8] {
        // Behind the Ethernet header: addresses at 12 and 16, ports at 20 and 22.
        let (address, ports) = if direction == Ingress { (26, 34) } else { (30, 36) };
        self.0[address..address + 4].copy_from_slice(&remote);
        self.0[ports..ports + 2].copy_from_slice(&port.to_be_bytes());
        &self.0
    }
}

/// How often one packet is judged in a row where every verdict is known beforehand. One wrong allow opens a
/// flow that allows all that come behind it, so that the last verdict speaks for all.
const TIMES: u32 = 64;

/// Judges packets of every kind, and holds each verdict against the policies that may count.
fn judge(mut web: Runner, mut bait: Runner, shared: &Shared) -> Result<Wrong> {
    pin(1)?;
    let mut wrong = Wrong::default();
    let mut templates = KINDS
        .iter()
        .map(|kind| Template::new(&format!("tcp 10.0.0.1:1 > 10.0.0.5:{} S", kind.port), Ingress))
        .collect::<Result<Vec<_>>>()?;
    let bait_packet = frame(BAIT_PACKET, Ingress, None)?;
    let (mut packets, mut exact, mut allowed) = (0, 0, 0);
    for round in 0_u32.. {
        if shared.stop.load(SeqCst) {
            break;
        }
        let member = u8::try_from(round % u32::from(MEMBERS))?;
        let port = u16::try_from(1024 + round % 60_000)?;
        for (kind, template) in KINDS.iter().zip(&mut templates) {
            let packet = template.of(Ingress, [10, 0, kind.third, member], port);
            let times = if (kind.even, kind.odd) == (Drop, Drop) { TIMES } else { 1 };
            let before = shared.phase.0.load(SeqCst);
            let verdict = web.verdict(packet, Ingress, times)?;
            let after = shared.phase.0.load(SeqCst);
            let of = |policy: u64| if policy.is_multiple_of(2) { kind.even } else { kind.odd };
            let is_right = (before / 2..=after.div_ceil(2)).any(|policy| of(policy) == verdict);
            if !is_right {
                wrong.add(times, || {
                    let Kind { third, port, .. } = kind;
                    let why = web.last_decision();
                    format!("10.0.{third}.{member} to {port} at {before}..={after}: {verdict:?}, {why:?}")
                });
            }
            packets += u64::from(times);
            exact += u64::from(times * u32::from(before == after && before.is_multiple_of(2)));
            allowed += u64::from(verdict == Allow);
        }
        packets += u64::from(BAIT_TIMES);
        if bait.verdict(&bait_packet, Ingress, BAIT_TIMES)? != Allow {
            let why = bait.last_decision();
            wrong.add(1, || format!("a segment to a port that is open was dropped: {why:?}"));
        }
    }
    shared.packets.store(packets, SeqCst);
    shared.exact.store(exact, SeqCst);
    shared.allowed.store(allowed, SeqCst);
    Ok(wrong)
}

/// Interrupts the reader as often as a timer can: in the middle of a program there is then time for an
/// element to be recycled, which otherwise takes longer than the reader does from its lookup to its last use.
fn interrupt(shared: &Shared) -> Result<()> {
    pin(1)?;
    while !shared.stop.load(SeqCst) {
        thread::sleep(Duration::from_micros(1));
    }
    Ok(())
}

/// Room for established flows, one an interface: every new one takes the element of the one before, which has died.
const FLOWS: u32 = 2;
/// The remote end of the flow whose element is recycled under the reader.
const BAIT: ([u8; 4], u16) = ([10, 9, 0, 1], 5000);
/// What the reader sends in it. It refreshes the flow, with a clock that stands still, so that another one
/// which is taken for it dies early. It acknowledges too little to complete a handshake: by the reader's
/// clock the table is full.
const BAIT_PACKET: &str = "tcp 10.9.0.1:5000 > 10.0.0.6:90 A seq=101 ack=400";
/// How often in a row.
const BAIT_TIMES: u32 = 512;

/// Flows that open, live and die one after another.
struct Flows {
    runner: Runner,
    now: u64,
    packets: Vec<(Template, Direction)>,
}

/// Indices of [`Flows::packets`].
const SYN: usize = 0;
const SYN_ACK: usize = 1;
const ACK: usize = 2;
const DATA_OUT: usize = 3;
const RESET: usize = 4;

impl Flows {
    fn new(runner: Runner) -> Result<Self> {
        let texts = [
            ("tcp 10.9.0.1:1 > 10.0.0.6:90 S seq=100", Ingress),
            ("tcp 10.0.0.6:90 > 10.9.0.1:1 SA seq=500 ack=101", Egress),
            ("tcp 10.9.0.1:1 > 10.0.0.6:90 A seq=101 ack=501", Ingress),
            ("tcp 10.0.0.6:90 > 10.9.0.1:1 A seq=501 ack=101", Egress),
            ("tcp 10.9.0.1:1 > 10.0.0.6:90 R seq=101", Ingress),
        ];
        let packet = |(text, way)| Ok((Template::new(text, way)?, way));
        let packets = texts.into_iter().map(packet).collect::<Result<Vec<_>>>()?;
        Ok(Self { runner, now: START, packets })
    }

    fn pass(&mut self, seconds: u64) -> Result<()> {
        self.now += seconds * SECOND;
        Ok(self.runner.set_clock(self.now)?)
    }

    fn send(&mut self, packet: usize, remote: [u8; 4], port: u16) -> Result<Verdict> {
        let (template, direction) = &mut self.packets[packet];
        Ok(self.runner.verdict(template.of(*direction, remote, port), *direction, 1)?)
    }

    /// Opens a flow; whether each packet passed.
    fn open(&mut self, remote: [u8; 4], port: u16) -> Result<bool> {
        let mut all = true;
        for packet in [SYN, SYN_ACK, ACK] {
            all &= self.send(packet, remote, port)? == Allow;
        }
        Ok(all)
    }
}

/// The bait dies of its timeout, and a flow that the reader knows nothing of takes its element, by turns.
fn churn_flows(runner: Runner, shared: &Shared) -> Result<Wrong> {
    pin(0)?;
    let mut flows = Flows::new(runner)?;
    let mut wrong = Wrong::default();
    for round in 0_u32.. {
        shared.recycled.store(u64::from(round), SeqCst);
        if shared.stop.load(SeqCst) {
            break;
        }
        // The reader may have opened it meanwhile: then it is as good.
        flows.open(BAIT.0, BAIT.1)?;
        flows.pass(61)?;
        let (remote, port) = ([10, 9, 1, 1], u16::try_from(1024 + round % 60_000)?);
        if !flows.open(remote, port)? {
            wrong.add(1, || format!("{port}: a handshake was refused"));
        }
        // Alive for half a minute yet, and nobody has sent anything in it.
        flows.pass(30)?;
        if flows.send(DATA_OUT, remote, port)? != Allow {
            wrong.add(1, || format!("{port}: a live flow has died of another flow's packet"));
        }
        flows.send(RESET, remote, port)?;
        flows.pass(31)?;
    }
    Ok(wrong)
}

/// More than a change needs: it adds before it removes.
const SIZES: Sizes = Sizes {
    interfaces: 16,
    classes: 1024,
    permits: 1024,
    rules: 1 << 14,
    hosts: 256,
    cidrs: 64,
    own: 16,
    flows: FLOWS,
    // A handshake lives through what the reader opens while its processor is somebody else's.
    opening: 1 << 16,
    fragments: 1 << 8,
    events: 1 << 16,
};

#[test]
fn no_verdict_is_wrong_while_everything_churns() -> Result<()> {
    let tables = compiled(0, None)?;
    let slot = |name| tables.slot(name).context("a slot");
    let (web, flows) = (slot("web")?, slot("flows")?);
    let folders = Folders::new();
    let link = LinkLayer::Ethernet;
    let policies = Runner::new(folders.paths(), &tables, web, link, RunHook::Tc, &SIZES, 0)?;
    let reader = policies.beside(&tables, web, link)?;
    let mut bait = policies.beside(&tables, flows, link)?;
    let churner = policies.beside(&tables, flows, link)?;
    let counters = policies.beside(&tables, web, link)?;
    let mut reader = reader;
    reader.set_clock(START)?;
    bait.set_clock(START)?;

    let shared = Shared::default();
    let (judged, churned) = thread::scope(|scope| -> Result<(Wrong, Wrong)> {
        let changing = scope.spawn(|| change_policies(policies, tables.clone(), &shared));
        let churning = scope.spawn(|| churn_flows(churner, &shared));
        let judging = scope.spawn(|| judge(reader, bait, &shared));
        let interrupting = scope.spawn(|| interrupt(&shared));
        let started = Instant::now();
        let is_over = || changing.is_finished() || churning.is_finished() || judging.is_finished();
        // A busy machine takes its time for each change of policy.
        let is_enough = || {
            started.elapsed() >= DURATION && shared.has_churned() || started.elapsed() >= PATIENCE
        };
        while !is_enough() && !is_over() {
            thread::sleep(Duration::from_millis(50));
        }
        shared.stop.store(true, SeqCst);
        changing.join().expect("no panic in a thread")?;
        interrupting.join().expect("no panic in a thread")?;
        let churned = churning.join().expect("no panic in a thread")?;
        Ok((judging.join().expect("no panic in a thread")?, churned))
    })?;

    let load = |number: &AtomicU64| number.load(SeqCst);
    println!(
        "{} packets, {} of them between changes; {} policies, {} flows in recycled elements; {} and {} wrong",
        load(&shared.packets),
        load(&shared.exact),
        load(&shared.changes),
        load(&shared.recycled),
        judged.count,
        churned.count,
    );
    ensure!(judged.count == 0, "{} wrong verdicts: {:#?}", judged.count, judged.first);
    ensure!(churned.count == 0, "{} dead flows: {:#?}", churned.count, churned.first);
    // What was allowed was allowed by a rule: every packet had a tuple of its own.
    let by_rule: u64 = counters
        .counters()?
        .iter()
        .filter(|count| count.verdict == "allow")
        .map(|count| count.packets)
        .sum();
    ensure!(by_rule == load(&shared.allowed), "{by_rule} allowed, {} seen", load(&shared.allowed));
    ensure!(shared.has_churned(), "nothing churned");
    Ok(())
}
