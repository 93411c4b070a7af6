//! Addresses that a packet may not come from: towards the server those that only it or nobody has, from a
//! workload those that others have.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use sg_common::wire::{
    ip::{TCP, UDP},
    tcp::SYN,
};

use super::{
    Measured, Options,
    frames::{self, Ends, Segment},
    range::{self, Hook, Target},
};
use crate::{
    capture::Capture,
    frame::Frame,
    net::{DEVICE, Host, Net},
    process,
};

/// Sends forgeries of every kind from inside the workload.
const SCRIPT: &str = include_str!("spoof.py");
/// Debian's own, which has scapy.
const PYTHON: &str = "/usr/bin/python3";
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn sources(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        let [v4, v6] = target.ends().map(|ends| ends.destination);
        let forged: Vec<IpAddr> = vec![
            v4,
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(127, 200, 0, 9).into(),
            Ipv4Addr::new(224, 0, 0, 1).into(),
            Ipv4Addr::new(239, 255, 255, 250).into(),
            v6,
            Ipv6Addr::LOCALHOST.into(),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 9).into(),
        ];
        let frames = |sources: &[IpAddr]| -> Vec<Vec<u8>> {
            let to = |source: &IpAddr| if source.is_ipv4() { v4 } else { v6 };
            let each =
                sources.iter().map(|source| Ends { source: *source, destination: to(source) });
            each.flat_map(|ends| of_every_kind(&target, ends)).collect()
        };
        let attack = frames(&forged);
        let passed = target.arrivals(&attack)?.len();
        let honest: Vec<_> = target.ends().iter().map(|ends| ends.source).collect();
        let control = frames(&honest);
        let arrived = target.arrivals(&control)?;
        let arrived = control.iter().filter(|frame| arrived.contains(frame)).count();
        measured.add(
            passed == 0 && arrived == control.len(),
            &format!(
                "{hook:?}: {passed} of {}, honest {arrived} of {}",
                attack.len(),
                control.len()
            ),
        );
    }
    Ok(measured)
}

/// A SYN (a land attack, where the source is the server), a datagram and an echo request.
fn of_every_kind(target: &Target<'_>, ends: Ends) -> Vec<Vec<u8>> {
    let link = target.link();
    let syn = |port| Segment { ports: (port, 80), flags: SYN, ..Segment::default() }.bytes(b"");
    let kind = if ends.is_v4() { 8 } else { 128 };
    vec![
        link.packet(ends, TCP, &syn(80)),
        link.packet(ends, TCP, &syn(40_000)),
        link.packet(ends, UDP, &frames::udp((53, 53), b"land")),
        link.packet(ends, UDP, &frames::udp((40_000, 53), b"land")),
        link.packet(ends, ends.icmp(), &frames::icmp(kind, 0, 7, b"land")),
    ]
}

/// The tools of SI6, with what each is to forge: the router's and the peer's addresses.
const TOOLS: &[(&str, &[&str])] = &[
    (
        "na6",
        &["-s", "fd77:2::1", "-d", "ff02::1", "-t", "fd77:2::1", "-o", "-E", "02:00:00:00:00:66"],
    ),
    ("na6", &["-s", "fd77:2::21", "-d", "fd77:2::20", "-t", "fd77:2::21", "-o", "-c"]),
    ("ra6", &["-s", "fe80::66", "-d", "ff02::1", "-P", "fd66::/64#LA", "-e"]),
    ("ra6", &["-s", "fd77:2::10", "-d", "fd77:2::20", "-t", "1800"]),
    ("ns6", &["-s", "fd77:2::21", "-d", "fd77:2::20", "-t", "fd77:2::20", "-e"]),
    ("rd6", &["-s", "fe80::1", "-d", "fd77:2::20", "-t", "fe80::66", "-r", "2001:db8::1"]),
];

pub(super) fn workload(_: &Options) -> Result<Measured> {
    play("others", TOOLS)
}

/// An address of the link that is not made of the interface's MAC (RFC 4291, appendix A): the router's, say.
pub(super) fn link_local(_: &Options) -> Result<Measured> {
    play("link-local", &[])
}

