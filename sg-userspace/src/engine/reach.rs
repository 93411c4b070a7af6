//! Would the first packet of such a flow pass, and by which rule?

use sg_common::{Decision, LinkLayer};

use super::packets::{Probe, ProbeError, packet};
use super::state::Limits;
use super::tables::{HostTables, NoSlot};
use crate::compile::{RuleInfo, TableSpec};

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The engine's decision.
    pub decision: Decision,
    /// The rule that allowed it, where one did.
    pub rule: Option<RuleInfo>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The spec lacks the interface.
    #[error(transparent)]
    Slot(#[from] NoSlot),
    /// The question is none.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// One packet needs no more.
const LIMITS: Limits = Limits { clock: 32, flows: 32, opening: 32, fragments: 32 };

/// Judges the first packet of a flow at an interface that has seen no other.
///
/// # Errors
///
/// [`ReachError`] says that there is no such interface, or that the probe is no packet.
pub fn reach(spec: &TableSpec, slot: u16, probe: &Probe) -> Result<Answer, ReachError> {
    let tables = HostTables::new(spec, slot, LIMITS)?;
    let frame = packet(probe, tables.mac())?;
    let decision = tables.judge(&frame, probe.direction, LinkLayer::Ethernet, 1);
    Ok(Answer { decision, rule: spec.rules.get(&decision.rule).cloned() })
}
