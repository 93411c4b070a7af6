//! What a change of policy would change, before anything is changed: pure, no kernel, no clock.
//!
//! Two views. [`Plan::changes`] is the difference of two files: groups, rules, interfaces. Behind it,
//! [`Plan::opens`] and [`Plan::closes`] say what becomes reachable at this machine's interfaces and what no
//! longer is, exactly: the first packet of a new flow changes its verdict if and only if one of these lines
//! covers it. Three things are left to the first view: the infrastructure entries that are no rules (ARP,
//! DHCP, neighbour and router discovery, multicast listeners), which sources are legal (side, source check,
//! MAC address), and devices that come or go.

mod addresses;
mod changes;
mod details;
#[cfg(feature = "kernel")]
pub mod flows;
mod reach;
mod span;
mod text;
mod view;

use std::net::IpAddr;
use std::rc::Rc;

use serde::Serialize;
use sg_common::Direction;

use crate::compile::Surroundings;
use crate::policy::Policy;
use crate::policy::model::Traffic;
use addresses::Addresses;
use changes::changes;
pub use changes::{Change, Kind, What};
use reach::{Difference, Effect, Found, Idle, compare};
use span::Span;
use view::{RuleKey, View};

/// A policy and what it does not say itself.
#[derive(Debug, Clone, Copy)]
pub struct Side<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// Which interfaces it judges here, and what their devices have.
    pub surroundings: &'p Surroundings,
}

/// The difference of two policies.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Settings, VPCs, groups, rules, prefix lists and interfaces that differ.
    pub changes: Vec<Change>,
    /// Rules that both policies have.
    pub unchanged_rules: usize,
    /// What passes that was dropped.
    pub opens: Vec<Line>,
    /// What is dropped that passed.
    pub closes: Vec<Line>,
    /// Rules that come or go and change nothing here.
    pub no_effect: Vec<NoEffect>,
    /// How many rules come or go in groups that no interface here has.
    pub elsewhere: usize,
}

/// First packets of flows that some interfaces judge differently.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// `tcp/22`, `all but tcp/22`.
    pub traffic: String,
    /// The other end, in words: a rule's whole peer, or the addresses that are left of one.
    pub peer: String,
    /// The addresses of the other end, as blocks; the first of many.
    pub addresses: Vec<String>,
    /// How many blocks are not listed.
    pub more_addresses: usize,
    /// The interfaces, in file order.
    pub interfaces: Vec<String>,
    #[serde(skip)]
    spans: Vec<Span>,
    #[serde(skip)]
    set: Rc<Addresses>,
}

/// A rule that comes or goes and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoEffect {
    /// Added or removed.
    pub change: Kind,
    /// The rule in words.
    pub rule: String,
    /// Why nothing changes.
    pub why: String,
}

/// The most blocks that a line lists.
const LISTED: usize = 256;

