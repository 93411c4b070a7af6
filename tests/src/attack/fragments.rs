//! Fragments (RFC 1858, RFC 3128, RFC 5722): whatever order, overlap or number they come in, a socket behind
//! a denied port gets no byte, and whole datagrams of an allowed flow all arrive.

use std::{
    collections::{BTreeSet, HashSet},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use sg_common::wire::{
    ip::{TCP, UDP},
    tcp::SYN,
};

use super::{
    Measured, Options,
    frames::{Ends, Place, Segment, udp},
    range::{self, Hook, Target},
    tricks::{filled, tricks},
    witness::{Place as Where, Witness},
};
use crate::{net::Host, traffic};

/// What must come of fragments.
pub(super) const NO_BYTES: &str = "0 bytes to denied ports; allowed datagrams arrive";

/// Ports: who may be asked, and who may not.
pub(super) const ALLOWED: u16 = 53;
pub(super) const DENIED: u16 = 5353;
pub(super) const DENIED_TCP: u16 = 81;
/// Times that each trick is tried.
const TRIES: u32 = 40;
/// A datagram that takes six fragments of a usual device.
const LARGE: usize = 8192;
/// Payload of each fragment: a multiple of 8 that fits in both families.
const SIZE: usize = 1440;
/// Large datagrams of each order.
const DATAGRAMS: usize = 200;
const MANY: usize = 100_000;
/// Among them, a datagram of the allowed flow after so many.
const EVERY: usize = 1000;

/// Room for all that is kept waiting: what is measured is what our programs let pass, not how much a kernel
/// keeps.
fn make_room(server: &Host) -> Result<()> {
    server.ns().set_parameters(&[
        ("ipv4/ipfrag_high_thresh", "536870912"),
        ("ipv6/ip6frag_high_thresh", "536870912"),
        ("ipv4/ipfrag_max_dist", "0"),
    ])
}

/// A socket that only listens.
struct Sink(UdpSocket);

impl Sink {
    fn at(host: &Host, address: SocketAddr) -> Result<Self> {
        let socket = host.ns().run(|| UdpSocket::bind(address)).context("a sink")?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// The datagrams heard so far, waiting at most a moment for as many as are expected.
    fn heard(&self, expected: usize) -> Vec<Vec<u8>> {
        let (mut datagrams, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        let started = Instant::now();
        loop {
            match self.0.recv(&mut buffer) {
                Ok(length) => datagrams.push(buffer[..length].to_vec()),
                Err(_) if datagrams.len() >= expected => return datagrams,
                Err(_) if started.elapsed() > Duration::from_secs(2) => return datagrams,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// The sockets of one family that tell what got through.
struct Sinks {
    allowed: Sink,
    denied: Sink,
}

impl Sinks {
    fn open(target: &Target<'_>, ends: Ends) -> Result<Self> {
        let at = |port| Sink::at(target.server(), SocketAddr::new(ends.destination, port));
        Ok(Self { allowed: at(ALLOWED)?, denied: at(DENIED)? })
    }

    fn denied_bytes(&self) -> usize {
        self.denied.heard(0).iter().map(Vec::len).sum()
    }
}

pub(super) fn crafted(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        let server = target.server();
        make_room(server)?;
        let mut listeners = Vec::new();
        for port in [80, DENIED_TCP] {
            for socket in [server.socket_v4(port), server.socket_v6(port)] {
                listeners.push(traffic::tcp::Server::start(server.ns(), socket)?);
            }
        }
        // A SYN that got through is answered, by whatever.
        let answered = format!("tcp sport {DENIED_TCP}");
        let witness = Witness::place(server.ns(), &[(Where::Leaving, "answered", &answered)])?;
        for ends in target.ends() {
            let sinks = Sinks::open(&target, ends)?;
            let mut capture = target.capture()?;
            for number in 0..TRIES {
                target.send(&tricks(&target, ends, number))?;
            }
            target.fence(&mut capture)?;
            let whole = usize::try_from(TRIES)?;
            let allowed =
                sinks.allowed.heard(whole).iter().filter(|it| **it == filled(b'd')).count();
            let (bytes, segments) = (sinks.denied_bytes(), witness.count("answered")?);
            measured.add(
                bytes == 0 && segments == 0 && allowed >= whole,
                &format!(
                    "{} {hook:?}: {bytes} bytes, {segments} answers of {DENIED_TCP}/tcp, \
                     {allowed} of {whole} allowed",
                    ends.family()
                ),
            );
        }
    }
    Ok(measured)
}

pub(super) fn orphans(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    for ends in target.ends() {
        let mut frames = Vec::new();
        let mut orphans = HashSet::new();
        for number in 0..TRIES {
            let [first, later] = orphan(&target, ends, number);
            orphans.insert(later.clone());
            frames.extend([first, later]);
        }
        let arrived = target.arrivals(&frames)?;
        let (passed, count) =
            (arrived.iter().filter(|it| orphans.contains(*it)).count(), orphans.len());
        measured.add(
            arrived.is_empty(),
            &format!("{}: {passed} of {count}, {} firsts", ends.family(), arrived.len() - passed),
        );
    }
    Ok(measured)
}

/// A first fragment that is dropped, for a header that cannot be or for a port, and the rest behind it.
fn orphan(target: &Target<'_>, ends: Ends, number: u32) -> [Vec<u8>; 2] {
    let is_malformed = number.is_multiple_of(2);
    let port = if is_malformed { 80 } else { DENIED_TCP };
    let segment =
        Segment { ports: (20_000, port), flags: SYN, sequence: number, acknowledgement: 0 };
    let mut bytes = segment.bytes(&[0; 28]);
    if is_malformed {
        // A header of four words.
        bytes[12] = 4 << 4;
    }
    let bytes = ends.checksummed(TCP, &bytes);
    let part = |range: std::ops::Range<usize>, more| {
        let place = Place { id: 1000 + number, offset: range.start, more };
        target.link().fragment(ends, TCP, place, &bytes[range])
    };
    [part(0..24, true), part(24..48, false)]
}

/// A large datagram that can be told from every other.
fn large(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; LARGE];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    for (index, byte) in bytes.iter_mut().enumerate().skip(8) {
        *byte = u8::try_from((index * 7 + number) % 251).unwrap_or(0);
    }
    bytes
}

/// The fragments of a large datagram, in order or against it.
fn large_fragments(target: &Target<'_>, ends: Ends, number: usize) -> Vec<Vec<u8>> {
    let id = u32::try_from(number + 1).unwrap_or(0);
    let datagram = udp((30_000, ALLOWED), &large(number));
    let mut fragments = target.link().fragments(ends, UDP, id, &datagram, SIZE);
    if number % 2 == 1 {
        fragments.reverse();
    }
    fragments
}

/// How many of them arrived whole, each counted once.
fn whole(heard: &[Vec<u8>]) -> usize {
    let numbers = heard.iter().filter_map(|datagram| {
        let number = usize::from_be_bytes(datagram.get(..8)?.try_into().ok()?);
        (*datagram == large(number)).then_some(number)
    });
    numbers.collect::<BTreeSet<_>>().len()
}

pub(super) fn datagrams(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    for hook in [Hook::Tc, Hook::Xdp] {
        let net = range::routed()?;
        let target = Target::attach(&net, range::OPEN, hook, &[])?;
        make_room(target.server())?;
        for ends in target.ends() {
            let sinks = Sinks::open(&target, ends)?;
            for number in 0..2 * DATAGRAMS {
                target.send(&large_fragments(&target, ends, number))?;
            }
            let arrived = whole(&sinks.allowed.heard(2 * DATAGRAMS));
            drop(sinks);
            let exchanged = exchange(&target, ends)?;
            measured.add(
                arrived == 2 * DATAGRAMS && exchanged == EXCHANGES,
                &format!(
                    "{} {hook:?}: {arrived} of {}, {exchanged} of {EXCHANGES} answered",
                    ends.family(),
                    2 * DATAGRAMS
                ),
            );
        }
    }
    Ok(measured)
}

/// Questions of that size between real sockets, which the kernels cut by themselves.
const EXCHANGES: usize = 20;

fn exchange(target: &Target<'_>, ends: Ends) -> Result<usize> {
    let server = SocketAddr::new(ends.destination, ALLOWED);
    let _echo = traffic::udp::Server::start(target.server().ns(), server)?;
    let client = target.client().ns().run(|| UdpSocket::bind((ends.source, 0)))?;
    client.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (mut answered, mut buffer) = (0, vec![0; 1 << 16]);
    for number in 0..EXCHANGES {
        client.send_to(&large(number), server)?;
        let length = client.recv(&mut buffer).unwrap_or(0);
        answered += usize::from(buffer[..length] == large(number));
        // It must be all of them; once it is none, more waiting tells nothing.
        if answered == 0 {
            break;
        }
    }
    Ok(answered)
}

pub(super) fn many_ids(_: &Options) -> Result<Measured> {
    let mut measured = Measured::begin();
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    make_room(target.server())?;
    for ends in target.ends() {
        let sinks = Sinks::open(&target, ends)?;
        let mut sent = 0;
        let pause = |littered: usize| {
            if littered >= sent * EVERY {
                target.send(&large_fragments(&target, ends, sent))?;
                sent += 1;
            }
            Ok(())
        };
        target.flood(MANY, |number| litter(&target, ends, number), pause)?;
        let arrived = whole(&sinks.allowed.heard(sent));
        let bytes = sinks.denied_bytes();
        measured.add(
            bytes == 0 && arrived == sent,
            &format!(
                "{}: {bytes} bytes, {arrived} of {sent} datagrams among {MANY} ids",
                ends.family()
            ),
        );
    }
    Ok(measured)
}

/// A fragment with an identification of its own, from one attacker or from somebody who does not exist.
fn litter(target: &Target<'_>, ends: Ends, number: usize) -> Vec<u8> {
    let stranger = super::flood::stranger(ends.source);
    let source =
        if number.is_multiple_of(2) { stranger } else { super::flood::stranger_one(ends.source) };
    let from = Ends { source, ..ends };
    let id = u32::try_from(number).unwrap_or(0);
    let denied = from.checksummed(UDP, &udp((1234, DENIED), &filled(b'!')));
    let (range, more) = match number % 3 {
        0 => (0..40, true),
        1 => (40..72, false),
        _ => (8..40, true),
    };
    let place = Place { id, offset: range.start, more };
    target.link().fragment(from, UDP, place, &denied[range])
}
