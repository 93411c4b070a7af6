//! The way of a packet: link layer, network header, infrastructure, flows, source check, rules. Each step
//! stands in the file whose name says so; this one says in which order.

use crate::abi::{Event, EventKind};
use crate::conntrack::key::classify;
use crate::conntrack::track::may_open;
use crate::judging::Judging;
use crate::verdict::Outcome;
use crate::wire::ethernet::Network;
use crate::wire::ip::IpVersion;
use crate::wire::tcp::Kind;
use crate::wire::transport::{self, Transport};
use crate::wire::{arp, ethernet};
use crate::work::{Known, Scratch, Work};
use crate::{
    Address, AddressTables, Decision, Direction, LinkLayer, Packet, Reason, TableError, Tables,
    Verdict, infrastructure,
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
    scratch: &mut Scratch,
) -> Decision {
    let outcome = match context.direction {
        Direction::Ingress => judge::<P, T, false>(packet, tables, context, scratch),
        Direction::Egress => judge::<P, T, true>(packet, tables, context, scratch),
    };
    let decision = outcome.decision();
    tables.count(context.direction, decision.reason, length(packet));
    decision
}

#[inline(always)]
fn length<P: Packet + ?Sized>(packet: &P) -> u32 {
    u32::try_from(packet.len()).unwrap_or(u32::MAX)
}

#[inline(always)]
fn judge<P: Packet + ?Sized, T: Tables, const EGRESS: bool>(
    packet: &P,
    tables: &T,
    context: &Context,
    scratch: &mut Scratch,
) -> Outcome {
    let generation = tables.generation();
    let interface = tables.interface(generation).unwrap_or_default();
    let judging =
        Judging::<P, T, EGRESS> { packet, tables, interface, generation, now: context.now };
    match judging.network(context) {
        Ok(Network { ethertype: ethernet::IPV4, offset, .. }) => {
            judging.ip(offset, &mut scratch.v4)
        }
        Ok(Network { ethertype: ethernet::IPV6, offset, .. }) => {
            judging.ip(offset, &mut scratch.v6)
        }
        Ok(network) => judging.beside_ip(&network),
        Err(reason) => judging.conclude(Outcome::without_rule(reason), |_event| {}),
    }
}

