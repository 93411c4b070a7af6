//! Interfaces: addresses inside the VPC and nobody else's, groups, devices (rules 4, 11, 13, 15).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FileNames, group, name, peer};
use crate::policy::cidr::{self, Ranges};
use crate::policy::diagnostic::{Code, Draft, Report};
use crate::policy::model::{ConnectionTracking, Interface, Quotas, Side};
use crate::policy::names::{self, Table};
use crate::policy::source::Span;
use crate::policy::tree::{Node, Value};
use crate::policy::{text, value};

/// Words for sides.
pub(crate) const SIDES: &[(&str, Side)] = &[("host", Side::Host), ("workload", Side::Workload)];

/// What interfaces may refer to.
pub(super) struct Scope<'s> {
    pub(super) vpc: usize,
    pub(super) ranges: &'s Ranges,
    pub(super) groups: &'s Table,
    pub(super) quotas: &'s Quotas,
}

/// An address, its interface and its place.
pub(super) type Owned = (IpNet, (usize, Span));

pub(super) fn check<'n>(
    node: Option<&'n Node<'n>>,
    scope: &Scope<'_>,
    names: &mut FileNames,
    report: &mut Report,
) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    let mut owned = Vec::new();
    let nodes = node.and_then(|node| value::list(node, "`interfaces`", report));
    for node in nodes.unwrap_or_default() {
        let Some(written) = text::Interface::read(node, report) else { continue };
        let index = interfaces.len();
        interfaces.push(check_one(&written, index, scope, names, &mut owned, report));
    }
    conflicts(owned, &interfaces, report);
    interfaces
}

/// Reports a name that another interface has.
pub(super) fn taken<'r>(name: &str, place: Span, report: &'r mut Report) -> &'r mut Draft {
    report
        .error(Code::ParameterValue, place, format!("interface {name:?} is given twice"))
        .hint("names of interfaces are unique in the file")
}

/// Reports a device that another interface has.
pub(super) fn device_taken<'r>(name: &str, place: Span, report: &'r mut Report) -> &'r mut Draft {
    report
        .error(Code::ParameterValue, place, format!("device {name:?} is given twice"))
        .hint("a device belongs to one interface")
}

/// Reports an address that another interface has.
pub(super) fn address_taken<'r>(
    net: IpNet,
    other: IpNet,
    holder: &str,
    place: Span,
    report: &'r mut Report,
) -> &'r mut Draft {
    let message = if net == other {
        format!("address {net} belongs to interface {holder:?} already")
    } else if other.contains(&net) {
        format!("address {net} lies in {other} of interface {holder:?}")
    } else {
        format!("address {net} holds {other} of interface {holder:?}")
    };
    report.error(Code::AddressInUse, place, message)
}

pub(super) fn check_one<'n>(
    written: &text::Interface<'n>,
    index: usize,
    scope: &Scope<'_>,
    names: &mut FileNames,
    owned: &mut Vec<Owned>,
    report: &mut Report,
) -> Interface {
    let own_name = name(written.name, "an interface", report).unwrap_or_default().to_owned();
    names.places.push((scope.vpc, index));
    if let Some(node) = written.name.filter(|_| !own_name.is_empty())
        && let Err(first) = names.interfaces.insert(&own_name, names.places.len() - 1, node.span)
    {
        taken(&own_name, node.span, report).related(first, "first");
    }
    let side = written
        .side
        .and_then(|node| value::keyword(node, "`side`", SIDES, report))
        .unwrap_or(Side::Host);
    let devices = devices(written.device, index, &mut names.devices, report);
    let (addresses, auto_addresses) = match written.addresses {
        Some(node) if is_auto(node) => {
            auto(node, side, written.device.is_some(), report);
            (Vec::new(), true)
        }
        Some(node) => (addresses(node, index, scope, owned, report), false),
        None => (Vec::new(), false),
    };
    let checked = written
        .source_dest_check
        .and_then(|node| value::boolean(node, "`source_dest_check`", report));
    Interface {
        name: own_name,
        addresses,
        auto_addresses,
        groups: groups(written.groups, scope, report),
        devices,
        side,
        source_dest_check: checked.unwrap_or(true),
        mac: written.mac.and_then(|node| mac(node, report)),
        connection_tracking: connection_tracking(written.connection_tracking, report),
    }
}

