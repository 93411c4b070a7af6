//! `corpus DIR`: every capture under a folder through the loaded programs and the host's engine in lock-step.
//! Each packet must get the same reason and rule from both; `cargo xtask corpus DIR` builds and runs it as root.
//!
//! No capture is an oracle: what is compared are the two backends of the one engine, on packets that nobody
//! here has made up.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use etherparse::{LaxNetSlice, LaxSlicedPacket};
use sg_common::{Direction, LinkLayer};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::engine::{HostTables, Limits};
use sg_userspace::kernel::Sizes;
use sg_userspace::kernel::run::{RunError, RunHook, Runner, run_sizes};
use sg_userspace::policy;
use sg_userspace::replay::{Capture, CaptureError};
use tests::case::check::Folders;

/// The policies: what they allow, and where the interface stands. `ADDRESSES` and `CIDRS` are the capture's.
const POLICIES: [(&str, &str, &[RunHook]); 2] = [
    (
        "wide",
        "vpcs:
  - name: capture
    cidrs: [CIDRS]
    security_groups:
      - name: wide
        ingress:
          - {protocol: all, from: [0.0.0.0/1, 192.0.0.0/2, '::/1']}
          - {protocol: tcp, ports: [22-25, 80, 8000-9000], from: [0.0.0.0/0, '::/0']}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
    interfaces:
      - {name: capture, addresses: [ADDRESSES], groups: [wide]}
",
        &[RunHook::Tc, RunHook::Xdp],
    ),
    (
        "strict",
        "dialect: kakao
infrastructure: {dhcp: false}
vpcs:
  - name: capture
    cidrs: [CIDRS]
    security_groups:
      - name: strict
        ingress:
          - {type: ssh, from: 10.0.0.0/8}
          - {protocol: icmpv6, from: '2001:db8::/32'}
        egress:
          - {type: dns-udp, to: [0.0.0.0/0, '::/0']}
          - {type: http, to: 0.0.0.0/0}
    interfaces:
      - {name: capture, addresses: [ADDRESSES], groups: [strict], side: workload}
",
        &[RunHook::Tc],
    ),
];

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
    let mut files = Vec::new();
    find(Path::new(&folder), &mut files)?;
    files.sort();
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

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|it| it == "pcap" || it == "pcapng") {
            files.push(path);
        }
    }
    Ok(())
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

fn slot(spec: &TableSpec) -> Result<u16> {
    spec.slot("capture").context("the interface")
}

/// The policy for an interface with these addresses.
fn tables(text: &str, own: &[IpAddr], previous: Option<&TableSpec>) -> Result<TableSpec> {
    let list =
        |text: &dyn Fn(&IpAddr) -> String| own.iter().map(text).collect::<Vec<_>>().join(", ");
    let block = |address: &IpAddr| {
        let length = if address.is_ipv4() { 24 } else { 64 };
        let block = ipnet::IpNet::new(*address, length).map(|block| block.trunc());
        block.map_or_else(|_| String::new(), |block| format!("'{block}'"))
    };
    let text = text
        .replace("ADDRESSES", &list(&|address| format!("'{address}'")))
        .replace("CIDRS", &list(&block));
    let loaded = policy::load("capture", &text).map_err(|rejected| {
        anyhow::anyhow!("{}", rejected.diagnostics.render(policy::Style::OneLine))
    })?;
    Ok(compile(&loaded.policy, &Surroundings::of(["capture"]), previous)?)
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

/// The most frequent address of each family that an interface may have.
fn own_addresses(link: LinkLayer, capture: &Capture) -> Vec<IpAddr> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for packet in &capture.packets {
        for address in addresses(link, &packet.bytes).into_iter().flat_map(|(a, b)| [a, b]) {
            *counts.entry(address).or_default() += 1;
        }
    }
    let of_family = |v4: bool, otherwise: &str| {
        let possible = counts.iter().filter(|(it, _)| it.is_ipv4() == v4 && is_possible(**it));
        let best = possible.max_by_key(|(address, count)| (**count, **address));
        best.map(|(address, _)| *address).or_else(|| otherwise.parse().ok())
    };
    let families = [of_family(true, "10.0.0.5"), of_family(false, "2001:db8::5")];
    families.into_iter().flatten().collect()
}

/// Whether a policy takes it as an interface's address.
fn is_possible(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(it) => it.is_broadcast() || it.is_link_local() || it.octets()[0] == 0,
        IpAddr::V6(it) => it.is_unicast_link_local() || it.to_ipv4_mapped().is_some(),
    };
    !special && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Source and destination of an IP packet, however broken behind them.
fn addresses(link: LinkLayer, bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = match link {
        LinkLayer::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok()?,
        LinkLayer::Ip => LaxSlicedPacket::from_ip(bytes).ok()?,
    };
    match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Ipv6(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}
