//! UDP: requests with an answer.

use std::{
    mem::MaybeUninit,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Protocol, Type};

use super::{
    MESSAGE, Outcome, bound, open, outcome_of, report_errors,
    service::{Service, TICK},
    uninterrupted,
};
use crate::netns::Namespace;

/// Sends every datagram back, until dropped.
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
        let socket = bound(namespace, Type::DGRAM, Protocol::UDP, address)?;
        socket.set_read_timeout(Some(TICK))?;
        let socket: UdpSocket = socket.into();
        let address = socket.local_addr()?;
        let service = Service::spawn(move |shared| {
            let mut buffer = [0; 65536];
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                shared.count();
                // An answer that cannot be sent is an answer that does not arrive.
                _ = socket.send_to(&buffer[..length], from);
            }
        });
        Ok(Self { address, service })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams reached it.
    #[must_use]
    pub fn received(&self) -> usize {
        self.service.served()
    }
}

/// A socket with a fixed peer.
#[derive(Debug)]
pub struct Client {
    socket: socket2::Socket,
}

impl Client {
    /// Prepares one; nothing is sent. `from` with port 0 fixes the address alone.
    ///
    /// # Errors
    /// When the socket cannot be made or bound, or there is no route.
    pub fn open(namespace: &Namespace, from: Option<SocketAddr>, to: SocketAddr) -> Result<Self> {
        let socket = open(namespace, Type::DGRAM, Protocol::UDP, from, to)?;
        report_errors(&socket, to)?;
        socket.connect(&to.into()).with_context(|| format!("no route to {to}"))?;
        Ok(Self { socket })
    }

    /// Sends a datagram and waits for it to come back.
    ///
    /// # Errors
    /// When the socket fails in a way that is not the network's answer.
    pub fn exchange(&self, limit: Duration) -> Result<Outcome> {
        self.send(MESSAGE)?;
        self.socket.set_read_timeout(Some(limit))?;
        let mut buffer = [MaybeUninit::uninit(); MESSAGE.len()];
        match uninterrupted(|| self.socket.recv(&mut buffer)) {
            Ok(length) => {
                ensure!(length == MESSAGE.len(), "the answer is not what was sent");
                Ok(Outcome::Connected)
            }
            Err(error) => outcome_of(error),
        }
    }

    /// Sends a datagram and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be sent. What a program on our own device dropped counts as sent.
    pub fn send(&self, payload: &[u8]) -> Result<()> {
        match self.socket.send(payload) {
            Ok(_) => Ok(()),
            // TC egress dropped it; told only because ICMP errors are asked for.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error).context("sending a datagram"),
        }
    }

    /// Our end of it.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().context("address of a UDP socket")
    }
}

/// Sends one datagram and waits for the answer.
///
/// # Errors
/// As [`Client::open`] and [`Client::exchange`].
pub fn request(
    namespace: &Namespace,
    from: Option<SocketAddr>,
    to: SocketAddr,
    limit: Duration,
) -> Result<Outcome> {
    Client::open(namespace, from, to)?.exchange(limit)
}
