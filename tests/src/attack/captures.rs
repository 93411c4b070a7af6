//! Packets cut at every byte: a length from the wire is never trusted, so what is not whole never passes.
//!
//! Two things are held: a piece passes only if the whole does, and a piece that ends before the packet's own
//! length says never passes. A program that has seen what came before must hold the second all the same.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{LaxNetSlice, LaxSlicedPacket};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use sg_common::{Direction, LinkLayer, Verdict};
use sg_userspace::{
    compile::TableSpec,
    engine::{HostTables, Limits},
    kernel::run::{RunError, RunHook, Runner, run_sizes},
    replay::{Capture, CaptureError},
};

use super::{
    Measured, Options,
    range::{self, Hook, Target},
};
use crate::{
    case::{check::Folders, packet},
    corpus, process,
};

/// What must come of cut packets.
pub(super) const NONE: &str = "0 pass unless the whole packet passes";

/// The most pieces that the engine on the host judges, those that the programs do, and those that are put on
/// a device. Beyond, they are taken evenly.
const ON_HOST: usize = 300_000;
const BY_PROGRAMS: usize = 60_000;
const ON_DEVICE: usize = 20_000;

/// Of every kind that has a length somewhere; most pass whole.
const OWN: &[&str] = &[
    "tcp 10.77.1.10:40000 > 10.77.2.10:80 S len=20",
    "tcp 10.77.1.10:40001 > 10.77.2.10:80 A seq=7 ack=9 len=40",
    "tcp 10.77.1.10:40002 > 10.77.2.10:81 S",
    "tcp 10.77.1.10:40003 > 10.77.2.10:80 S ipopt=rr,nop*5 vlan=5",
    "tcp 10.77.1.10:40004 > 10.77.2.10:80 S ipopt=nop*40 vlan=s7,5 trailer=9",
    "udp 10.77.1.10:40000 > 10.77.2.10:53 len=30 trailer=6",
    "udp 10.77.1.10:40001 > 10.77.2.10:53 len=30 frag=0+@9",
    "udp 10.77.1.10:40001 > 10.77.2.10:53 len=30 frag=40@9",
    "icmp 10.77.1.10 > 10.77.2.10 echo-request len=12",
    "icmp 10.77.1.10 > 10.77.2.10 type=3 code=4 { tcp 10.77.2.10:80 > 10.77.1.10:40000 SA }",
    "sctp 10.77.1.10:40000 > 10.77.2.10:80 init",
    "igmp 10.77.1.10 > 224.0.0.22",
    "dhcp-answer 10.77.2.1 > 10.77.2.10",
    "arp request 10.77.2.1 > 10.77.2.10",
    "tcp [fd77:1::10]:40000 > [fd77:2::10]:80 S len=20",
    "tcp [fd77:1::10]:40001 > [fd77:2::10]:80 S hbh dst rh4 ah",
    "tcp [fd77:1::10]:40002 > [fd77:2::10]:80 S hbh frag=0@9 dst vlan=5",
    "udp [fd77:1::10]:40000 > [fd77:2::10]:53 len=30 frag=0+@9",
    "udp [fd77:1::10]:40000 > [fd77:2::10]:53 len=30 frag=40@9",
    "icmpv6 fd77:1::10 > fd77:2::10 echo-request len=12",
    "icmpv6 fd77:1::10 > fd77:2::10 type=2 { tcp [fd77:2::10]:80 > [fd77:1::10]:40000 SA }",
    "ns fe80::1 > fd77:2::10 target=fd77:2::10",
    "ra fe80::1 > ff02::1",
    "mld fe80::1 > ff02::16",
];

fn own_frames() -> Result<Vec<Vec<u8>>> {
    let frame = |line: &&str| packet::frame(line, Direction::Ingress, None);
    OWN.iter().map(|line| frame(line).context(*line)).collect()
}

/// Where a packet's own length says that it ends; none for what is no IP or says nonsense.
fn own_end(link: LinkLayer, bytes: &[u8]) -> Option<usize> {
    let packet = match link {
        LinkLayer::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok()?,
        LinkLayer::Ip => LaxSlicedPacket::from_ip(bytes).ok()?,
    };
    let begins = |slice: &[u8]| slice.as_ptr().addr() - bytes.as_ptr().addr();
    let end = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header().slice();
            let length = usize::from(ip.header().total_len());
            (length >= header.len()).then(|| begins(header) + length)
        }
        LaxNetSlice::Ipv6(ip) => {
            let length = usize::from(ip.header().payload_length());
            (length > 0).then(|| begins(ip.header().slice()) + 40 + length)
        }
        LaxNetSlice::Arp(_) => None,
    };
    end.filter(|end| *end <= bytes.len())
}

/// Pieces judged so far, and those that passed though they must not.
#[derive(Default)]
struct Tally {
    pieces: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn take(&mut self, passed: bool, allowed: bool, what: impl FnOnce() -> String) {
        self.pieces += 1;
        if passed && !allowed {
            self.wrong.push(what());
        }
    }

