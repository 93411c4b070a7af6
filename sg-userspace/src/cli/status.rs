//! `sgctl status`: what is attached, whether it holds, and what it has seen.

use serde::Serialize;
use sg_common::abi::INTERFACE_FLAGS;

use super::table::Table;
use super::warnings::{foreign_warning, remedy, unattached, waiting};
use super::{Exit, Format, Global, history, output};
use crate::compile::{InterfaceSpec, Origin, TableSpec};
use crate::history::History;
use crate::kernel::adopt::Adoption;
use crate::kernel::live::{AttachedDevice, Live};
use crate::kernel::read::{self, FlowRecord, HookStatus, ReasonCount, TableFill};
use crate::kernel::sight::look;
use crate::kernel::stream::{self, StreamTotals};
use crate::kernel::versions::{self, OtherVersion};
use crate::kernel::{self, Device, KernelError, Paths, require_root};

/// Show what is attached, its counters and table fill
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl status
  sgctl status -o json | jq '.devices[] | select(.protected | not)'")]
pub(super) struct Arguments {}

/// What `status -o json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Status {
    /// Path of the policy file in force; null when nothing is attached.
    policy: Option<String>,
    /// Its number in the history.
    number: Option<u64>,
    /// How many edits have made it of that file.
    edits: usize,
    /// The attached devices.
    devices: Vec<DeviceStatus>,
    /// The interfaces that they are.
    interfaces: Vec<InterfaceStatus>,
    /// How full the kernel's tables are.
    tables: Vec<TableFill>,
    /// What became of all events; null when nothing is attached.
    events: Option<StreamTotals>,
    /// What sgctl of another version has attached.
    other_versions: Vec<OtherVersion>,
    /// What to look at.
    warnings: Vec<String>,
}

/// An attached device.
#[derive(Debug, Serialize)]
pub(super) struct DeviceStatus {
    /// Its name.
    pub(super) device: String,
    /// What it is in the policy.
    pub(super) interface: String,
    /// `host` or `workload`.
    pub(super) side: &'static str,
    /// Where its programs sit, and which they are.
    pub(super) hooks: Vec<HookStatus>,
    /// Whether the device is there, has all its programs, and they drop: never with `--audit`.
    pub(super) protected: bool,
    /// What has become of it since it was attached, such as `gone` or `renamed to eth1`; null: nothing.
    pub(super) change: Option<String>,
    /// Inode of its network namespace.
    pub(super) namespace: u64,
    /// Whether that is the namespace this command ran in.
    pub(super) here: bool,
    /// Reports what it would drop, and drops nothing.
    pub(super) audit: bool,
    /// Traces every packet.
    pub(super) trace: bool,
    /// Drops reported per second and processor.
    pub(super) drop_events: u32,
    /// When it was attached, RFC 3339.
    #[serde(serialize_with = "crate::moment::serialize")]
    pub(super) since: u64,
    /// What was open then; null when nothing was to be kept.
    pub(super) adoption: Option<Adoption>,
    /// Seconds for which connections are still learnt from their packets; null: they are not.
    pub(super) grace_left: Option<u64>,
}

/// An interface that has attached devices.
#[derive(Debug, Serialize)]
struct InterfaceStatus {
    /// Its name.
    interface: String,
    /// Its VPC.
    vpc: String,
    /// Its addresses, as the policy in force has them.
    addresses: Vec<String>,
    /// Its groups.
    groups: Vec<String>,
    /// The infrastructure entries, and whether each is on.
    infrastructure: Vec<Entry>,
    /// Whether sources are checked.
    source_dest_check: bool,
    /// Established flows, IPv4 and IPv6.
    established_flows: [usize; 2],
    /// How many there may be in each family.
    max_flows: u32,
    /// Flows alive now that were open before it was attached.
    adopted_flows: usize,
    /// Packets by direction and reason, without those that never occurred.
    counters: Vec<ReasonCount>,
}

/// An infrastructure entry.
#[derive(Debug, Serialize)]
struct Entry {
    /// Its name in policy files.
    name: &'static str,
    /// Whether its traffic passes.
    on: bool,
}

/// How many of [`INTERFACE_FLAGS`] are infrastructure entries: those before `source_dest_check`.
const INFRASTRUCTURE_FLAGS: usize = 5;
/// The entries of dialect `aws` that are implicit rules, in the order of the policy file's keys.
const SERVICES: [&str; 5] = ["dns", "metadata", "time", "licences", "subnet_router"];

pub(super) fn run(_: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("read what is attached")?;
    let paths = Paths::from_environment();
    super::follow_addresses(&paths);
    let status = read_status(&paths)?;
    for warning in &status.warnings {
        log::warn!("{warning}");
    }
    match global.output {
        Format::Json => output::print_json(&status)?,
        Format::Text => output::print(&text(&status))?,
    }
    Ok(Exit::Yes)
}

