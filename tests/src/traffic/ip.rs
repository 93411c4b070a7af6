//! Any IP protocol by its number, through raw sockets.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Protocol, SockAddr, Socket, Type};

use super::{
    MESSAGE, Outcome, bound, open, outcome_of, report_errors,
    service::{Service, TICK},
    uninterrupted,
};
use crate::netns::Namespace;

/// Answers packets of one protocol, until dropped.
#[derive(Debug)]
pub struct Server {
    service: Service,
}

impl Server {
    /// Sends every packet's payload back.
    ///
    /// # Errors
    /// When the address is not there.
    pub fn start(namespace: &Namespace, address: IpAddr, protocol: u8) -> Result<Self> {
        Self::answering(namespace, address, protocol, |payload| Some(payload.to_vec()))
    }

    /// Sends back what `answer` makes of a packet's payload.
    pub(super) fn answering(
        namespace: &Namespace,
        address: IpAddr,
        protocol: u8,
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let local = SocketAddr::new(address, 0);
        let socket = bound(namespace, Type::RAW, i32::from(protocol).into(), local)?;
        socket.set_read_timeout(Some(TICK))?;
        let service = Service::spawn(move |shared| {
            let Ok((payload, from)) = receive(&socket) else { return };
            if let Some(answer) = answer(&payload) {
                shared.count();
                // An answer that cannot be sent is an answer that does not arrive.
                _ = socket.send_to(&answer, &from);
            }
        });
        Ok(Self { service })
    }

    /// How many packets reached it.
    #[must_use]
    pub fn received(&self) -> usize {
        self.service.served()
    }
}

/// The next packet's payload and source: IPv4 sockets deliver the IP header too.
fn receive(socket: &Socket) -> std::io::Result<(Vec<u8>, SockAddr)> {
    let mut buffer = [MaybeUninit::uninit(); 65536];
    let (length, from) = uninterrupted(|| socket.recv_from(&mut buffer))?;
    // SAFETY: the kernel has just said that it wrote this many bytes.
    let packet = unsafe { buffer[..length].assume_init_ref() };
    let header = match packet.first() {
        Some(first) if from.is_ipv4() => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    Ok((packet.get(header..).unwrap_or_default().to_vec(), from))
}

/// A socket with a fixed peer.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
}

impl Client {
    /// Prepares one; nothing is sent.
    ///
    /// # Errors
    /// When the socket cannot be made or bound, or there is no route.
    pub fn open(
        namespace: &Namespace,
        protocol: u8,
        from: Option<IpAddr>,
        to: IpAddr,
    ) -> Result<Self> {
        let (from, peer) = (from.map(|from| SocketAddr::new(from, 0)), SocketAddr::new(to, 0));
        let socket = open(namespace, Type::RAW, Protocol::from(i32::from(protocol)), from, peer)?;
        report_errors(&socket, peer)?;
        socket.connect(&peer.into()).with_context(|| format!("no route to {to}"))?;
        Ok(Self { socket })
    }

    /// Sends a payload and waits for one that `is_answer`.
    ///
    /// # Errors
    /// When the socket fails in a way that is not the network's answer.
    pub fn exchange(
        &self,
        payload: &[u8],
        limit: Duration,
        is_answer: impl Fn(&[u8]) -> bool,
    ) -> Result<Outcome> {
        match self.socket.send(payload) {
            Ok(_) => {}
            // TC egress on our own device dropped it: no answer will come, as for any other drop.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return outcome_of(error),
        }
        let started = Instant::now();
        while let Some(left) = limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            match receive(&self.socket) {
                Ok((answer, _)) if is_answer(&answer) => return Ok(Outcome::Connected),
                Ok(_) => {}
                Err(error) => return outcome_of(error),
            }
        }
        Ok(Outcome::TimedOut)
    }
}

/// Sends one packet and waits for it to come back from a [`Server`].
///
/// # Errors
/// As [`Client::open`] and [`Client::exchange`].
pub fn request(
    namespace: &Namespace,
    protocol: u8,
    from: Option<IpAddr>,
    to: IpAddr,
    limit: Duration,
) -> Result<Outcome> {
    let client = Client::open(namespace, protocol, from, to)?;
    client.exchange(MESSAGE, limit, |answer| answer == MESSAGE)
}
