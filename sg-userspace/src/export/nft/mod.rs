//! A ruleset for nftables: one table of family inet, stateful by nf_conntrack.
//!
//! ```text
//! device --prerouting, postrouting--> chain of interface and direction --> chain of its rules --> drop
//! ```
//!
//! What arrives on a device is judged before routing and what leaves it behind it, between conntrack and
//! address translation, so that the addresses are those on the wire, as the programs see them.
//!
//! Rules come from the compiled tables, so that their names are those of events. Who is a peer comes from
//! the validated policy itself: classes and permits, the compiler's work, have no part in it, which makes
//! the export a second opinion on them.

mod chains;
mod infrastructure;
mod names;
mod peers;
mod rules;

use std::collections::BTreeMap;

use sg_common::Direction;

use super::{ExportError, Target};
use crate::compile::{InterfaceSpec, Surroundings, TableSpec, compile};
use crate::policy::model::{Interface, Policy, Side};
use names::Names;
use peers::Peers;

/// Name of the table.
pub const TABLE: &str = "security_groups";

/// Everything that is exported.
struct Export<'p> {
    policy: &'p Policy,
    surroundings: Surroundings,
    spec: TableSpec,
    names: Names,
    peers: Peers,
}

/// An interface on its way into chains.
struct Subject<'s> {
    spec: &'s InterfaceSpec,
    slot: u16,
    side: Side,
    devices: &'s [String],
    /// Prefix of the names of its chains and sets.
    name: String,
}

/// The policy of these interfaces as input for `nft -f`. `source` names the policy file in comments;
/// `surroundings` has the addresses of interfaces with `addresses: auto`.
///
/// # Errors
/// As [`ExportError`] says.
pub fn ruleset(
    policy: &Policy,
    source: &str,
    surroundings: &Surroundings,
    targets: &[Target],
) -> Result<String, ExportError> {
    check(targets)?;
    let local = targets.iter().map(|target| target.interface.clone()).collect();
    let surroundings = Surroundings { local, ..surroundings.clone() };
    let spec = compile(policy, &surroundings, None)?;
    let mut export =
        Export { policy, surroundings, spec, names: Names::default(), peers: Peers::default() };
    let mut body = Vec::new();
    let mut hooks = Hooks::default();
    // The spec is read while names are given.
    let spec = std::mem::take(&mut export.spec);
    for target in targets {
        let Some(slot) = spec.slot(&target.interface) else { continue };
        let Some(interface) = spec.interfaces.get(&slot) else { continue };
        let subject = Subject {
            spec: interface,
            slot,
            side: target.side.unwrap_or(interface.side),
            devices: &target.devices,
            name: export.names.unique(&target.interface),
        };
        hooks.add(&subject);
        body.extend(export.interface(&spec, &subject));
    }
    let mut lines = header(policy, source, targets);
    lines.push(format!("table inet {TABLE} {{"));
    lines.extend(export.peers.sets());
    lines.extend(body);
    lines.extend(hooks.chains());
    lines.push("}".to_owned());
    Ok(lines.join("\n") + "\n")
}

fn check(targets: &[Target]) -> Result<(), ExportError> {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for Target { interface, devices, .. } in targets {
        if devices.is_empty() {
            return Err(ExportError::NoDevice(interface.clone()));
        }
        for device in devices {
            if device.contains(['"', '*', '\\']) {
                return Err(ExportError::DeviceName(device.clone()));
            }
            if let Some(first) = taken.insert(device, interface) {
                let (device, first, second) = (device.clone(), first.to_owned(), interface.clone());
                return Err(ExportError::SharedDevice { device, first, second });
            }
        }
    }
    Ok(())
}

/// The two base chains: which device leads where. They accept what is none of ours.
#[derive(Default)]
struct Hooks {
    arriving: Vec<String>,
    leaving: Vec<String>,
}

impl Hooks {
    fn add(&mut self, subject: &Subject<'_>) {
        let (arriving, leaving) = match subject.side {
            Side::Host => (Direction::Ingress, Direction::Egress),
            Side::Workload => (Direction::Egress, Direction::Ingress),
        };
        for device in subject.devices {
            let device = names::quoted(device);
            let chain = |direction| subject.chain(direction);
            self.arriving.push(format!("iifname {device} goto {}", chain(arriving)));
            self.leaving.push(format!("oifname {device} goto {}", chain(leaving)));
        }
    }

    /// Behind conntrack (-200) and before destination translation (-100); behind source translation (100).
    fn chains(self) -> Vec<String> {
        let mut lines =
            base_chain("arriving", "type filter hook prerouting priority mangle; policy accept;");
        lines.extend(self.arriving.into_iter().map(indented));
        lines.push("    }".to_owned());
        lines.extend(base_chain(
            "leaving",
            "type filter hook postrouting priority srcnat + 100; policy accept;",
        ));
        lines.extend(self.leaving.into_iter().map(indented));
        lines.push("    }".to_owned());
        lines
    }
}

fn base_chain(name: &str, hook: &str) -> Vec<String> {
    vec![String::new(), format!("    chain {name} {{"), indented(hook.to_owned())]
}

fn indented(line: String) -> String {
    format!("        {line}")
}

/// A chain with its rules.
fn chain(name: &str, rules: Vec<String>) -> Vec<String> {
    let mut lines = vec![String::new(), format!("    chain {name} {{")];
    lines.extend(rules.into_iter().map(indented));
    lines.push("    }".to_owned());
    lines
}

/// What the reader should know, and the settings that make nf_conntrack fit best. The table is replaced
/// as a whole, in one transaction.
fn header(policy: &Policy, source: &str, targets: &[Target]) -> Vec<String> {
    let interfaces = policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
    let exported: Vec<&Interface> = interfaces
        .filter(|interface| targets.iter().any(|target| target.interface == interface.name))
        .collect();
    let longest = |of: fn(&Interface) -> u32| exported.iter().copied().map(of).max().unwrap_or(0);
    let source: String = source.chars().filter(|c| !c.is_control()).collect();
    let text = format!(
        "\
#!/usr/sbin/nft -f
# Security groups of {source}, exported by sgctl: load with `nft -f FILE`, take off with
# `nft delete table inet {TABLE}`. A copy of this moment: export again when the policy changes.
#
# IP on routed devices only. ARP and other ethertypes pass, and so does what a bridge hands on by itself.
# Members that join later can be added to their group's sets by `nft add element`. What a change no longer
# allows ends with its flow; flows are not limited.
#
# Settings of connection tracking that come nearest to security groups:
#   sysctl -w net.netfilter.nf_conntrack_tcp_loose=1
#   sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1
#   sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established={}
#   sysctl -w net.netfilter.nf_conntrack_udp_timeout={}
#   sysctl -w net.netfilter.nf_conntrack_udp_timeout_stream={}

table inet {TABLE}
delete table inet {TABLE}",
        longest(|interface| interface.connection_tracking.tcp_established),
        longest(|interface| interface.connection_tracking.udp),
        longest(|interface| interface.connection_tracking.udp_stream),
    );
    text.lines().map(str::to_owned).collect()
}
