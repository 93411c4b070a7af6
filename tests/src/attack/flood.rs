//! Floods from sources that do not exist, to a port that answers each of them: every packet opens a flow,
//! and every answer confirms it. What is established must not notice, and strangers must get in afterwards.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sg_common::wire::{
    ip::{TCP, UDP},
    tcp::SYN,
};

use super::{
    Measured, Options,
    frames::{self, Ends, Segment},
    live::{Connections, Streams, raise_file_limit},
    range::{self, Hook, OPENING, Target},
    witness::{Place, Witness},
};
use crate::{
    net::{DEVICE, Host},
    process,
    traffic::{self, Outcome},
};

/// As many as the issue asks for.
const FLOWS: usize = 1000;
/// Ten times what an opening table holds.
const PACKETS: usize = 10 * OPENING;
/// Longest that strangers may be kept out behind a flood.
const REOPENED: Duration = Duration::from_secs(20);
/// Datagrams that may wait at the target's socket, and for how long it may be silent before they count as lost.
const SLACK: usize = 64;
const STALLED: Duration = Duration::from_millis(20);
/// How long the tool floods.
const TOOL_SECONDS: &str = "4";

pub(super) fn syn_v4_tc(_: &Options) -> Result<Measured> {
    syn(Hook::Tc, |target| target.server().v4().into())
}

pub(super) fn syn_v6_xdp(_: &Options) -> Result<Measured> {
    syn(Hook::Xdp, |target| target.server().v6().into())
}

/// The kernel itself answers each SYN: with cookies for all, no backlog of its own stands in the way.
fn syn(hook: Hook, to: impl Fn(&Target<'_>) -> IpAddr) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, hook, &[])?;
    let to = to(&target);
    let mut bystanders = Bystanders::open(&target, to)?;
    answer_every_syn(target.server())?;
    let witness = answers(target.server(), SYN_ACKS)?;
    target.flood(PACKETS, |_| syn_frame(&target, to), |_| Ok(()))?;
    bystanders.conclude(&target, PACKETS, witness.count("answers")?)
}

fn answer_every_syn(server: &Host) -> Result<()> {
    server.ns().set_parameters(&[("ipv4/tcp_syncookies", "2")])
}

const SYN_ACKS: &str = "tcp flags & (syn|ack) == (syn|ack)";

fn answers<'net>(server: &'net Host, expression: &str) -> Result<Witness<'net>> {
    Witness::place(server.ns(), &[(Place::Leaving, "answers", expression)])
}

fn syn_frame(target: &Target<'_>, to: IpAddr) -> Vec<u8> {
    let segment = Segment {
        ports: (fastrand::u16(1024..), 80),
        flags: SYN,
        sequence: fastrand::u32(..),
        acknowledgement: 0,
    };
    target.link().packet(Ends::new(stranger(to), to), TCP, &segment.bytes(b""))
}

/// A random unicast address of the same family that none of the hosts has.
pub(super) fn stranger(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(fastrand::u32(0x1400_0000..0x7f00_0000)).into(),
        IpAddr::V6(_) => {
            let low = fastrand::u128(..) >> 16;
            Ipv6Addr::from_bits(0x2a00 << 112 | low).into()
        }
    }
}

/// Always the same one.
pub(super) fn stranger_one(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 66).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66).into(),
    }
}

pub(super) fn hping3(_: &Options) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let to = target.server().v4();
    let mut bystanders = Bystanders::open(&target, to.into())?;
    answer_every_syn(target.server())?;
    let witness = answers(target.server(), SYN_ACKS)?;
    let arriving = Place::Arriving(DEVICE);
    let sent = Witness::place(
        target.server().ns(),
        &[(arriving, "syns", "tcp flags & (syn|ack) == syn")],
    )?;
    let mut command = target.client().ns().command("timeout");
    command.args(["--signal=KILL", TOOL_SECONDS, "hping3", "--flood", "--rand-source", "--quiet"]);
    // It floods until it is killed: other signals are held back while the suite runs.
    process::run(command.args(["--syn", "--destport", "80", &to.to_string()]), REOPENED)?;
    let sent = usize::try_from(sent.count("syns")?)?;
    bystanders.conclude(&target, sent, witness.count("answers")?)
}