    fn tell(&self, measured: &mut Measured, by: &str) {
        let Self { pieces, wrong } = self;
        measured.add(wrong.is_empty() && *pieces > 0, &format!("{} of {pieces} {by}", wrong.len()));
        if let Some(first) = wrong.first() {
            measured.numbers += &format!(" (first: {first})");
        }
    }
}

/// An interface in a test run beside the host's engine.
struct Judges<'s> {
    spec: &'s TableSpec,
    slot: u16,
    link: LinkLayer,
    runner: &'s mut Runner,
}

impl Judges<'_> {
    /// Each piece on tables that have seen nothing but the whole.
    fn on_host(
        &self,
        name: &str,
        whole: &[u8],
        way: Direction,
        step: usize,
        tally: &mut Tally,
    ) -> Result<()> {
        let host = HostTables::new(self.spec, self.slot, Limits::default())?;
        let judge = |bytes: &[u8]| host.judge(bytes, way, self.link, 1).verdict();
        let passes = judge(whole) == Verdict::Allow;
        let end = own_end(self.link, whole).unwrap_or(0);
        for length in (0..whole.len()).rev().step_by(step) {
            let passed = judge(&whole[..length]) == Verdict::Allow;
            tally.take(passed, passes && length >= end, || {
                format!("{name} cut at {length} of {}, {}", whole.len(), way.name())
            });
        }
        Ok(())
    }

    /// Each piece by the programs, which remember what they have seen; then the whole.
    fn by_programs(
        &mut self,
        name: &str,
        whole: &[u8],
        way: Direction,
        step: usize,
        tally: &mut Tally,
    ) -> Result<()> {
        let runner = &mut *self.runner;
        let end = own_end(self.link, whole).unwrap_or(0);
        for length in (0..end).step_by(step) {
            let Some(passed) = run(runner, &whole[..length], way)? else { continue };
            tally.take(passed, false, || {
                format!(
                    "{name} cut at {length} of {}, {}, by the programs",
                    whole.len(),
                    way.name()
                )
            });
        }
        run(runner, whole, way).map(drop)
    }
}

/// Whether a packet passes; `None`: the kernel test-runs no such packet.
fn run(runner: &mut Runner, bytes: &[u8], way: Direction) -> Result<Option<bool>> {
    match runner.judge(bytes, way, 1_000_000_000_000) {
        Ok(ran) => Ok(Some(ran.decision.verdict() == Verdict::Allow)),
        Err(RunError::Length(_)) => Ok(None),
        Err(RunError::Kernel(error)) => Err(error.into()),
    }
}

pub(super) fn own(_: &Options) -> Result<Measured> {
    let frames = own_frames()?;
    let text = range::OPEN.replace("server", "capture");
    let spec = corpus::compiled(&text, None)?;
    let slot = corpus::slot(&spec)?;
    let folders = Folders::new();
    let (mut host, mut programs) = (Tally::default(), Tally::default());
    let link = LinkLayer::Ethernet;
    let sizes = run_sizes(&spec);
    let mut runner = Runner::new(folders.paths(), &spec, slot, link, RunHook::Tc, &sizes, 0)?;
    let mut judges = Judges { spec: &spec, slot, link, runner: &mut runner };
    for (line, frame) in OWN.iter().zip(&frames) {
        for way in Direction::ALL {
            judges.on_host(line, frame, way, 1, &mut host)?;
            judges.by_programs(line, frame, way, 1, &mut programs)?;
        }
    }
    let mut measured = Measured::begin();
    host.tell(&mut measured, "pieces");
    programs.tell(&mut measured, "by the programs");
    Ok(measured)
}

pub(super) fn given(options: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let Some(folder) = &options.captures else {
        measured.add(true, "no folder given (--captures DIR): own packets only, above");
        return Ok(measured);
    };
    let captures = read_all(folder)?;
    let bytes: usize = packets(&captures).map(<[u8]>::len).sum();
    let steps = |most: usize| (2 * bytes).div_ceil(most).max(1);
    let folders = Folders::new();
    let (mut host, mut programs) = (Tally::default(), Tally::default());
    let mut loaded: HashMap<bool, (Runner, TableSpec)> = HashMap::new();
    for (path, capture) in &captures {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let own = corpus::own_addresses(capture.link, capture);
        let link = capture.link;
        let ethernet = link == LinkLayer::Ethernet;
        // The verifier takes longer than most captures: loaded once, the policy is changed.
        let previous = loaded.get(&ethernet).map(|(_, spec)| spec);
        let spec = corpus::tables(corpus::POLICIES[0].1, &own, previous)?;
        let slot = corpus::slot(&spec)?;
        if let Some((runner, _)) = loaded.get_mut(&ethernet) {
            runner.forget_flows()?;
            runner.change(&spec)?;
        } else {
            let hook = if ethernet { RunHook::Xdp } else { RunHook::Tc };
            let sizes = run_sizes(&spec);
            let runner = Runner::new(folders.paths(), &spec, slot, link, hook, &sizes, 0)?;
            loaded.insert(ethernet, (runner, TableSpec::default()));
        }
        let (runner, in_force) = loaded.get_mut(&ethernet).context("just loaded")?;
        *in_force = spec;
        let mut judges = Judges { spec: in_force, slot, link, runner };
        for (index, packet) in capture.packets.iter().enumerate() {
            let name = format!("{name} packet {}", index + 1);
            for way in Direction::ALL {
                judges.on_host(&name, &packet.bytes, way, steps(ON_HOST), &mut host)?;
                let step = steps(BY_PROGRAMS);
                judges.by_programs(&name, &packet.bytes, way, step, &mut programs)?;
            }
        }
    }
    measured.add(!captures.is_empty(), &format!("{} files, {} bytes", captures.len(), bytes));
    host.tell(&mut measured, "pieces");
    programs.tell(&mut measured, "by the programs");
    Ok(measured)
}

