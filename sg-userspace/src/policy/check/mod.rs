//! From the tree of what is written to the validated [`Policy`].
//!
//! Every check reports and goes on with what is left, so that one run tells everything. What is
//! returned beside errors is only fit for further checks; [`super::load`] throws it away.

pub(crate) mod fragment;
mod group;
mod interface;
mod packets;
mod peer;
mod rule;
mod settings;
mod test;
mod vpc;

use super::diagnostic::{Code, Report};
use super::model::Policy;
use super::names::{self, NameError, Table};
use super::source::{Source, Span};
use super::tree::{Node, Value};
use super::{text, value};

pub(crate) use group::{DEFAULT, everywhere};
pub(crate) use interface::SIDES;
pub(crate) use settings::{DIALECTS, LIVE_FLOWS};
pub(crate) use test::OUTCOMES;

/// Names that are unique in the whole file.
struct FileNames {
    vpcs: Table,
    /// Indices into `places`.
    interfaces: Table,
    /// VPC and position in it of each interface.
    places: Vec<(usize, usize)>,
    devices: Table,
}

impl FileNames {
    fn new() -> Self {
        Self {
            vpcs: Table::exact(),
            interfaces: Table::exact(),
            places: Vec::new(),
            devices: Table::exact(),
        }
    }
}

/// Checks a whole file.
pub(crate) fn file<'n>(
    root: &'n Node<'n>,
    source: &Source<'_>,
    report: &mut Report,
) -> Option<Policy> {
    if matches!(root.value, Value::Null) {
        report
            .error(None, Span::new(0, 0), "the file is empty")
            .hint("the smallest policy is: vpcs: [{name: NAME, cidrs: [10.0.0.0/8]}]");
        return None;
    }
    let file = text::File::read(root, report)?;
    let settings = settings::check(&file, report);
    let mut names = FileNames::new();
    let mut vpcs = Vec::new();
    for node in file.vpcs.and_then(|node| value::list(node, "`vpcs`", report)).unwrap_or_default() {
        vpcs.extend(vpc::check(node, vpcs.len(), &settings, &mut names, report));
    }
    let written = file.tests.and_then(|node| value::list(node, "`tests`", report));
    let tests = written
        .unwrap_or_default()
        .iter()
        .filter_map(|node| test::check(node, &vpcs, &names, source, report))
        .collect();
    Some(Policy {
        dialect: settings.dialect,
        live_flows: settings.live_flows,
        infrastructure: settings.infrastructure,
        quotas: settings.quotas,
        vpcs,
        tests,
    })
}

/// A name by AWS's rules; what is missing was reported by the record.
fn name<'n>(node: Option<&'n Node<'n>>, what: &str, report: &mut Report) -> Option<&'n str> {
    let node = node?;
    let given = value::text(node, &format!("the name of {what}"), report)?;
    names::name(given)
        .map_err(|error| unfit(node, given, &format!("the name of {what}"), &error, report))
        .ok()
}

/// Free text by one of AWS's character sets; empty if there is none.
fn description(
    node: Option<&Node<'_>>,
    check: fn(&str) -> Result<(), NameError>,
    report: &mut Report,
) -> String {
    let Some(node) = node else { return String::new() };
    let given = value::text(node, "a description", report).unwrap_or_default();
    if let Err(error) = check(given) {
        unfit(node, given, "a description", &error, report);
    }
    given.to_owned()
}

fn unfit(node: &Node<'_>, given: &str, what: &str, error: &NameError, report: &mut Report) {
    let message = format!("{given:?} cannot be {what}: {error}");
    report.error(Code::ParameterValue, node.span, message);
}
