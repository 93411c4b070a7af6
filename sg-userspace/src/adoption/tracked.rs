//! Conversations that the host's own connection tracking knows: of virtual machines and of whatever else it
//! forwards or translates, where no socket can be asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sg_common::Direction;
use sg_common::abi::FlowState;
use sg_common::wire::ip;

use super::Conversation;

/// A conversation as nf_conntrack has it, answered and confirmed by both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination of its first packet.
    pub original: [SocketAddr; 2],
    /// Source and destination of the answer. Where addresses are translated, not the same reversed.
    pub reply: [SocketAddr; 2],
    /// Where it stands.
    pub state: TrackedState,
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackedState {
    /// Data flows, in TCP with one half closed at most.
    Open,
    /// It is opening or over.
    Other,
}

/// The conversations of an interface. Its device sees the addresses before a translation or behind it, as
/// the device lies; both are taken.
#[must_use]
pub fn tracked(all: &[Tracked], is_own: impl Fn(IpAddr) -> bool) -> Vec<Conversation> {
    let mut found = BTreeMap::new();
    for one in all {
        let state = match (one.protocol, one.state) {
            (ip::TCP, TrackedState::Open) => FlowState::Adopted,
            (ip::UDP, TrackedState::Open) => FlowState::Stream,
            _ => continue,
        };
        let ([source, destination], [answering, asking]) = (one.original, one.reply);
        for (local, remote, opened) in [
            (source, destination, Direction::Egress),
            (asking, answering, Direction::Egress),
            (destination, source, Direction::Ingress),
            (answering, asking, Direction::Ingress),
        ] {
            if is_own(local.ip()) && !is_own(remote.ip()) && !remote.ip().is_loopback() {
                let protocol = one.protocol;
                let conversation =
                    Conversation { protocol, local, remote, opened, state, closed: 0 };
                found.entry(conversation.key()).or_insert(conversation);
            }
        }
    }
    found.into_values().collect()
}

/// Both lists, each conversation once: its socket knows more of it.
#[must_use]
pub fn merge(mut sockets: Vec<Conversation>, tracked: Vec<Conversation>) -> Vec<Conversation> {
    let known: std::collections::HashSet<_> = sockets.iter().map(Conversation::key).collect();
    sockets.extend(tracked.into_iter().filter(|one| !known.contains(&one.key())));
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address and a port")
    }

    fn one(original: [&str; 2], reply: [&str; 2]) -> Tracked {
        let state = TrackedState::Open;
        Tracked {
            protocol: ip::TCP,
            original: original.map(address),
            reply: reply.map(address),
            state,
        }
    }

    /// A virtual machine, 10.0.0.5, behind a host, 192.0.2.1, that translates.
    #[test]
    fn each_device_sees_its_side_of_a_translation() {
        let out =
            one(["10.0.0.5:40000", "198.51.100.7:443"], ["198.51.100.7:443", "192.0.2.1:50000"]);
        let into =
            one(["198.51.100.7:40001", "192.0.2.1:80"], ["10.0.0.5:8080", "198.51.100.7:40001"]);
        let seen = |own: &str| -> Vec<_> {
            let own: IpAddr = own.parse().expect("an address");
            let found = tracked(&[out, into], |address| address == own);
            let text =
                |one: &Conversation| format!("{} {} {}", one.local, one.opened.name(), one.remote);
            found.iter().map(text).collect()
        };
        assert_eq!(
            seen("10.0.0.5"),
            ["10.0.0.5:8080 ingress 198.51.100.7:40001", "10.0.0.5:40000 egress 198.51.100.7:443"]
        );
        assert_eq!(
            seen("192.0.2.1"),
            ["192.0.2.1:80 ingress 198.51.100.7:40001", "192.0.2.1:50000 egress 198.51.100.7:443"]
        );
        assert!(seen("10.0.0.6").is_empty());
    }

    #[test]
    fn what_is_over_or_has_a_socket_is_not_taken() {
        let plain = one(["10.0.0.5:1", "10.9.9.9:2"], ["10.9.9.9:2", "10.0.0.5:1"]);
        let own = |address: IpAddr| address == address_of("10.0.0.5");
        let over = Tracked { state: TrackedState::Other, ..plain };
        let other = Tracked { protocol: 47, ..plain };
        assert_eq!(tracked(&[over, other], own), []);
        let found = tracked(&[plain, plain], own);
        assert_eq!(found.len(), 1);
        let socket = Conversation { closed: 4, ..found[0] };
        assert_eq!(merge(vec![socket], found.clone()), [socket]);
        assert_eq!(merge(vec![], found.clone()), found);
    }

    fn address_of(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
