//! ICMP errors: believed when they quote a packet that a live flow has just sent, and never otherwise
//! (RFC 5927 tells what forged ones do).

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sg_common::wire::{ip::TCP, tcp::ACK};

use super::{
    Measured, Options,
    blind::{self, Numbers},
    frames::{self, ETHERNET, Ends, Segment},
    live::Connections,
    range::{self, Hook, Target},
    witness::nft,
};
use crate::{
    net::Net,
    netns::Namespace,
    traffic::{Outcome, udp},
};

/// Errors of each family and hook.
const ERRORS: usize = 1000;
/// Flows that they are about.
const FLOWS: usize = 100;
/// Segments in flight on each.
const SEGMENTS: usize = ERRORS / FLOWS;
/// Bytes of each.
const SEGMENT: usize = 1000;
/// Bytes that the client may not have acknowledged yet: of one message.
const UNACKNOWLEDGED: u32 = 16;
/// What a path takes, for those errors that say it.
const MTU: u32 = 1400;

/// Which errors there are: type and code of each, by family.
const KINDS_V4: [(u8, u8); 8] = [(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 13), (11, 0), (12, 0)];
const KINDS_V6: [(u8, u8); 6] = [(1, 0), (1, 1), (1, 4), (2, 0), (3, 0), (4, 1)];
/// Source quench and redirects: obsolete, or a way to another router; no quote makes them right.
const NEVER_V4: [(u8, u8); 3] = [(4, 0), (5, 1), (5, 0)];

/// An error from a router that quotes the server's segment.
fn error(target: &Target<'_>, to: Ends, (kind, code): (u8, u8), quote: &[u8]) -> Vec<u8> {
    target.link().packet(to, to.icmp(), &frames::icmp(kind, code, MTU, quote))
}

/// The beginning of a segment as an error quotes it: at least eight bytes behind the IP header.
fn quote(ends: Ends, segment: &Segment) -> Vec<u8> {
    let mut packet = ends.packet(TCP, &segment.bytes(&[0; SEGMENT]));
    let header = if ends.is_v4() { 20 } else { 40 };
    packet.truncate(header + *fastrand::choice(&[8, 20, 20, 500]).unwrap_or(&8));
    packet
}

pub(super) fn forged(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        for ends in target.ends() {
            let mut connections = Connections::open(&target, (ends.destination, 80).into(), FLOWS)?;
            let numbers: Vec<_> =
                blind::numbers(&target, &mut connections)?.into_values().collect();
            let router = router_of(ends);
            let frames: Vec<_> =
                (0..ERRORS).map(|n| forgery(&target, ends, router, &numbers, n)).collect();
            let arrived = target.arrivals(&frames)?;
            let accepted = arrived.iter().filter(|frame| is_icmp(frame, ends)).count();
            let alive = connections.alive()?;
            measured.add(
                accepted == 0 && alive == FLOWS,
                &format!("{} {hook:?}: {accepted} accepted", ends.family()),
            );
        }
    }
    Ok(measured)
}

/// The client's side of the wire: where errors about its packets come from.
fn router_of(ends: Ends) -> IpAddr {
    match ends.source {
        IpAddr::V4(_) => IpAddr::from([10, 77, 1, 1]),
        IpAddr::V6(_) => IpAddr::from([0xfd77, 1, 0, 0, 0, 0, 0, 1]),
    }
}