/// `host` or `workload`.
pub(super) fn side_name(device: &AttachedDevice) -> &'static str {
    if device.instance.workload { "workload" } else { "host" }
}

fn read_status(paths: &Paths) -> Result<Status, KernelError> {
    let other_versions = versions::others(paths)?;
    let foreign = other_versions.iter().map(foreign_warning);
    let Some(live) = Live::read(paths)? else {
        return Ok(Status { warnings: foreign.collect(), other_versions, ..Status::default() });
    };
    let devices: Vec<_> =
        live.devices.iter().map(|device| DeviceStatus::new(paths, device)).collect();
    let tables = read::table_fill(paths, &live)?;
    let events = stream::totals(paths)?;
    let mut warnings: Vec<_> = foreign.chain(warnings(&devices, &tables, events)).collect();
    warnings.extend(waiting(paths, &live));
    warnings.extend(unattached(&live));
    match History::holds(&paths.state, live.number) {
        Ok(true) => {}
        Ok(false) => warnings.push(history::missing(paths, live.number)),
        Err(error) => warnings.push(error.to_string()),
    }
    Ok(Status {
        warnings,
        other_versions,
        interfaces: interfaces(paths, &live)?,
        number: Some(live.number),
        edits: live.source.edits,
        policy: Some(live.source.path),
        devices,
        tables,
        events: Some(events),
    })
}

impl DeviceStatus {
    pub(super) fn new(paths: &Paths, device: &AttachedDevice) -> Self {
        let sight = look(paths, device);
        Self {
            device: device.device.clone(),
            interface: device.interface.clone(),
            side: side_name(device),
            hooks: read::hook_status(paths, device),
            protected: sight.is_protected() && !device.instance.audit,
            change: sight.change(device),
            namespace: device.namespace,
            here: device.namespace == Device::namespace_here(),
            audit: device.instance.audit,
            trace: device.instance.trace,
            drop_events: device.instance.drop_budget,
            since: device.since,
            adoption: device.adoption,
            grace_left: grace_left(device.instance.grace_until, read::monotonic()),
        }
    }
}

/// Seconds, begun ones counted whole.
fn grace_left(until: u64, now: u64) -> Option<u64> {
    (until > now).then(|| (until - now).div_ceil(1_000_000_000))
}

/// Every interface that some device is, once.
fn interfaces(paths: &Paths, live: &Live) -> Result<Vec<InterfaceStatus>, KernelError> {
    let flows = read::flows(paths)?;
    let attached = |spec: &InterfaceSpec| live.devices.iter().any(|one| one.interface == spec.name);
    live.tables
        .interfaces
        .iter()
        .filter(|(_, spec)| attached(spec))
        .map(|(&slot, spec)| {
            Ok(InterfaceStatus {
                interface: spec.name.clone(),
                vpc: spec.vpc_name.clone(),
                addresses: addresses(live, &spec.name),
                groups: spec.groups.clone(),
                infrastructure: infrastructure(&live.tables, spec),
                source_dest_check: has_flag(spec, INFRASTRUCTURE_FLAGS),
                established_flows: [true, false].map(|v4| established(&flows, slot, v4)),
                max_flows: spec.version.flow_limit,
                adopted_flows: flows.iter().filter(|one| one.adopted && one.slot == slot).count(),
                counters: read::counters(paths, slot)?,
            })
        })
        .collect()
}

/// Single ones without the length of their prefix.
fn addresses(live: &Live, interface: &str) -> Vec<String> {
    let text = |one: ipnet::IpNet| {
        if one.prefix_len() == one.max_prefix_len() {
            one.addr().to_string()
        } else {
            one.to_string()
        }
    };
    let mut found: Vec<_> =
        kernel::addresses::known(live, interface).into_iter().map(text).collect();
    found.dedup();
    found
}

fn established(flows: &[FlowRecord], slot: u16, v4: bool) -> usize {
    let of =
        |flow: &&FlowRecord| flow.established && flow.slot == slot && flow.local.is_ipv4() == v4;
    flows.iter().filter(of).count()
}

fn has_flag(spec: &InterfaceSpec, bit: usize) -> bool {
    spec.version.flags >> bit & 1 == 1
}

fn infrastructure(tables: &TableSpec, spec: &InterfaceSpec) -> Vec<Entry> {
    let rules = tables.policies.get(&spec.version.policy).map(|policy| &policy.rules);
    let implicit = |name: &str| {
        rules.into_iter().flatten().filter_map(|rule| tables.rules.get(rule)).any(
            |rule| matches!(&rule.identity.origin, Origin::Infrastructure(entry) if entry == name),
        )
    };
    let flags = INTERFACE_FLAGS.iter().take(INFRASTRUCTURE_FLAGS).enumerate();
    flags
        .map(|(bit, &name)| Entry { name, on: has_flag(spec, bit) })
        .chain(SERVICES.map(|name| Entry { name, on: implicit(name) }))
        .collect()
}

/// A table that is this full is worth a word.
const NEARLY_FULL_PERCENT: u64 = 90;

