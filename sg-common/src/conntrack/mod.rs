//! Flows: their keys, their timeouts, and the step each packet makes.

mod adopted;
pub(crate) mod cut;
pub(crate) mod datagram;
pub(crate) mod fragment;
pub(crate) mod key;
pub(crate) mod reclaim;
pub(crate) mod related;
pub(crate) mod tcp;
pub(crate) mod track;
#[cfg(test)]
mod two_processors;

use crate::abi::{FlowState, InterfaceVersion};
use crate::wire::ip;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// TCP before the handshake is complete.
const TCP_HALF_OPEN: u32 = 20;
/// TCP after both ends have closed, or one has reset.
const TCP_CLOSING: u32 = 30;
/// ICMP and ICMPv6.
const ICMP: u32 = 30;
/// Protocols that are none of the above nor UDP.
const OTHER: u32 = 600;

/// What a packet did to the flow it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing that a table must know; timers are not refreshed.
    Ignored,
    /// The flow goes on where it is.
    Stay,
    /// The flow has earned its place among the established ones.
    Promote,
    /// The flow has ended but lingers, so that stragglers still find it.
    Close,
    /// The flow is over.
    Remove,
}

/// Idle timeout in nanoseconds.
#[inline(always)]
pub(crate) fn timeout(state: FlowState, protocol: u8, interface: &InterfaceVersion) -> u64 {
    let seconds = match state {
        FlowState::SynSent | FlowState::SynReceived | FlowState::Midstream => TCP_HALF_OPEN,
        FlowState::Established | FlowState::Adopted => interface.tcp_established,
        FlowState::Cut if protocol == ip::TCP => interface.tcp_established,
        FlowState::Closed => TCP_CLOSING,
        FlowState::Stream | FlowState::Cut if protocol == ip::UDP => interface.udp_stream.into(),
        FlowState::Opened
        | FlowState::Replied
        | FlowState::AskedAgain
        | FlowState::Stream
        | FlowState::Cut => match protocol {
            ip::UDP => interface.udp.into(),
            ip::ICMP | ip::ICMPV6 => ICMP,
            _ => OTHER,
        },
    };
    u64::from(seconds) * SECOND
}
