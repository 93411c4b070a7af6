//! One TCP connection that carries as much as it can.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Cpu, Done, STALLED, Talk, Turn, address, talk};
use crate::wire::Wire;

/// Bytes of one write.
const CHUNK: usize = 256 << 10;

/// Sends for so long, both ends awake; each byte must arrive.
pub(crate) fn bulk(wire: &Wire, window: Duration) -> Result<Talk> {
    carried(wire, window, Cpu::Nobody)
}

/// The same by ends that sleep when they wait: what it costs.
pub(crate) fn sleeping_bulk(wire: &Wire, window: Duration) -> Result<Talk> {
    carried(wire, window, Cpu::Both)
}

fn carried(wire: &Wire, window: Duration, cpu: Cpu) -> Result<Talk> {
    let server = wire.server().ns().run(|| TcpListener::bind(address(wire)))?;
    let client = wire.near().run(|| TcpStream::connect(address(wire)))?;
    let (far, _) = server.accept()?;
    for stream in [&client, &far] {
        stream.set_nonblocking(cpu == Cpu::Nobody)?;
        stream.set_read_timeout(Some(STALLED))?;
        stream.set_write_timeout(Some(STALLED))?;
    }
    let received = AtomicU64::new(0);
    let send = |turn: &Turn| send(turn, client, &received);
    talk(window, cpu, send, |turn| receive(turn, far, &received))
}

fn send(turn: &Turn, mut client: TcpStream, received: &AtomicU64) -> Result<Done> {
    let chunk = vec![0; CHUNK];
    let mut sent = 0;
    while !turn.is_over() {
        sent += turn.awaited(|| client.write(&chunk))? as u64;
    }
    client.shutdown(Shutdown::Write)?;
    // It closes when it has read all.
    let left = turn.awaited(|| client.read(&mut [0])).context("waiting for the end")?;
    let arrived = received.load(Relaxed);
    ensure!(left == 0 && arrived == sent, "{arrived} bytes arrived of {sent}");
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
    let units = sent as f64;
    Ok(Done { units, times: Vec::new() })
}

fn receive(turn: &Turn, mut server: TcpStream, received: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    while let Some(length) = turn.retried(|| server.read(&mut buffer))? {
        if length == 0 {
            return Ok(());
        }
        received.fetch_add(length as u64, Relaxed);
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}