/// One of a thousand: half with the right tuple, a quarter of all with a number that the server has not sent
/// or that was acknowledged, a quarter for the wrong addressee; the other half about nothing at all.
fn forgery(
    target: &Target<'_>,
    ends: Ends,
    router: IpAddr,
    numbers: &[Numbers],
    number: usize,
) -> Vec<u8> {
    let answer = ends.reverse();
    let flow = numbers[number % numbers.len()];
    let right = Segment {
        ports: (80, flow.port),
        flags: ACK,
        sequence: flow.server,
        acknowledgement: flow.client,
    };
    let kinds = if ends.is_v4() { &KINDS_V4[..] } else { &KINDS_V6 };
    let mut kind = *fastrand::choice(kinds).unwrap_or(&(3, 4));
    let to_server = Ends::new(router, ends.destination);
    let (to, quoted) = match number % 8 {
        0 | 1 => {
            let distance =
                if number % 16 < 8 { fastrand::u32(1..2000) } else { fastrand::u32(1..) };
            let sequence = if number.is_multiple_of(2) {
                flow.server.wrapping_add(distance)
            } else {
                // The last message may still be on its way back to be acknowledged.
                flow.server.wrapping_sub(distance.saturating_add(UNACKNOWLEDGED))
            };
            (to_server, quote(answer, &Segment { sequence, ..right }))
        }
        // About a packet that the client sent: that is none of the server's business.
        2 => {
            let sent = Segment { ports: (flow.port, 80), sequence: flow.client, ..right };
            (to_server, quote(ends, &sent))
        }
        // For somebody else behind the same device.
        3 => (Ends::new(router, neighbour(ends.destination)), quote(answer, &right)),
        4 if ends.is_v4() => {
            kind = *fastrand::choice(&NEVER_V4).unwrap_or(&(5, 1));
            (to_server, quote(answer, &right))
        }
        5 => {
            let ports = (fastrand::u16(1..), flow.port);
            let ports = if ports.0 == 80 { (81, ports.1) } else { ports };
            (to_server, quote(answer, &Segment { ports, ..right }))
        }
        _ => {
            let ports = (fastrand::u16(1..), fastrand::u16(1..1024));
            (to_server, quote(answer, &Segment { ports, sequence: fastrand::u32(..), ..right }))
        }
    };
    error(target, to, kind, &quoted)
}

fn neighbour(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(it) => std::net::Ipv4Addr::from_bits(it.to_bits() + 1).into(),
        IpAddr::V6(it) => std::net::Ipv6Addr::from_bits(it.to_bits() + 1).into(),
    }
}

pub(super) fn true_ones(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        for ends in target.ends() {
            let (accepted, alive) = too_big(&target, ends)?;
            measured.add(
                accepted == ERRORS && alive == FLOWS,
                &format!("{} {hook:?}: {accepted} accepted", ends.family()),
            );
            // The real thing, from the client's own stack about a port where nobody listens.
            let closed = (ends.source, 7777).into();
            let outcome = udp::request(target.server().ns(), None, closed, Duration::from_secs(3))?;
            measured.add(outcome == Outcome::Refused, &format!("closed UDP port {outcome:?}"));
        }
    }
    Ok(measured)
}

/// Errors about segments that the server has sent and nobody has acknowledged: how many arrived, and how many
/// of the connections went on.
fn too_big(target: &Target<'_>, ends: Ends) -> Result<(usize, usize)> {
    let mut connections = Connections::open(target, (ends.destination, 80).into(), FLOWS)?;
    let numbers = blind::numbers(target, &mut connections)?;
    let client = target.client().ns();
    nft(
        client,
        "table inet deaf {\nchain c {\ntype filter hook input priority 0;\ntcp sport 80 drop\n}\n}\n",
    )?;
    for (_, far) in &connections.pairs {
        let mut far: &TcpStream = far;
        for _ in 0..SEGMENTS {
            far.write_all(&[b'x'; SEGMENT])?;
        }
    }
    let router = Ends::new(router_of(ends), ends.destination);
    let kind = if ends.is_v4() { (3, 4) } else { (2, 0) };
    let mut frames = Vec::new();
    for flow in numbers.values() {
        for index in 0..SEGMENTS {
            let sequence = flow.server.wrapping_add(u32::try_from(index * SEGMENT)?);
            let segment = Segment {
                ports: (80, flow.port),
                flags: ACK,
                sequence,
                acknowledgement: flow.client,
            };
            frames.push(error(target, router, kind, &quote(ends.reverse(), &segment)));
        }
    }
    let arrived = target.arrivals(&frames)?;
    let errors = arrived.iter().filter(|frame| is_icmp(frame, ends)).count();
    nft(client, "delete table inet deaf\n")?;
    for (near, _) in &connections.pairs {
        drain(near)?;
    }
    Ok((errors, connections.alive()?))
}

