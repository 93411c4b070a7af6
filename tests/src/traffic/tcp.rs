//! TCP: one connection, or a conversation that goes on.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Protocol, Type};

use super::{
    MESSAGE, Outcome, bound, open, outcome_of,
    service::{Service, Shared, TICK},
};
use crate::netns::Namespace;

/// Accepts connections and sends back what it reads, until dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    service: Service,
}

impl Server {
    /// Listens at an address of the namespace; port 0 takes any.
    ///
    /// # Errors
    /// When the address is not there or taken.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = bound(namespace, Type::STREAM, Protocol::TCP, address)?;
        socket.listen(128)?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?.as_socket().context("address of a TCP socket")?;
        let service = Service::spawn(move |shared| {
            if let Ok((connection, _)) = socket.accept() {
                shared.count();
                let shared = Arc::clone(shared);
                thread::spawn(move || echo(connection.into(), &shared));
            }
        });
        Ok(Self { address, service })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.service.served()
    }
}

/// Serves one connection to its end or the server's.
fn echo(mut connection: TcpStream, shared: &Shared) {
    if connection.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    while !shared.stopped() {
        match connection.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if connection.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects: the three-way handshake and nothing else. `from` with port 0 fixes the address
    /// alone.
    ///
    /// # Errors
    /// When the socket cannot be made or bound; a connection that does not come about is an
    /// [`Outcome`].
    pub fn open(
        namespace: &Namespace,
        from: Option<SocketAddr>,
        to: SocketAddr,
        limit: Duration,
    ) -> Result<Result<Self, Outcome>> {
        let socket = open(namespace, Type::STREAM, Protocol::TCP, from, to)?;
        match socket.connect_timeout(&to.into(), limit) {
            Ok(()) => Ok(Ok(Self { stream: socket.into() })),
            Err(error) => Ok(Err(outcome_of(error)?)),
        }
    }

    /// Sends a line and waits for the same line: data in both directions.
    ///
    /// # Errors
    /// When the socket fails in a way that is not the network's answer.
    pub fn exchange(&mut self, limit: Duration) -> Result<Outcome> {
        self.stream.set_read_timeout(Some(limit))?;
        let result = self.stream.write_all(MESSAGE).and_then(|()| {
            let mut answer = [0; MESSAGE.len()];
            self.stream.read_exact(&mut answer).map(|()| answer)
        });
        match result {
            Ok(answer) => {
                anyhow::ensure!(answer == MESSAGE, "the answer is not what was sent");
                Ok(Outcome::Connected)
            }
            // The other end closed: to the one who asks, no better than a reset.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Outcome::Reset),
            Err(error) => {
                let outcome = outcome_of(error)?;
                Ok(if outcome == Outcome::TimedOut { Outcome::Stalled } else { outcome })
            }
        }
    }

    /// Our end of it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.stream.local_addr().context("address of a TCP socket")
    }

    /// The socket, for options and half-closing.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// Connects and exchanges one line, so that `Connected` means data passed both ways. `limit` holds
/// for each of the two.
///
/// # Errors
/// As [`Client::open`] and [`Client::exchange`].
pub fn connect(
    namespace: &Namespace,
    from: Option<SocketAddr>,
    to: SocketAddr,
    limit: Duration,
) -> Result<Outcome> {
    match Client::open(namespace, from, to, limit)? {
        Ok(mut client) => client.exchange(limit),
        Err(outcome) => Ok(outcome),
    }
}
