//! The way back from an edit: a commit that fails must not leave the editor ahead of the kernel.

use sg_common::Direction;

use super::{Done, Editor};
use crate::policy::model::{Interface, PrefixList, Rule, SecurityGroup};

/// What an edit has taken away or put in.
#[derive(Debug)]
pub(super) enum Undo {
    GroupCreated { vpc: usize },
    GroupDeleted { vpc: usize, at: usize, group: SecurityGroup },
    Rules { vpc: usize, group: usize, direction: Direction, rules: Vec<Rule> },
    InterfaceAdded { vpc: usize },
    InterfaceRemoved { vpc: usize, at: usize, interface: Interface },
    Regrouped { vpc: usize, at: usize, groups: Vec<usize> },
    ListCreated { vpc: usize },
    ListDeleted { vpc: usize, at: usize, list: PrefixList },
    List { vpc: usize, at: usize, list: PrefixList },
    Many(Vec<Undo>),
}

impl Editor {
    /// Takes back what an edit has done; the latest first.
    pub fn undo(&mut self, done: Done) {
        self.take_back(done.undo);
    }

    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::GroupCreated { vpc } => {
                self.take_group(vpc, self.vpc(vpc).groups.len() - 1);
            }
            Undo::GroupDeleted { vpc, at, group } => self.put_group(vpc, at, group),
            Undo::Rules { vpc, group, direction, rules } => {
                *self.policy.vpcs[vpc].groups[group].rules_mut(direction) = rules;
            }
            Undo::InterfaceAdded { vpc } => {
                self.take_interface(vpc, self.vpc(vpc).interfaces.len() - 1);
            }
            Undo::InterfaceRemoved { vpc, at, interface } => {
                self.put_interface(vpc, at, interface);
            }
            Undo::Regrouped { vpc, at, groups } => {
                self.policy.vpcs[vpc].interfaces[at].groups = groups;
            }
            Undo::ListCreated { vpc } => {
                self.take_list(vpc, self.vpc(vpc).prefix_lists.len() - 1);
            }
            Undo::ListDeleted { vpc, at, list } => self.put_list(vpc, at, list),
            Undo::List { vpc, at, list } => self.policy.vpcs[vpc].prefix_lists[at] = list,
            Undo::Many(undos) => undos.into_iter().rev().for_each(|undo| self.take_back(undo)),
        }
    }
}
