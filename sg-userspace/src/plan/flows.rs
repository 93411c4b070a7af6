//! What a change does to live flows: the ones that end at their next packet, and those that go on although no
//! rule allows them any more.

use std::net::IpAddr;

use serde::Serialize;
use sg_common::Direction;
use sg_common::abi::{FlowState, InterfaceFlags};

use crate::compile::TableSpec;
use crate::engine::Rules;
use crate::events::{End, protocol_name};
use crate::kernel::read::FlowRecord;

/// The live flows that no rule of the new policy allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LiveFlows {
    /// How many end at their next packet.
    pub cut: usize,
    /// The first of them, by interface and remote end.
    pub listed: Vec<CutFlow>,
    /// How many go on, until they are idle for their timeout.
    pub kept_without_rule: usize,
}

/// A flow that a change cuts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CutFlow {
    /// Its interface.
    pub interface: String,
    /// Its protocol.
    pub protocol: String,
    /// The protected end: address, and port where there is one.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// `ingress` when the remote end opened it, else `egress`.
    pub opened: &'static str,
    /// The rule that let it in; null where none did.
    pub rule: Option<String>,
}

/// The most flows that are listed.
const LISTED: usize = 5;

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A rule allows it.
    Allowed,
    /// None does, and it goes on.
    Kept,
    /// It ends at its next packet.
    Cut,
}

/// How a flow stands under new tables; `None` where it has ended, or its interface has gone.
pub(crate) fn standing(flow: &FlowRecord, new: &TableSpec, rules: &Rules<'_>) -> Option<Standing> {
    let version = new.interfaces.get(&flow.slot)?.version;
    if [FlowState::Closed.name(), FlowState::Cut.name()].contains(&flow.state) {
        return None;
    }
    let opened = opened(flow);
    let permit = rules.permit(flow.slot, opened, flow.remote, flow.protocol, flow.rule_port);
    if permit.is_some() {
        return Some(Standing::Allowed);
    }
    // One that was judged under the epoch to come is not judged again.
    let cuts = flow.untracked || version.flags & InterfaceFlags::CUT_LIVE_FLOWS != 0;
    Some(if cuts && flow.epoch != version.epoch { Standing::Cut } else { Standing::Kept })
}

fn opened(flow: &FlowRecord) -> Direction {
    if flow.opened == Direction::Egress.name() { Direction::Egress } else { Direction::Ingress }
}

impl LiveFlows {
    /// Judges every flow by the tables to come, as its next packet will be.
    #[must_use]
    pub fn under(flows: &[FlowRecord], old: &TableSpec, new: &TableSpec) -> Self {
        let rules = Rules::of(new);
        let mut found = Self::default();
        let mut cut: Vec<&FlowRecord> = Vec::new();
        for flow in flows {
            match standing(flow, new, &rules) {
                Some(Standing::Cut) => cut.push(flow),
                Some(Standing::Kept) => found.kept_without_rule += 1,
                Some(Standing::Allowed) | None => {}
            }
        }
        cut.sort_by_key(|flow| (flow.slot, flow.remote, flow.remote_port, flow.local_port));
        found.cut = cut.len();
        found.listed = cut.into_iter().take(LISTED).map(|flow| CutFlow::new(flow, old)).collect();
        found
    }

    /// `3 live flows would be cut`, and the first of them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let flows =
            |number: usize| format!("{number} live flow{}", if number == 1 { "" } else { "s" });
        if self.cut > 0 {
            text += &format!("{} would be cut\n", flows(self.cut));
            for CutFlow { interface, protocol, local, remote, opened, rule } in &self.listed {
                let arrow = if *opened == "ingress" { "<-" } else { "->" };
                let rule = rule.as_deref().unwrap_or("no rule");
                text += &format!("  {interface}: {protocol} {local} {arrow} {remote} ({rule})\n");
            }
            if self.cut > self.listed.len() {
                text += &format!("  and {} more\n", self.cut - self.listed.len());
            }
        }
        if self.kept_without_rule > 0 {
            let verb = if self.kept_without_rule == 1 { "goes" } else { "go" };
            text += &format!(
                "{} {verb} on without a rule, until idle\n",
                flows(self.kept_without_rule)
            );
        }
        text
    }
}

impl CutFlow {
    fn new(flow: &FlowRecord, old: &TableSpec) -> Self {
        let end =
            |address: IpAddr, port: u16| End(address, flow.has_ports().then_some(port)).to_string();
        let interface = old.interfaces.get(&flow.slot).map(|it| it.name.clone());
        Self {
            interface: interface.unwrap_or_else(|| format!("slot {}", flow.slot)),
            protocol: protocol_name(flow.protocol),
            local: end(flow.local, flow.local_port),
            remote: end(flow.remote, flow.remote_port),
            opened: flow.opened,
            rule: old.rules.get(&flow.rule).map(ToString::to_string),
        }
    }
}
