//! Security groups: names, defaults (rules 3 and 4) and the quota of rules (rule 15).

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sg_common::Direction;

use super::rule;
use super::settings::Settings;
use super::{description, name};
use crate::policy::diagnostic::{Code, Draft, Report};
use crate::policy::model::{Dialect, Peer, PrefixList, Quotas, Rule, SecurityGroup, Traffic};
use crate::policy::names::{self, Table};
use crate::policy::source::Span;
use crate::policy::tree::Node;
use crate::policy::{text, traffic, value};

/// The group that every VPC has.
pub(crate) const DEFAULT: &str = "default";

/// A VPC's prefix lists.
pub(super) struct Lists<'l> {
    pub(super) names: &'l Table,
    pub(super) lists: &'l [PrefixList],
}

/// All groups of a VPC, `default` always among them, and their names.
pub(super) fn check<'n>(
    node: Option<&'n Node<'n>>,
    lists: &Lists<'_>,
    settings: &Settings,
    report: &mut Report,
) -> (Vec<SecurityGroup>, Table) {
    // Names first: rules may refer to groups that are written further down.
    let mut table = Table::folded();
    let mut written = Vec::new();
    let nodes = node.and_then(|node| value::list(node, "`security_groups`", report));
    for node in nodes.unwrap_or_default() {
        let Some(group) = text::SecurityGroup::read(node, report) else { continue };
        let own_name = name(group.name, "a security group", report);
        if let (Some(own_name), Some(node)) = (own_name, group.name)
            && let Err(first) = table.insert(own_name, written.len(), node.span)
        {
            taken(own_name, node.span, report).related(first, "first");
        }
        written.push((own_name.unwrap_or_default(), group));
    }
    let implicit = table.get(DEFAULT).is_none();
    if implicit {
        // Cannot be taken: that was just asked.
        let _ = table.insert(DEFAULT, written.len(), Span::new(0, 0));
    }
    let count = written.len() + usize::from(implicit);
    too_many(node.map(|node| node.span), count, &settings.quotas, report);
    let scope = rule::Scope::new(&table, lists.names, &settings.quotas);
    let mut groups: Vec<_> = written
        .iter()
        .enumerate()
        .map(|(index, (name, group))| {
            let is_default = table.get(DEFAULT) == Some(index);
            let own = is_default.then(|| from_itself(settings.dialect, index));
            let place = group.name.map(|node| node.span);
            let group = check_one(name, group, own, &scope, report);
            quota(&group, place, lists.lists, &settings.quotas, report);
            group
        })
        .collect();
    if implicit {
        groups.push(SecurityGroup {
            name: DEFAULT.to_owned(),
            description: String::new(),
            ingress: vec![from_itself(settings.dialect, groups.len())],
            egress: everywhere(),
        });
    }
    (groups, table)
}

/// Reports a name that another group has.
pub(super) fn taken<'r>(name: &str, place: Span, report: &'r mut Report) -> &'r mut Draft {
    report
        .error(Code::GroupDuplicate, place, format!("the VPC has a group {name:?} already"))
        .hint("upper and lower case make no difference")
}

pub(super) fn check_one<'n>(
    name: &str,
    written: &text::SecurityGroup<'n>,
    ingress: Option<Rule>,
    scope: &rule::Scope<'_>,
    report: &mut Report,
) -> SecurityGroup {
    SecurityGroup {
        name: name.to_owned(),
        description: description(written.description, names::description, report),
        ingress: match written.ingress {
            Some(node) => rule::check(node, Direction::Ingress, scope, report),
            None => ingress.into_iter().collect(),
        },
        egress: match written.egress {
            Some(node) => rule::check(node, Direction::Egress, scope, report),
            None => everywhere(),
        },
    }
}

/// Rule 4: what the group `default` lets in unless the file says otherwise.
fn from_itself(dialect: Dialect, group: usize) -> Rule {
    let traffic = match dialect {
        Dialect::Aws => Traffic::All,
        Dialect::Kakao => Traffic::Ports { protocol: traffic::TCP, first: 0, last: u16::MAX },
    };
    Rule { traffic, peer: Peer::Group(group), description: String::new(), expires: None }
}

/// Rule 3: what a group lets out unless the file says otherwise.
pub(crate) fn everywhere() -> Vec<Rule> {
    let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let rule = |net| Rule {
        traffic: Traffic::All,
        peer: Peer::Cidr(net),
        description: String::new(),
        expires: None,
    };
    everywhere.map(rule).into()
}

pub(super) fn too_many(place: Option<Span>, groups: usize, quotas: &Quotas, report: &mut Report) {
    let most = quotas.groups_per_vpc;
    if let Some(place) = place.filter(|_| groups > most) {
        let message =
            format!("the VPC has {groups} groups, `default` among them; the quota is {most}");
        report
            .error(Code::GroupsLimit, place, message)
            .hint("raise `quotas: {groups_per_vpc: ...}`");
    }
}

/// How many rules a group has per family, counted as AWS counts them.
pub(super) fn quota(
    group: &SecurityGroup,
    place: Option<Span>,
    lists: &[PrefixList],
    quotas: &Quotas,
    report: &mut Report,
) {
    let most = quotas.rules_per_direction;
    for (direction, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
        for (family, is_ipv4) in [("IPv4", true), ("IPv6", false)] {
            let weight = |rule: &Rule| match rule.peer {
                Peer::Cidr(net) => usize::from(net.addr().is_ipv4() == is_ipv4),
                Peer::Group(_) => 1,
                Peer::PrefixList(list) => lists.get(list).map_or(1, PrefixList::size),
            };
            let count = rules.iter().map(weight).fold(0, usize::saturating_add);
            if let Some(place) = place.filter(|_| count > most) {
                let message = format!(
                    "group {:?} has {count} {family} {direction} rules, the quota is {most}",
                    group.name
                );
                report
                    .error(Code::RulesLimit, place, message)
                    .hint("a prefix list counts its `max_entries`; split the group or raise `quotas: {rules_per_direction: ...}`");
            }
        }
    }
}
