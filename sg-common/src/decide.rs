//! The way of a packet: link layer, network header, infrastructure, flows, source check, rules. Each step
//! stands in the file whose name says so; this one says in which order.

use crate::abi::{Event, EventKind, InterfaceFlags};
use crate::conntrack::key::{classify, ends};
use crate::conntrack::track::{may_be_learnt, may_open};
use crate::judging::Judging;
use crate::permit::Question;
use crate::source_check::is_nobodys;
use crate::verdict::Outcome;
use crate::wire::ethernet::Network;
use crate::wire::icmp;
use crate::wire::ip::{IpVersion, Part};
use crate::wire::tcp::Kind;
use crate::wire::transport::{self, Transport};
use crate::wire::{arp, ethernet};
use crate::work::{Known, Scratch, Work};
use crate::{
    Address, AddressTables, Decision, Direction, LinkLayer, Packet, Reason, Tables, Verdict,
    infrastructure,
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
    if decision.rule != 0 {
        tables.hit(decision.rule, length(packet), context.now);
    }
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
    let Some(interface) = tables.interface(generation) else {
        return Outcome::without_rule(Reason::NoPolicy);
    };
    let &Context { link, now, .. } = context;
    let judging = Judging::<P, T, EGRESS> { packet, tables, link, interface, generation, now };
    match judging.network(context) {
        Ok(Network { ethertype: ethernet::IPV4, offset, .. }) => {
            judging.ip(offset, &mut scratch.v4)
        }
        Ok(Network { ethertype: ethernet::IPV6, offset, .. }) => {
            judging.ip(offset, &mut scratch.v6)
        }
        Ok(network) => judging.beside_ip(&network),
        Err(reason) => judging.refuse(reason),
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

    /// What has no network header. In a frame of its own: on the caller's stand all others.
    #[inline(never)]
    fn refuse(&self, reason: Reason) -> Outcome {
        self.conclude(Outcome::without_rule(reason), |_event| {})
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
        let read = self.read_header(offset, work).and_then(|()| self.read_transport(work));
        if read.is_err()
            && matches!((work.known, work.header.part()), (Known::Network, Part::First))
        {
            let _noted = self.refuse_first(work);
        }
        let outcome = match read.and_then(|()| self.datagram(work)) {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::without_rule(reason),
        };
        self.conclude(outcome, |event| describe(event, Self::DIRECTION, work))
    }

    #[inline(never)]
    fn read_header<A: IpVersion>(&self, offset: usize, work: &mut Work<A>) -> Result<(), Reason>
    where
        T: AddressTables<A>,
    {
        work.length = length(self.packet);
        work.known = Known::Nothing;
        A::parse(self.packet, offset, &mut work.header)?;
        work.known = Known::Network;
        Ok(())
    }

    /// Of a later fragment there is none.
    #[inline(never)]
    fn read_transport<A: IpVersion>(&self, work: &mut Work<A>) -> Result<(), Reason>
    where
        T: AddressTables<A>,
    {
        if matches!(work.header.part(), Part::Later) {
            return Ok(());
        }
        transport::parse(self.packet, &work.header, &mut work.transport)?;
        work.known = Known::Transport;
        Ok(())
    }

    /// A later fragment follows its first; a first is judged like a whole packet and remembered.
    #[inline(always)]
    fn datagram<A: IpVersion>(&self, work: &mut Work<A>) -> Result<Outcome, Reason>
    where
        T: AddressTables<A>,
    {
        let part = work.header.part();
        match part {
            Part::Whole => {}
            Part::First => self.admit_first(work)?,
            Part::Later => {
                let known = self.later_fragment(work);
                return known.ok_or_else(|| self.early_fragment(work));
            }
        }
        let outcome = match self.flow(work) {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::without_rule(reason),
        };
        if matches!(part, Part::First) {
            let outcome = outcome.through(P::forget);
            let _noted = self.record_first(work, outcome);
            return Ok(outcome);
        }
        Ok(outcome)
    }

    /// Infrastructure first, then flow tables, then source check and rules.
    #[inline(always)]
    fn flow<A: IpVersion>(&self, work: &mut Work<A>) -> Result<Outcome, Reason>
    where
        T: AddressTables<A>,
    {
        if let Transport::Icmp(message) = work.transport
            && matches!(message.classify(A::FAMILY), icmp::Kind::Error)
        {
            if self.is_not_a_workloads(A::FAMILY, &message) {
                return Err(Reason::ForgedInfrastructure);
            }
            // Nothing that reports on a packet is long enough to be cut into pieces (RFC 4443, section 2.4).
            if !matches!(work.header.part(), Part::Whole) {
                return Err(Reason::IcmpError);
            }
            let quoted = self.read_quote(work);
            return Ok(self.error(work, quoted, message));
        }
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
        // Also where something was sent to such an address before.
        if !EGRESS && is_nobodys(work.header.source) {
            return Err(Reason::SourceCheck);
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
        let in_grace = self.now < self.tables.grace_until();
        let opens = may_open(Self::DIRECTION, &work.transport, A::FAMILY);
        if !opens && !in_grace {
            return Outcome::without_rule(Reason::NoFlow);
        }
        let question = Question {
            remote: work.key.remote,
            direction: Self::DIRECTION,
            protocol: work.key.protocol,
            port: Some(work.rule_port),
        };
        let permit = self.permit(question);
        let (entered, reason) = match permit {
            Some(permit) if opens => (self.open(work, permit), Reason::Rule),
            Some(_) | None
                if in_grace
                    && (permit.is_some() || !self.has(InterfaceFlags::CUT_LIVE_FLOWS))
                    && may_be_learnt(Self::DIRECTION, &work.transport, A::FAMILY) =>
            {
                (self.learn(work, permit), Reason::Adopted)
            }
            Some(_) => return Outcome::without_rule(Reason::NoFlow),
            None if opens => return Outcome::without_rule(Reason::NoRule),
            None => return Outcome::without_rule(Reason::NoFlow),
        };
        match entered {
            Ok(()) => Outcome::new(reason, work.flow.rule),
            Err(error) => Outcome::without_rule(error.into()),
        }
    }

    /// Drops and the first packets of flows are worth an event; infrastructure traffic is only counted.
    #[inline(always)]
    fn conclude(&self, outcome: Outcome, describe: impl FnOnce(&mut Event)) -> Outcome {
        let outcome = outcome.through(P::forget);
        let decision = outcome.decision();
        let kind = match (decision.reason, decision.verdict()) {
            (Reason::Rule | Reason::Adopted, _) => EventKind::Allow,
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
    let (local, remote) = ends(direction, &work.header);
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
