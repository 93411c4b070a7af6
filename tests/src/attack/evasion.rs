//! The IPv6 tools of The Hacker's Choice: header chains and fragments that have got past other filters.
//!
//! Each test case is a process of its own, and some run at once, since each waits for seconds for a target that
//! says nothing: on hosts of their own, because they take one another's replies for theirs, and choose the same
//! identifications for their fragments.

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
const CASE_SECONDS: &str = "50";
/// Hosts that attack at once.
const ATTACKERS: [&str; 20] = [
    "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14",
    "a15", "a16", "a17", "a18", "a19",
];
const DENIED_TCP: u16 = 81;
const DENIED_UDP: u16 = 5353;

/// Echoes for everybody, which the tools ask for, and one port.
const ECHO: &str = "          - {type: http, from: [0.0.0.0/0, \"::/0\"]}\n          - {type: dns-udp, from: [0.0.0.0/0, \"::/0\"]}\n";

pub(super) fn firewall6(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let play = |net: &Net, options: &[&str], port: u16| {
        play(net, "atk6-firewall6", options, FIREWALL6, &[&port.to_string()])
    };
    let net = range::bridged(&ATTACKERS)?;
    {
        let target = Target::attach(&net, range::CLOSED, Hook::Tc, &[])?;
        let arrived =
            reaching(&target, || Ok([play(&net, &[], 80)?, play(&net, &["-u"], 53)?].concat()))?;
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
    let claims = [play(&net, &[], DENIED_TCP)?, play(&net, &["-u"], DENIED_UDP)?].concat();
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
    let net = range::bridged(&ATTACKERS)?;
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

/// Runs every test case of a tool against the server, and returns the lines in which it claims a reply.
fn play(
    net: &Net,
    tool: &str,
    options: &[&str],
    cases: usize,
    behind: &[&str],
) -> Result<Vec<String>> {
    let server = net.host("server").v6().to_string();
    let one = |attacker: &str, case: usize| -> Result<Vec<String>> {
        let mut command = net.host(attacker).ns().command("timeout");
        // Ten times what a case takes. Other signals are held back while the suite runs.
        command.args(["--signal=KILL", CASE_SECONDS, tool]).args(options);
        command.args(["eth0", &server]).args(behind).arg(case.to_string());
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
    let share = |number: usize, attacker: &str| -> Result<Vec<Vec<String>>> {
        (1 + number..=cases).step_by(ATTACKERS.len()).map(|case| one(attacker, case)).collect()
    };
    thread::scope(|scope| {
        let share = &share;
        let all: Vec<_> = (0..)
            .zip(ATTACKERS)
            .map(|(number, attacker)| scope.spawn(move || share(number, attacker)))
            .collect();
        let mut claims = Vec::new();
        for attacker in all {
            claims.extend(attacker.join().expect("no panic in a test case")?.concat());
        }
        Ok(claims)
    })
}

/// What reaches the server from other hosts meanwhile, but for what hosts on one link say to one another.
fn reaching<T>(target: &Target<'_>, attack: impl FnOnce() -> Result<T>) -> Result<Vec<Frame>> {
    let mut capture = target.capture()?;
    attack()?;
    target.fence(&mut capture)?;
    // The router has another number there.
    let hosts = target.server().mac();
    let from_host = |frame: &&Frame| {
        !frame.outgoing && frame.bytes.get(6..11) == hosts.get(..5) && !is_neighbourly(&frame.bytes)
    };
    Ok(capture.frames()?.iter().filter(from_host).cloned().collect())
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
        rest.split(':').next()?.parse::<usize>().ok()
    };
    let mut numbers: Vec<_> = claims.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
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
