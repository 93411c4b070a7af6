//! The difference of two policies as the file has it: settings, VPCs, groups, rules, prefix lists,
//! interfaces. Names make two things the same thing; a rule is one by its packets and its peer.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::hash::Hash;

use serde::Serialize;
use sg_common::Direction;

use super::details::{described, difference, interface, list, member, rule_details, settings};
use super::view::{OriginKey, PeerKey, RuleKey};
use crate::compile::{Everybody, Origin, PeerName, RuleIdentity, RuleInfo};
use crate::moment::rfc3339;
use crate::policy::Policy;
use crate::policy::model::{Rule, SecurityGroup, Vpc};

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whether it comes, goes or stays with another content.
    pub change: Kind,
    /// Of what sort it is.
    pub what: What,
    /// Name of its VPC; null for settings and VPCs.
    pub vpc: Option<String>,
    /// Its name; of a rule, all of it in words.
    pub name: String,
    /// What is different about it: `addresses: +10.0.0.9/32 -10.0.0.8/32`.
    pub details: Vec<String>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// It stays, with another content.
    Changed,
}

/// Sorts of things in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Dialect, live flows, an infrastructure entry.
    Setting,
    /// A VPC with its blocks.
    Vpc,
    /// A security group; its rules are things of their own.
    Group,
    /// A rule of a group.
    Rule,
    /// A prefix list.
    PrefixList,
    /// An interface.
    Interface,
}

/// What [`changes`] finds.
#[derive(Default)]
pub(super) struct Changes<'p> {
    pub(super) list: Vec<Change>,
    /// Rules that come and rules that go.
    pub(super) rules: [Vec<RuleKey<'p>>; 2],
    /// Rules that both policies have.
    pub(super) kept: usize,
}

/// Everything that differs, in the order of the file.
pub(super) fn changes<'p>(old: &'p Policy, new: &'p Policy) -> Changes<'p> {
    let mut changes = Changes::default();
    for (name, before, after) in settings(old).into_iter().zip(settings(new)).filter_map(|pair| {
        let ((name, before), (_, after)) = pair;
        (before != after).then_some((name, before, after))
    }) {
        let details = vec![format!("{before} -> {after}")];
        changes.push(Kind::Changed, What::Setting, None, name, details);
    }
    changes.each(
        What::Vpc,
        None,
        &old.vpcs,
        &new.vpcs,
        |it| &it.name,
        |one, other| {
            let mut details = Vec::new();
            difference("cidrs", &one.cidrs, &other.cidrs, &mut details);
            difference("subnets", &one.subnets, &other.subnets, &mut details);
            details
        },
    );
    for (before, after) in matched(&old.vpcs, &new.vpcs, |it| it.name.as_str()) {
        changes.vpc(before.unwrap_or(&NO_VPC), after.unwrap_or(&NO_VPC));
    }
    changes
}

static NO_VPC: Vpc = Vpc {
    name: String::new(),
    cidrs: Vec::new(),
    subnets: Vec::new(),
    prefix_lists: Vec::new(),
    groups: Vec::new(),
    interfaces: Vec::new(),
};

impl<'p> Changes<'p> {
    fn push(
        &mut self,
        change: Kind,
        what: What,
        vpc: Option<&str>,
        name: impl Into<String>,
        details: Vec<String>,
    ) {
        let vpc = vpc.map(str::to_owned);
        self.list.push(Change { change, what, vpc, name: name.into(), details });
    }

    /// What comes, goes and changes of things with names.
    fn each<T: PartialEq>(
        &mut self,
        what: What,
        vpc: Option<&str>,
        old: &[T],
        new: &[T],
        name: fn(&T) -> &String,
        details: fn(&T, &T) -> Vec<String>,
    ) {
        for (before, after) in matched(old, new, |it| name(it).as_str()) {
            match (before, after) {
                (None, Some(after)) => {
                    self.push(Kind::Added, what, vpc, name(after), Vec::new());
                }
                (Some(before), None) => {
                    self.push(Kind::Removed, what, vpc, name(before), Vec::new());
                }
                (Some(before), Some(after)) if before != after => {
                    let details = details(before, after);
                    if !details.is_empty() {
                        self.push(Kind::Changed, what, vpc, name(after), details);
                    }
                }
                _ => {}
            }
        }
    }

