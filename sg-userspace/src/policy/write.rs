//! The validated [`Policy`] as the text of a policy file, always the same for the same policy.
//!
//! An edited policy has no file of its own; this is its text, in the history and for whoever wants to go
//! on by hand. One rule, interface or list is one line, so that a difference of two texts is a difference
//! of policies. What it writes loads as the same policy.

use std::fmt::{self, Write as _};

use ipnet::IpNet;
use jiff::Timestamp;
use sg_common::Direction;

use super::check::{self, DEFAULT};
use super::fragment::{Fragment, list, quoted, scalar};
use super::model::{
    ConnectionTracking, Dialect, Endpoint, Infrastructure, Interface, Peer, Policy, PrefixList,
    Quotas, ReachabilityTest, Rule, SecurityGroup, Traffic, Vpc,
};
use super::traffic::{PROTOCOLS, Protocol, SHORTHANDS};

/// The text of a policy file that says what `policy` says.
#[must_use]
pub fn write(policy: &Policy) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = file(policy, &mut text);
    text
}

fn file(policy: &Policy, out: &mut String) -> fmt::Result {
    writeln!(out, "dialect: {}", word(check::DIALECTS, policy.dialect))?;
    writeln!(out, "live_flows: {}", word(check::LIVE_FLOWS, policy.live_flows))?;
    section(out, "infrastructure", infrastructure(policy.dialect, policy.infrastructure))?;
    section(out, "quotas", quotas(policy.quotas))?;
    if policy.vpcs.is_empty() {
        writeln!(out, "vpcs: []")?;
    } else {
        writeln!(out, "vpcs:")?;
    }
    for one in &policy.vpcs {
        vpc(one, out)?;
    }
    if !policy.tests.is_empty() {
        writeln!(out, "tests:")?;
    }
    for one in &policy.tests {
        writeln!(out, "  - {}", test(policy, one))?;
    }
    Ok(())
}

fn section(out: &mut String, name: &str, map: Fragment) -> fmt::Result {
    if map.is_empty() { Ok(()) } else { writeln!(out, "{name}: {map}") }
}

fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |&(word, _)| word)
}

fn block(net: &IpNet) -> String {
    // The colons of IPv6 would be read as keys in some places.
    if net.addr().is_ipv4() { net.to_string() } else { format!("\"{net}\"") }
}

/// An interface's address, without a length where it is one address.
fn address(net: &IpNet) -> String {
    let text = if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    };
    if net.addr().is_ipv4() { text } else { format!("\"{text}\"") }
}

fn infrastructure(dialect: Dialect, on: Infrastructure) -> Fragment {
    let services = dialect == Dialect::Aws;
    Fragment::new()
        .unless(true, "arp", on.arp)
        .unless(true, "dhcp", on.dhcp)
        .unless(true, "neighbour_discovery", on.neighbour_discovery)
        .unless(true, "router_discovery", on.router_discovery)
        .unless(true, "multicast_listener", on.multicast_listener)
        .unless(services, "dns", on.dns)
        .unless(services, "metadata", on.metadata)
        .unless(services, "time", on.time)
        .unless(services, "licences", on.licences)
        .unless(services, "subnet_router", on.subnet_router)
}

fn quotas(quotas: Quotas) -> Fragment {
    let aws = Quotas::default();
    Fragment::new()
        .unless(aws.rules_per_direction, "rules_per_direction", quotas.rules_per_direction)
        .unless(aws.groups_per_interface, "groups_per_interface", quotas.groups_per_interface)
        .unless(aws.rules_per_interface, "rules_per_interface", quotas.rules_per_interface)
        .unless(aws.groups_per_vpc, "groups_per_vpc", quotas.groups_per_vpc)
}

fn vpc(vpc: &Vpc, out: &mut String) -> fmt::Result {
    writeln!(out, "  - name: {}", scalar(&vpc.name))?;
    writeln!(out, "    cidrs: {}", list(vpc.cidrs.iter().map(block)))?;
    if !vpc.subnets.is_empty() {
        writeln!(out, "    subnets: {}", list(vpc.subnets.iter().map(block)))?;
    }
    if !vpc.prefix_lists.is_empty() {
        writeln!(out, "    prefix_lists:")?;
    }
    for list in &vpc.prefix_lists {
        writeln!(out, "      - {}", prefix_list(list))?;
    }
    writeln!(out, "    security_groups:")?;
    for one in &vpc.groups {
        group(vpc, one, out)?;
    }
    if !vpc.interfaces.is_empty() {
        writeln!(out, "    interfaces:")?;
    }
    for one in &vpc.interfaces {
        writeln!(out, "      - {}", interface(vpc, one))?;
    }
    Ok(())
}

fn prefix_list(of: &PrefixList) -> Fragment {
    let map = Fragment::new()
        .with("name", scalar(&of.name))
        .with("cidrs", list(of.cidrs.iter().map(block)));
    match of.max_entries {
        Some(most) => map.with("max_entries", most),
        None => map,
    }
}

