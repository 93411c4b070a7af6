//! What is different about things that both policies have: one line of words for each property.

use std::fmt::Display;
use std::hash::Hash;

use super::changes::matched;
use crate::moment::rfc3339;
use crate::policy::Policy;
use crate::policy::model::{
    ConnectionTracking, Dialect, Infrastructure, Interface, LiveFlows, PrefixList, Rule, Side, Vpc,
};

/// The settings of a policy, always in this order.
pub(super) fn settings(policy: &Policy) -> Vec<(&'static str, &'static str)> {
    let Infrastructure {
        arp,
        dhcp,
        neighbour_discovery,
        router_discovery,
        multicast_listener,
        dns,
        metadata,
        time,
        licences,
        subnet_router,
    } = policy.infrastructure;
    let switch = |on| if on { "on" } else { "off" };
    vec![
        (
            "dialect",
            match policy.dialect {
                Dialect::Aws => "aws",
                Dialect::Kakao => "kakao",
            },
        ),
        (
            "live_flows",
            match policy.live_flows {
                LiveFlows::Keep => "keep",
                LiveFlows::Cut => "cut",
            },
        ),
        ("infrastructure arp", switch(arp)),
        ("infrastructure dhcp", switch(dhcp)),
        ("infrastructure neighbour_discovery", switch(neighbour_discovery)),
        ("infrastructure router_discovery", switch(router_discovery)),
        ("infrastructure multicast_listener", switch(multicast_listener)),
        ("infrastructure dns", switch(dns)),
        ("infrastructure metadata", switch(metadata)),
        ("infrastructure time", switch(time)),
        ("infrastructure licences", switch(licences)),
        ("infrastructure subnet_router", switch(subnet_router)),
    ]
}

pub(super) fn list(old: &PrefixList, new: &PrefixList) -> Vec<String> {
    let mut details = Vec::new();
    difference("cidrs", &old.cidrs, &new.cidrs, &mut details);
    if old.max_entries != new.max_entries {
        details.push(text("max_entries", size(old.max_entries), size(new.max_entries)));
    }
    details
}

/// `10.0.0.9/32 in alb, web`
pub(super) fn member(vpc: &Vpc, interface: &Interface) -> String {
    let addresses: Vec<_> = if interface.auto_addresses {
        vec!["auto".to_owned()]
    } else {
        interface.addresses.iter().map(ToString::to_string).collect()
    };
    format!("{} in {}", addresses.join(", "), group_names(vpc, interface).join(", "))
}

fn group_names<'v>(vpc: &'v Vpc, interface: &Interface) -> Vec<&'v str> {
    interface.groups.iter().map(|&group| vpc.groups[group].name.as_str()).collect()
}

pub(super) fn interface(
    (old_vpc, old): (&Vpc, &Interface),
    (new_vpc, new): (&Vpc, &Interface),
) -> Vec<String> {
    let mut details = Vec::new();
    difference("groups", &group_names(old_vpc, old), &group_names(new_vpc, new), &mut details);
    if (old.auto_addresses, &old.addresses) != (new.auto_addresses, &new.addresses) {
        difference("addresses", &addresses(old), &addresses(new), &mut details);
    }
    difference("devices", &old.devices, &new.devices, &mut details);
    let side = |it: &Interface| match it.side {
        Side::Host => "host",
        Side::Workload => "workload",
    };
    let mac = |it: &Interface| {
        it.mac.map_or("any".to_owned(), |mac| mac.map(|byte| format!("{byte:02x}")).join(":"))
    };
    let ConnectionTracking { tcp_established, udp, udp_stream, max_flows } =
        old.connection_tracking;
    let then = new.connection_tracking;
    let most = |flows: Option<u32>| flows.map_or("a share".to_owned(), |flows| flows.to_string());
    for (name, before, after) in [
        ("side", side(old).to_owned(), side(new).to_owned()),
        ("source_dest_check", old.source_dest_check.to_string(), new.source_dest_check.to_string()),
        ("mac", mac(old), mac(new)),
        ("tcp_established", tcp_established.to_string(), then.tcp_established.to_string()),
        ("udp", udp.to_string(), then.udp.to_string()),
        ("udp_stream", udp_stream.to_string(), then.udp_stream.to_string()),
        ("max_flows", most(max_flows), most(then.max_flows)),
    ] {
        if before != after {
            details.push(text(name, before, after));
        }
    }
    details
}

fn addresses(interface: &Interface) -> Vec<String> {
    if interface.auto_addresses {
        return vec!["auto".to_owned()];
    }
    interface.addresses.iter().map(ToString::to_string).collect()
}

/// A prefix list's declared size.
fn size(entries: Option<usize>) -> String {
    entries.map_or_else(|| "as long as it is".to_owned(), |entries| entries.to_string())
}

fn text(name: &str, before: impl Display, after: impl Display) -> String {
    format!("{name}: {before} -> {after}")
}

/// What differs between two rules that are the same but for it.
pub(super) fn rule_details(old: &Rule, new: &Rule) -> Vec<String> {
    let mut details = Vec::new();
    if old.description != new.description {
        details = described(&old.description, &new.description);
    }
    if old.expires != new.expires {
        let told = |expires: Option<u64>| expires.map_or("never".to_owned(), rfc3339);
        details.push(text("expires", told(old.expires), told(new.expires)));
    }
    details
}

pub(super) fn described(before: &str, after: &str) -> Vec<String> {
    vec![format!("description: {before:?} -> {after:?}")]
}

/// `cidrs: +10.0.0.0/8 -10.1.0.0/16`
pub(super) fn difference<T: Hash + Eq + Display>(
    name: &str,
    old: &[T],
    new: &[T],
    details: &mut Vec<String>,
) {
    let pairs = matched(old, new, |it| it);
    let words: Vec<_> = pairs
        .into_iter()
        .filter_map(|pair| match pair {
            (None, Some(new)) => Some(format!("+{new}")),
            (Some(old), None) => Some(format!("-{old}")),
            _ => None,
        })
        .collect();
    if !words.is_empty() {
        details.push(format!("{name}: {}", words.join(" ")));
    }
}