fn is_auto(node: &Node<'_>) -> bool {
    matches!(&node.value, Value::Text(text) if text == "auto")
}

fn auto(node: &Node<'_>, side: Side, has_device: bool, report: &mut Report) {
    if side == Side::Workload {
        report
            .error(
                Code::ParameterCombination,
                node.span,
                "`addresses: auto` is for side host: a workload's addresses are not its device's",
            )
            .hint("list the addresses of the workload");
    } else if !has_device {
        report.error(
            Code::ParameterCombination,
            node.span,
            "`addresses: auto` needs the `device` that has them",
        );
    }
}

fn addresses<'n>(
    node: &'n Node<'n>,
    index: usize,
    scope: &Scope<'_>,
    owned: &mut Vec<Owned>,
    report: &mut Report,
) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for node in value::one_or_many(node, "`addresses`", report).unwrap_or_default() {
        let Some(net) = address(node, scope, report) else { continue };
        owned.push((net, (index, node.span)));
        nets.push(net);
    }
    nets
}

fn address<'n>(node: &'n Node<'n>, scope: &Scope<'_>, report: &mut Report) -> Option<IpNet> {
    let given = value::text(node, "an address", report)?;
    let written = cidr::written(given, Code::ParameterValue, node.span, report)?;
    let net = written.canonical();
    if written.has_host_bits() {
        // Not rule 17's warning: who means one address would own everybody's in the prefix.
        report.error(Code::ParameterValue, node.span, format!("{given} has host bits set")).hint(
            format!(
                "write {} for the address alone, {net} for the whole prefix",
                written.net.addr()
            ),
        );
        return None;
    }
    if let Some(why) = unusable(&net) {
        let message = format!("{given} cannot be an interface's address: {why}");
        report.error(Code::ParameterValue, node.span, message);
        return None;
    }
    let link_local = matches!(net.addr(), IpAddr::V6(addr) if addr.is_unicast_link_local());
    if !link_local && !scope.ranges.contain(&net) {
        let message = format!("address {given} is not inside the CIDR blocks of the VPC");
        report.error(Code::ParameterValue, node.span, message);
    }
    Some(net)
}

/// Addresses that no interface has.
const UNUSABLE: &[(IpNet, &str)] = &[
    (v4(0, 8), "0.0.0.0/8 is nobody's"),
    (v4(127, 8), "127.0.0.0/8 is loopback"),
    (
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
        "169.254.0.0/16 is link-local",
    ),
    (v4(224, 4), "224.0.0.0/4 is multicast"),
    (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)), "it is broadcast"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)), ":: is nobody's"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)), "::1 is loopback"),
    (
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
        "ff00::/8 is multicast",
    ),
];

const fn v4(first: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), length))
}

fn unusable(net: &IpNet) -> Option<&'static str> {
    let meets = |other: &IpNet| other.contains(net) || net.contains(other);
    UNUSABLE.iter().find(|(other, _)| meets(other)).map(|&(_, why)| why)
}

/// One address, one interface: a group's members are known by their addresses.
pub(super) fn conflicts(owned: Vec<Owned>, interfaces: &[Interface], report: &mut Report) {
    // Of one interface a prefix may hold an address, but not be the same twice.
    let mut sorted = owned.clone();
    sorted.sort_by_key(|&(net, (index, span))| (net, index, span));
    for pair in sorted.windows(2) {
        let ((first, (left, first_span)), (second, (right, span))) = (pair[0], pair[1]);
        if first == second && left == right {
            report
                .error(Code::ParameterValue, span, format!("address {second} is given twice"))
                .related(first_span, "first");
        }
    }
    for (inner, outer) in cidr::overlaps(owned, |left, right| left.0 == right.0) {
        let ((net, (_, span)), (other, (holder, first))) = (inner, outer);
        let holder = &interfaces[holder].name;
        address_taken(net, other, holder, span, report).related(first, "first");
    }
}

