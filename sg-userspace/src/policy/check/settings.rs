//! What holds for the whole file: dialect, live flows, infrastructure traffic and quotas.

use crate::policy::diagnostic::{Code, Report};
use crate::policy::model::{Dialect, Infrastructure, LiveFlows, Quotas};
use crate::policy::tree::Node;
use crate::policy::{text, value};

/// Words for dialects.
pub(crate) const DIALECTS: &[(&str, Dialect)] = &[("aws", Dialect::Aws), ("kakao", Dialect::Kakao)];

/// Words for what becomes of live flows.
pub(crate) const LIVE_FLOWS: &[(&str, LiveFlows)] =
    &[("keep", LiveFlows::Keep), ("cut", LiveFlows::Cut)];

/// The highest quota that can be asked for: what has been tried.
const MOST: usize = 1_000_000;

/// The file's settings, with defaults filled in.
pub(super) struct Settings {
    pub(super) dialect: Dialect,
    pub(super) live_flows: LiveFlows,
    pub(super) infrastructure: Infrastructure,
    pub(super) quotas: Quotas,
}

pub(super) fn check(file: &text::File<'_>, report: &mut Report) -> Settings {
    let dialect = file
        .dialect
        .and_then(|node| value::keyword(node, "`dialect`", DIALECTS, report))
        .unwrap_or(Dialect::Aws);
    let live_flows = file
        .live_flows
        .and_then(|node| value::keyword(node, "`live_flows`", LIVE_FLOWS, report))
        .unwrap_or(LiveFlows::Keep);
    let written = file.infrastructure.and_then(|node| text::Infrastructure::read(node, report));
    Settings {
        dialect,
        live_flows,
        infrastructure: infrastructure(written, dialect, report),
        quotas: quotas(file.quotas, report),
    }
}

fn infrastructure(
    written: Option<text::Infrastructure<'_>>,
    dialect: Dialect,
    report: &mut Report,
) -> Infrastructure {
    // Rule 12: the link-local services exist in dialect `aws` alone.
    let services = dialect == Dialect::Aws;
    let mut on = Infrastructure::of(dialect);
    let Some(written) = written else { return on };
    for (node, key, exists, on) in [
        (written.arp, "arp", true, &mut on.arp),
        (written.dhcp, "dhcp", true, &mut on.dhcp),
        (written.neighbour_discovery, "neighbour_discovery", true, &mut on.neighbour_discovery),
        (written.router_discovery, "router_discovery", true, &mut on.router_discovery),
        (written.multicast_listener, "multicast_listener", true, &mut on.multicast_listener),
        (written.dns, "dns", services, &mut on.dns),
        (written.metadata, "metadata", services, &mut on.metadata),
        (written.time, "time", services, &mut on.time),
        (written.licences, "licences", services, &mut on.licences),
        (written.subnet_router, "subnet_router", services, &mut on.subnet_router),
    ] {
        let Some(node) = node else { continue };
        let Some(wanted) = value::boolean(node, &format!("`{key}`"), report) else { continue };
        if wanted && !exists {
            report
                .error(
                    Code::ParameterCombination,
                    node.span,
                    format!("dialect kakao has no service `{key}` that passes without a rule"),
                )
                .hint("allow it by an egress rule of a group, and leave this out");
        }
        *on = wanted && exists;
    }
    on
}

fn quotas<'n>(node: Option<&'n Node<'n>>, report: &mut Report) -> Quotas {
    let mut quotas = Quotas::default();
    let Some(node) = node else { return quotas };
    let place = node.span;
    let Some(written) = text::Quotas::read(node, report) else { return quotas };
    for (node, key, most, quota) in [
        (written.rules_per_direction, "rules_per_direction", MOST, &mut quotas.rules_per_direction),
        (
            written.groups_per_interface,
            "groups_per_interface",
            16,
            &mut quotas.groups_per_interface,
        ),
        (written.rules_per_interface, "rules_per_interface", MOST, &mut quotas.rules_per_interface),
        (written.groups_per_vpc, "groups_per_vpc", MOST, &mut quotas.groups_per_vpc),
    ] {
        let value =
            node.and_then(|node| value::integer(node, &format!("`{key}`"), 1..=most, report));
        *quota = value.unwrap_or(*quota);
    }
    let Quotas { rules_per_direction: rules, groups_per_interface: groups, .. } = quotas;
    let rules_per_interface = quotas.rules_per_interface;
    if rules.saturating_mul(groups) > rules_per_interface {
        let span = written.rules_per_direction.map_or(place, |node| node.span);
        report
            .error(
                Code::ParameterCombination,
                span,
                format!(
                    "{rules} rules per direction times {groups} groups per interface exceed \
                     {rules_per_interface} rules per interface"
                ),
            )
            .hint("lower one of the two, or raise `rules_per_interface` beyond what AWS allows");
    }
    quotas
}
