//! Groups: created, copied, deleted.

use serde_json::json;
use sg_common::Direction;

use super::undo::Undo;
use super::{Done, EditError, Editor, Touched};
use crate::policy::RuleId;
use crate::policy::check::{DEFAULT, fragment};
use crate::policy::diagnostic::{Code, Diagnostics};
use crate::policy::model::{Peer, Rule, SecurityGroup, Vpc};
use crate::policy::source::Span;

impl Editor {
    /// What fragments may refer to in a VPC.
    pub(super) fn around(&self, vpc: usize) -> fragment::Around<'_> {
        let index = &self.index.vpcs[vpc];
        fragment::Around {
            policy: &self.policy,
            vpc,
            groups: &index.groups,
            lists: &index.lists,
            ranges: &index.ranges,
        }
    }

    pub(super) fn create_group(
        &mut self,
        vpc: Option<&str>,
        text: &str,
    ) -> Result<Done, EditError> {
        let vpc = self.vpc_index(vpc)?;
        let (name, _) = fragment::group_name(text).map_err(refused)?;
        let at = self.vpc(vpc).groups.len();
        if name.eq_ignore_ascii_case(DEFAULT) {
            let message = "every VPC has a group `default` already";
            let error = EditError::new(Code::GroupReserved, message);
            return Err(error.hint("change its rules, or choose another name".to_owned()));
        }
        // The group may refer to itself, so its name counts while it is read.
        let groups = &mut self.index.vpcs[vpc].groups;
        if groups.insert(&name, at, Span::new(0, 0)).is_err() {
            return Err(refused(fragment::group_taken(&name)));
        }
        match fragment::group(text, &self.around(vpc)) {
            Ok((group, warnings)) => {
                self.policy.vpcs[vpc].groups.push(group);
                let mut done = Done::new(Touched::Rules { vpc }, Undo::GroupCreated { vpc });
                done.warnings = told(&warnings);
                Ok(done)
            }
            Err(error) => {
                self.index.vpcs[vpc].groups.remove(&name);
                Err(refused(error))
            }
        }
    }

    pub(super) fn copy_group(
        &mut self,
        vpc: Option<&str>,
        group: &str,
        to: &str,
        description: Option<&str>,
    ) -> Result<Done, EditError> {
        let (at, from) = self.group(vpc, group)?;
        let SecurityGroup { description: own, ingress, egress, .. } =
            self.vpc(at).groups[from].clone();
        let description = description.unwrap_or(&own);
        let text = json!({"name": to, "description": description, "ingress": [], "egress": []});
        let vpc = self.vpc(at).name.clone();
        let done = self.create_group(Some(&vpc), &text.to_string())?;
        // Rules within the quota of one group are within that of another.
        if let Some(copy) = self.policy.vpcs[at].groups.last_mut() {
            (copy.ingress, copy.egress) = (ingress, egress);
        }
        Ok(done)
    }

    pub(super) fn delete_group(
        &mut self,
        vpc: Option<&str>,
        group: &str,
    ) -> Result<Done, EditError> {
        let (vpc, at) = self.group(vpc, group)?;
        let of = self.vpc(vpc);
        let name = &of.groups[at].name;
        if name.eq_ignore_ascii_case(DEFAULT) {
            let message = "the group `default` of a VPC cannot be deleted";
            let error = EditError::new(Code::GroupUndeletable, message);
            return Err(error.hint("its rules can be revoked".to_owned()));
        }
        let holders = of.interfaces.iter().filter(|one| one.groups.binary_search(&at).is_ok());
        let others = of.groups.iter().enumerate().filter(|&(other, _)| other != at);
        let rules = referring(of, others.map(|(_, other)| other), &Peer::Group(at));
        let interfaces = ("interface", holders.map(|one| quoted(&one.name)).collect());
        in_use(name, &[interfaces, ("rule", rules)])?;
        let group = self.take_group(vpc, at);
        Ok(Done::new(Touched::Rules { vpc }, Undo::GroupDeleted { vpc, at, group }))
    }

    /// Takes a group out of its place, whoever refers to it.
    pub(super) fn take_group(&mut self, vpc: usize, at: usize) -> SecurityGroup {
        let group = self.policy.vpcs[vpc].groups.remove(at);
        self.index.vpcs[vpc].groups.remove(&group.name);
        self.renumber_groups(vpc, |index| if index > at { index - 1 } else { index });
        group
    }

    /// Puts a group back into its place.
    pub(super) fn put_group(&mut self, vpc: usize, at: usize, group: SecurityGroup) {
        self.renumber_groups(vpc, |index| if index >= at { index + 1 } else { index });
        // The group's references to itself and others were those of before it was taken.
        let _ = self.index.vpcs[vpc].groups.insert(&group.name, at, Span::new(0, 0));
        self.policy.vpcs[vpc].groups.insert(at, group);
    }

    fn renumber_groups(&mut self, vpc: usize, number: impl Fn(usize) -> usize) {
        self.index.vpcs[vpc].groups.renumber(&number);
        let of = &mut self.policy.vpcs[vpc];
        for group in &mut of.groups {
            for rule in group.ingress.iter_mut().chain(&mut group.egress) {
                if let Peer::Group(index) = &mut rule.peer {
                    *index = number(*index);
                }
            }
        }
        for interface in &mut of.interfaces {
            interface.groups.iter_mut().for_each(|index| *index = number(*index));
        }
    }

    /// Identifiers of rules of a group.
    pub(super) fn ids<'r>(
        &self,
        vpc: usize,
        group: usize,
        direction: Direction,
        rules: impl IntoIterator<Item = &'r Rule>,
    ) -> Vec<RuleId> {
        let of = self.vpc(vpc);
        let id = |rule| RuleId::of(of, &of.groups[group], direction, rule);
        rules.into_iter().map(id).collect()
    }
}

/// The rules of groups whose peer is this one, each with its identifier.
pub(super) fn referring<'g>(
    vpc: &Vpc,
    groups: impl Iterator<Item = &'g SecurityGroup>,
    peer: &Peer,
) -> Vec<String> {
    let of_group = |group: &'g SecurityGroup| {
        Direction::ALL.into_iter().flat_map(move |way| {
            let rules = group.rules(way).iter().filter(|rule| rule.peer == *peer);
            rules.map(move |rule| {
                format!("{} of group {:?}", RuleId::of(vpc, group, way, rule), group.name)
            })
        })
    };
    groups.flat_map(of_group).collect()
}

/// `DependencyViolation` by the first few of each kind that refer to something.
pub(super) fn in_use(name: &str, holders: &[(&str, Vec<String>)]) -> Result<(), EditError> {
    const TOLD: usize = 5;
    let told = |(kind, holders): &(&str, Vec<String>)| {
        let plural = if holders.len() == 1 { "" } else { "s" };
        let named = holders.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match holders.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{kind}{plural} {named}{more}")
    };
    let by: Vec<_> = holders.iter().filter(|(_, holders)| !holders.is_empty()).map(told).collect();
    if by.is_empty() {
        return Ok(());
    }
    let message = format!("{name:?} is in use by {}", by.join(", and by "));
    Err(EditError::new(Code::DependencyViolation, message))
}

/// A name as messages have it.
pub(super) fn quoted(name: &str) -> String {
    format!("{name:?}")
}

pub(super) fn refused(diagnostics: Box<Diagnostics>) -> EditError {
    EditError::read(&diagnostics)
}

/// Warnings in one line each.
pub(super) fn told(warnings: &Diagnostics) -> Vec<String> {
    warnings.iter().map(|item| item.message.clone()).collect()
}
