//! Datagrams one way, as many as get through.

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Cpu, Done, Talk, Turn, address, talk, units};
use crate::wire::Wire;

/// Flows that take turns.
const FLOWS: usize = 16;
/// Bytes of a datagram.
const LENGTH: usize = 64;
/// Datagrams that may be on their way, and room for them with what the kernel keeps beside each.
const WINDOW: usize = 4096;
const ROOM: usize = WINDOW * 2048;

/// Sends for so long; each datagram must arrive.
pub(crate) fn datagrams(wire: &Wire, window: Duration) -> Result<Talk> {
    let server = wire.server().ns().run(|| UdpSocket::bind(address(wire)))?;
    server.set_nonblocking(true)?;
    setsockopt(&server.as_fd(), sockopt::RcvBufForce, &ROOM).context("a large buffer")?;
    let client = || -> Result<UdpSocket> {
        let client = wire.near().run(|| UdpSocket::bind(("0.0.0.0", 0)))?;
        client.connect(address(wire))?;
        Ok(client)
    };
    let clients: Vec<_> = (0..FLOWS).map(|_| client()).collect::<Result<_>>()?;
    let received = AtomicUsize::new(0);
    talk(
        window,
        Cpu::Client,
        |turn| send(turn, &clients, &received),
        |turn| receive(turn, &server, &received),
    )
}

fn send(turn: &Turn, clients: &[UdpSocket], received: &AtomicUsize) -> Result<Done> {
    let mut sent = 0;
    while !turn.is_over() {
        for client in clients {
            client.send(&[0; LENGTH])?;
        }
        sent += clients.len();
        await_until(turn, received, sent.saturating_sub(WINDOW))?;
    }
    await_until(turn, received, sent).context("datagrams have not arrived")?;
    let arrived = received.load(Relaxed);
    ensure!(arrived == sent, "{arrived} datagrams arrived of {sent}");
    Ok(Done { units: units(sent), times: Vec::new() })
}

/// Waits until so many have arrived.
fn await_until(turn: &Turn, received: &AtomicUsize, count: usize) -> Result<()> {
    turn.awaited(|| {
        if received.load(Relaxed) >= count {
            return Ok(());
        }
        std::hint::spin_loop();
        Err(std::io::ErrorKind::WouldBlock.into())
    })
}

fn receive(turn: &Turn, server: &UdpSocket, received: &AtomicUsize) -> Result<()> {
    let mut buffer = [0; 2 * LENGTH];
    while let Some(length) = turn.retried(|| server.recv(&mut buffer))? {
        ensure!(length == LENGTH, "a datagram of {length} bytes");
        received.fetch_add(1, Relaxed);
    }
    Ok(())
}
