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

/// What could be read of a packet, for a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// 4 or 6; 0 where nothing of an IP header could be read.
    pub family: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// As [`Address::widen`] has it.
    pub source: [u32; 4],
    /// The same.
    pub destination: [u32; 4],
    /// 0 where there is none.
    pub source_port: u16,
    /// 0 where there is none.
    pub destination_port: u16,
}

impl Scratch {
    /// Forgets the packet that was judged last, so that [`Self::seen`] tells of the next alone.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.v4.known = Known::Nothing;
        self.v6.known = Known::Nothing;
    }

    /// What could be read of the packet that was judged since [`Self::forget`].
    #[inline(always)]
    #[must_use]
    pub fn seen(&self) -> Seen {
        if matches!(self.v4.known, Known::Nothing) { self.v6.seen() } else { self.v4.seen() }
    }
}

impl<A: Address> Work<A> {
    #[inline(always)]
    fn seen(&self) -> Seen {
        if matches!(self.known, Known::Nothing) {
            return Seen::default();
        }
        let (source_port, destination_port) = match &self.transport {
            Transport::Tcp(segment) => (segment.source.get(), segment.destination.get()),
            Transport::Udp(source, destination) => (source.get(), destination.get()),
            Transport::Sctp(head) => (head.source.get(), head.destination.get()),
            Transport::Icmp(_) | Transport::Other => (0, 0),
        };
        let has_ports = matches!(self.known, Known::Transport);
        Seen {
            family: A::FAMILY.number(),
            protocol: self.header.protocol,
            source: self.header.source.widen(),
            destination: self.header.destination.widen(),
            source_port: if has_ports { source_port } else { 0 },
            destination_port: if has_ports { destination_port } else { 0 },
        }
    }
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