fn play(set: &str, tools: &[(&str, &[&str])]) -> Result<Measured> {
    let net = range::bridged(&["client", "peer"])?;
    let server = net.host("server");
    let mac = server.mac().map(|byte| format!("{byte:02x}")).join(":");
    let before = "device: to-server";
    let policy = range::CLOSED.replace(before, &format!("mac: \"{mac}\", {before}"));
    let target = Target::attach(&net, &policy, Hook::Tc, &[])?;
    // What leaves the workload, and what comes out of the bridge behind the program.
    let mut inside = target.capture()?;
    let others = ["client", "peer"].map(|name| net.host(name));
    let mut outside = others
        .iter()
        .map(|host| Capture::start(host.ns(), DEVICE))
        .chain([Capture::start(net.wire(), "br0")])
        .collect::<Result<Vec<_>>>()?;
    for capture in outside.iter_mut().chain([&mut inside]) {
        capture.clear()?;
    }
    forge(&target, &net, set, tools)?;
    target.fence(&mut inside)?;
    let is_forged = |frame: &Frame| !is_own(server, &frame.bytes);
    let sent = inside.count(|frame| frame.outgoing && is_forged(frame))?;
    let mut escaped = Vec::new();
    for capture in &mut outside {
        let heard = capture.frames()?.iter().filter(|frame| !frame.outgoing && is_forged(frame));
        let from_workload = |frame: &&Frame| !is_from_router(&frame.bytes, server);
        escaped.extend(heard.filter(from_workload).cloned());
    }
    let mut measured = Measured::begin();
    measured.add(
        escaped.is_empty() && sent > 0,
        &format!("{} arrivals of {sent} forgeries", escaped.len()),
    );
    if let Some(first) = escaped.first() {
        let hex: String = first.bytes.iter().take(90).map(|byte| format!("{byte:02x}")).collect();
        measured.numbers += &format!(" (first: {hex})");
    }
    Ok(measured)
}

fn forge(target: &Target<'_>, net: &Net, set: &str, tools: &[(&str, &[&str])]) -> Result<()> {
    let path = target.sgctl().dir().join("spoof.py");
    fs::write(&path, SCRIPT).context("the script")?;
    let server = target.server();
    let mut command = server.ns().command(PYTHON);
    process::run(command.arg(&path).arg(set), LIMIT)?.ok().context("scapy")?;
    for (tool, args) in tools {
        // Sent to a MAC address that it need not ask for: whom it asks would be told by an honest packet.
        let mac = net.host("client").mac().map(|byte| format!("{byte:02x}")).join(":");
        let mut command = server.ns().command(tool);
        command.args(["-i", DEVICE]).args(*args).args(["-D", &mac]);
        let output = process::run(&mut command, LIMIT)?;
        ensure!(output.code.is_some(), "{tool}: {}", output.stdout + &output.stderr);
    }
    Ok(())
}

/// The fence's own ARP request.
fn is_from_router(bytes: &[u8], server: &Host) -> bool {
    bytes.get(6..12) == Some(&server.gateway_mac())
}

/// What the workload's own kernel says: with its MAC address, and an address of its own as sender.
fn is_own(server: &Host, bytes: &[u8]) -> bool {
    let at = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    if at(6..12) != server.mac() {
        return bytes
            .get(6..12)
            .is_some_and(|mac| mac[..4] == server.mac()[..4] && mac != server.mac());
    }
    let link_locals = link_locals(server.mac());
    match at(12..14) {
        [0x08, 0x06] => at(22..28) == server.mac() && at(28..32) == server.v4().octets(),
        [0x86, 0xdd] => {
            let source = at(22..38);
            let known = source == server.v6().octets()
                || link_locals.iter().any(|own| source == own.octets());
            // A listener's report, or neighbour discovery about itself.
            let kind = if bytes.get(20) == Some(&0) { bytes.get(62) } else { bytes.get(54) };
            let advertised = kind == Some(&136);
            let target = at(62..78);
            let honest = target == server.v6().octets()
                || link_locals.iter().any(|own| target == own.octets());
            matches!(kind, Some(133 | 135 | 136 | 143))
                && (known || source == [0; 16])
                && (!advertised || honest)
        }
        _ => false,
    }
}

/// The address that the kernel makes of a MAC (RFC 4291, appendix A), and the one that the tools make of it
/// where they ask for somebody's MAC: they forget to flip a bit.
fn link_locals(mac: [u8; 6]) -> [Ipv6Addr; 2] {
    let [a, b, c, d, e, f] = mac;
    let made =
        |first| Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, first, b, c, 0xff, 0xfe, d, e, f]);
    [made(a ^ 2), made(a)]
}
