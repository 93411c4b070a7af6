//! TCP connections for one request each: connect, ask, be answered, close.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Cpu, Done, Talk, Turn, address, nanoseconds, talk, units};
use crate::wire::Wire;

/// Bytes of request and answer.
const LENGTH: usize = 64;

/// Connects for so long; each connection must come to its end.
pub(crate) fn connections(wire: &Wire, window: Duration) -> Result<Talk> {
    let server = wire.server().ns().run(|| TcpListener::bind(address(wire)))?;
    server.set_nonblocking(true)?;
    // A socket is born into the namespace of its thread, and a thread into that of the one that makes it.
    wire.near()
        .run(|| talk(window, Cpu::Nobody, |turn| ask(turn, wire), |turn| answer(turn, &server)))
}

fn ask(turn: &Turn, wire: &Wire) -> Result<Done> {
    let mut times = Vec::new();
    while !turn.is_over() {
        let began = Instant::now();
        one(turn, wire).with_context(|| format!("connection {}", times.len() + 1))?;
        times.push(nanoseconds(began));
    }
    Ok(Done { units: units(times.len()), times })
}

/// The handshake is over when the call returns: all of it runs on this processor.
fn one(turn: &Turn, wire: &Wire) -> Result<()> {
    let mut stream = TcpStream::connect(address(wire))?;
    stream.set_nonblocking(true)?;
    stream.write_all(&[0; LENGTH])?;
    let mut buffer = [0; 2 * LENGTH];
    let mut length = 0;
    loop {
        let read = turn.awaited(|| stream.read(&mut buffer[length..]))?;
        length += read;
        if read == 0 {
            break;
        }
    }
    ensure!(length == LENGTH, "an answer of {length} bytes");
    Ok(())
}

/// Closes first, as servers do that serve one request a connection: the client's port is free at once.
fn answer(turn: &Turn, server: &TcpListener) -> Result<()> {
    while let Some((mut stream, _)) = turn.retried(|| server.accept())? {
        stream.set_nonblocking(true)?;
        let mut buffer = [0; LENGTH];
        let mut length = 0;
        while length < LENGTH {
            let Some(read) = turn.retried(|| stream.read(&mut buffer[length..]))? else {
                return Ok(());
            };
            ensure!(read > 0, "the client closed before it had asked");
            length += read;
        }
        stream.write_all(&buffer)?;
        match stream.shutdown(Shutdown::Write) {
            // The client has read, and closed, already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            done => done?,
        }
    }
    Ok(())
}
