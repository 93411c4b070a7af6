//! `sgctl interface`: the interfaces in force, here and elsewhere.

use clap::Subcommand;
use serde::Serialize;

use super::edit::{self, Change, InForce, Where};
use super::table::Table;
use super::{Exit, Format, Global, output, status};
use crate::kernel::Device;
use crate::policy::edit::{Edit, Kind, find, find_interface};
use crate::policy::model::{Interface, Vpc};
use crate::policy::{Code, Fragment};

/// List, show, add, remove and regroup interfaces of the policy in force
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Add(Box<Add>),
    Remove(Remove),
    SetGroups(SetGroups),
}

/// List the interfaces
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sgctl interface list\n  sgctl interface list --group web -o json"
)]
struct List {
    /// Of this group alone
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Show an interface
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl interface show web-1")]
struct Show {
    /// The interface
    name: String,
}

/// Add an interface, here or elsewhere
///
/// As a member of its groups it is a peer of every rule that names them, at once. Its own traffic is judged on the
/// machine that has its device, once that is attached.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl interface add web-7 --address 10.0.0.7 --address fd00:16::7 --group web
  sgctl interface add vm-1 --address 10.0.0.9 --device tap0 --side workload --mac 02:00:00:00:00:09
  sgctl attach tap0          protects it")]
struct Add {
    /// Its name, unique in the policy
    name: String,
    /// An address or a prefix of it; `auto`: what the device has
    #[arg(long, value_name = "ADDRESS", required = true)]
    address: Vec<String>,
    /// A group; `default` unless given
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Its network device on this machine
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// `host`: the device is this machine's own. `workload`: it is the host's end of a veth or tap
    #[arg(long, requires = "device", value_parser = ["host", "workload"])]
    side: Option<String>,
    /// The workload's MAC address
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// Sources are not checked: for routers and NAT hosts
    #[arg(long)]
    no_source_dest_check: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    change: Change,
}

/// Remove an interface
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sgctl interface remove web-7")]
struct Remove {
    /// The interface
    name: String,
    #[command(flatten)]
    change: Change,
}

/// Give an interface other groups
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl interface set-groups web-7 web monitoring     these two and no others
  sgctl interface set-groups web-7 default            as if it named none")]
struct SetGroups {
    /// The interface
    name: String,
    /// All its groups from now on
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    change: Change,
}

/// An interface as `interface list -o json` has it.
#[derive(Debug, Serialize)]
struct Row<'p> {
    vpc: &'p str,
    name: &'p str,
    /// `auto`, or the addresses.
    addresses: Vec<String>,
    groups: Vec<&'p str>,
    devices: &'p [String],
    side: &'static str,
    source_dest_check: bool,
    mac: Option<String>,
    /// The devices of it that are attached on this machine.
    attached: Vec<&'p str>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    match &arguments.verb {
        Verb::List(arguments) => list(arguments, global),
        Verb::Show(arguments) => show(&arguments.name, global),
        Verb::Add(arguments) => add(arguments, global),
        Verb::Remove(Remove { name, change }) => {
            let edit = Edit::InterfaceRemove { interface: name.clone() };
            edit::make(
                &InForce::read()?,
                edit,
                change,
                &format!("interface {name:?} is removed"),
                global,
            )
        }
        Verb::SetGroups(SetGroups { name, groups, change }) => {
            let edit = Edit::InterfaceSetGroups { interface: name.clone(), groups: groups.clone() };
            let done = format!("interface {name:?} has the groups {}", groups.join(", "));
            edit::make(&InForce::read()?, edit, change, &done, global)
        }
    }
}

fn add(arguments: &Add, global: Global) -> anyhow::Result<Exit> {
    let Add { name, address, group, device, side, mac, no_source_dest_check, place, change } =
        arguments;
    let mut interface = Fragment::new().text("name", name);
    interface = match &address[..] {
        [auto] if auto == "auto" => interface.with("addresses", auto),
        addresses => interface.texts("addresses", addresses),
    };
    if !group.is_empty() {
        interface = interface.texts("groups", group);
    }
    if !device.is_empty() {
        interface = interface.texts("device", device);
    }
    for (key, value) in [("side", side), ("mac", mac)] {
        if let Some(value) = value {
            interface = interface.text(key, value);
        }
    }
    if *no_source_dest_check {
        interface = interface.with("source_dest_check", false);
    }
    let edit = Edit::InterfaceAdd { vpc: place.vpc.clone(), interface: interface.to_string() };
    let exit = edit::make(
        &InForce::read()?,
        edit,
        change,
        &format!("interface {name:?} is added"),
        global,
    )?;
    for device in device {
        match Device::open(device) {
            Ok(_there) => {
                eprintln!("device {device} is protected once it is attached: sgctl attach {device}")
            }
            // It may come later, as a tap does with its machine.
            Err(error) => {
                log::warn!("{error}; once it is there, `sgctl attach {device}` protects it")
            }
        }
    }
    Ok(exit)
}