fn read_all(folder: &Path) -> Result<Vec<(PathBuf, Capture)>> {
    let mut captures = Vec::new();
    for path in corpus::files(folder)? {
        match Capture::read(&path) {
            Ok(capture) => captures.push((path, capture)),
            // Other link types, or no capture at all.
            Err(CaptureError::LinkType { .. }) => {}
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
    Ok(captures)
}

fn packets(captures: &[(PathBuf, Capture)]) -> impl Iterator<Item = &[u8]> {
    captures.iter().flat_map(|(_, capture)| &capture.packets).map(|packet| &packet.bytes[..])
}

/// tcpreplay takes what a device takes.
const FRAME_LIMITS: std::ops::RangeInclusive<usize> = 15..=1514;

pub(super) fn replayed(options: &Options) -> Result<Measured> {
    let net = range::routed()?;
    // At TC the sender is told of each drop, and tcpreplay would send that frame again for ever.
    let target = Target::attach(&net, range::OPEN, Hook::Xdp, &[])?;
    let mut wholes = own_frames()?;
    if let Some(folder) = &options.captures {
        let captures = read_all(folder)?;
        let ethernet = captures.iter().filter(|(_, it)| it.link == LinkLayer::Ethernet);
        let packets = ethernet.flat_map(|(_, capture)| &capture.packets);
        wholes.extend(packets.map(|packet| packet.bytes.clone()));
    }
    wholes.retain(|frame| FRAME_LIMITS.contains(&frame.len()));
    let ends = wholes.iter().map(|whole| own_end(LinkLayer::Ethernet, whole).unwrap_or(0));
    let total: usize = ends.clone().sum();
    let step = total.div_ceil(ON_DEVICE).max(1);
    let mut pieces: HashSet<&[u8]> = HashSet::new();
    for (whole, end) in wholes.iter().zip(ends) {
        let lengths = (*FRAME_LIMITS.start()..end).step_by(step);
        pieces.extend(lengths.map(|length| &whole[..length]));
    }
    // What one packet's piece is, another may be as a whole.
    wholes.iter().for_each(|whole| _ = pieces.remove(&whole[..]));
    let whole = replay(&target, wholes.iter().map(Vec::as_slice))?;
    let cut = replay(&target, pieces.iter().copied())?;
    let wrong = cut.iter().filter(|frame| pieces.contains(&frame[..])).count();
    Ok(Measured {
        numbers: format!(
            "{wrong} of {} pieces; of {} whole packets {} pass",
            pieces.len(),
            wholes.len(),
            whole.len()
        ),
        passed: wrong == 0 && !pieces.is_empty() && !whole.is_empty(),
    })
}

/// Has tcpreplay put frames on the wire in front of the server, and returns those that arrive.
fn replay<'f>(target: &Target<'_>, frames: impl Iterator<Item = &'f [u8]>) -> Result<Vec<Vec<u8>>> {
    let path = target.sgctl().dir().join("frames.pcap");
    let mut writer = PcapWriter::new(File::create(&path)?)?;
    let mut written = 0;
    for frame in frames {
        writer.write_packet(&PcapPacket::new(
            Duration::ZERO,
            u32::try_from(frame.len())?,
            frame,
        ))?;
        written += 1;
    }
    drop(writer);
    let mut capture = target.capture()?;
    let mut command = target.wire().command("tcpreplay");
    command.args(["--quiet", "--topspeed", "--intf1", target.server().port()]);
    let output = process::run(command.arg(&path), Duration::from_secs(60))?.ok()?;
    ensure!(written > 0 && !output.stdout.contains("Fatal"), "tcpreplay: {}", output.stdout);
    target.fence(&mut capture)?;
    let heard = capture.frames()?.iter().filter(|frame| !frame.outgoing);
    Ok(heard.map(|frame| frame.bytes.clone()).collect())
}
