//! What the steps of the engine hand to one another about a packet.
//!
//! It lives in memory that the caller provides: in the kernel an element of a per-processor map, because a
//! program and the functions it calls share 512 bytes of stack.

use crate::abi::{ClockEntry, Datagram, Flow, FlowKey};
use crate::wire::ip::IpHeader;
use crate::wire::transport::Transport;
use crate::{Address, Be16, V4, V6};

/// Room for one packet at a time.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub struct Scratch {
    pub(crate) v4: Work<V4>,
    pub(crate) v6: Work<V6>,
}

/// How much of a packet could be read; what lies beyond is another packet's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Known {
    #[default]
    Nothing,
    Network,
    Transport,
}

/// One IP packet.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Work<A> {
    pub(crate) header: IpHeader<A>,
    pub(crate) transport: Transport,
    /// Its flow.
    pub(crate) key: FlowKey<A>,
    pub(crate) tag: u32,
    /// Destination port; ICMP: type and code.
    pub(crate) rule_port: Be16,
    pub(crate) length: u32,
    pub(crate) known: Known,
    /// The flow's entry, as the packet leaves it.
    pub(crate) flow: Flow,
    /// The same as it was read.
    pub(crate) before: Flow,
    /// A closed flow with the same key makes room, if the packet may open a new one.
    pub(crate) replaces: bool,
    /// The flow has earned its place among the established ones.
    pub(crate) promotes: bool,
    /// The element of the reclaiming clock that is looked at.
    pub(crate) element: ClockEntry<A>,
    /// A fragment's datagram, or that of a quoted fragment.
    pub(crate) datagram_key: FlowKey<A>,
    /// Its entry, as the packet leaves it.
    pub(crate) datagram: Datagram,
    /// Nothing, to be copied: on BPF, writing zeros is a call of a loop over bytes, copying is not.
    pub(crate) no_datagram: Datagram,
    /// The packet that an ICMP error quotes.
    pub(crate) quoted: IpHeader<A>,
    /// Its sequence number, where it is TCP.
    pub(crate) quoted_sequence: u32,
}

impl<A: Address + Default> Default for Work<A> {
    fn default() -> Self {
        Self {
            header: IpHeader::default(),
            transport: Transport::Other,
            key: FlowKey::default(),
            tag: 0,
            rule_port: Be16::default(),
            length: 0,
            known: Known::Nothing,
            flow: Flow::default(),
            before: Flow::default(),
            replaces: false,
            promotes: false,
            element: ClockEntry::default(),
            datagram_key: FlowKey::default(),
            datagram: Datagram::default(),
            no_datagram: Datagram::default(),
            quoted: IpHeader::default(),
            quoted_sequence: 0,
        }
    }
}
