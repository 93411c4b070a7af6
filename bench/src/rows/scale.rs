//! Row 3: a new flow under a policy that is large in other ways than prefixes.

use ::tests::bench::generate::{self, block, everywhere, tcp};
use anyhow::Result;
use ipnet::IpNet;
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::Peer;

use super::{FRESH_RING, Lab, Row};
use crate::driver::{Driver, Step};
use crate::floor::{DRIVER, Floor};
use crate::frames::{Family, Packets, Stage};
use crate::report::{Bound, Measured, Point};
use crate::rings::{self, PORT, remote_port, step};
use crate::subject::{Subject, compiled, sizes};
use crate::{policies, rounds};

pub(super) struct Scale;

const BOUND: Bound = Bound::at_most(1.1);
/// Groups whose members rules name, and members of each.
const GROUPS: usize = 64;
const MEMBERS: usize = 16;
/// Members altogether, where groups are many or one.
const SHARED: usize = 1000;

impl Row for Scale {
    fn number(&self) -> u8 {
        3
    }

    fn title(&self) -> &'static str {
        "new flow, large policy / small policy"
    }

    fn method(&self) -> &'static str {
        "SYNs that meet a rule drawn anew for each. Rules: each a port of its own, a third of them from everybody, \
         from groups and from a /24 of their own each. Groups: a rule from each, 1000 members altogether either way. \
         Interfaces: each with a group of ten rules of its own; the one in the middle judges. XDP."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        let compared = [
            ("10 rules", "10 000 rules", of_rules(10)?, of_rules(10_000)?),
            ("1 group", "1000 groups", of_groups(1)?, of_groups(1000)?),
            ("1 interface", "500 interfaces", of_interfaces(1)?, of_interfaces(500)?),
        ];
        for (small_name, large_name, small, large) in compared {
            let (small, large) = (load(small)?, load(large)?);
            let packets = Packets { family: Family::V4, stage: Stage::Syn };
            let floor = Floor::new(1)?;
            let contenders = vec![
                floor.driver(&small.0, packets)?,
                small.1.opening(small_name, &small.0, small.1.walk(packets)?),
                large.1.opening(large_name, &large.0, large.1.walk(packets)?),
            ];
            let rounds = rounds::run(lab.plan(), contenders)?;
            let point = Point::against_floor(large_name, &rounds, large_name, small_name, BOUND)?;
            measured.point(point.also(&rounds, &[DRIVER])?);
        }
        Ok(measured)
    }
}

/// A policy, whose interfaces are local, which of them judges, and packets for it.
struct Scene {
    policy: Policy,
    local: Vec<String>,
    judge: String,
    steps: Vec<Step>,
}

fn load(scene: Scene) -> Result<(Driver, Subject)> {
    let tables = compiled(&scene.policy, &scene.local)?;
    let sizes = sizes(&tables, 0);
    Ok((Driver::new(&scene.steps)?, Subject::new(&tables, &scene.judge, &sizes)?))
}

/// One host is protected.
fn alone(policy: Policy, steps: Vec<Step>) -> Scene {
    let judge = policies::host_name();
    Scene { policy, local: vec![judge.clone()], judge, steps }
}

/// A block of 256 addresses by its number, beside those of members.
fn own_block(index: usize) -> Result<IpNet> {
    Ok(block((0x0b00_0000 | u32::try_from(index)? << 8).into(), 24))
}

fn of_rules(count: usize) -> Result<Scene> {
    let [anybody, _] = policies::everybody();
    let mut peers = Vec::new();
    for index in 0..count {
        peers.push(match index % 3 {
            0 => anybody.clone(),
            1 => Peer::Group(2 + index % GROUPS),
            _ => Peer::Cidr(own_block(index)?),
        });
    }
    let groups =
        (0..GROUPS).map(|index| generate::group(2 + index, Vec::new(), vec![everywhere()]));
    let members =
        (0..GROUPS * MEMBERS).map(|index| policies::member(1 + index, vec![2 + index % GROUPS]));
    let rules = peers.iter().enumerate().map(|(index, peer)| tcp(index, peer.clone())).collect();
    let policy = policies::of_rules(rules, groups.collect(), members.collect(), Vec::new());
    let mut rng = rings::rng();
    let mut packet = |index| {
        let rule = rng.usize(..count);
        let from = match peers[rule] {
            Peer::Group(group) => {
                let member = 1 + (group - 2) + GROUPS * rng.usize(..MEMBERS);
                policies::member_address(member).into()
            }
            Peer::Cidr(block) if block.prefix_len() > 0 => rings::inside(&mut rng, block),
            Peer::Cidr(_) | Peer::PrefixList(_) => rings::anybody(&mut rng, Family::V4),
        };
        Ok(step(from, remote_port(index), u16::try_from(1 + rule)?, true))
    };
    let steps = (0..FRESH_RING).map(&mut packet).collect::<Result<_>>()?;
    Ok(alone(policy, steps))
}

fn of_groups(count: usize) -> Result<Scene> {
    let groups = (0..count).map(|index| generate::group(2 + index, Vec::new(), vec![everywhere()]));
    let rules = (0..count).map(|index| policies::open_port(Peer::Group(2 + index))).collect();
    let members = (0..SHARED).map(|index| policies::member(1 + index, vec![2 + index % count]));
    let policy = policies::of_rules(rules, groups.collect(), members.collect(), Vec::new());
    let mut rng = rings::rng();
    let packet = |index| {
        let from = policies::member_address(1 + rng.usize(..SHARED));
        step(from.into(), remote_port(index), PORT, true)
    };
    Ok(alone(policy, (0..FRESH_RING).map(packet).collect()))
}

fn of_interfaces(count: usize) -> Result<Scene> {
    const RULES: usize = 10;
    let judge = count / 2;
    let mut groups = vec![generate::group(0, Vec::new(), vec![everywhere()])];
    let mut interfaces = Vec::new();
    for index in 0..count {
        let mut rules = Vec::new();
        for rule in 0..RULES {
            rules.push(tcp(rule, Peer::Cidr(own_block(index * RULES + rule)?)));
        }
        groups.push(generate::group(1 + index, rules, vec![everywhere()]));
        // The one that judges has the address that the packets go to.
        interfaces.push(if index == judge {
            let mut host = policies::host(vec![1 + index]);
            host.name = generate::interface_name(index);
            host
        } else {
            policies::member(1 + index, vec![1 + index])
        });
    }
    for (index, interface) in interfaces.iter_mut().enumerate() {
        interface.name = generate::interface_name(index);
    }
    let local: Vec<_> = interfaces.iter().map(|interface| interface.name.clone()).collect();
    let mut rng = rings::rng();
    let mut packet = |index| {
        let rule = rng.usize(..RULES);
        let from = rings::inside(&mut rng, own_block(judge * RULES + rule)?);
        Ok(step(from, remote_port(index), u16::try_from(1 + rule)?, true))
    };
    let steps = (0..FRESH_RING).map(&mut packet).collect::<Result<_>>()?;
    let policy = generate::policy(groups, interfaces, Vec::new());
    Ok(Scene { policy, judge: local[judge].clone(), local, steps })
}
