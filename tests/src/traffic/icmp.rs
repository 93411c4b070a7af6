//! ICMP and ICMPv6 echo, through the kernel's echo sockets.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Protocol, Socket, Type};

use super::{MESSAGE, Outcome, open, outcome_of, report_errors, uninterrupted};
use crate::netns::Namespace;

/// Echo requests of one identifier to one address.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    request_type: u8,
    sequence: u16,
}

impl Client {
    /// Prepares one; nothing is sent. Identifier 0 takes any.
    ///
    /// # Errors
    /// When the socket cannot be made or bound, or there is no route.
    pub fn open(
        namespace: &Namespace,
        from: Option<IpAddr>,
        to: IpAddr,
        identifier: u16,
    ) -> Result<Self> {
        let (protocol, request_type, any) = match to {
            IpAddr::V4(_) => (Protocol::ICMPV4, 8, IpAddr::from([0; 4])),
            IpAddr::V6(_) => (Protocol::ICMPV6, 128, IpAddr::from([0; 16])),
        };
        // An echo socket's port is the identifier.
        let local = SocketAddr::new(from.unwrap_or(any), identifier);
        let peer = SocketAddr::new(to, 0);
        let socket = open(namespace, Type::DGRAM, protocol, Some(local), peer)?;
        report_errors(&socket, peer)?;
        socket.connect(&peer.into()).with_context(|| format!("no route to {to}"))?;
        Ok(Self { socket, request_type, sequence: 0 })
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the socket fails in a way that is not the network's answer.
    pub fn exchange(&mut self, limit: Duration) -> Result<Outcome> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence.to_be_bytes();
        // The kernel fills checksum and identifier in.
        let mut request = vec![self.request_type, 0, 0, 0, 0, 0, sequence[0], sequence[1]];
        request.extend(MESSAGE);
        match self.socket.send(&request) {
            Ok(_) => {}
            // TC egress on our own device dropped it: no reply will come, as for any other drop.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return outcome_of(error),
        }
        let started = Instant::now();
        while let Some(left) = limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            let mut reply = [MaybeUninit::uninit(); 128];
            match uninterrupted(|| self.socket.recv(&mut reply)) {
                Ok(length) if is_reply(&reply[..length], sequence) => {
                    return Ok(Outcome::Connected);
                }
                // The reply to an earlier request that was given up.
                Ok(_) => {}
                Err(error) => return outcome_of(error),
            }
        }
        Ok(Outcome::TimedOut)
    }
}

fn is_reply(reply: &[MaybeUninit<u8>], sequence: [u8; 2]) -> bool {
    // SAFETY: the caller passes as many bytes as the kernel has just said it wrote.
    let reply = unsafe { reply.assume_init_ref() };
    matches!(reply.first(), Some(0 | 129)) && reply.get(6..8) == Some(&sequence)
}

/// One echo request and its reply.
///
/// # Errors
/// As [`Client::open`] and [`Client::exchange`].
pub fn ping(
    namespace: &Namespace,
    from: Option<IpAddr>,
    to: IpAddr,
    limit: Duration,
) -> Result<Outcome> {
    Client::open(namespace, from, to, 0)?.exchange(limit)
}