    fn vpc(&mut self, old: &'p Vpc, new: &'p Vpc) {
        let name = Some(if new.name.is_empty() { &*old.name } else { &*new.name });
        self.each(
            What::PrefixList,
            name,
            &old.prefix_lists,
            &new.prefix_lists,
            |it| &it.name,
            list,
        );
        for (before, after) in matched(&old.groups, &new.groups, |it| it.name.as_str()) {
            self.group(name, (old, before), (new, after));
        }
        for (before, after) in matched(&old.interfaces, &new.interfaces, |it| it.name.as_str()) {
            match (before, after) {
                (None, Some(after)) => {
                    let details = vec![member(new, after)];
                    self.push(Kind::Added, What::Interface, name, &after.name, details);
                }
                (Some(before), None) => {
                    self.push(Kind::Removed, What::Interface, name, &before.name, Vec::new());
                }
                (Some(before), Some(after)) => {
                    let details = interface((old, before), (new, after));
                    if !details.is_empty() {
                        self.push(Kind::Changed, What::Interface, name, &after.name, details);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn group(
        &mut self,
        vpc: Option<&str>,
        (old_vpc, old): (&'p Vpc, Option<&'p SecurityGroup>),
        (new_vpc, new): (&'p Vpc, Option<&'p SecurityGroup>),
    ) {
        match (old, new) {
            (None, Some(new)) => self.push(Kind::Added, What::Group, vpc, &new.name, Vec::new()),
            (Some(old), None) => self.push(Kind::Removed, What::Group, vpc, &old.name, Vec::new()),
            (Some(old), Some(new)) if old.description != new.description => {
                let details = described(&old.description, &new.description);
                self.push(Kind::Changed, What::Group, vpc, &new.name, details);
            }
            _ => {}
        }
        let before = rules(old_vpc, old);
        let after = rules(new_vpc, new);
        for (before, after) in matched(&before, &after, |(key, _)| *key) {
            match (before, after) {
                (None, Some((key, rule))) => {
                    self.rules[0].push(*key);
                    let details = rule.expires.map(|at| format!("expires: {}", rfc3339(at)));
                    let details = details.into_iter().collect();
                    self.push(Kind::Added, What::Rule, vpc, in_words(key, rule), details);
                }
                (Some((key, rule)), None) => {
                    self.rules[1].push(*key);
                    self.push(Kind::Removed, What::Rule, vpc, in_words(key, rule), Vec::new());
                }
                (Some((_, before)), Some((key, after))) => {
                    self.kept += 1;
                    let details = rule_details(before, after);
                    if !details.is_empty() {
                        self.push(Kind::Changed, What::Rule, vpc, key.to_string(), details);
                    }
                }
                (None, None) => {}
            }
        }
    }
}

/// Things of the same name, in the order of the new ones, then those that only the old ones have.
pub(super) fn matched<'t, T, K: Hash + Eq>(
    old: &'t [T],
    new: &'t [T],
    key: impl Fn(&'t T) -> K,
) -> Vec<(Option<&'t T>, Option<&'t T>)> {
    let mut left: HashMap<K, &T> = old.iter().map(|it| (key(it), it)).collect();
    let mut pairs: Vec<_> = new.iter().map(|it| (left.remove(&key(it)), Some(it))).collect();
    let gone = old.iter().filter(|it| left.contains_key(&key(it)));
    pairs.extend(gone.map(|it| (Some(it), None)));
    pairs
}

fn rules<'p>(vpc: &'p Vpc, group: Option<&'p SecurityGroup>) -> Vec<(RuleKey<'p>, &'p Rule)> {
    let Some(group) = group else { return Vec::new() };
    let ingress = group.ingress.iter().map(|rule| (Direction::Ingress, rule));
    let egress = group.egress.iter().map(|rule| (Direction::Egress, rule));
    let all = ingress.chain(egress);
    all.map(|(direction, rule)| (RuleKey::new(vpc, group, direction, rule), rule)).collect()
}

fn in_words(key: &RuleKey<'_>, rule: &Rule) -> String {
    RuleInfo { description: rule.description.clone(), ..key.info() }.to_string()
}

impl RuleKey<'_> {
    fn info(&self) -> RuleInfo {
        let origin = match self.origin {
            OriginKey::Group(name) => Origin::Group(name.to_owned()),
            OriginKey::Infrastructure(entry) => Origin::Infrastructure(entry.to_owned()),
        };
        let identity = RuleIdentity {
            vpc: self.vpc.to_owned(),
            origin,
            direction: self.direction,
            traffic: self.traffic,
            peer: self.peer.name(),
            everybody: Everybody::default(),
        };
        RuleInfo { identity, description: String::new() }
    }
}

impl Display for RuleKey<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.info().fmt(formatter)
    }
}

impl PeerKey<'_> {
    pub(super) fn name(self) -> PeerName {
        match self {
            Self::Cidr(net) => PeerName::Cidr(net),
            Self::Group(name) => PeerName::Group(name.to_owned()),
            Self::PrefixList(name) => PeerName::PrefixList(name.to_owned()),
        }
    }
}
