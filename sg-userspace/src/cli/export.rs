//! `sgctl export`: the policy as another packet filter has it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::attach::{SideArgument, interface_of};
use super::{Exit, Format, Global, output, policy_file};
use crate::compile::Surroundings;
use crate::export::{Target, nft_ruleset};
use crate::policy::Policy;
use crate::policy::model::Side;

/// Print the policy as a ruleset of another packet filter
///
/// For hosts on which the programs cannot be loaded. The ruleset is a copy of this moment: it follows
/// neither the policy nor the members of its groups.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    filter: Filter,
}

#[derive(Debug, clap::Subcommand)]
enum Filter {
    Nft(NftArguments),
}

/// Print a ruleset for nftables
///
/// One table of family inet that replaces itself when it is loaded again. Connection tracking is the
/// kernel's own, whose answers differ from these programs' in some corners; ARP and what a bridge hands on
/// are not judged at all. The head of the ruleset names the settings that come nearest.
///
/// Without --interface and --device, every interface of the file that names a device.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl export nft --policy web.yaml > web.nft && nft -c -f web.nft
  sgctl export nft --policy web.yaml --interface web --device eth0 --side host | nft -f -")]
struct NftArguments {
    /// The policy file
    #[arg(short, long, value_name = "FILE")]
    policy: PathBuf,
    /// The interface of the file to export
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,
    /// Which end of the device is protected, where the file says otherwise
    #[arg(long, value_enum)]
    side: Option<SideArgument>,
    /// The device it is, where the file does not say
    #[arg(short, long, value_name = "DEVICE")]
    device: Option<String>,
}

/// What `export -o json` prints.
#[derive(Debug, Serialize)]
struct Exported {
    /// The filter that it is for.
    filter: &'static str,
    /// Input for `nft -f`.
    ruleset: String,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    match &arguments.filter {
        Filter::Nft(arguments) => nft(arguments, global),
    }
}

fn nft(arguments: &NftArguments, global: Global) -> anyhow::Result<Exit> {
    let policy = policy_file::open(&arguments.policy, global)?.policy;
    let targets = targets(arguments, &policy)?;
    let devices = targets.iter().map(|target| {
        (target.interface.as_str(), target.devices.iter().map(String::as_str).collect())
    });
    let addresses = policy_file::device_addresses(&policy, &devices.collect());
    policy_file::warn_without_addresses(&policy, &addresses);
    let surroundings = Surroundings { addresses, ..Surroundings::default() };
    let name = arguments.policy.file_name().map(|name| name.to_string_lossy().into_owned());
    let source = name.context("the policy has no file name")?;
    let ruleset = nft_ruleset(&policy, &source, &surroundings, &targets)?;
    match global.output {
        Format::Json => output::print_json(&Exported { filter: "nft", ruleset })?,
        Format::Text => output::print(&ruleset)?,
    }
    Ok(Exit::Yes)
}

/// Which interfaces on which devices.
fn targets(arguments: &NftArguments, policy: &Policy) -> anyhow::Result<Vec<Target>> {
    let side = arguments.side.map(Side::from);
    let target = |interface: &str, devices: &[String]| Target {
        interface: interface.to_owned(),
        devices: devices.to_vec(),
        side,
    };
    if let Some(device) = &arguments.device {
        let interface = interface_of(policy, device, arguments.interface.as_deref())?;
        return Ok(vec![target(&interface.name, std::slice::from_ref(device))]);
    }
    let all = policy_file::interfaces(policy);
    if let Some(name) = &arguments.interface {
        let found = all.into_iter().find(|interface| interface.name == *name);
        let found = found.with_context(|| format!("the policy has no interface {name:?}"))?;
        if found.devices.is_empty() {
            bail!("the file names no device for {name:?}; name one with --device");
        }
        return Ok(vec![target(name, &found.devices)]);
    }
    let with_devices = all.filter(|interface| !interface.devices.is_empty());
    let targets: Vec<_> = with_devices.map(|it| target(&it.name, &it.devices)).collect();
    if targets.is_empty() {
        let file = arguments.policy.display();
        bail!("no interface of {file} names a device; name one with --device");
    }
    Ok(targets)
}
