//! Row 4: a new flow, entered and reported, against one lookup.

use anyhow::Result;

use super::{FRESH_RING, Lab, Row};
use crate::driver::{Driver, FAMILIES};
use crate::floor::{DRIVER, Floor, LOOKUP};
use crate::frames::{Family, Packets, Stage};
use crate::report::{Bound, Measured, Point};
use crate::subject::{OURS, Subject, compiled, sizes};
use crate::{policies, rings, rounds};

pub(super) struct Insert;

const FILLS: [(u32, &str); 2] = [(10, "1k flows"), (20, "1M flows")];
const BOUND: Bound = Bound::at_most(5.0).aiming(3.5);

impl Row for Insert {
    fn number(&self) -> u8 {
        4
    }

    fn title(&self) -> &'static str {
        "new flow, entered and reported / F"
    }

    fn method(&self) -> &'static str {
        "SYNs from random addresses to a port that is open to everybody, beside so many established flows; the table \
         of half-open ones is full of those before. F looks up random keys in a table of the same fill. XDP."
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut measured = Measured::default();
        for family in FAMILIES {
            for (bits, name) in FILLS {
                measured.point(point(lab, family, bits, name)?);
            }
        }
        Ok(measured)
    }
}

fn point(lab: Lab, family: Family, bits: u32, name: &str) -> Result<Point> {
    let known = Driver::new(&rings::from_anybody(1 << bits, family, false))?;
    let fresh = Driver::new(&rings::from_anybody(FRESH_RING, family, true))?;
    let tables = compiled(&policies::open(), &[policies::host_name()])?;
    let sizes = sizes(&tables, known.len());
    let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
    subject.establish(&known, family)?;
    let floor = Floor::new(sizes.flows)?;
    let (data, syn) =
        (Packets { family, stage: Stage::Data }, Packets { family, stage: Stage::Syn });
    floor.fill(&known, data)?;
    // The first round's are the established ones, drawn alike.
    let walk = subject.walk(syn)?.beginning_at(1, &fresh);
    let contenders = vec![
        floor.driver(&fresh, syn)?,
        floor.lookup(&known, data)?,
        subject.opening(OURS, &fresh, walk),
    ];
    let rounds = rounds::run(lab.plan(), contenders)?;
    Point::against_floor(&format!("{}, {name}", family.name()), &rounds, OURS, LOOKUP, BOUND)?
        .also(&rounds, &[DRIVER])
}