impl Plan {
    /// Works out what changes from one policy to the other. Linear in what they hold.
    #[must_use]
    pub fn between(old: Side<'_>, new: Side<'_>) -> Self {
        let changes = changes(old.policy, new.policy);
        let mut views = [old, new].map(|side| View::new(side.policy, side.surroundings));
        let [before, after] = &mut views;
        let found = compare(before, after);
        let mut owners = text::Owners::new([old.policy, new.policy]);
        let lines = |effect| {
            let of_effect = found.differences.iter().filter(move |it| it.effect == effect);
            of_effect.collect::<Vec<_>>()
        };
        let (opens, closes) = (lines(Effect::Opens), lines(Effect::Closes));
        let mut told = |lines: Vec<&Difference<'_>>| -> Vec<Line> {
            lines.into_iter().map(|it| Line::new(it, &mut owners)).collect()
        };
        let (no_effect, elsewhere) = without_effect(&changes.rules, &found);
        Self {
            opens: told(opens),
            closes: told(closes),
            changes: changes.list,
            unchanged_rules: changes.kept,
            no_effect,
            elsewhere,
        }
    }

    /// Whether the policies say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.opens.is_empty() && self.closes.is_empty()
    }

    /// In one line: `+2 -1 rules, 1 group, opens 3, closes 1`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let of = |what| self.changes.iter().filter(move |change| change.what == what);
        let rules = |kind| of(What::Rule).filter(|change| change.change == kind).count();
        let (added, removed) = (rules(Kind::Added), rules(Kind::Removed));
        let signed: Vec<_> = [('+', added), ('-', removed)]
            .iter()
            .filter(|(_, number)| *number > 0)
            .map(|(sign, number)| format!("{sign}{number}"))
            .collect();
        if !signed.is_empty() {
            let noun = if added + removed == 1 { "rule" } else { "rules" };
            parts.push(format!("{} {noun}", signed.join(" ")));
        }
        for (what, one, many) in [
            (What::Group, "group", "groups"),
            (What::PrefixList, "prefix list", "prefix lists"),
            (What::Interface, "interface", "interfaces"),
            (What::Vpc, "VPC", "VPCs"),
            (What::Setting, "setting", "settings"),
        ] {
            match of(what).count() {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                number => parts.push(format!("{number} {many}")),
            }
        }
        let texts = rules(Kind::Changed);
        if texts > 0 {
            parts.push(format!("{texts} rule{} reworded", if texts == 1 { "" } else { "s" }));
        }
        for (verb, lines) in [("opens", &self.opens), ("closes", &self.closes)] {
            if !lines.is_empty() {
                parts.push(format!("{verb} {}", lines.len()));
            }
        }
        if parts.is_empty() { "no change".to_owned() } else { parts.join(", ") }
    }
}

impl Line {
    fn new(difference: &Difference<'_>, owners: &mut text::Owners<'_>) -> Self {
        let set = Rc::clone(&difference.addresses);
        let mut blocks = set.blocks();
        let addresses = blocks.by_ref().take(LISTED).map(|block| block.to_string()).collect();
        let more_addresses = blocks.count();
        let peer = match difference.peer {
            Some(peer) => peer.name().to_string(),
            None => owners.addresses(difference.vpc, &set),
        };
        Self {
            direction: difference.direction.name(),
            traffic: span::text(difference.whole, &difference.spans),
            peer,
            addresses,
            more_addresses,
            interfaces: difference.interfaces.iter().map(|&name| name.to_owned()).collect(),
            spans: difference.spans.clone(),
            set,
        }
    }

    /// Whether it speaks of the first packet of a flow.
    #[must_use]
    pub fn covers(
        &self,
        interface: &str,
        direction: Direction,
        remote: IpAddr,
        traffic: Traffic,
    ) -> bool {
        let packet = Span::from(traffic);
        self.direction == direction.name()
            && self.set.contains(remote)
            && self.spans.iter().any(|span| span.covers(packet))
            && self.interfaces.iter().any(|name| name == interface)
    }
}

/// Of the rules that come and those that go: what changes nothing and why, and how many are not judged here.
fn without_effect(rules: &[Vec<RuleKey<'_>>; 2], found: &Found<'_>) -> (Vec<NoEffect>, usize) {
    let [added, removed] = rules;
    let added = added.iter().map(|rule| (Kind::Added, Effect::Opens, rule));
    let removed = removed.iter().map(|rule| (Kind::Removed, Effect::Closes, rule));
    let (mut told, mut elsewhere) = (Vec::new(), 0);
    for (change, effect, rule) in added.chain(removed) {
        let moving = (effect, *rule);
        match found.idle.get(&moving) {
            _ if found.effective.contains(&moving) => {}
            None => elsewhere += 1,
            Some(idle) => {
                let why = match (idle, change) {
                    (Idle::Nobody, _) => format!("nobody else is in {}", rule.peer.name()),
                    (Idle::Covered(by), Kind::Removed) => format!("still allowed by {by}"),
                    (Idle::Covered(by), _) => format!("allowed already by {by}"),
                    (Idle::CoveredTogether, Kind::Removed) => "still allowed by others".to_owned(),
                    (Idle::CoveredTogether, _) => "allowed already by others".to_owned(),
                };
                told.push(NoEffect { change, rule: rule.to_string(), why });
            }
        }
    }
    (told, elsewhere)
}
