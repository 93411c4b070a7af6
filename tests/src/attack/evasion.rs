//! The IPv6 tools of The Hacker's Choice: header chains and fragments that have got past other filters.
//!
//! Each test case is a process of its own, all at once: against a target that says nothing, each waits for
//! seconds.

use std::{net::Ipv6Addr, thread, time::Duration};

use anyhow::{Result, ensure};
use sg_common::wire::ip::ICMPV6;

use super::{
    Measured, Options,
    frames::ETHERNET,
    range::{self, Hook, Target},
    witness::{Place, Witness},
};
use crate::{frame::Frame, net::Net, process, traffic};

const LIMIT: Duration = Duration::from_secs(60);
/// Test cases of version 3.8. The one behind them, plain SYNs from ports of services, takes minutes: nmap
/// does that.
const FIREWALL6: usize = 38;
const IMPLEMENTATION6: usize = 57;
const CASE_SECONDS: &str = "15";
const DENIED_TCP: u16 = 81;
const DENIED_UDP: u16 = 5353;

/// Echoes for everybody, which the tools ask for, and one port.
const ECHO: &str = "          - {type: http, from: [0.0.0.0/0, \"::/0\"]}\n          - {type: dns-udp, from: [0.0.0.0/0, \"::/0\"]}\n";

pub(super) fn firewall6(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let play = |net: &Net, options: &[&str], port: u16| {
        play(net, "atk6-firewall6", options, FIREWALL6, &[&port.to_string()])
    };
    let net = range::bridged()?;
    {
        let target = Target::attach(&net, range::CLOSED, Hook::Tc, &[])?;
        let arrived =
            reaching(&target, || both(|| play(&net, &[], 80), || play(&net, &["-u"], 53)))?;
        let text = format!("closed: {} of {} cases' packets", arrived.len(), 2 * FIREWALL6);
        measured.add(arrived.is_empty(), &(text + &first(&arrived)));
    }
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let server = target.server();
    let at = |port| server.socket_v6(port);
    let _web = traffic::tcp::Server::start(server.ns(), at(80))?;
    let _denied = traffic::tcp::Server::start(server.ns(), at(DENIED_TCP))?;
    let udp = traffic::udp::Server::start(server.ns(), at(DENIED_UDP))?;
    let expression = format!("tcp sport {DENIED_TCP}");
    let witness = Witness::place(server.ns(), &[(Place::Leaving, "answers", &expression)])?;
    let claims = both(|| play(&net, &[], DENIED_TCP), || play(&net, &["-u"], DENIED_UDP))?;
    let claims: Vec<_> =
        claims.into_iter().filter(|it| it.contains("TCP-") || it.contains("UDP")).collect();
    let (answers, datagrams) = (witness.count("answers")?, udp.received());
    measured.add(
        answers == 0 && datagrams == 0 && claims.is_empty(),
        &format!("open, denied ports: {answers} answers, {datagrams} datagrams{}", list(&claims)),
    );
    let control = play(&net, &[], 80)?;
    let answered: Vec<_> = control.into_iter().filter(|claim| claim.contains("TCP-")).collect();
    let text = format!("allowed port: cases {} answered", case_numbers(&answered));
    measured.add(!answered.is_empty(), &text);
    Ok(measured)
}

pub(super) fn implementation6(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let net = range::bridged()?;
    let play = || play(&net, "atk6-implementation6", &["-p"], IMPLEMENTATION6, &[]);
    {
        let target = Target::attach(&net, range::CLOSED, Hook::Tc, &[])?;
        let arrived = reaching(&target, play)?;
        let text = format!("closed: {} of {IMPLEMENTATION6} cases' packets", arrived.len());
        measured.add(arrived.is_empty(), &(text + &first(&arrived)));
    }
    let only_echo = range::OPEN.replace(ECHO, "");
    ensure!(only_echo != range::OPEN, "the policy has other lines than expected");
    let target = Target::attach(&net, &only_echo, Hook::Tc, &[])?;
    let mut claims = Vec::new();
    let arrived = reaching(&target, || {
        claims = play()?;
        Ok(())
    })?;
    let wrong = forbidden(&arrived);
    let text = format!(
        "echoes allowed: {} of {} that pass, cases {} answered",
        wrong.len(),
        arrived.len(),
        case_numbers(&claims)
    );
    measured.add(wrong.is_empty() && !arrived.is_empty(), &(text + &first(&wrong)));
    Ok(measured)
}

fn both(
    one: impl FnOnce() -> Result<Vec<String>>,
    other: impl FnOnce() -> Result<Vec<String>> + Send,
) -> Result<Vec<String>> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one()?;
        Ok([one, other.join().expect("no panic in a test case")?].concat())
    })
}