fn warnings(devices: &[DeviceStatus], tables: &[TableFill], events: StreamTotals) -> Vec<String> {
    let unprotected =
        devices.iter().filter(|device| !device.protected && !device.audit).map(|device| {
            let name = &device.device;
            let why = device.change.as_deref().unwrap_or("lost its programs");
            format!("{name} is UNPROTECTED: {why}; {}", remedy(why, name))
        });
    let audit = devices.iter().filter(|device| device.audit).map(|device| {
        format!("{} is attached with --audit: nothing is dropped there", device.device)
    });
    let full = tables
        .iter()
        .filter(|table| table.entries * 100 >= u64::from(table.capacity) * NEARLY_FULL_PERCENT)
        .map(|table| format!("table {} is nearly full", table.table));
    let lost = (events.lost > 0).then(|| {
        format!("{} were lost because nobody read them", output::count(events.lost, "event"))
    });
    unprotected.chain(audit).chain(full).chain(lost).collect()
}

fn foreign_text(other: &OtherVersion) -> String {
    format!(
        "{}: attached by another version of sgctl (ABI {})\n",
        other.devices.join(", "),
        other.abi
    )
}

fn text(status: &Status) -> String {
    let mut text: String = status.other_versions.iter().map(foreign_text).collect();
    let Some(policy) = &status.policy else {
        return if text.is_empty() { "nothing is attached\n".to_owned() } else { text };
    };
    let number = status.number.unwrap_or_default();
    let edited = match status.edits {
        0 => String::new(),
        edits => format!(", edited since ({})", output::count(edits, "edit")),
    };
    text += &format!("policy {number}, {policy}{edited}\n\n{}", devices_text(&status.devices));
    for interface in &status.interfaces {
        text.push('\n');
        text.push_str(&interface_text(interface));
    }
    let mut table = Table::new(["TABLE", "ENTRIES", "ROOM"]);
    for fill in &status.tables {
        table.add_row([fill.table.to_owned(), fill.entries.to_string(), fill.capacity.to_string()]);
    }
    text.push('\n');
    text.push_str(&table.text(""));
    let StreamTotals { emitted, suppressed, lost } = status.events.unwrap_or_default();
    text + &format!("\nevents: {emitted} emitted, {suppressed} suppressed, {lost} lost\n")
}

fn devices_text(devices: &[DeviceStatus]) -> String {
    let mut table = Table::new(["DEVICE", "INTERFACE", "SIDE", "PROTECTED", "HOOKS", "NOTES"]);
    for device in devices {
        let hook = |hook: &HookStatus| match hook.program {
            Some(program) => format!("{} (program {program})", hook.hook),
            None => hook.hook.to_owned(),
        };
        let hooks: Vec<_> = device.hooks.iter().map(hook).collect();
        let namespace = (!device.here).then(|| format!("namespace {}", device.namespace));
        let audit = device.audit.then(|| "audit".to_owned());
        let trace = device.trace.then(|| "trace".to_owned());
        let grace = device.grace_left.map(|left| format!("grace, {left} s left"));
        let change = device.change.clone();
        let notes: Vec<_> =
            [change, namespace, audit, trace, grace].into_iter().flatten().collect();
        table.add_row([
            device.device.as_str(),
            &device.interface,
            device.side,
            if device.protected { "yes" } else { "NO" },
            &hooks.join(", "),
            &notes.join(", "),
        ]);
    }
    table.text("")
}

fn interface_text(interface: &InterfaceStatus) -> String {
    let words = |on: bool| {
        let entries = interface.infrastructure.iter().filter(|entry| entry.on == on);
        let names: Vec<_> = entries.map(|entry| entry.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let mut text = format!(
        "interface {} in VPC {}: {}; groups {}; source check {}\n",
        interface.interface,
        interface.vpc,
        if interface.addresses.is_empty() {
            "no address".to_owned()
        } else {
            interface.addresses.join(", ")
        },
        interface.groups.join(", "),
        if interface.source_dest_check { "on" } else { "off" },
    );
    text += &format!("  infrastructure on: {}; off: {}\n", words(true), words(false));
    let ([v4, v6], most) = (interface.established_flows, interface.max_flows);
    text += &format!("  established flows: {v4} IPv4, {v6} IPv6; at most {most} of each\n");
    if interface.adopted_flows > 0 {
        let flows = output::count(interface.adopted_flows, "flow");
        text += &format!("  {flows} from before it was attached\n");
    }
    if interface.counters.is_empty() {
        return text + "  no packet yet\n";
    }
    let mut table = Table::new(["DIRECTION", "VERDICT", "REASON", "PACKETS", "BYTES"]);
    for count in &interface.counters {
        let (packets, bytes) = (count.packets.to_string(), count.bytes.to_string());
        table.add_row([count.direction, count.verdict, count.reason, &packets, &bytes]);
    }
    text + &table.text("  ")
}
