//! Scenes of a flood: a wire, a generator, and something at its far end that drops everything. Each window is held
//! to what arrived: as many were counted as dropped, and none as anything else.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use ::tests::net::DEVICE;
use anyhow::{Context as _, Result, anyhow};
use ipnet::IpNet;

use crate::driver::Driver;
use crate::floor::Floor;
use crate::frames::Family;
use crate::rivals::{Open, Rival};
use crate::subject::{Subject, compiled, sizes};
use crate::wire::{Attached, Generator, Receive, Window, Wire};
use crate::{policies, rings};

/// Which port is flooded: of one policy, so that one scene serves both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// Nobody may reach it.
    Closed,
    /// Others than those who flood may.
    OpenToOthers,
}

impl Port {
    /// Its number.
    const fn number(self) -> u16 {
        match self {
            Self::Closed => rings::PORT + 1,
            Self::OpenToOthers => rings::PORT,
        }
    }
}

/// Who may reach the open port. Those who flood come from 20.0.0.0 and above.
fn others() -> Result<[IpNet; 1]> {
    Ok(["10.0.0.0/9".parse()?])
}

/// Who drops.
enum Dropper {
    /// X.
    Parsing(Box<Floor>),
    /// Ours.
    Ours(Box<Subject>),
    /// Another.
    Rival(Rival),
}

/// How often the counters are looked at before they are said to differ.
const LOOKS: u32 = 100;

/// A wire with a dropper at its end.
pub(crate) struct Scene {
    closed: Generator,
    open: Generator,
    dropper: Dropper,
    // In front of the wire, whose device it is on.
    _attached: Option<Attached>,
    wire: Wire,
    /// Frames that had arrived, and those that had been dropped, when the scene was set.
    before: (u64, u64),
}

impl Scene {
    /// X.
    pub(crate) fn parsing() -> Result<Self> {
        let floor = Floor::new(1)?;
        let mut wire = Wire::new()?;
        let attached = wire.receive(Receive::Xdp, |wire| {
            Attached::native(wire.server().ns(), DEVICE, floor.drop_program()?.as_fd())
        })?;
        Self::of(wire, Dropper::Parsing(Box::new(floor)), Some(attached))
    }

    /// Ours, with so many established flows, as a power of two.
    pub(crate) fn ours(bits: u32) -> Result<Self> {
        let from = others()?;
        let (policy, steps) =
            (policies::listed(&from), rings::from_blocks(1 << bits, &from, false));
        let ring = Driver::new(&steps)?;
        let tables = compiled(&policy, &[policies::host_name()])?;
        let sizes = sizes(&tables, ring.len());
        let subject = Subject::new(&tables, &policies::host_name(), &sizes)?;
        subject.establish(&ring, Family::V4)?;
        let mut wire = Wire::new()?;
        let attached = wire.receive(Receive::Xdp, |wire| {
            let judge = subject.judge().borrow();
            Attached::native(wire.server().ns(), DEVICE, judge.xdp.as_fd())
        })?;
        Self::of(wire, Dropper::Ours(Box::new(subject)), Some(attached))
    }

    /// A rival.
    pub(crate) fn rival(rival: Rival) -> Result<Self> {
        let mut wire = Wire::new()?;
        wire.receive(Receive::Stack, |wire| {
            let from = others()?;
            let open = [Open { protocol: "tcp", port: rings::PORT, from: &from }];
            rival.load(wire.server().ns(), &open)
        })?;
        Self::of(wire, Dropper::Rival(rival), None)
    }

    fn of(wire: Wire, dropper: Dropper, attached: Option<Attached>) -> Result<Self> {
        let generator = |port: Port| Generator::random_sources(&wire, port.number());
        let (closed, open) = (generator(Port::Closed)?, generator(Port::OpenToOthers)?);
        let mut scene = Self { closed, open, dropper, _attached: attached, wire, before: (0, 0) };
        scene.before = (scene.wire.arrived()?, scene.dropped()?);
        // The generators learn how fast they may be.
        for _ in 0..3 {
            for port in [Port::Closed, Port::OpenToOthers] {
                scene.flood(port, Duration::from_millis(20))?;
            }
        }
        Ok(scene)
    }

    /// Floods it, and looks at a window of that.
    pub(crate) fn flood(&mut self, port: Port, window: Duration) -> Result<Window> {
        let generator = match port {
            Port::Closed => &mut self.closed,
            Port::OpenToOthers => &mut self.open,
        };
        let window = self.wire.flood(generator, window)?;
        // Since the scene was set: a few frames may wait in the ring until the next flood wakes the receiver.
        let (mut dropped, mut arrived) = (0, 0);
        for _ in 0..LOOKS {
            dropped = self.dropped()? - self.before.1;
            arrived = self.wire.arrived()? - self.before.0;
            if dropped == arrived {
                return Ok(window);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(anyhow!("{dropped} packets dropped of {arrived}"))
    }

    /// Packets that have been dropped so far, all as they should be.
    fn dropped(&self) -> Result<u64> {
        match &self.dropper {
            Dropper::Parsing(floor) => floor.dropped(),
            Dropper::Ours(subject) => {
                // What nobody reads would be lost, which costs less than to write it.
                subject.judge().borrow_mut().drain();
                Ok(subject.totals()?.no_rule)
            }
            Dropper::Rival(rival) => rival.dropped(self.wire.server().ns()),
        }
    }

    /// Flows that are known to whoever tracks them.
    pub(crate) fn flows(&self) -> Result<u64> {
        match &self.dropper {
            Dropper::Parsing(_) => Ok(0),
            Dropper::Ours(subject) => Ok(u64::try_from(subject.judge().borrow().flow_entries()?)?),
            Dropper::Rival(_) => tracked(&self.wire),
        }
    }
}

/// Connections that the server's kernel tracks.
fn tracked(wire: &Wire) -> Result<u64> {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    let text = wire.server().ns().run(|| std::fs::read_to_string(path)).context(path)?;
    text.trim().parse().context(path)
}