/// Runs every test case of a tool against the server, and returns the lines in which it claims a reply.
fn play(
    net: &Net,
    tool: &str,
    options: &[&str],
    cases: usize,
    behind: &[&str],
) -> Result<Vec<String>> {
    let (client, server) = (net.host("client").ns(), net.host("server").v6().to_string());
    let one = |case: usize| -> Result<Vec<String>> {
        let mut command = client.command("timeout");
        // Enough for every packet to be sent; the last cases are many, and each waits for an answer. Other
        // signals are held back while the suite runs.
        command
            .args([CASE_SECONDS, tool])
            .args(options)
            .args(["eth0", &server])
            .args(behind)
            .arg(case.to_string());
        // Its exit code says nothing.
        let output = process::run(&mut command, LIMIT)?;
        let lines = output.stdout.lines().filter(|line| line.starts_with("Test "));
        let claims = lines.filter(|line| line.contains("received") || line.contains("PASSED"));
        ensure!(
            output.stdout.contains("Test "),
            "{tool} {case}: {}",
            output.stdout + &output.stderr
        );
        Ok(claims.map(str::to_owned).collect())
    };
    thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> = (1..=cases).map(|case| scope.spawn(move || one(case))).collect();
        let mut claims = Vec::new();
        for case in all {
            claims.extend(case.join().expect("no panic in a test case")?);
        }
        Ok(claims)
    })
}

/// What reaches the server from the client meanwhile, but for what hosts on one link say to one another.
fn reaching<T>(target: &Target<'_>, attack: impl FnOnce() -> Result<T>) -> Result<Vec<Frame>> {
    let mut capture = target.capture()?;
    attack()?;
    target.fence(&mut capture)?;
    let mac = target.client().mac();
    let from_client = |frame: &&Frame| {
        !frame.outgoing && frame.bytes.get(6..12) == Some(&mac) && !is_neighbourly(&frame.bytes)
    };
    Ok(capture.frames()?.iter().filter(from_client).cloned().collect())
}

/// Neighbour discovery with hop limit 255 and nothing between it and the IP header, or a listener's report.
fn is_neighbourly(bytes: &[u8]) -> bool {
    let at = |offset: usize| bytes.get(ETHERNET + offset).copied();
    let (next, hop, kind) = (at(6), at(7), at(40));
    let discovery = next == Some(ICMPV6) && hop == Some(255) && matches!(kind, Some(135 | 136));
    let listener = next == Some(0) && hop == Some(1) && matches!(at(48), Some(130..=132 | 143));
    bytes.get(12..14) == Some(&[0x08, 0x06])
        || bytes.get(12..14) == Some(&[0x86, 0xdd]) && (discovery || listener)
}

/// What stands behind the headers of a packet.
#[derive(PartialEq, Eq)]
enum Inside {
    /// An echo request, or the first part of one, whose datagram has this number.
    Echo(Option<u32>),
    /// A later part of a datagram of this number, of ICMPv6 as far as it says.
    Later(u32, bool),
    /// What must not pass.
    Else,
}

/// Packets that the contract does not let pass where echoes alone are allowed. A later fragment needs a first
/// that has passed, or is of a protocol of which some message is allowed.
fn forbidden(frames: &[Frame]) -> Vec<Frame> {
    let insides: Vec<_> = frames.iter().map(|frame| inside(&frame.bytes)).collect();
    let is_allowed = |one: &Inside| match one {
        Inside::Echo(_) => true,
        Inside::Later(number, icmp) => *icmp || insides.contains(&Inside::Echo(Some(*number))),
        Inside::Else => false,
    };
    let each = frames.iter().zip(&insides).filter(|(_, one)| !is_allowed(one));
    each.map(|(frame, _)| frame.clone()).collect()
}

/// Walks at most eight extension headers; source routing and sources that nobody has are not followed.
fn inside(bytes: &[u8]) -> Inside {
    let source: Option<[u8; 16]> = bytes.get(22..38).and_then(|it| it.try_into().ok());
    let Some(source) = source.map(Ipv6Addr::from) else { return Inside::Else };
    if bytes.get(12..14) != Some(&[0x86, 0xdd]) || source.is_multicast() || source.is_loopback() {
        return Inside::Else;
    }
    let (mut next, mut at, mut number) = (bytes[ETHERNET + 6], ETHERNET + 40, None);
    for _ in 0..=8 {
        let Some(header) = bytes.get(at..at + 8) else { return Inside::Else };
        let length = match next {
            ICMPV6 if header[0] == 128 => return Inside::Echo(number),
            0 | 60 => (usize::from(header[1]) + 1) * 8,
            43 if header[2] != 0 => (usize::from(header[1]) + 1) * 8,
            51 => (usize::from(header[1]) + 2) * 4,
            44 => {
                let place = u16::from_be_bytes([header[2], header[3]]);
                let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                if place & !7 != 0 {
                    return Inside::Later(id, header[0] == ICMPV6);
                }
                number = Some(id);
                8
            }
            _ => return Inside::Else,
        };
        (next, at) = (header[0], at + length);
    }
    Inside::Else
}

/// `1, 5, 9` of the lines of a tool.
fn case_numbers(claims: &[String]) -> String {
    let number = |claim: &String| {
        let rest = claim.strip_prefix("Test")?.trim_start();
        rest.split(':').next().map(str::to_owned)
    };
    claims.iter().filter_map(number).collect::<Vec<_>>().join(", ")
}

/// The beginning of the first frame, for whoever has to find out why it passed.
fn first(frames: &[Frame]) -> String {
    let Some(frame) = frames.first() else { return String::new() };
    let hex: String = frame.bytes.iter().take(120).map(|byte| format!("{byte:02x}")).collect();
    format!(" (first: {hex})")
}

fn list(claims: &[String]) -> String {
    if claims.is_empty() { String::new() } else { format!(" ({})", claims.join("; ")) }
}