pub(super) fn udp(_: &Options) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let to = target.server().v4();
    let mut bystanders = Bystanders::open(&target, to.into())?;
    let server = traffic::udp::Server::start(target.server().ns(), target.server().socket_v4(53))?;
    let make = |_| {
        let ends = Ends::new(stranger(to.into()), to);
        target.link().packet(ends, UDP, &frames::udp((fastrand::u16(1024..), 53), b"who is it?"))
    };
    // No faster than it is answered: what its socket has no room for would stay unanswered.
    let mut lost = 0;
    let answered = |sent| {
        let started = Instant::now();
        while server.received() + lost + SLACK < sent {
            if started.elapsed() > STALLED {
                lost = sent - server.received();
            }
            std::thread::yield_now();
        }
        Ok(())
    };
    target.flood(PACKETS, make, answered)?;
    let mut measured = bystanders.conclude(&target, PACKETS, u64::try_from(server.received())?)?;
    let fresh =
        traffic::udp::request(target.client().ns(), None, target.server().socket_v4(53), REOPENED)?;
    measured.add(fresh == Outcome::Connected, &format!("new UDP flow {fresh:?}"));
    Ok(measured)
}

pub(super) fn echo(_: &Options) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let [v4, v6] = target.ends().map(|ends| ends.destination);
    let mut bystanders = Bystanders::open(&target, v4)?;
    let witness = answers(target.server(), "meta l4proto { icmp, icmpv6 }")?;
    let make = |number: usize| {
        let to = if number.is_multiple_of(2) { v4 } else { v6 };
        let ends = Ends::new(stranger(to), to);
        let kind = if ends.is_v4() { 8 } else { 128 };
        target.link().packet(ends, ends.icmp(), &frames::icmp(kind, 0, fastrand::u32(..), b"echo"))
    };
    target.flood(2 * PACKETS, make, |_| Ok(()))?;
    let mut measured = bystanders.conclude(&target, 2 * PACKETS, witness.count("answers")?)?;
    for to in [v4, v6] {
        let fresh = traffic::icmp::ping(target.client().ns(), None, to, REOPENED)?;
        measured.add(fresh == Outcome::Connected, &format!("new echo {fresh:?}"));
    }
    Ok(measured)
}

/// Those who have nothing to do with the flood.
struct Bystanders {
    connections: Connections,
    streams: Streams,
}

impl Bystanders {
    fn open(target: &Target<'_>, to: IpAddr) -> Result<Self> {
        raise_file_limit()?;
        let connections = Connections::open(target, (to, 80).into(), FLOWS)?;
        Ok(Self { connections, streams: Streams::open(target, FLOWS)? })
    }

    /// Right behind the flood.
    fn conclude(&mut self, target: &Target<'_>, sent: usize, answered: u64) -> Result<Measured> {
        let reopened = self.connections.time_to_connect(target.client(), REOPENED)?;
        let alive = self.connections.alive()?;
        let tracked = self.tracked(target)?;
        let heard = self.streams.hear_unasked()?;
        let reopened_text =
            reopened.map_or("no new connection".to_owned(), |time| format!("new after {time:.2?}"));
        // A target that leaves most of it unanswered has not been flooded as meant.
        let flooded = answered >= u64::try_from(OPENING * 2)?;
        Ok(Measured {
            numbers: format!(
                "{alive} of {FLOWS} live ({tracked} tracked), {heard} UDP streams, {sent} packets, \
                 {answered} answered, {reopened_text}"
            ),
            passed: alive == FLOWS
                && tracked == FLOWS
                && heard == FLOWS
                && reopened.is_some()
                && flooded,
        })
    }

    /// Those that the protected table still holds.
    fn tracked(&self, target: &Target<'_>) -> Result<usize> {
        let flows = target.flows(&["--established", "--port", "80"])?;
        let ports = flows.iter().filter_map(|flow| flow["remote_port"].as_u64());
        let ports: std::collections::BTreeSet<_> = ports.collect();
        let ours = self.connections.pairs.iter().map(|(near, _)| near.local_addr());
        let ours: Vec<_> = ours.collect::<Result<_, _>>().context("a client's address")?;
        Ok(ours.iter().filter(|address| ports.contains(&u64::from(address.port()))).count())
    }
}
