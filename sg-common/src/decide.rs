//! The way of a packet: link layer, network header, infrastructure, flows, source check, rules. Each step
//! stands in the file whose name says so; this one says in which order.

use crate::abi::EventKind;
use crate::conntrack::key::{Classified, classify};
use crate::conntrack::track::{Passage, may_open};
use crate::judging::Judging;
use crate::wire::ip::{IpHeader, Network};
use crate::wire::tcp::Kind;
use crate::wire::transport::{self, Transport};
use crate::wire::{arp, ethernet};
use crate::{
    AddressTables, Be16, Decision, Direction, LinkLayer, Packet, Reason, Tables, V4, V6, Verdict, infrastructure,
};

/// What is known of a packet before its first byte is read.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Which way it travels.
    pub direction: Direction,
    /// What its first byte belongs to.
    pub link: LinkLayer,
    /// Nanoseconds of the monotonic clock.
    pub now: u64,
}

/// Judges one packet: counts it, moves its flow, reports it where it is worth a report.
#[inline(always)]
pub fn decide<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    context: &Context,
) -> Decision {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let mut subject = Subject { length, ..Subject::default() };
    let judged = match context.direction {
        Direction::Ingress => judge::<P, T, false>(packet, tables, context, &mut subject),
        Direction::Egress => judge::<P, T, true>(packet, tables, context, &mut subject),
    };
    let decision = match judged {
        Ok(decision) => decision,
        Err(reason) => Decision::without_rule(reason),
    };
    tables.count(context.direction, decision.reason, length);
    report(tables, context, decision, &subject);
    decision
}

/// What an event tells of a packet, as far as it could be read.
#[derive(Debug, Clone, Copy, Default)]
struct Subject {
    local: [u32; 4],
    remote: [u32; 4],
    length: u32,
    local_port: Be16,
    remote_port: Be16,
    protocol: u8,
    family: u8,
    icmp_type: u8,
    icmp_code: u8,
}

/// Drops and the first packets of flows are worth an event; infrastructure traffic is only counted.
#[inline(always)]
fn report<T: Tables>(tables: &T, context: &Context, decision: Decision, subject: &Subject) {
    let kind = match (decision.reason, decision.verdict()) {
        (Reason::Rule, _) => EventKind::Allow,
        (_, Verdict::Drop) => EventKind::Drop,
        (_, Verdict::Allow) => return,
    };
    tables.emit(context.now, kind, |event| {
        event.local = subject.local;
        event.remote = subject.remote;
        event.rule = decision.rule;
        event.length = subject.length;
        event.slot = tables.attachment().slot;
        event.local_port = subject.local_port.get();
        event.remote_port = subject.remote_port.get();
        event.protocol = subject.protocol;
        event.family = subject.family;
        event.reason = decision.reason as u8;
        event.direction = context.direction as u8;
        event.icmp_type = subject.icmp_type;
        event.icmp_code = subject.icmp_code;
    });
}

#[inline(always)]
fn judge<P: Packet + ?Sized, T: Tables, const EGRESS: bool>(
    packet: &P,
    tables: &T,
    context: &Context,
    subject: &mut Subject,
) -> Result<Decision, Reason> {
    let generation = tables.generation();
    let interface = tables.interface(generation).ok_or(Reason::NoPolicy)?;
    if interface.policy == 0 {
        return Err(Reason::NoPolicy);
    }
    let network = ethernet::locate(packet, context.link)?;
    let judging =
        Judging::<P, T, EGRESS> { packet, tables, interface, generation, now: context.now };
    if !judging.mac_is_legal(network.source) {
        return Err(Reason::SourceCheck);
    }
    match network.ethertype {
        ethernet::IPV4 => judging.ip::<V4>(network.offset, subject),
        ethernet::IPV6 => judging.ip::<V6>(network.offset, subject),
        ethernet::ARP => {
            let arp = arp::parse(packet, network.offset)?;
            Ok(Decision::without_rule(judging.arp(&arp, network.source)))
        }
        _ if judging.at_workload() => Err(Reason::Ethertype),
        _ => Ok(Decision::without_rule(Reason::OtherEthertype)),
    }
}

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// A function of its own for each family, so that neither takes the other's place on the stack.
    #[inline(never)]
    fn ip<A: Network>(&self, offset: usize, subject: &mut Subject) -> Result<Decision, Reason>
    where
        T: AddressTables<A>,
    {
        let header = A::parse(self.packet, offset)?;
        describe_ip(subject, Self::DIRECTION, &header);
        if header.fragment {
            return Err(Reason::Fragment);
        }
        let transport = transport::parse(
            self.packet,
            A::FAMILY,
            header.protocol,
            header.payload,
            header.payload_length,
        )?;
        describe_transport(subject, Self::DIRECTION, &transport);
        if infrastructure::possible(header.protocol, &transport)
            && let Some(reason) = self.infrastructure(&header, &transport)
        {
            return Ok(Decision::without_rule(reason));
        }
        self.flow(&header, &transport, subject.length)
    }

    /// Flow tables first, then source check and rules.
    #[inline(always)]
    fn flow<A: Network>(
        &self,
        header: &IpHeader<A>,
        transport: &Transport,
        length: u32,
    ) -> Result<Decision, Reason>
    where
        T: AddressTables<A>,
    {
        if let Transport::Tcp(segment) = transport
            && matches!(segment.kind(), Kind::Invalid)
        {
            return Err(Reason::TcpFlags);
        }
        let slot = self.tables.attachment().slot;
        let Classified { key, rule_port } =
            classify(slot, Self::DIRECTION, header, transport).ok_or(Reason::IcmpError)?;
        let passage = Passage { key, tag: key.tag(), transport, length };
        match self.follow(&passage) {
            Some(decision) => Ok(decision),
            None => self.new_flow(&passage, rule_port),
        }
    }

    /// Off the fast path, with a stack frame of its own.
    #[inline(never)]
    fn new_flow<A: Network>(
        &self,
        passage: &Passage<'_, A>,
        rule_port: Be16,
    ) -> Result<Decision, Reason>
    where
        T: AddressTables<A>,
    {
        let key = &passage.key;
        if !self.source_is_legal(key.local, key.remote) {
            return Err(Reason::SourceCheck);
        }
        if !may_open(Self::DIRECTION, passage.transport, A::FAMILY) {
            return Err(Reason::NoFlow);
        }
        let rule = self.permit(key.remote, key.protocol, rule_port).ok_or(Reason::NoRule)?;
        self.open(passage, rule).map_err(|_full| Reason::TableFull)?;
        Ok(Decision { reason: Reason::Rule, rule })
    }
}

#[inline(always)]
fn describe_ip<A: Network>(subject: &mut Subject, direction: Direction, header: &IpHeader<A>) {
    let (local, remote) = match direction {
        Direction::Ingress => (header.destination, header.source),
        Direction::Egress => (header.source, header.destination),
    };
    subject.local = local.widen();
    subject.remote = remote.widen();
    subject.protocol = header.protocol;
    subject.family = A::FAMILY.number();
}

#[inline(always)]
fn describe_transport(subject: &mut Subject, direction: Direction, transport: &Transport) {
    let (source, destination) = match transport {
        Transport::Tcp(segment) => (segment.source, segment.destination),
        Transport::Udp(source, destination) => (*source, *destination),
        Transport::Sctp(head) => (head.source, head.destination),
        Transport::Icmp(message) => {
            subject.icmp_type = message.kind;
            subject.icmp_code = message.code;
            return;
        }
        Transport::Other => return,
    };
    let (local, remote) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    subject.local_port = local;
    subject.remote_port = remote;
}
