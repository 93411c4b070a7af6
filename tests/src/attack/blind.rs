//! Resets and FINs from somebody who knows the ports but not the numbers (RFC 5961). The target's own stack
//! answers what falls into its window with a challenge; ours must not move a flow by any of them.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context as _, Result};
use etherparse::TransportSlice;
use sg_common::wire::{
    ip::TCP,
    tcp::{ACK, FIN, RST, SYN},
};

use super::{
    Measured, Options,
    frames::{Ends, Segment},
    live::Connections,
    range::{self, Hook, Target},
};
use crate::frame::Frame;

/// Flows of each family.
const FLOWS: usize = 10;
/// Packets against each.
const GUESSES: usize = 10_000;
/// After so many of them the flow speaks, and its numbers move.
const ROUND: usize = 1000;
/// What a flow that nobody shortened has left of 432 000 seconds.
const LONG: u64 = 431_000;
/// As wide as a window without scaling.
const WINDOW: u32 = 65_535;

pub(super) fn reset(_: &Options) -> Result<Measured> {
    play(|number| if number.is_multiple_of(2) { RST } else { RST | ACK })
}

/// A SYN would open the connection anew, a plain segment would move it.
pub(super) fn others(_: &Options) -> Result<Measured> {
    play(|number| if number.is_multiple_of(2) { SYN } else { ACK })
}

pub(super) fn finish(_: &Options) -> Result<Measured> {
    play(|_| FIN | ACK)
}

fn play(flags: impl Fn(usize) -> u8) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let mut measured = Measured::begin();
    for ends in target.ends() {
        let mut connections = Connections::open(&target, (ends.destination, 80).into(), FLOWS)?;
        for _ in 0..GUESSES / ROUND {
            for numbers in numbers(&target, &mut connections)?.values() {
                let guess = |number| guess(&target, ends, numbers, flags(number), number);
                target.flood(ROUND, guess, |_| Ok(()))?;
            }
        }
        let ended = FLOWS - connections.alive()?.min(undisturbed(&target, &connections)?);
        let family = ends.family();
        measured.add(ended == 0, &format!("{family}: {ended} of {FLOWS} flows ended"));
    }
    measured.numbers += &format!(", {} packets", 2 * FLOWS * GUESSES);
    Ok(measured)
}

/// The next sequence numbers of a connection, seen from the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) port: u16,
    pub(super) client: u32,
    pub(super) server: u32,
}

/// Lets every connection speak, and reads its numbers off the wire; by the client's port.
pub(super) fn numbers(
    target: &Target<'_>,
    connections: &mut Connections,
) -> Result<HashMap<u16, Numbers>> {
    let mut capture = target.capture()?;
    connections.alive()?;
    target.fence(&mut capture)?;
    let mut found: HashMap<u16, Numbers> = HashMap::new();
    for frame in capture.frames()? {
        let Some((port, next, outgoing)) = next_number(frame) else { continue };
        let numbers = found.entry(port).or_insert(Numbers { port, client: 0, server: 0 });
        *(if outgoing { &mut numbers.server } else { &mut numbers.client }) = next;
    }
    for (near, _) in &connections.pairs {
        let port = near.local_addr()?.port();
        found.get(&port).context("a connection whose packets were not seen")?;
    }
    Ok(found)
}

/// The client's port, the number behind a segment, and whether the server sent it.
fn next_number(frame: &Frame) -> Option<(u16, u32, bool)> {
    let slice = frame.slice()?;
    let Some(TransportSlice::Tcp(tcp)) = &slice.transport else { return None };
    let length = u32::try_from(tcp.payload().len()).ok()?;
    let port = if frame.outgoing { tcp.destination_port() } else { tcp.source_port() };
    Some((port, tcp.sequence_number().wrapping_add(length), frame.outgoing))
}

/// Half of them anywhere, a quarter each ahead of the right number and behind it; never the right one.
fn guess(target: &Target<'_>, ends: Ends, right: &Numbers, flags: u8, number: usize) -> Vec<u8> {
    let near = fastrand::u32(1..=WINDOW);
    // An acknowledgement that the target would take is no longer blind: its own stack would then queue a FIN
    // that lies in the window, and obey it once data reaches it.
    let far = right.server.wrapping_add(fastrand::u32(1 << 30..3 << 30));
    let (sequence, acknowledgement) = match number % 4 {
        0 => (right.client.wrapping_add(near), far),
        1 => (right.client.wrapping_sub(near), right.server),
        _ => (right.client.wrapping_add(fastrand::u32(1..)), far),
    };
    let segment = Segment { ports: (right.port, 80), flags, sequence, acknowledgement };
    target.link().packet(ends, TCP, &segment.bytes(b""))
}

/// Flows that are as they were: established, with their whole idle time before them.
fn undisturbed(target: &Target<'_>, connections: &Connections) -> Result<usize> {
    let flows = target.flows(&["--established", "--port", "80"])?;
    let clients: Vec<SocketAddr> =
        connections.pairs.iter().map(|(near, _)| near.local_addr()).collect::<Result<_, _>>()?;
    let ours = flows.iter().filter(|flow| {
        let port = flow["remote_port"].as_u64();
        let address = flow["remote"].as_str().unwrap_or_default();
        let same =
            |it: &&SocketAddr| Some(u64::from(it.port())) == port && it.ip().to_string() == address;
        clients.iter().any(|client| same(&client))
    });
    let whole = |flow: &&serde_json::Value| {
        flow["state"] == "established" && flow["expires_in"].as_u64() > Some(LONG)
    };
    Ok(ours.filter(whole).count())
}
