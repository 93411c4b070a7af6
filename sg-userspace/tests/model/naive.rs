//! DESIGN section 2 read aloud for packets one after another: lists that are searched from the front, and the
//! rules as the policy model has them. Written from the contract's text and ARCHITECTURE.md's decisions, not from the engine.

use std::net::IpAddr;

use sg_common::Direction;
use sg_userspace::engine::Probe;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{Interface, Side, Traffic, Vpc};

use crate::flows::{Flow, Story, key, may_open};
use crate::fragments::Datagram;
use crate::packet::{Body, Packet};
use crate::rules;
use crate::tcp::{Answer, Conversation, Effect, Kind, kind};

/// The reasons that may be told. Of a packet with which several things are wrong any of them may be: which one
/// is told first is nobody's contract. Where both lists have some, the contract leaves the verdict open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) allow: Vec<&'static str>,
    pub(crate) drop: Vec<&'static str>,
}

/// One interface.
pub(crate) struct Naive<'w> {
    pub(crate) policy: &'w Policy,
    pub(crate) vpc: &'w Vpc,
    pub(crate) interface: &'w Interface,
    pub(crate) flows: Vec<Flow>,
    pub(crate) datagrams: Vec<Datagram>,
    /// Local and remote end between which fragments pass, protocol, until when that is remembered.
    pub(crate) pairs: Vec<(IpAddr, IpAddr, u8, u64)>,
}

impl<'w> Naive<'w> {
    pub(crate) fn new(policy: &'w Policy, vpc: &'w Vpc, interface: &'w Interface) -> Self {
        let (flows, datagrams, pairs) = (Vec::new(), Vec::new(), Vec::new());
        Self { policy, vpc, interface, flows, datagrams, pairs }
    }

    /// Time has come this far; flows that were idle for their timeout are no more.
    pub(crate) fn pass(&mut self, now: u64) {
        self.flows.retain(|flow| flow.deadline > now);
        self.pairs.retain(|(.., deadline)| *deadline > now);
    }

    /// What must become of the packet.
    pub(crate) fn expect(&self, packet: &Packet) -> Expected {
        let wrong = self.illegal_source(packet);
        match packet.part.filter(|part| !part.is_whole()) {
            Some(part) if part.offset != 0 => self.expect_later_fragment(packet, part, wrong),
            Some(part) => {
                self.expect_first_fragment(packet, part, self.expect_whole(packet, wrong))
            }
            None => self.expect_whole(packet, wrong),
        }
    }

    fn expect_whole(&self, packet: &Packet, mut wrong: Vec<&'static str>) -> Expected {
        if packet.payload().len() < packet.body.header() {
            wrong.push("malformed");
        }
        if let Body::Error { kind, quote, .. } = &packet.body {
            return self.expect_error(packet, *kind, quote, wrong);
        }
        if matches!(&packet.body, Body::Tcp(it) if kind(it.flags) == Kind::Nonsense) {
            wrong.push("tcp_flags");
        }
        if self.flow_of(packet).is_some() {
            return Expected::allowed("flow", wrong);
        }
        if !may_open(packet) {
            wrong.push("no_flow");
        }
        if !self.rule_allows(packet) {
            wrong.push("no_rule");
        }
        Expected::allowed("rule", wrong)
    }

    /// The packet was judged so: what it leaves behind. A dropped one leaves nothing but what its datagram's
    /// other fragments must know.
    pub(crate) fn apply(&mut self, packet: &Packet, allowed: bool, told: &str, now: u64) {
        let part = packet.part.filter(|part| !part.is_whole());
        if let Some(part) = part {
            self.note_fragment(packet, part, allowed, told, now);
        }
        let is_later = part.is_some_and(|part| part.offset != 0);
        if !allowed || is_later || matches!(packet.body, Body::Error { .. }) {
            return;
        }
        let packet = packet.as_seen();
        if is_syn(&packet) {
            // A new connection takes the place of a closed one.
            let key = key(&packet);
            self.flows.retain(|flow| flow.key != key || !flow.is_closed());
        }
        match self.flow_of(&packet) {
            Some(index) => self.advance(index, &packet, now),
            None => self.open(&packet, now),
        }
    }

    fn advance(&mut self, index: usize, packet: &Packet, now: u64) {
        let flow = &mut self.flows[index];
        let effect = match (&mut flow.story, &packet.body) {
            (Story::Tcp(conversation), Body::Tcp(segment)) => {
                conversation.take(packet.direction, segment)
            }
            (Story::Other { last, turns }, _) => {
                *turns += usize::from(*last != packet.direction);
                *last = packet.direction;
                Effect::Refresh
            }
            (Story::Tcp(_), _) => panic!("no segment"),
        };
        match effect {
            Effect::Nothing => {}
            Effect::Refresh => flow.deadline = now + flow.timeout(),
            Effect::Gone => _ = self.flows.remove(index),
        }
    }

    fn open(&mut self, packet: &Packet, now: u64) {
        let (key, opener) = (key(packet), packet.direction);
        // Another attempt of the same end; a live flow goes on as it was.
        self.flows.retain(|flow| flow.key != key || flow.opener != opener || !flow.is_attempt());
        let story = match &packet.body {
            Body::Tcp(segment) => Story::Tcp(Conversation::open(opener, segment)),
            Body::Udp { .. }
            | Body::Sctp { .. }
            | Body::Icmp { .. }
            | Body::Error { .. }
            | Body::Other { .. } => Story::Other { last: opener, turns: 0 },
        };
        let mut flow = Flow { key, opener, deadline: 0, story };
        flow.deadline = now + flow.timeout();
        self.flows.push(flow);
    }