fn group(vpc: &Vpc, group: &SecurityGroup, out: &mut String) -> fmt::Result {
    writeln!(out, "      - name: {}", scalar(&group.name))?;
    if !group.description.is_empty() {
        writeln!(out, "        description: {}", scalar(&group.description))?;
    }
    // Left out, a key has a default, which for ingress is another one in the group `default`.
    let empty_by_default = !group.name.eq_ignore_ascii_case(DEFAULT);
    if !(group.ingress.is_empty() && empty_by_default) {
        rules(vpc, Direction::Ingress, &group.ingress, out)?;
    }
    if group.egress != check::everywhere() {
        rules(vpc, Direction::Egress, &group.egress, out)?;
    }
    Ok(())
}

fn rules(vpc: &Vpc, direction: Direction, rules: &[Rule], out: &mut String) -> fmt::Result {
    if rules.is_empty() {
        return writeln!(out, "        {}: []", direction.name());
    }
    writeln!(out, "        {}:", direction.name())?;
    rules.iter().try_for_each(|one| writeln!(out, "          - {}", rule(vpc, direction, one)))
}

/// One rule as a file has it: also what an edit carries.
pub(super) fn rule(vpc: &Vpc, direction: Direction, rule: &Rule) -> String {
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let named = |names: Option<&String>| scalar(names.map_or("", String::as_str));
    let peer = match rule.peer {
        Peer::Cidr(net) => block(&net),
        Peer::Group(index) => Fragment::new()
            .with("group", named(vpc.groups.get(index).map(|it| &it.name)))
            .to_string(),
        Peer::PrefixList(index) => {
            let name = named(vpc.prefix_lists.get(index).map(|it| &it.name));
            Fragment::new().with("prefix_list", name).to_string()
        }
    };
    let mut map = packets(rule.traffic, "ports").with(key, peer);
    if !rule.description.is_empty() {
        map = map.with("description", scalar(&rule.description));
    }
    let expires = rule.expires.and_then(|seconds| i64::try_from(seconds).ok());
    if let Some(instant) = expires.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        map = map.with("expires", format!("\"{instant}\""));
    }
    map.to_string()
}

/// The protocol part of a rule or a test, which call their ports differently.
fn packets(traffic: Traffic, ports: &'static str) -> Fragment {
    let by_protocol = |number: u8| {
        let named = PROTOCOLS.iter().find(|(_, known)| *known == Protocol::Number(number));
        Fragment::new()
            .with("protocol", named.map_or(number.to_string(), |(name, _)| (*name).to_owned()))
    };
    match traffic {
        Traffic::All => Fragment::new().with("protocol", "all"),
        Traffic::Protocol(number) => by_protocol(number),
        Traffic::Ports { protocol, first: 0, last: u16::MAX } => by_protocol(protocol),
        Traffic::Ports { protocol, first, last } if first == last => {
            match SHORTHANDS.iter().find(|(_, known)| *known == traffic) {
                Some((name, _)) => Fragment::new().with("type", name),
                None => by_protocol(protocol).with(ports, first),
            }
        }
        Traffic::Ports { protocol, first, last } => {
            by_protocol(protocol).with(ports, format!("{first}-{last}"))
        }
        Traffic::Icmp { protocol, kind } => {
            let map = by_protocol(protocol);
            match kind {
                None => map,
                Some((kind, None)) => map.with("icmp_type", kind),
                Some((kind, Some(code))) => map.with("icmp_type", kind).with("icmp_code", code),
            }
        }
    }
}

fn interface(vpc: &Vpc, one: &Interface) -> Fragment {
    let addresses = if one.auto_addresses {
        "auto".to_owned()
    } else {
        list(one.addresses.iter().map(address))
    };
    let groups = one.groups.iter().filter_map(|&index| vpc.groups.get(index));
    let mut map = Fragment::new()
        .with("name", scalar(&one.name))
        .with("addresses", addresses)
        .with("groups", list(groups.map(|group| scalar(&group.name))));
    match &one.devices[..] {
        [] => {}
        [device] => map = map.with("device", scalar(device)),
        devices => map = map.with("device", list(devices.iter().map(|device| scalar(device)))),
    }
    map = map.unless("host", "side", word(check::SIDES, one.side)).unless(
        true,
        "source_dest_check",
        one.source_dest_check,
    );
    if let Some([a, b, c, d, e, f]) = one.mac {
        map = map.with("mac", format!("\"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\""));
    }
    let tracking = connection_tracking(one.connection_tracking);
    if tracking.is_empty() { map } else { map.with("connection_tracking", tracking) }
}

fn connection_tracking(of: ConnectionTracking) -> Fragment {
    let aws = ConnectionTracking::default();
    let map = Fragment::new()
        .unless(aws.tcp_established, "tcp_established", of.tcp_established)
        .unless(aws.udp, "udp", of.udp)
        .unless(aws.udp_stream, "udp_stream", of.udp_stream);
    match of.max_flows {
        Some(most) => map.with("max_flows", most),
        None => map,
    }
}

fn test(policy: &Policy, test: &ReachabilityTest) -> Fragment {
    let end = |end: Endpoint| match end {
        Endpoint::Address(address) => quoted(&address.to_string()),
        Endpoint::Interface { vpc, interface } => {
            let found = policy.vpcs.get(vpc).and_then(|vpc| vpc.interfaces.get(interface));
            scalar(found.map_or("", |interface| &interface.name))
        }
    };
    let mut map = Fragment::new().with("from", end(test.from)).with("to", end(test.to));
    // A test of tcp without a port would be none: its ports never span everything.
    map.extend(packets(test.traffic, "port"));
    map.with("expect", word(check::OUTCOMES, test.expect))
}
