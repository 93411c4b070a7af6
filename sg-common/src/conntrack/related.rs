//! ICMP errors: one passes if the packet it quotes belongs to a flow (RFC 792; RFC 4443, section 2.4;
//! RFC 5927 for the attacks). It creates and refreshes nothing.

use crate::abi::{DatagramVerdict, Flow, FlowKind, FlowState};
use crate::conntrack::key::{self, ends, message_ends, ports};
use crate::conntrack::tcp::quotes_sent;
use crate::judging::Judging;
use crate::permit::Question;
use crate::verdict::Outcome;
use crate::wire::icmp::{self, Message};
use crate::wire::ip::{self, IpVersion, Part};
use crate::work::Work;
use crate::{Address, AddressTables, Be16, Direction, Family, Packet, Reason, Tables};

/// Bytes of the quoted transport header that every quote has (RFC 792), and that suffice.
const QUOTED: usize = 8;

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// The packet that an error quotes went the other way.
    const QUOTED_DIRECTION: Direction = Self::DIRECTION.reverse();

    /// Judges an ICMP error whose quote has been read.
    #[inline(never)]
    pub(crate) fn error<A: Address>(
        &self,
        work: &mut Work<A>,
        quoted: bool,
        message: Message,
    ) -> Outcome
    where
        T: AddressTables<A>,
    {
        let (local, remote) = ends(Self::DIRECTION, &work.header);
        if !self.source_is_legal(local, remote) {
            return Outcome::without_rule(Reason::SourceCheck);
        }
        if quoted
            && message.is_about_a_packet(A::FAMILY)
            && let Some(rule) = self.quoted_flow(work)
        {
            return Outcome::new(Reason::Related, rule);
        }
        let port = Some(Be16::from_bytes([message.kind, message.code]));
        let (direction, protocol) = (Self::DIRECTION, work.header.protocol);
        match self.permit(Question { remote, direction, protocol, port }) {
            Some(permit) => Outcome::new(Reason::Rule, permit.rule()),
            None => Outcome::without_rule(Reason::IcmpError),
        }
    }

    /// Reads the packet that an error quotes, and writes the key of its flow or, of a later fragment, of
    /// its datagram; whether the error goes to whom the packet came from.
    #[inline(never)]
    pub(crate) fn read_quote<A: IpVersion>(&self, work: &mut Work<A>) -> bool
    where
        T: AddressTables<A>,
    {
        let end = work.header.payload + work.header.payload_length;
        let offset = P::confine(work.header.payload + icmp::HEADER);
        let read = A::parse_quoted(self.packet, offset, end, &mut work.quoted);
        read.is_ok()
            && work.quoted.source == work.header.destination
            && self.quoted_key(work, end).is_some()
    }

    #[inline(always)]
    fn quoted_key<A: Address>(&self, work: &mut Work<A>, end: usize) -> Option<()>
    where
        T: AddressTables<A>,
    {
        let quoted = &work.quoted;
        let (local, remote) = ends(Self::QUOTED_DIRECTION, quoted);
        let slot = Be16::new(self.tables.attachment().slot);
        if matches!(quoted.part(), Part::Later) {
            let slot = self.tables.attachment().slot;
            key::datagram(slot, Self::QUOTED_DIRECTION, quoted, &mut work.datagram_key);
            return Some(());
        }
        let mut kind = FlowKind::Ports;
        let (mut local_port, mut remote_port) = (Be16::default(), Be16::default());
        let has_ports = matches!(quoted.protocol, ip::TCP | ip::UDP | ip::SCTP);
        if has_ports || is_icmp(A::FAMILY, quoted.protocol) {
            if quoted.payload + QUOTED > end {
                return None;
            }
            let bytes = self.packet.load::<QUOTED>(quoted.payload)?;
            let [a, b, c, d, e, f, g, h] = bytes.0;
            work.quoted_sequence = u32::from_be_bytes([e, f, g, h]);
            let ends = if has_ports {
                let (source, destination) = (Be16::from_bytes([a, b]), Be16::from_bytes([c, d]));
                ports(Self::QUOTED_DIRECTION, source, destination)
            } else {
                let message = Message { kind: a, code: b, identifier: Be16::from_bytes([e, f]) };
                message_ends(A::FAMILY, Self::QUOTED_DIRECTION, &message)?
            };
            (local_port, remote_port, kind) = (ends.local, ends.remote, ends.kind);
        }
        let key = &mut work.key;
        key.local = local;
        key.remote = remote;
        key.local_port = local_port;
        key.remote_port = remote_port;
        key.slot = slot;
        key.protocol = work.quoted.protocol;
        key.kind = kind as u8;
        work.tag = work.key.tag();
        Some(())
    }

    /// The rule of the flow that the quoted packet belongs to.
    #[inline(always)]
    fn quoted_flow<A: Address>(&self, work: &mut Work<A>) -> Option<u32>
    where
        T: AddressTables<A>,
    {
        if matches!(work.quoted.part(), Part::Later) {
            let datagram = self.tables.datagram(&work.datagram_key)?.snapshot();
            let allowed = datagram.verdict == DatagramVerdict::Allowed as u32
                && datagram.tag == work.datagram_key.tag()
                && datagram.deadline > self.now;
            return allowed.then_some(datagram.rule);
        }
        for table in 0..3 {
            let cell = match table {
                0 => self.tables.flow(&work.key),
                1 => self.tables.opening(Direction::Ingress, &work.key),
                _ => self.tables.opening(Direction::Egress, &work.key),
            };
            let Some(cell) = cell else { continue };
            work.flow = cell.snapshot();
            if self.is_quoted(work, &work.flow) {
                return Some(work.flow.rule);
            }
        }
        None
    }

    #[inline(always)]
    fn is_quoted<A: Address>(&self, work: &Work<A>, flow: &Flow) -> bool {
        let Some(state) = FlowState::from_number(flow.state) else { return false };
        flow.tag == work.tag
            && flow.deadline > self.now
            // What the next packet may find cut is not live for an error either.
            && !self.is_doubtful(flow)
            && (work.key.protocol != ip::TCP
                || quotes_sent(flow, state, Self::QUOTED_DIRECTION, work.quoted_sequence))
    }
}

const fn is_icmp(family: Family, protocol: u8) -> bool {
    match family {
        Family::V4 => protocol == ip::ICMP,
        Family::V6 => protocol == ip::ICMPV6,
    }
}
