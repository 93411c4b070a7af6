//! From the sockets that are there to the flows that keep them: what `attach` adopts. Pure.

#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use sg_common::abi::{Adoption, AdoptionRequest, FlowFlags, FlowState};
use sg_common::wire::ip;
use sg_common::{Address as _, Be16, Direction, V4, V6};

pub use tracked::{Tracked, TrackedState, merge, tracked};

/// A socket of the protected end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Where it stands.
    pub state: SocketState,
    /// Its own address and port.
    pub local: SocketAddr,
    /// The other end's; unspecified where there is none.
    pub remote: SocketAddr,
    /// Bytes that the other end has not acknowledged yet, a FIN counted as one.
    pub unacknowledged: u32,
}

/// As `tcp(7)` and `ss(8)` name them. A connected UDP socket is established, another is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// TCP: open in both directions. UDP: connected.
    Established,
    /// The local end has closed its half; its FIN may wait behind data.
    FinWait1,
    /// And the remote end knows.
    FinWait2,
    /// The remote end has closed its half.
    CloseWait,
    /// Both have; the local end's FIN is not acknowledged.
    LastAck,
    /// TCP: waits for connections.
    Listen,
    /// UDP: talks to anybody.
    Unconnected,
}

/// A conversation of the protected end, by its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// The protected end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The direction of its first packet, as far as listening sockets tell.
    pub opened: Direction,
    /// What its entry begins as.
    pub state: FlowState,
    /// Halves that are closed already, as [`FlowFlags`].
    pub closed: u8,
}

/// The conversations of an interface, each once. A socket that only begins to connect is none: what it
/// repeats is judged by the rules.
#[must_use]
pub fn conversations(sockets: &[Socket], is_own: impl Fn(IpAddr) -> bool) -> Vec<Conversation> {
    let waiting: HashSet<_> = sockets
        .iter()
        .filter(|one| matches!(one.state, SocketState::Listen | SocketState::Unconnected))
        .map(|one| (one.protocol, one.local.port(), waits_at(one.local.ip())))
        .collect();
    let is_waiting = |one: &Socket| {
        let (protocol, port, address) = (one.protocol, one.local.port(), canonical(one.local).ip());
        waiting.contains(&(protocol, port, None))
            || waiting.contains(&(protocol, port, Some(address)))
    };
    let mut found = BTreeMap::new();
    for socket in sockets {
        let Some((state, closed)) = begins_as(socket) else { continue };
        let (local, remote) = (canonical(socket.local), canonical(socket.remote));
        // Between own addresses nothing passes a device.
        if !is_own(local.ip()) || is_own(remote.ip()) || remote.ip().is_loopback() {
            continue;
        }
        let opened = if is_waiting(socket) { Direction::Ingress } else { Direction::Egress };
        let protocol = socket.protocol;
        let conversation = Conversation { protocol, local, remote, opened, state, closed };
        found.insert(conversation.key(), conversation);
    }
    found.into_values().collect()
}

/// An address that is waited at; `None`: any.
fn waits_at(address: IpAddr) -> Option<IpAddr> {
    (!address.is_unspecified()).then(|| address.to_canonical())
}

/// Without the IPv6 clothes that an IPv4 address wears in a dual-stack socket, flow label and scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn begins_as(socket: &Socket) -> Option<(FlowState, u8)> {
    const LOCAL: u8 = FlowFlags::FIN_FROM_LOCAL;
    const REMOTE: u8 = FlowFlags::FIN_FROM_REMOTE;
    // Until nothing else waits before it, the FIN is still to come, and packets will show it.
    let fin_is_out = socket.unacknowledged <= 1;
    match socket.state {
        SocketState::Established if socket.protocol == ip::UDP => Some((FlowState::Stream, 0)),
        SocketState::Established => Some((FlowState::Adopted, 0)),
        SocketState::FinWait1 if fin_is_out => Some((FlowState::Adopted, LOCAL)),
        SocketState::FinWait1 => Some((FlowState::Adopted, 0)),
        SocketState::FinWait2 => Some((FlowState::Adopted, LOCAL)),
        SocketState::LastAck if fin_is_out => Some((FlowState::Closed, LOCAL | REMOTE)),
        SocketState::CloseWait | SocketState::LastAck => Some((FlowState::Adopted, REMOTE)),
        SocketState::Listen | SocketState::Unconnected => None,
    }
}

impl Conversation {
    /// What tells it from every other.
    #[must_use]
    pub fn key(&self) -> (u8, SocketAddr, SocketAddr) {
        (self.protocol, self.local, self.remote)
    }

    /// What the adopting program is told.
    #[must_use]
    pub fn record(&self, request: AdoptionRequest) -> Adoption {
        let opener = match self.opened {
            Direction::Ingress => FlowFlags::OPENED_BY_REMOTE,
            Direction::Egress => 0,
        };
        Adoption {
            family: if self.local.is_ipv4() { 4 } else { 6 },
            request: request as u8,
            local: widen(self.local.ip()),
            remote: widen(self.remote.ip()),
            local_port: Be16::new(self.local.port()),
            remote_port: Be16::new(self.remote.port()),
            protocol: self.protocol,
            state: self.state as u8,
            flags: self.closed | opener,
            ..Adoption::default()
        }
    }
}

fn widen(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => V4::new(address.octets()).widen(),
        IpAddr::V6(address) => V6::new(address.octets()).widen(),
    }
}

/// Where there is no room: how many of which conversations, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// What they are, for a message.
    pub what: &'static str,
    /// How many there are.
    pub live: usize,
    /// How many may be.
    pub room: u32,
    /// A table of this size would hold them twice over.
    pub enough: u32,
}

/// Other protocols than TCP get one in so many places of the flow table.
const OTHERS_SHARE: u32 = 4;

/// Refuses more conversations than an interface may have in a flow table.
///
/// # Errors
/// [`Overflow`] says of which there are too many.
pub fn check_room<'a>(
    conversations: impl IntoIterator<Item = &'a Conversation>,
    flows: u32,
    limit: u32,
) -> Result<(), Overflow> {
    let mut counts = [[0_usize; 2]; 2];
    for one in conversations {
        counts[usize::from(one.local.is_ipv6())][usize::from(one.protocol != ip::TCP)] += 1;
    }
    let twice = |live: usize| u32::try_from(live * 2).unwrap_or(u32::MAX);
    let room = flows.min(limit);
    // So many interfaces share the table.
    let sharing = flows.div_ceil(room.max(1));
    for ([tcp, others], what) in
        counts.into_iter().zip(["IPv4 conversations", "IPv6 conversations"])
    {
        let live = tcp + others;
        if live > room as usize {
            let enough = twice(live).saturating_mul(sharing);
            return Err(Overflow { what, live, room, enough });
        }
        let room = flows.div_ceil(OTHERS_SHARE);
        if others > room as usize {
            let enough = twice(others).saturating_mul(OTHERS_SHARE);
            return Err(Overflow { what: "UDP conversations", live: others, room, enough });
        }
    }
    Ok(())
}