impl<P: Packet + ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// Down to the network header.
    #[inline(never)]
    fn network(&self, context: &Context) -> Result<Network, Reason> {
        if self.interface.policy == 0 {
            return Err(Reason::NoPolicy);
        }
        let network = ethernet::locate(self.packet, context.link)?;
        if self.mac_is_legal(network.source) { Ok(network) } else { Err(Reason::SourceCheck) }
    }

    /// ARP, and whatever else is not IP.
    #[inline(never)]
    fn beside_ip(&self, network: &Network) -> Outcome {
        let reason = match network.ethertype {
            ethernet::ARP => match arp::parse(self.packet, network.offset) {
                Ok(arp) => self.arp(&arp, network.source),
                Err(reason) => reason,
            },
            _ if self.at_workload() => Reason::Ethertype,
            _ => Reason::OtherEthertype,
        };
        self.conclude(Outcome::without_rule(reason), |_event| {})
    }

    #[inline(never)]
    fn ip<A: IpVersion>(&self, offset: usize, work: &mut Work<A>) -> Outcome
    where
        T: AddressTables<A>,
    {
        let outcome = match self.parse(offset, work).and_then(|()| self.flow(work)) {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::without_rule(reason),
        };
        self.conclude(outcome, |event| describe(event, Self::DIRECTION, work))
    }

    /// Network and transport header, and the key of the flow.
    #[inline(never)]
    fn parse<A: IpVersion>(&self, offset: usize, work: &mut Work<A>) -> Result<(), Reason>
    where
        T: AddressTables<A>,
    {
        work.length = length(self.packet);
        work.known = Known::Nothing;
        A::parse(self.packet, offset, &mut work.header)?;
        work.known = Known::Network;
        if work.header.fragment {
            return Err(Reason::Fragment);
        }
        transport::parse(self.packet, &work.header, &mut work.transport)?;
        work.known = Known::Transport;
        Ok(())
    }

    /// Infrastructure first, then flow tables, then source check and rules.
    #[inline(always)]
    fn flow<A: IpVersion>(&self, work: &mut Work<A>) -> Result<Outcome, Reason>
    where
        T: AddressTables<A>,
    {
        if infrastructure::possible(work.header.protocol, &work.transport)
            && let Some(reason) = self.infrastructure(&work.header, &work.transport)
        {
            return Ok(Outcome::without_rule(reason));
        }
        if let Transport::Tcp(segment) = &work.transport
            && matches!(segment.kind(), Kind::Invalid)
        {
            return Err(Reason::TcpFlags);
        }
        classify(self.tables.attachment().slot, Self::DIRECTION, work)?;
        match self.follow(work) {
            Some(outcome) => Ok(outcome),
            None => Ok(self.new_flow(work)),
        }
    }

    /// Off the fast path, with a stack frame of its own.
    #[inline(never)]
    fn new_flow<A: Address>(&self, work: &mut Work<A>) -> Outcome
    where
        T: AddressTables<A>,
    {
        if !self.source_is_legal(work.key.local, work.key.remote) {
            return Outcome::without_rule(Reason::SourceCheck);
        }
        if !may_open(Self::DIRECTION, &work.transport, A::FAMILY) {
            return Outcome::without_rule(Reason::NoFlow);
        }
        let Some(rule) = self.permit(work.key.remote, work.key.protocol, work.rule_port) else {
            return Outcome::without_rule(Reason::NoRule);
        };
        match self.open(work, rule) {
            Ok(()) => Outcome::new(Reason::Rule, rule),
            Err(TableError::Full) => Outcome::without_rule(Reason::TableFull),
        }
    }

    /// Drops and the first packets of flows are worth an event; infrastructure traffic is only counted.
    #[inline(always)]
    fn conclude(&self, outcome: Outcome, describe: impl FnOnce(&mut Event)) -> Outcome {
        let outcome = outcome.through(P::forget);
        let decision = outcome.decision();
        let kind = match (decision.reason, decision.verdict()) {
            (Reason::Rule, _) => EventKind::Allow,
            (_, Verdict::Drop) => EventKind::Drop,
            (_, Verdict::Allow) => return outcome,
        };
        self.tables.emit(self.now, kind, |event| {
            event.rule = decision.rule;
            event.length = length(self.packet);
            event.slot = self.tables.attachment().slot;
            event.reason = decision.reason as u8;
            event.direction = Self::DIRECTION as u8;
            describe(event);
        });
        outcome
    }
}

/// Writes what could be read of a packet into its event.
#[inline(always)]
fn describe<A: Address>(event: &mut Event, direction: Direction, work: &Work<A>) {
    if matches!(work.known, Known::Nothing) {
        return;
    }
    let (local, remote) = match direction {
        Direction::Ingress => (work.header.destination, work.header.source),
        Direction::Egress => (work.header.source, work.header.destination),
    };
    event.local = local.widen();
    event.remote = remote.widen();
    event.protocol = work.header.protocol;
    event.family = A::FAMILY.number();
    if !matches!(work.known, Known::Transport) {
        return;
    }
    let (source, destination) = match &work.transport {
        Transport::Tcp(segment) => (segment.source, segment.destination),
        Transport::Udp(source, destination) => (*source, *destination),
        Transport::Sctp(head) => (head.source, head.destination),
        Transport::Icmp(message) => {
            event.icmp_type = message.kind;
            event.icmp_code = message.code;
            return;
        }
        Transport::Other => return,
    };
    let (local, remote) = match direction {
        Direction::Ingress => (destination, source),
        Direction::Egress => (source, destination),
    };
    event.local_port = local.get();
    event.remote_port = remote.get();
}
