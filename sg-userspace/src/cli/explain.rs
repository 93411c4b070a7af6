//! `sgctl explain`: would this packet pass, by which rule, or what is missing.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use serde::Serialize;
use sg_common::wire::ip;
use sg_common::{Direction, Verdict};

use super::{Exit, Format, Global, output, policy_file, traffic};
use crate::compile::{Surroundings, TableSpec, compile};
use crate::engine::{Answer, Probe, reach};
use crate::explain::{Near, near_rules, remedy};
use crate::kernel::live::Live;
use crate::kernel::{Paths, require_root};
use crate::policy::Policy;
use crate::policy::edit::find_interface;
use crate::policy::model::Traffic;

/// Say whether a packet would pass, and why
///
/// Judges the first packet of a new flow, by the policy in force or by a file. Flows that exist are not
/// looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl explain --interface web-1 --from 198.51.100.7 --protocol tcp --port 22
  sgctl explain --policy prod.yaml --interface web-1 --to 10.0.0.9 --protocol udp --port 53
  sgctl explain --interface web-1 --from 10.0.0.9 --protocol icmp --icmp-type 8")]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub(super) struct Arguments {
    /// Judge by this file instead of the policy in force
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The interface
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// A packet that comes from this address
    #[arg(long, value_name = "ADDRESS", group = "end")]
    from: Option<IpAddr>,
    /// A packet that goes to this address
    #[arg(long, value_name = "ADDRESS", group = "end")]
    to: Option<IpAddr>,
    /// The interface's own address, where it has several
    #[arg(long, value_name = "ADDRESS")]
    local: Option<IpAddr>,
    /// tcp, udp, icmp, icmpv6, sctp or a number
    #[arg(long, value_parser = traffic::protocol)]
    protocol: u8,
    /// Destination port
    #[arg(long)]
    port: Option<u16>,
    /// ICMP type; echo request if left out
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// ICMP code
    #[arg(long, value_name = "CODE", default_value_t)]
    icmp_code: u8,
}

/// What `explain -o json` prints.
#[derive(Debug, Serialize)]
struct Explained {
    /// `allow` or `drop`.
    verdict: &'static str,
    /// Why, as counters and events name it.
    reason: &'static str,
    /// The same in a sentence.
    description: &'static str,
    /// The rule that allows it, in words.
    rule: Option<String>,
    /// Rules that come near: in force for the interface and direction, but for one thing.
    near: Vec<Near>,
    /// A rule that would allow it, as a line of a policy file.
    remedy: Option<String>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let (policy, tables) = judged_by(arguments, global)?;
    let (vpc, at) = find_interface(&policy, &arguments.interface)?;
    let vpc = &policy.vpcs[vpc];
    let interface = &vpc.interfaces[at];
    let slot = tables.slot(&arguments.interface).with_context(|| {
        format!("{:?} is not attached; name the file with --policy", arguments.interface)
    })?;
    // With `addresses: auto` the file does not have them.
    let own: Vec<IpNet> = tables.own_addresses(slot).collect();
    let probe = probe(arguments, &own)?;
    let answer = reach(&tables, slot, &probe)?;
    let dropped = answer.decision.verdict() == Verdict::Drop;
    let by_rules = dropped && answer.decision.reason == sg_common::Reason::NoRule;
    let explained = Explained {
        verdict: answer.decision.verdict().name(),
        reason: answer.decision.reason.name(),
        description: answer.decision.reason.describe(),
        rule: answer.rule.as_ref().map(ToString::to_string),
        near: if by_rules { near_rules(vpc, interface, &probe) } else { Vec::new() },
        remedy: by_rules.then(|| remedy(&probe)),
    };
    match global.output {
        Format::Json => output::print_json(&explained)?,
        Format::Text => output::print(&text(arguments, &answer, &explained))?,
    }
    Ok(if dropped { Exit::No } else { Exit::Yes })
}

/// The policy to judge by, compiled for the interface.
fn judged_by(arguments: &Arguments, global: Global) -> anyhow::Result<(Policy, TableSpec)> {
    let Some(path) = &arguments.policy else {
        require_root("read the policy in force")?;
        let paths = Paths::from_environment();
        super::follow_addresses(&paths);
        let live = Live::require(&paths)
            .context("there is no policy in force; name a file with --policy")?;
        let loaded = crate::policy::load(&live.source.path, &live.source.text)
            .map_err(|rejected| anyhow::anyhow!("{rejected}"))?;
        return Ok((loaded.policy, live.tables));
    };
    let file = policy_file::open(path, global)?;
    let mut surroundings = Surroundings::of([arguments.interface.as_str()]);
    surroundings.addresses =
        policy_file::device_addresses(&file.policy, &std::collections::BTreeMap::new());
    let tables = compile(&file.policy, &surroundings, None)?;
    Ok((file.policy, tables))
}

fn probe(arguments: &Arguments, own: &[IpNet]) -> anyhow::Result<Probe> {
    let (direction, remote) = match (arguments.from, arguments.to) {
        (Some(from), _) => (Direction::Ingress, from),
        (None, Some(to)) => (Direction::Egress, to),
        // clap asks for one of the two.
        (None, None) => bail!("name the other end with --from or --to"),
    };
    let interface = &arguments.interface;
    let local = arguments.local.or_else(|| representative(own, remote)).with_context(|| {
        format!("{interface:?} has no address of {remote}'s family; name one with --local")
    })?;
    if !own.iter().any(|net| net.contains(&local)) {
        let have: Vec<_> = own.iter().map(ToString::to_string).collect();
        let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
        log::warn!("{local} is no address of {interface:?} (it has: {have})");
    }
    Ok(Probe::new(direction, local, remote, traffic(arguments, remote)?))
}

/// An address of the remote end's family, a link-local one last.
fn representative(own: &[IpNet], remote: IpAddr) -> Option<IpAddr> {
    let addresses = own.iter().map(IpNet::addr);
    let of_family = addresses.filter(|address| address.is_ipv4() == remote.is_ipv4());
    of_family.min_by_key(|address| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    })
}

fn traffic(arguments: &Arguments, remote: IpAddr) -> anyhow::Result<Traffic> {
    let protocol = arguments.protocol;
    match protocol {
        ip::TCP | ip::UDP | ip::SCTP => {
            let port = arguments.port.context("this protocol has ports: name one with --port")?;
            Ok(Traffic::Ports { protocol, first: port, last: port })
        }
        _ if arguments.port.is_some() => bail!("this protocol has no ports: leave --port out"),
        ip::ICMP | ip::ICMPV6 => {
            let echo = if remote.is_ipv4() { 8 } else { 128 };
            let kind = arguments.icmp_type.unwrap_or(echo);
            Ok(Traffic::Icmp { protocol, kind: Some((kind, Some(arguments.icmp_code))) })
        }
        _ => Ok(Traffic::Protocol(protocol)),
    }
}

fn text(arguments: &Arguments, answer: &Answer, explained: &Explained) -> String {
    let interface = &arguments.interface;
    if let Some(rule) = &explained.rule {
        return format!("{}: {interface}: {rule}\n", explained.verdict);
    }
    let mut text = format!(
        "{}: {interface}: {} ({})\n",
        explained.verdict,
        explained.description.trim_end_matches('.'),
        answer.decision.reason.name()
    );
    for near in &explained.near {
        text.push_str(&format!("  near: {}: {}\n", near.rule, near.differs));
    }
    if let Some(remedy) = &explained.remedy {
        text.push_str(&format!("  would pass with: {remedy}\n"));
    }
    text
}
