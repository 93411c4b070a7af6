//! Row 2: a new flow under a policy of a million prefixes.

use anyhow::Result;

use super::{Lab, Row};
use crate::driver::{Driver, FAMILIES};
use crate::floor::{DRIVER, Floor};
use crate::frames::{Family, Packets, Stage};
use crate::report::{Bound, Measured, Point};
use crate::subject::{Subject, compiled, sizes};
use crate::{policies, rings, rounds};

pub(super) struct Prefixes;

const FEW: usize = 10;
const MANY: usize = 1_000_000;
/// Packets of a ring, more than there are prefixes: hits are random from one end to the other.
const RING: usize = 1 << 20;

impl Row for Prefixes {
    fn number(&self) -> u8 {
        2
    }

    fn title(&self) -> &'static str {
        "new flow, 1M prefixes / 10 prefixes"
    }

    fn method(&self) -> &'static str {
        "SYNs from random addresses inside a prefix list that one rule names, each a flow that was not there \
         before: looked up, entered, reported. XDP."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        for family in FAMILIES {
            measured.point(point(lab, family)?);
        }
        Ok(measured)
    }
}

fn point(lab: Lab, family: Family) -> Result<Point> {
    let (few, many) = (scene(FEW, family)?, scene(MANY, family)?);
    let packets = Packets { family, stage: Stage::Syn };
    let floor = Floor::new(1)?;
    let rounds = rounds::run(
        lab.plan(),
        vec![
            floor.driver(&few.0, packets)?,
            few.1.opening("10 prefixes", &few.0, few.1.walk(packets)?),
            many.1.opening("1M prefixes", &many.0, many.1.walk(packets)?),
        ],
    )?;
    let bound = Bound::at_most(match family {
        Family::V4 => 1.5,
        Family::V6 => 2.0,
    });
    let name = family.name();
    Point::against_floor(name, &rounds, "1M prefixes", "10 prefixes", bound)?
        .also(&rounds, &[DRIVER])
}

fn scene(count: usize, family: Family) -> Result<(Driver, Subject)> {
    let blocks = policies::blocks(count, family);
    let tables = compiled(&policies::listed(&blocks), &[policies::host_name()])?;
    let sizes = sizes(&tables, 0);
    let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
    Ok((Driver::new(&rings::from_blocks(RING, &blocks, true))?, subject))
}
