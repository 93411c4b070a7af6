//! Engine and model side by side, packet by packet: the same verdict, a reason that the contract knows, the same
//! flows left behind; and what must hold whatever the model says.

use std::collections::BTreeMap;

use sg_common::abi::{Flow, FlowKey, FlowKind, FlowState};
use sg_common::{Decision, Direction, LinkLayer, Reason, V4, V6, Verdict};
use sg_userspace::engine::{Counters, HostFamily, HostTables, Limits};

use crate::flows::{Key, Talk};
use crate::naive::{Expected, Naive};
use crate::packet::Packet;
use crate::steps::{Step, Talks};
use crate::world::World;

/// Any time but zero.
const START: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// What the engine's tables hold: by slot, key and opener, established and other flows apart.
type Table = BTreeMap<(u16, Key, Direction, bool), Flow>;

/// Runs a history; what differs, with the packets up to there.
pub(crate) fn run(which: usize, steps: &[Step]) -> Result<(), String> {
    let world = World::new(which);
    let mut lockstep = Lockstep::new(&world);
    let mut talks = Talks::default();
    let mut history = String::new();
    let mut time = 0;
    for step in steps {
        if let Step::Wait(seconds) = step {
            lockstep.now += seconds * SECOND;
            time += 1;
            lockstep.models.iter_mut().for_each(|model| model.datagrams.clear());
            history += &format!("{step:?}\n");
        }
        for (at, packet) in step.packets(&mut talks, time) {
            history += &format!("at {at}: {packet:?}\n");
            lockstep
                .packet(at, &packet)
                .map_err(|why| format!("world {which}: {why}\n{history}"))?;
        }
    }
    Ok(())
}

struct Lockstep<'w> {
    engines: Vec<HostTables<'w>>,
    slots: Vec<u16>,
    models: Vec<Naive<'w>>,
    counted: Counters,
    now: u64,
}

impl<'w> Lockstep<'w> {
    fn new(world: &'w World) -> Self {
        let mut this = Self {
            engines: Vec::new(),
            slots: Vec::new(),
            models: Vec::new(),
            counted: Counters::new(),
            now: START,
        };
        for (vpc, interface) in world.interfaces() {
            let slot = world.spec.slot(&interface.name).expect("a local interface");
            let engine = match this.engines.first() {
                None => HostTables::new(&world.spec, slot, Limits::default()),
                Some(first) => first.with(&world.spec, slot),
            };
            this.engines.push(engine.expect("a slot"));
            this.slots.push(slot);
            this.models.push(Naive::new(&world.policy, vpc, interface));
        }
        this
    }

    fn packet(&mut self, at: usize, packet: &Packet) -> Result<(), String> {
        let now = self.now;
        self.models.iter_mut().for_each(|model| model.pass(now));
        let expected = self.models[at].expect(packet);
        let before = self.table();
        let frame = packet.frame();
        let engine = &self.engines[at];
        let decision = engine.judge(&frame, packet.direction, LinkLayer::Ethernet, now);
        let after = self.table();
        let place =
            |why: String| format!("{why}\n    engine: {decision:?}\n    contract: {expected:?}");

        is_as_expected(decision, &expected).map_err(place)?;
        self.is_counted(at, packet.direction, decision.reason, frame.len()).map_err(place)?;
        if decision.verdict() == Verdict::Drop && before != after {
            return Err(place(format!("a drop changes flows: {before:?} to {after:?}")));
        }
        nothing_vanished(&before, &after).map_err(place)?;

        let told = decision.reason.name();
        self.models[at].apply(packet, decision.verdict() == Verdict::Allow, told, now);
        self.flows_agree(&after).map_err(place)
    }

    /// The live flows, their counts left out.
    fn table(&self) -> Table {
        let mut table = Table::new();
        self.collect::<V4>(&mut table);
        self.collect::<V6>(&mut table);
        table
    }

    fn collect<A: HostFamily>(&self, table: &mut Table)
    where
        std::net::IpAddr: From<A::Ip>,
    {
        let engine = &self.engines[0];
        let mut add = |flows: Vec<(FlowKey<A>, Flow)>, established| {
            for (key, flow) in flows.into_iter().filter(|(_, flow)| flow.deadline > self.now) {
                let flow = Flow { packets: [0; 2], bytes: [0; 2], ..flow };
                let opener = flow.opening_direction();
                table.insert((key.slot.get(), model_key(&key), opener, established), flow);
            }
        };
        add(engine.established::<A>(), true);
        Direction::ALL.into_iter().for_each(|opened| add(engine.half_open::<A>(opened), false));
    }