fn list(arguments: &List, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let vpcs = in_force.vpcs(&arguments.place)?;
    if let Some(group) = &arguments.group
        && let Err(error) =
            find(&in_force.policy, Kind::Group, arguments.place.vpc.as_deref(), group)
        && error.code() == Some(Code::GroupNotFound)
    {
        return Err(error.into());
    }
    let all = vpcs.iter().flat_map(|vpc| vpc.interfaces.iter().map(|one| row(&in_force, vpc, one)));
    let wanted = |row: &Row<'_>| {
        let Some(group) = &arguments.group else { return true };
        row.groups.iter().any(|name| name.eq_ignore_ascii_case(group))
    };
    let rows: Vec<_> = all.filter(wanted).collect();
    if global.output == Format::Json {
        output::print_json(&rows)?;
        return Ok(Exit::Yes);
    }
    let mut table = Table::new(["VPC", "INTERFACE", "ADDRESSES", "GROUPS", "DEVICE", "SIDE"]);
    table.add_rows(rows.iter().map(|row| {
        [
            row.vpc.to_owned(),
            row.name.to_owned(),
            row.addresses.join(", "),
            row.groups.join(", "),
            row.device_text(),
            if row.devices.is_empty() { "-" } else { row.side }.to_owned(),
        ]
    }));
    output::print(&table.text(""))?;
    Ok(Exit::Yes)
}

fn show(name: &str, global: Global) -> anyhow::Result<Exit> {
    let in_force = InForce::read()?;
    let (vpc, at) = find_interface(&in_force.policy, name)?;
    let vpc = &in_force.policy.vpcs[vpc];
    let row = row(&in_force, vpc, &vpc.interfaces[at]);
    if global.output == Format::Json {
        output::print_json(&row)?;
        return Ok(Exit::Yes);
    }
    let mut text = format!("interface {} of VPC {}\n", row.name, row.vpc);
    for (what, value) in [
        ("addresses", row.addresses.join(", ")),
        ("groups", row.groups.join(", ")),
        ("device", row.device_text()),
        ("side", row.side.to_owned()),
        ("source check", if row.source_dest_check { "yes" } else { "no" }.to_owned()),
        ("MAC address", row.mac.clone().unwrap_or_else(|| "not given".to_owned())),
    ] {
        text += &format!("  {what}: {value}\n");
    }
    output::print(&text)?;
    Ok(Exit::Yes)
}

impl Row<'_> {
    fn device_text(&self) -> String {
        if self.devices.is_empty() {
            return "elsewhere".to_owned();
        }
        let text = |device: &String| {
            let attached = self.attached.contains(&device.as_str());
            if attached { device.clone() } else { format!("{device} (not attached)") }
        };
        self.devices.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

fn row<'p>(in_force: &'p InForce, vpc: &'p Vpc, one: &'p Interface) -> Row<'p> {
    let address = |net: &ipnet::IpNet| {
        let is_single = net.prefix_len() == net.max_prefix_len();
        if is_single { net.addr().to_string() } else { net.to_string() }
    };
    let mac = one
        .mac
        .map(|[a, b, c, d, e, f]| format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
    let attached = in_force.live.devices.iter().filter(|device| device.interface == one.name);
    // What counts, whatever the policy says of devices that are not attached.
    let side = attached.clone().next().map_or(one.side.name(), status::side_name);
    let auto = one.auto_addresses.then(|| "auto".to_owned());
    Row {
        vpc: &vpc.name,
        name: &one.name,
        addresses: auto.into_iter().chain(one.addresses.iter().map(address)).collect(),
        groups: one.groups.iter().map(|&group| vpc.groups[group].name.as_str()).collect(),
        devices: &one.devices,
        side,
        source_dest_check: one.source_dest_check,
        mac,
        attached: attached.map(|device| device.device.as_str()).collect(),
    }
}