fn is_icmp(frame: &[u8], ends: Ends) -> bool {
    let at = if ends.is_v4() { 9 } else { 6 };
    frame.get(ETHERNET + at) == Some(&ends.icmp())
}

/// Reads what was kept back.
fn drain(mut stream: &TcpStream) -> Result<()> {
    let started = Instant::now();
    let (mut buffer, mut left) = ([0; SEGMENT], SEGMENTS * SEGMENT);
    while left > 0 && started.elapsed() < Duration::from_secs(10) {
        match stream.read(&mut buffer[..left.min(SEGMENT)]) {
            Ok(length) => left -= length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Bytes of a bulk transfer.
const BULK: usize = 4 << 20;
/// Narrower than the devices at both ends of the path.
const NARROW: u32 = 1300;

/// `server` - wire - (narrow) - `router` - `far`: only an error from the wire can tell the server.
pub(super) fn discovery(_: &Options) -> Result<Measured> {
    let net = Net::builder()
        .routed("server", &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
        .routed("router", &["10.77.3.1/24", "fd77:3::1/64"], &["10.77.3.10", "fd77:3::10"])
        .build()?;
    let far = Namespace::new("far")?;
    let router = net.host("router").ns();
    router.set_parameters(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    router.ip(&format!(
        "link set eth0 mtu {NARROW}\n\
         link add to-far type veth peer name eth0 netns {}\n\
         link set to-far up\n\
         address add 10.99.0.1/24 dev to-far\n\
         address add fd99::1/64 dev to-far nodad\n",
        far.name()
    ))?;
    far.ip("link set eth0 up\n\
         address add 10.99.0.2/24 dev eth0\n\
         address add fd99::2/64 dev eth0 nodad\n\
         route add default via 10.99.0.1\n\
         route add ::/0 via fd99::1\n")?;
    net.wire().ip(&format!(
        "link set to-router mtu {NARROW}\n\
         route add 10.99.0.0/24 via 10.77.3.10\n\
         route add fd99::/64 via fd77:3::10\n"
    ))?;
    far.wait_until_running()?;
    router.wait_until_running()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let mut measured = Measured::begin();
    for address in [IpAddr::from([10, 99, 0, 2]), IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, 2])] {
        let mut capture = target.capture()?;
        let bytes = transfer(&target, &far, address)?;
        let told = capture.count(|frame| {
            let ends = Ends::new(address, address);
            !frame.outgoing && frame.protocol() == Some(ends.icmp()) && !frame.is_chatter()
        })?;
        measured.add(
            bytes == BULK && told > 0,
            &format!("{bytes} of {BULK} bytes to {address}, {told} errors arrived"),
        );
    }
    Ok(measured)
}

/// Sends from the server; how much arrives.
fn transfer(target: &Target<'_>, far: &Namespace, address: IpAddr) -> Result<usize> {
    let listener = far.run(|| TcpListener::bind((address, 80)))?;
    let limit = Duration::from_secs(5);
    let near =
        target.server().ns().run(|| TcpStream::connect_timeout(&(address, 80).into(), limit));
    let near = near.context("connecting to the far end")?;
    near.set_write_timeout(Some(limit))?;
    let (mut sink, _) = listener.accept()?;
    sink.set_read_timeout(Some(limit))?;
    thread::scope(|scope| {
        scope.spawn(move || {
            // What does not get through is seen at the other end.
            _ = (&near).write_all(&vec![0; BULK]);
        });
        let (mut buffer, mut heard) = (vec![0; 1 << 16], 0);
        while let Ok(length @ 1..) = sink.read(&mut buffer) {
            heard += length;
        }
        ensure!(heard <= BULK, "more than was sent");
        Ok(heard)
    })
}