pub(super) fn groups<'n>(
    node: Option<&'n Node<'n>>,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Vec<usize> {
    let Some(node) = node else { return scope.groups.get(group::DEFAULT).into_iter().collect() };
    let Some(nodes) = value::list(node, "`groups`", report) else { return Vec::new() };
    if nodes.is_empty() {
        report
            .error(Code::ParameterValue, node.span, "an interface has at least one group")
            .hint("leave `groups` out for the group `default`");
    }
    let most = scope.quotas.groups_per_interface;
    if nodes.len() > most {
        let message = format!("the interface has {} groups, the quota is {most}", nodes.len());
        report
            .error(Code::GroupsPerInterfaceLimit, node.span, message)
            .hint("raise `quotas: {groups_per_interface: ...}`, at most 16");
    }
    let mut found: Vec<(usize, Span)> = Vec::new();
    for node in nodes {
        let code = Code::GroupNotFound;
        let Some(index) = peer::reference(node, "group", code, scope.groups, report) else {
            continue;
        };
        match found.binary_search_by_key(&index, |&(index, _)| index) {
            Ok(at) => {
                let message = "the interface has this group already";
                report
                    .error(Code::ParameterValue, node.span, message)
                    .related(found[at].1, "first");
            }
            Err(at) => found.insert(at, (index, node.span)),
        }
    }
    found.into_iter().map(|(index, _)| index).collect()
}

fn devices<'n>(
    node: Option<&'n Node<'n>>,
    index: usize,
    table: &mut Table,
    report: &mut Report,
) -> Vec<String> {
    let nodes = node.and_then(|node| value::one_or_many(node, "`device`", report));
    let mut devices = Vec::new();
    for node in nodes.unwrap_or_default() {
        let Some(given) = value::text(node, "a device", report) else { continue };
        if let Err(error) = names::device(given) {
            let message = format!("{given:?} cannot be a device: {error}");
            report.error(Code::ParameterValue, node.span, message);
            continue;
        }
        if let Err(first) = table.insert(given, index, node.span) {
            device_taken(given, node.span, report).related(first, "first");
            continue;
        }
        devices.push(given.to_owned());
    }
    devices
}

/// Six bytes in hexadecimal, of a single station.
fn mac(node: &Node<'_>, report: &mut Report) -> Option<[u8; 6]> {
    let given = value::text(node, "`mac`", report)?;
    let parts: Vec<_> = given.split([':', '-']).collect();
    let byte = |part: &&str| {
        let hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| hex)
    };
    let bytes: Option<Vec<u8>> = parts.iter().map(byte).collect();
    let Some(mac) = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()) else {
        let message = format!("{given:?} is not a MAC address");
        report.error(Code::ParameterValue, node.span, message).hint("as in 02:00:00:00:00:05");
        return None;
    };
    if mac[0] & 1 == 1 || mac == [0; 6] {
        let message = format!("{given} is not the MAC address of one station");
        report.error(Code::ParameterValue, node.span, message);
        return None;
    }
    Some(mac)
}

/// Rule 11's ranges and defaults.
fn connection_tracking<'n>(node: Option<&'n Node<'n>>, report: &mut Report) -> ConnectionTracking {
    let mut settings = ConnectionTracking::default();
    let Some(written) = node.and_then(|node| text::ConnectionTracking::read(node, report)) else {
        return settings;
    };
    for (node, key, range, timeout) in [
        (written.tcp_established, "tcp_established", 60..=432_000, &mut settings.tcp_established),
        (written.udp, "udp", 30..=60, &mut settings.udp),
        (written.udp_stream, "udp_stream", 60..=180, &mut settings.udp_stream),
    ] {
        let what = format!("`{key}` in seconds");
        let value = node.and_then(|node| value::integer(node, &what, range, report));
        *timeout = value.unwrap_or(*timeout);
    }
    settings.max_flows = written.max_flows.and_then(|node| {
        value::integer(node, "`max_flows`", 1..=ConnectionTracking::MOST_FLOWS, report)
    });
    settings
}
