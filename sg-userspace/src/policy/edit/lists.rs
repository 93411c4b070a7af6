//! Prefix lists: created, deleted, with more blocks or fewer.

use std::collections::HashSet;

use super::groups::{in_use, referring, refused, told};
use super::undo::Undo;
use super::{Done, EditError, Editor, Touched};
use crate::policy::check::fragment;
use crate::policy::diagnostic::Code;
use crate::policy::model::{Peer, PrefixList, Rule, SecurityGroup};
use crate::policy::source::Span;

impl Editor {
    pub(super) fn create_list(&mut self, vpc: Option<&str>, text: &str) -> Result<Done, EditError> {
        let vpc = self.vpc_index(vpc)?;
        let (list, warnings) = fragment::prefix_list(text, &self.around(vpc)).map_err(refused)?;
        let at = self.vpc(vpc).prefix_lists.len();
        // Not taken: the reader has asked.
        let _ = self.index.vpcs[vpc].lists.insert(&list.name, at, Span::new(0, 0));
        self.policy.vpcs[vpc].prefix_lists.push(list);
        let mut done = Done::new(Touched::Rules { vpc }, Undo::ListCreated { vpc });
        done.warnings = told(&warnings);
        Ok(done)
    }

    pub(super) fn delete_list(&mut self, vpc: Option<&str>, name: &str) -> Result<Done, EditError> {
        let (vpc, at) = self.list(vpc, name)?;
        let of = self.vpc(vpc);
        let rules = referring(of, of.groups.iter(), &Peer::PrefixList(at));
        in_use(&of.prefix_lists[at].name, &[("rule", rules)])?;
        let list = self.take_list(vpc, at);
        Ok(Done::new(Touched::Rules { vpc }, Undo::ListDeleted { vpc, at, list }))
    }

    pub(super) fn add_to_list(
        &mut self,
        vpc: Option<&str>,
        name: &str,
        cidrs: &[String],
    ) -> Result<Done, EditError> {
        let (vpc, at) = self.list(vpc, name)?;
        let (new, warnings) = fragment::blocks(cidrs).map_err(refused)?;
        let mut list = self.vpc(vpc).prefix_lists[at].clone();
        let mut there: HashSet<_> = list.cidrs.iter().copied().collect();
        for net in new {
            if !there.insert(net) {
                let message = format!("{net} is in prefix list {:?} already", list.name);
                return Err(EditError::new(Code::PrefixListModification, message));
            }
            list.cidrs.push(net);
        }
        fragment::too_many_blocks(&list).map_err(refused)?;
        let mut done = self.replace_list(vpc, at, list)?;
        done.warnings = told(&warnings);
        Ok(done)
    }

    pub(super) fn remove_from_list(
        &mut self,
        vpc: Option<&str>,
        name: &str,
        cidrs: &[String],
    ) -> Result<Done, EditError> {
        let (vpc, at) = self.list(vpc, name)?;
        let (gone, warnings) = fragment::blocks(cidrs).map_err(refused)?;
        let mut list = self.vpc(vpc).prefix_lists[at].clone();
        let there: HashSet<_> = list.cidrs.iter().copied().collect();
        if let Some(net) = gone.iter().find(|net| !there.contains(net)) {
            let message = format!("{net} is not in prefix list {:?}", list.name);
            return Err(EditError::new(Code::PrefixListModification, message));
        }
        let gone: HashSet<_> = gone.into_iter().collect();
        list.cidrs.retain(|net| !gone.contains(net));
        let mut done = self.replace_list(vpc, at, list)?;
        done.warnings = told(&warnings);
        Ok(done)
    }

    /// A list counts towards the quota of every group that refers to it.
    fn replace_list(&mut self, vpc: usize, at: usize, list: PrefixList) -> Result<Done, EditError> {
        let before = std::mem::replace(&mut self.policy.vpcs[vpc].prefix_lists[at], list);
        let of = self.vpc(vpc);
        let groups = of.groups.iter().filter(|group| refers(group, at));
        let checked = fragment::over_quota(groups, &of.prefix_lists, &self.around(vpc));
        let undo = Undo::List { vpc, at, list: before };
        if let Err(error) = checked {
            self.take_back(undo);
            return Err(refused(error));
        }
        Ok(Done::new(Touched::Rules { vpc }, undo))
    }

    /// Takes a list out of its place, whoever refers to it.
    pub(super) fn take_list(&mut self, vpc: usize, at: usize) -> PrefixList {
        let list = self.policy.vpcs[vpc].prefix_lists.remove(at);
        self.index.vpcs[vpc].lists.remove(&list.name);
        self.renumber_lists(vpc, |index| if index > at { index - 1 } else { index });
        list
    }

    /// Puts a list back into its place.
    pub(super) fn put_list(&mut self, vpc: usize, at: usize, list: PrefixList) {
        self.renumber_lists(vpc, |index| if index >= at { index + 1 } else { index });
        let _ = self.index.vpcs[vpc].lists.insert(&list.name, at, Span::new(0, 0));
        self.policy.vpcs[vpc].prefix_lists.insert(at, list);
    }

    fn renumber_lists(&mut self, vpc: usize, number: impl Fn(usize) -> usize) {
        self.index.vpcs[vpc].lists.renumber(&number);
        for group in &mut self.policy.vpcs[vpc].groups {
            for rule in group.ingress.iter_mut().chain(&mut group.egress) {
                if let Peer::PrefixList(index) = &mut rule.peer {
                    *index = number(*index);
                }
            }
        }
    }
}

fn refers(group: &SecurityGroup, list: usize) -> bool {
    let refers = |rule: &Rule| rule.peer == Peer::PrefixList(list);
    group.ingress.iter().chain(&group.egress).any(refers)
}
