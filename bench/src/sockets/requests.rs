//! Datagrams that are answered, one at a time.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Cpu, Done, Talk, Turn, address, nanoseconds, talk, units};
use crate::wire::Wire;

/// Bytes of request and answer.
const LENGTH: usize = 64;

/// Asks for so long; each request must be answered.
pub(crate) fn requests(wire: &Wire, window: Duration) -> Result<Talk> {
    let server = wire.server().ns().run(|| UdpSocket::bind(address(wire)))?;
    server.set_nonblocking(true)?;
    let client = wire.near().run(|| UdpSocket::bind(("0.0.0.0", 0)))?;
    client.connect(address(wire))?;
    client.set_nonblocking(true)?;
    talk(window, Cpu::Nobody, |turn| ask(turn, &client), |turn| answer(turn, &server))
}

fn ask(turn: &Turn, client: &UdpSocket) -> Result<Done> {
    let (mut times, mut buffer) = (Vec::new(), [0; LENGTH]);
    while !turn.is_over() {
        let began = Instant::now();
        client.send(&[0; LENGTH])?;
        turn.awaited(|| client.recv(&mut buffer))?;
        times.push(nanoseconds(began));
    }
    Ok(Done { units: units(times.len()), times })
}

fn answer(turn: &Turn, server: &UdpSocket) -> Result<()> {
    let mut buffer = [0; LENGTH];
    while let Some((length, from)) = turn.retried(|| server.recv_from(&mut buffer))? {
        server.send_to(&buffer[..length], from)?;
    }
    Ok(())
}