    /// The flow that a packet belongs to.
    fn flow_of(&self, packet: &Packet) -> Option<usize> {
        let key = key(packet);
        let find = |wanted: &dyn Fn(&Flow) -> bool| {
            self.flows.iter().position(|flow| flow.key == key && wanted(flow))
        };
        let sender = packet.direction;
        let Body::Tcp(segment) = &packet.body else { return find(&|_| true) };
        let attempt_of = |opener| find(&|flow: &Flow| flow.is_attempt() && flow.opener == opener);
        let kind = kind(segment.flags);
        if kind == Kind::Syn {
            // Sent again, or a flow of its own: nothing to a live one, and a closed one is over for it.
            return attempt_of(sender).filter(|&index| match &self.flows[index].story {
                Story::Tcp(conversation) => conversation.began_with(segment),
                Story::Other { .. } => false,
            });
        }
        find(&|flow| !flow.is_attempt()).or_else(|| match kind {
            Kind::SynAck => attempt_of(sender.reverse()),
            Kind::Syn | Kind::Reset | Kind::Plain | Kind::Nonsense => {
                attempt_of(sender).or_else(|| attempt_of(sender.reverse()))
            }
        })
    }

    /// Rule 13.
    fn illegal_source(&self, packet: &Packet) -> Vec<&'static str> {
        let own = |address| self.interface.addresses.iter().any(|net| net.contains(&address));
        let unicast = |it: IpAddr| !it.is_loopback() && !it.is_multicast() && !it.is_unspecified();
        let checked = self.interface.side == Side::Workload && self.interface.source_dest_check;
        let legal = match packet.direction {
            Direction::Ingress => unicast(packet.source) && !own(packet.source),
            Direction::Egress => {
                unicast(packet.source) && (!checked || own(packet.source))
                    // Such a packet would open a flow that ingress from itself then matches.
                    && !own(packet.destination)
            }
        };
        if legal { Vec::new() } else { vec!["source_check"] }
    }

    /// Whether a rule, or an infrastructure service, allows the packet as the first of a flow.
    pub(crate) fn rule_allows(&self, packet: &Packet) -> bool {
        let protocol = packet.protocol();
        let traffic = match &packet.body {
            Body::Icmp { kind, code, .. } | Body::Error { kind, code, .. } => {
                Traffic::Icmp { protocol, kind: Some((*kind, Some(*code))) }
            }
            Body::Other { .. } => Traffic::Protocol(protocol),
            body @ (Body::Tcp(_) | Body::Udp { .. } | Body::Sctp { .. }) => {
                let (_, port) = body.ports().expect("a protocol with ports");
                Traffic::Ports { protocol, first: port, last: port }
            }
        };
        let probe = Probe::new(packet.direction, packet.local(), packet.remote(), traffic);
        rules::allows(self.policy, self.vpc, self.interface, &probe)
    }

    /// Whether some rule of this direction allows the peer something of the protocol, whatever the port.
    pub(crate) fn some_permit(&self, packet: &Packet) -> bool {
        let groups = self.interface.groups.iter().map(|&group| &self.vpc.groups[group]);
        groups.into_iter().any(|group| {
            let rules = match packet.direction {
                Direction::Ingress => &group.ingress,
                Direction::Egress => &group.egress,
            };
            rules.iter().any(|rule| {
                let of_protocol = match rule.traffic {
                    Traffic::All => true,
                    Traffic::Ports { protocol, .. }
                    | Traffic::Icmp { protocol, .. }
                    | Traffic::Protocol(protocol) => protocol == packet.protocol(),
                };
                let (peer, remote) = (&rule.peer, packet.remote());
                of_protocol && rules::holds(self.policy, self.vpc, group, peer, remote)
            })
        })
    }

    /// Whether a packet is of a flow that lives, for an ICMP error that quotes it.
    pub(crate) fn quotes_a_flow(&self, quoted: &Packet) -> Answer {
        let key = key(quoted);
        let of_key = self.flows.iter().filter(|flow| flow.key == key);
        let answers = of_key.map(|flow| match (&flow.story, &quoted.body) {
            (Story::Tcp(conversation), Body::Tcp(segment)) => {
                conversation.quotes(quoted.direction, segment.sequence)
            }
            _ => Answer::Yes,
        });
        let answers: Vec<_> = answers.collect();
        let first = [Answer::Yes, Answer::Open].into_iter().find(|it| answers.contains(it));
        first.unwrap_or(Answer::No)
    }
}

fn is_syn(packet: &Packet) -> bool {
    matches!(&packet.body, Body::Tcp(segment) if kind(segment.flags) == Kind::Syn)
}

impl Expected {
    /// That reason, unless something is wrong.
    pub(crate) fn allowed(reason: &'static str, wrong: Vec<&'static str>) -> Self {
        let allow = if wrong.is_empty() { vec![reason] } else { Vec::new() };
        Self { allow, drop: wrong }
    }
}
