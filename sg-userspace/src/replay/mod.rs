//! Captures through the BPF programs themselves, with the host's engine in step.
//!
//! Each packet runs at its own time by BPF_PROG_TEST_RUN, and by the engine on the host. What the kernel
//! runs no test for (a frame shorter than an Ethernet header or longer than a page) the host judges alone.

mod capture;

use std::net::IpAddr;
use std::time::Duration;

use sg_common::wire::ethernet;
use sg_common::wire::ip::{IpHeader, IpVersion};
use sg_common::{Decision, Direction, LinkLayer, V4, V6};

pub use capture::{Capture, CaptureError, CapturedPacket};

use crate::compile::{IpAddress, Prefix, TableSpec};
use crate::engine::{HostTables, Limits, NoSlot};
use crate::kernel::run::{RunError, RunHook, Runner, run_sizes};
use crate::kernel::{KernelError, Paths};

/// Where the clock of a replay begins: far from zero, which means "never" in the tables.
const BEGINNING: u64 = 1_000_000_000_000;

/// Why a replay cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The interface is not in the tables.
    #[error(transparent)]
    NoSlot(#[from] NoSlot),
    /// The kernel did not take programs, maps or packets.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// One interface with its programs loaded, and the host's engine beside them.
pub struct Replay<'s> {
    runner: Runner,
    host: HostTables<'s>,
    tables: &'s TableSpec,
    slot: u16,
    link: LinkLayer,
}

/// What came of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The way it was judged in.
    pub direction: Direction,
    /// What the programs decided, and how long they took; `None` where the kernel ran no test.
    pub kernel: Option<(Decision, Duration)>,
    /// What the host's engine decided.
    pub host: Decision,
}

impl Judged {
    /// The decision: the programs' where there is one.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.kernel.map_or(self.host, |(decision, _duration)| decision)
    }

    /// Whether programs and host disagree.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.kernel.is_some_and(|(decision, _duration)| decision != self.host)
    }
}

impl<'s> Replay<'s> {
    /// Loads the programs for the interface in `slot`.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn new(
        paths: &Paths,
        tables: &'s TableSpec,
        slot: u16,
        link: LinkLayer,
        hook: RunHook,
    ) -> Result<Self, ReplayError> {
        let sizes = run_sizes(tables);
        let room = |entries: u32| usize::try_from(entries).unwrap_or(usize::MAX);
        let limits = Limits {
            clock: sizes.flows,
            flows: room(sizes.flows),
            opening: room(sizes.opening),
            fragments: room(sizes.fragments),
        };
        Ok(Self {
            runner: Runner::new(paths, tables, slot, link, hook, &sizes, 0)?,
            host: HostTables::new(tables, slot, limits)?,
            tables,
            slot,
            link,
        })
    }

    /// Judges the next packet; `direction` `None`: by the interface's addresses.
    ///
    /// # Errors
    /// [`ReplayError::Kernel`].
    pub fn judge(
        &mut self,
        packet: &CapturedPacket,
        direction: Option<Direction>,
    ) -> Result<Judged, ReplayError> {
        let direction = direction.unwrap_or_else(|| self.direction_of(&packet.bytes));
        let since = u64::try_from(packet.time.as_nanos()).unwrap_or(u64::MAX);
        let now = BEGINNING.saturating_add(since);
        let host = self.host.judge(&packet.bytes, direction, self.link, now);
        let kernel = match self.runner.judge(&packet.bytes, direction, now) {
            Ok(ran) => Some((ran.decision, ran.duration)),
            Err(RunError::Length(_)) => None,
            Err(RunError::Kernel(error)) => return Err(error.into()),
        };
        Ok(Judged { direction, kernel, host })
    }

    /// Egress where the interface has the source address, ingress otherwise.
    #[must_use]
    pub fn direction_of(&self, packet: &[u8]) -> Direction {
        let source = source(packet, self.link);
        let is_own = match source {
            Some(IpAddr::V4(address)) => has(self.slot, &self.tables.v4.own, address),
            Some(IpAddr::V6(address)) => has(self.slot, &self.tables.v6.own, address),
            None => false,
        };
        if is_own { Direction::Egress } else { Direction::Ingress }
    }

    /// Counters of which the programs and the host say different things, each as one line; none where
    /// every packet ran in the kernel and both agree.
    ///
    /// # Errors
    /// [`ReplayError::Kernel`].
    pub fn counter_differences(&self) -> Result<Vec<String>, ReplayError> {
        let kernel = self.runner.counters()?;
        let mut host = self.host.counters();
        let mut differences = Vec::new();
        for one in kernel {
            let (direction, reason) = one.key;
            let other = host.remove(&(self.slot, direction, reason)).unwrap_or_default();
            if (one.packets, one.bytes) != (other.packets, other.bytes) {
                differences.push(format!(
                    "{} {}: programs {} packets {} bytes, host {} packets {} bytes",
                    one.direction, one.reason, one.packets, one.bytes, other.packets, other.bytes
                ));
            }
        }
        for ((_slot, direction, reason), other) in host {
            differences.push(format!(
                "{} {}: programs none, host {} packets {} bytes",
                direction.name(),
                reason.name(),
                other.packets,
                other.bytes
            ));
        }
        Ok(differences)
    }
}

/// The source address of a packet that the engine can read.
fn source(packet: &[u8], link: LinkLayer) -> Option<IpAddr> {
    let network = ethernet::locate(packet, link).ok()?;
    match network.ethertype {
        ethernet::IPV4 => {
            let mut header = IpHeader::<V4>::default();
            V4::parse(packet, network.offset, &mut header).ok()?;
            Some(IpAddr::from(header.source.octets()))
        }
        ethernet::IPV6 => {
            let mut header = IpHeader::<V6>::default();
            V6::parse(packet, network.offset, &mut header).ok()?;
            Some(IpAddr::from(header.source.octets()))
        }
        _ => None,
    }
}

fn has<A: IpAddress>(slot: u16, own: &std::collections::BTreeSet<Prefix<A>>, address: A) -> bool {
    own.iter().any(|prefix| {
        prefix.space == u32::from(slot) && address.masked(prefix.length) == prefix.address
    })
}
