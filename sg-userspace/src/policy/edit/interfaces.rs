//! Interfaces: added, removed, given other groups. None of it looks at the other interfaces.

use std::net::IpAddr;

use super::groups::{in_use, refused, told};
use super::place::{elsewhere, missing_interface};
use super::undo::Undo;
use super::{Done, EditError, Editor, Kind, Touched};
use crate::policy::check::fragment;
use crate::policy::diagnostic::Code;
use crate::policy::model::{Endpoint, Interface, ReachabilityTest};

impl Editor {
    pub(super) fn add_interface(
        &mut self,
        vpc: Option<&str>,
        text: &str,
    ) -> Result<Done, EditError> {
        let vpc = self.vpc_index(vpc)?;
        let (index, of) = (&self.index, self.vpc(vpc));
        let taken = fragment::Taken {
            name: &|name| index.interface(name).is_some(),
            device: &|device| index.holder(device).is_some(),
            address: &|net| {
                let (other, at) = index.vpcs[vpc].owners.overlapping(net)?;
                Some((other, of.interfaces.get(at)?.name.clone()))
            },
        };
        let (interface, warnings) =
            fragment::interface(text, &self.around(vpc), &taken).map_err(refused)?;
        self.refuse_another_address(&interface.name)?;
        self.put_interface(vpc, of.interfaces.len(), interface.clone());
        let touched = Touched::Interface { vpc, before: None, after: Some(Box::new(interface)) };
        let mut done = Done::new(touched, Undo::InterfaceAdded { vpc });
        done.warnings = told(&warnings);
        Ok(done)
    }

    /// An interface may be named like an address; a test of that address would become one of the interface.
    fn refuse_another_address(&self, name: &str) -> Result<(), EditError> {
        let Ok(address) = name.parse::<IpAddr>() else { return Ok(()) };
        let end = Endpoint::Address(address);
        let meant = |test: &&ReachabilityTest| test.from == end || test.to == end;
        if address.to_string() != name || !self.policy.tests.iter().any(|test| meant(&test)) {
            return Ok(());
        }
        let message = format!("{name:?} is an address in a test of the policy");
        Err(EditError::new(Code::ParameterValue, message))
    }

    pub(super) fn remove_interface(&mut self, name: &str) -> Result<Done, EditError> {
        let Some((vpc, at)) = self.index.interface(name) else {
            return Err(missing_interface(&self.policy, name));
        };
        let end = Endpoint::Interface { vpc, interface: at };
        let refers = |test: &&ReachabilityTest| test.from == end || test.to == end;
        let tests = self.policy.tests.iter().enumerate().filter(|(_, test)| refers(test));
        in_use(name, &[("test", tests.map(|(number, _)| (number + 1).to_string()).collect())])?;
        let interface = self.take_interface(vpc, at);
        let touched =
            Touched::Interface { vpc, before: Some(Box::new(interface.clone())), after: None };
        Ok(Done::new(touched, Undo::InterfaceRemoved { vpc, at, interface }))
    }

    pub(super) fn set_groups(&mut self, name: &str, groups: &[String]) -> Result<Done, EditError> {
        let Some((vpc, at)) = self.index.interface(name) else {
            return Err(missing_interface(&self.policy, name));
        };
        self.refuse_foreign(name, vpc, groups)?;
        let (groups, _) = fragment::groups(groups, &self.around(vpc)).map_err(refused)?;
        let interface = &mut self.policy.vpcs[vpc].interfaces[at];
        let before = Box::new(interface.clone());
        interface.groups = groups;
        let after = Some(Box::new(interface.clone()));
        let undo = Undo::Regrouped { vpc, at, groups: before.groups.clone() };
        Ok(Done::new(Touched::Interface { vpc, before: Some(before), after }, undo))
    }

    /// Refuses groups that the interface's VPC has not, naming it: the command does not.
    fn refuse_foreign(
        &self,
        interface: &str,
        vpc: usize,
        groups: &[String],
    ) -> Result<(), EditError> {
        let known = &self.index.vpcs[vpc].groups;
        let Some(group) = groups.iter().find(|group| known.get(group).is_none()) else {
            return Ok(());
        };
        let of = &self.vpc(vpc).name;
        let message =
            format!("interface {interface:?} is in VPC {of:?}, which has no group {group:?}");
        let hint = elsewhere(&self.policy, Kind::Group, vpc, group);
        Err(EditError::new(Code::GroupNotFound, message).hint(hint))
    }

    /// Takes an interface out; the last one takes its place.
    pub(super) fn take_interface(&mut self, vpc: usize, at: usize) -> Interface {
        let interface = self.policy.vpcs[vpc].interfaces.swap_remove(at);
        self.index.remove(vpc, &interface);
        let last = self.vpc(vpc).interfaces.len();
        if let Some(moved) = self.policy.vpcs[vpc].interfaces.get(at) {
            self.index.remove(vpc, moved);
            self.index.add(vpc, at, moved);
            self.move_tests(vpc, last, at);
        }
        interface
    }

    /// Puts an interface in; the one in its place goes to the end.
    pub(super) fn put_interface(&mut self, vpc: usize, at: usize, interface: Interface) {
        let interfaces = &mut self.policy.vpcs[vpc].interfaces;
        let last = interfaces.len();
        interfaces.push(interface);
        interfaces.swap(at, last);
        if at != last {
            let moved = &self.policy.vpcs[vpc].interfaces[last];
            self.index.remove(vpc, moved);
            self.index.add(vpc, last, moved);
            self.move_tests(vpc, at, last);
        }
        self.index.add(vpc, at, &self.policy.vpcs[vpc].interfaces[at]);
    }

    fn move_tests(&mut self, vpc: usize, from: usize, to: usize) {
        let old = Endpoint::Interface { vpc, interface: from };
        let new = Endpoint::Interface { vpc, interface: to };
        for test in &mut self.policy.tests {
            for end in [&mut test.from, &mut test.to] {
                if *end == old {
                    *end = new;
                }
            }
        }
    }
}