    /// The packet was counted once, under its own reason, and nothing else was.
    fn is_counted(
        &mut self,
        at: usize,
        direction: Direction,
        reason: Reason,
        length: usize,
    ) -> Result<(), String> {
        let counter = self.counted.entry((self.slots[at], direction, reason)).or_default();
        counter.packets += 1;
        counter.bytes += u64::try_from(length).expect("small");
        let found = self.engines[at].counters();
        if found == self.counted {
            Ok(())
        } else {
            Err(format!("counted {found:?}, came {:?}", self.counted))
        }
    }

    /// Both know the same flows, by the same opener, with the same deadline, closed or not.
    fn flows_agree(&self, table: &Table) -> Result<(), String> {
        let mut expected: Vec<_> = Vec::new();
        for (slot, model) in self.slots.iter().zip(&self.models) {
            expected.extend(model.flows.iter().map(|flow| {
                (*slot, flow.key, flow.opener, flow.deadline / SECOND, flow.is_closed())
            }));
        }
        let entries = table.iter();
        let mut found: Vec<_> = entries
            .map(|((slot, key, opener, _), flow)| {
                (*slot, *key, *opener, flow.deadline / SECOND, is_closed(flow))
            })
            .collect();
        expected.sort();
        found.sort();
        if expected == found {
            return Ok(());
        }
        type Line = (u16, Key, Direction, u64, bool);
        let only = |these: &[Line], those: &[Line]| -> Vec<Line> {
            these.iter().filter(|it| !those.contains(it)).copied().collect()
        };
        Err(format!(
            "flows (deadline in seconds, closed), only the engine's: {:?}\n    only the model's: {:?}",
            only(&found, &expected),
            only(&expected, &found)
        ))
    }
}

fn is_as_expected(decision: Decision, expected: &Expected) -> Result<(), String> {
    let told = decision.reason.name();
    let reasons = match decision.verdict() {
        Verdict::Allow => &expected.allow,
        Verdict::Drop => &expected.drop,
    };
    let agrees = reasons.contains(&told);
    if agrees { Ok(()) } else { Err("another verdict or reason".to_owned()) }
}

/// An established flow never vanishes before its timeout: it may close, and then lingers. Only a new flow
/// in its place ends that.
fn nothing_vanished(before: &Table, after: &Table) -> Result<(), String> {
    for ((slot, key, opener, established), flow) in before {
        let replaced = || {
            let successor = |opener| after.contains_key(&(*slot, *key, opener, false));
            is_closed(flow) && Direction::ALL.into_iter().any(successor)
        };
        if *established && !after.contains_key(&(*slot, *key, *opener, true)) && !replaced() {
            return Err(format!("an established flow vanished: {key:?} {flow:?}"));
        }
    }
    Ok(())
}

fn is_closed(flow: &Flow) -> bool {
    flow.state == FlowState::Closed as u8
}

/// The engine's key in the model's words.
fn model_key<A: HostFamily>(key: &FlowKey<A>) -> Key
where
    std::net::IpAddr: From<A::Ip>,
{
    let (local, remote) = (key.local_port.get(), key.remote_port.get());
    let low = |port: u16| u8::try_from(port).expect("a type or a code");
    let query = |by| Talk::Query(by, local, low(remote));
    let one_way = |by| Talk::OneWay(by, low(local), low(remote));
    let talk = match key.kind {
        kind if kind == FlowKind::Ports as u8 => Talk::Ports(local, remote),
        kind if kind == FlowKind::QueryByLocal as u8 => query(Direction::Egress),
        kind if kind == FlowKind::QueryByRemote as u8 => query(Direction::Ingress),
        kind if kind == FlowKind::OneWayByLocal as u8 => one_way(Direction::Egress),
        kind if kind == FlowKind::OneWayByRemote as u8 => one_way(Direction::Ingress),
        kind => panic!("no kind of flow is {kind}"),
    };
    let (local, remote) = (key.local.ip().into(), key.remote.ip().into());
    Key { local, remote, protocol: key.protocol, talk }
}
