//! Real sockets in namespaces: clients that report what a person would see, and servers that echo.
//!
//! Each protocol is a module of the same shape: a `Server` guard that answers with what it
//! received, a `Client` with a fixed five-tuple and `exchange`, and a function that does one
//! exchange and reports the [`Outcome`].

pub mod icmp;
pub mod ip;
pub mod sctp;
mod service;
pub mod tcp;
pub mod udp;

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// How an attempt ended, as the one who made it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Data went there and came back.
    Connected,
    /// Nothing came back: what a security group does to what it does not allow.
    TimedOut,
    /// The other end said no: RST, or ICMP port or protocol unreachable.
    Refused,
    /// Someone on the way, or our own routes, said that there is no way.
    Unreachable,
    /// TCP only: the handshake was done, but no answer came to data.
    Stalled,
    /// TCP only: reset after the handshake.
    Reset,
}

/// What every client sends, and every server sends back.
const MESSAGE: &[u8] = b"is anybody there?\n";

/// The outcome that an error stands for.
///
/// # Errors
/// Itself, if it is about the test's own machine rather than the network's answer.
fn outcome_of(error: io::Error) -> Result<Outcome> {
    // By number: several have no stable ErrorKind, and a blackhole route says "invalid argument".
    let outcome = match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOPROTOOPT | libc::EPROTO) => Outcome::Refused,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::EPERM) => {
            Outcome::Unreachable
        }
        Some(libc::ECONNRESET | libc::EPIPE) => Outcome::Reset,
        Some(libc::ETIMEDOUT | libc::EAGAIN) => Outcome::TimedOut,
        _ if error.kind() == io::ErrorKind::TimedOut => Outcome::TimedOut,
        _ => return Err(error).context("socket"),
    };
    Ok(outcome)
}

/// Repeats a call that a signal has cut short, as happens when the machine is suspended meanwhile.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A socket of the namespace for talking to `peer`, bound to `from` if that is given.
fn open(
    namespace: &Namespace,
    kind: Type,
    protocol: Protocol,
    from: Option<SocketAddr>,
    peer: SocketAddr,
) -> Result<Socket> {
    let socket = namespace
        .run(|| Socket::new(Domain::for_address(peer), kind, Some(protocol)))
        .with_context(|| format!("socket for protocol {}", i32::from(protocol)))?;
    if let Some(from) = from {
        // A test may use the same source port again at once.
        socket.set_reuse_address(true)?;
        socket.bind(&from.into()).with_context(|| format!("binding to {from}"))?;
    }
    Ok(socket)
}

/// A socket of the namespace that listens at `address`: of one family only, for IPv6 too.
fn bound(
    namespace: &Namespace,
    kind: Type,
    protocol: Protocol,
    address: SocketAddr,
) -> Result<Socket> {
    let socket = namespace
        .run(|| Socket::new(Domain::for_address(address), kind, Some(protocol)))
        .with_context(|| format!("socket for protocol {}", i32::from(protocol)))?;
    // Raw sockets are of one family anyway, and refuse to be told.
    if address.is_ipv6() && kind != Type::RAW {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding to {address}"))?;
    Ok(socket)
}

/// Asks that ICMP errors of every kind end a wait; without it only some do.
fn report_errors(socket: &Socket, peer: SocketAddr) -> Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    match peer {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    }
    .context("asking for ICMP errors")
}
