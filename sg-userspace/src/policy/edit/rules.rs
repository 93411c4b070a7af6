//! Rules: authorized, revoked, expired.

use sg_common::Direction;

use super::groups::{refused, told};
use super::undo::Undo;
use super::{Done, EditError, Editor, Touched, Which};
use crate::policy::RuleId;
use crate::policy::check::fragment;
use crate::policy::diagnostic::Code;
use crate::policy::model::{Rule, SecurityGroup};
use crate::policy::traffic::describe;

/// Rules of a group, each with its position.
type Placed = Vec<(usize, Rule)>;

impl Editor {
    pub(super) fn authorize(
        &mut self,
        vpc: Option<&str>,
        group: &str,
        direction: Direction,
        text: &str,
    ) -> Result<Done, EditError> {
        let (vpc, at) = self.group(vpc, group)?;
        let there = self.vpc(vpc).groups[at].rules(direction);
        let around = self.around(vpc);
        let known = there.iter().zip(self.ids(vpc, at, direction, there));
        let (new, warnings) = fragment::rules(text, direction, known, &around).map_err(refused)?;
        let ids = self.ids(vpc, at, direction, &new);
        let before = there.to_vec();
        self.policy.vpcs[vpc].groups[at].rules_mut(direction).extend(new);
        let of = self.vpc(vpc);
        let checked = fragment::over_quota([&of.groups[at]], &of.prefix_lists, &self.around(vpc));
        let undo = Undo::Rules { vpc, group: at, direction, rules: before };
        if let Err(error) = checked {
            self.take_back(undo);
            return Err(refused(error));
        }
        let mut done = Done::new(Touched::Rules { vpc }, undo);
        (done.warnings, done.rules) = (told(&warnings), ids);
        Ok(done)
    }

    pub(super) fn revoke(
        &mut self,
        vpc: Option<&str>,
        group: &str,
        which: &Which,
    ) -> Result<Done, EditError> {
        let (vpc, at) = self.group(vpc, group)?;
        let (direction, gone, warnings) = match which {
            Which::Id(id) => {
                let (direction, rule) = self.by_id(vpc, at, id)?;
                (direction, vec![rule], Vec::new())
            }
            Which::Exact { direction, rule } => {
                let (rules, warnings) = self.exact(vpc, at, *direction, rule)?;
                (*direction, rules, warnings)
            }
        };
        let ids = self.ids(vpc, at, direction, gone.iter().map(|(_, rule)| rule));
        let rules = self.policy.vpcs[vpc].groups[at].rules_mut(direction);
        let before = rules.clone();
        let mut index = 0;
        rules.retain(|_| {
            index += 1;
            !gone.iter().any(|&(position, _)| position == index - 1)
        });
        let undo = Undo::Rules { vpc, group: at, direction, rules: before };
        let mut done = Done::new(Touched::Rules { vpc }, undo);
        (done.rules, done.warnings) = (ids, warnings);
        Ok(done)
    }

    /// The rule of an identifier.
    fn by_id(
        &self,
        vpc: usize,
        group: usize,
        id: &str,
    ) -> Result<(Direction, (usize, Rule)), EditError> {
        let wanted: RuleId = id.parse().map_err(|_| {
            let message = format!("{id:?} is no identifier of a rule");
            EditError::new(Code::RuleIdMalformed, message).hint(
                "they look like sgr-0123456789abcdef0; `sgctl rule list` shows them".to_owned(),
            )
        })?;
        let of = self.vpc(vpc);
        let group = &of.groups[group];
        for direction in Direction::ALL {
            let mut rules = group.rules(direction).iter().enumerate();
            if let Some((at, rule)) =
                rules.find(|(_, rule)| RuleId::of(of, group, direction, rule) == wanted)
            {
                return Ok((direction, (at, rule.clone())));
            }
        }
        let message = format!("group {:?} has no rule {wanted}", group.name);
        Err(EditError::new(Code::RuleIdNotFound, message))
    }

    /// The rules that a written one stands for, all of which must be there, and what was found in reading it.
    fn exact(
        &self,
        vpc: usize,
        group: usize,
        direction: Direction,
        text: &str,
    ) -> Result<(Placed, Vec<String>), EditError> {
        let (wanted, warnings) =
            fragment::rules(text, direction, std::iter::empty(), &self.around(vpc))
                .map_err(refused)?;
        let group = &self.vpc(vpc).groups[group];
        let find = |wanted: Rule| {
            let same = |rule: &Rule| rule.traffic == wanted.traffic && rule.peer == wanted.peer;
            let position = group.rules(direction).iter().position(same);
            position.map(|at| (at, group.rules(direction)[at].clone())).ok_or_else(|| {
                let traffic = describe(wanted.traffic);
                let direction = direction.name();
                let message =
                    format!("group {:?} has no such {traffic} {direction} rule", group.name);
                EditError::new(Code::PermissionNotFound, message)
                    .hint(format!("`sgctl rule list '{}'` shows those it has", group.name))
            })
        };
        let found: Result<_, _> = wanted.into_iter().map(find).collect();
        Ok((found?, told(&warnings)))
    }

    pub(super) fn expire(&mut self, at: u64) -> Done {
        let over = |rule: &Rule| rule.is_over(at);
        let mut undo = Vec::new();
        let mut ids = Vec::new();
        let mut touched = Touched::Nothing;
        for vpc in 0..self.policy.vpcs.len() {
            for group in 0..self.vpc(vpc).groups.len() {
                for direction in Direction::ALL {
                    let rules = self.vpc(vpc).groups[group].rules(direction);
                    if !rules.iter().any(over) {
                        continue;
                    }
                    ids.extend(self.ids(vpc, group, direction, rules.iter().filter(|it| over(it))));
                    let rules = rules.to_vec();
                    undo.push(Undo::Rules { vpc, group, direction, rules });
                    self.policy.vpcs[vpc].groups[group]
                        .rules_mut(direction)
                        .retain(|rule| !over(rule));
                    touched = Touched::Rules { vpc };
                }
            }
        }
        let mut done = Done::new(touched, Undo::Many(undo));
        done.rules = ids;
        done
    }
}

impl SecurityGroup {
    /// The rules of a direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    pub(super) fn rules_mut(&mut self, direction: Direction) -> &mut Vec<Rule> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}
