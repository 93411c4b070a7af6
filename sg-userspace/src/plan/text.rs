//! A plan in words: what comes is green and has a plus, what goes is red and has a minus.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::addresses::Addresses;
use super::{Change, Kind, Line, Plan, What};
use crate::policy::Policy;

/// Who has which address, looked up when the first address is to be named.
pub(super) struct Owners<'p> {
    policies: [&'p Policy; 2],
    names: Option<HashMap<(&'p str, IpAddr), &'p str>>,
}

/// The most addresses that are named in a line, and the most interfaces.
const NAMED: usize = 3;

impl<'p> Owners<'p> {
    pub(super) fn new(policies: [&'p Policy; 2]) -> Self {
        Self { policies, names: None }
    }

    /// `alb-2 (10.0.0.9), 10.1.0.0/16 and 7 more`
    pub(super) fn addresses(&mut self, vpc: &str, set: &Addresses) -> String {
        let mut blocks = set.blocks();
        let named: Vec<String> =
            blocks.by_ref().take(NAMED).map(|block| self.block(vpc, block)).collect();
        let more = blocks.count();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        named.join(", ") + &more
    }

    fn block(&mut self, vpc: &str, block: IpNet) -> String {
        if block.prefix_len() != block.max_prefix_len() {
            return block.to_string();
        }
        let address = block.addr();
        match self.names().get(&(vpc, address)) {
            Some(name) => format!("{name} ({address})"),
            None => address.to_string(),
        }
    }

    fn names(&mut self) -> &HashMap<(&'p str, IpAddr), &'p str> {
        let policies = self.policies;
        self.names.get_or_insert_with(|| {
            let vpcs = policies.into_iter().flat_map(|policy| &policy.vpcs);
            let interfaces =
                vpcs.flat_map(|vpc| vpc.interfaces.iter().map(move |it| (vpc.name.as_str(), it)));
            let addresses = interfaces.flat_map(|(vpc, interface)| {
                let hosts = interface.addresses.iter();
                let hosts = hosts.filter(|net| net.prefix_len() == net.max_prefix_len());
                hosts.map(move |net| ((vpc, net.addr()), interface.name.as_str()))
            });
            addresses.collect()
        })
    }
}

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

impl Plan {
    /// The plan, several lines; none where nothing changes.
    #[must_use]
    pub fn text(&self, color: bool) -> String {
        let mut text = String::new();
        let mut line = |sign: char, words: &str| {
            let begin = match sign {
                _ if !color => "",
                '+' => GREEN,
                '-' => RED,
                _ => YELLOW,
            };
            let end = if color { PLAIN } else { "" };
            text += &format!("{begin}{sign} {words}{end}\n");
        };
        for change in &self.changes {
            line(change.sign(), &change.words());
        }
        for (sign, verb, lines) in [('+', "opens", &self.opens), ('-', "closes", &self.closes)] {
            for one in lines {
                line(sign, &one.words(verb));
            }
        }
        for one in &self.no_effect {
            let verb = if one.change == Kind::Removed { "closes" } else { "opens" };
            text += &format!("  no effect: {} {verb} nothing: {}\n", one.rule, one.why);
        }
        if self.elsewhere > 0 {
            let (noun, verb) = if self.elsewhere == 1 { ("rule", "is") } else { ("rules", "are") };
            text += &format!(
                "  no effect here: {} {noun} {verb} of groups that no interface here has\n",
                self.elsewhere
            );
        }
        text
    }
}

impl Change {
    const fn sign(&self) -> char {
        match self.change {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        }
    }

    /// `interface web-1: groups: +admin`
    fn words(&self) -> String {
        let Self { what, name, .. } = self;
        let what = match what {
            What::Setting => "setting ",
            What::Vpc => "VPC ",
            What::Group => "group ",
            // Its words begin with its group's.
            What::Rule => "rule: ",
            What::PrefixList => "prefix list ",
            What::Interface => "interface ",
        };
        let details = self.details.join("; ");
        let separator = if details.is_empty() { "" } else { ": " };
        format!("{what}{name}{separator}{details}")
    }
}

impl Line {
    /// `opens ingress tcp/22 from prefix list office on backend-1`
    fn words(&self, verb: &str) -> String {
        let Self { direction, traffic, peer, .. } = self;
        let preposition = if *direction == "ingress" { "from" } else { "to" };
        let on = names(&self.interfaces);
        format!("{verb} {direction} {traffic} {preposition} {peer} on {on}")
    }
}

/// `backend-1, backend-2`, or `backend-1 .. backend-40 (40 interfaces)`.
fn names(interfaces: &[String]) -> String {
    match interfaces {
        [first, .., last] if interfaces.len() > NAMED => {
            format!("{first} .. {last} ({} interfaces)", interfaces.len())
        }
        _ => interfaces.join(", "),
    }
}
