//! Row 1: a packet of an established flow against the least that any stateful filter does.

use anyhow::Result;

use super::{Lab, Row};
use crate::driver::{Driver, FAMILIES};
use crate::floor::{DRIVER, Floor, LOOKUP, PARSE};
use crate::frames::{Family, Packets, Stage};
use crate::report::{Bound, Measured, Point};
use crate::subject::{OURS, Subject, compiled, sizes};
use crate::{policies, rings, rounds};

pub(super) struct Established;

/// Flows, as powers of two.
const FLOWS: [(u32, &str); 4] =
    [(0, "1 flow"), (12, "4k flows"), (16, "64k flows"), (20, "1M flows")];
const BOUND: Bound = Bound::at_most(1.25).aiming(1.10);

impl Row for Established {
    fn number(&self) -> u8 {
        1
    }

    fn title(&self) -> &'static str {
        "established flow / F"
    }

    fn method(&self) -> &'static str {
        "TCP data in order from the remote end, XDP, flows in random order. The flow tables hold these flows and \
         have twice the room (131 072 at least), F's table likewise."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        for family in FAMILIES {
            for (bits, name) in FLOWS {
                measured.point(point(lab, family, bits, name)?);
            }
        }
        Ok(measured)
    }
}

fn point(lab: Lab, family: Family, bits: u32, name: &str) -> Result<Point> {
    let ring = Driver::new(&rings::from_anybody(1 << bits, family, false))?;
    let tables = compiled(&policies::open(), &[policies::host_name()])?;
    let sizes = sizes(&tables, ring.len());
    let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
    subject.establish(&ring, family)?;
    let packets = Packets { family, stage: Stage::Data };
    let floor = Floor::new(sizes.flows)?;
    floor.fill(&ring, packets)?;
    let contenders = vec![
        floor.driver(&ring, packets)?,
        floor.parse(&ring, packets)?,
        floor.lookup(&ring, packets)?,
        subject.established(&ring, family)?,
    ];
    let rounds = rounds::run(lab.plan(), contenders)?;
    Point::against_floor(&format!("{}, {name}", family.name()), &rounds, OURS, LOOKUP, BOUND)?
        .also(&rounds, &[PARSE, DRIVER])
}
