//! `sgctl attach`: puts devices under a policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use super::{Exit, Format, Global, adoption, output, policy_file, status, test_report};
use crate::kernel::live::{AttachedDevice, Live, Source};
use crate::kernel::session::{AttachRequest, Target, attach};
use crate::kernel::{self, DEFAULT_DROP_BUDGET, Paths, Sizes, Wanted};
use crate::policy::model::{Interface, Policy, Side};

/// Attach devices: load, pin, enforce, return
///
/// Without DEVICE, every interface of the file that names a device is attached to it. All devices are
/// attached or none. The programs stay when this command has ended, and after any crash of anything; see
/// `sgctl detach`.
///
/// Connections that are open already are kept: the sockets behind each device become flows, also those that
/// no rule allows, unless the file says `live_flows: cut`.
///
/// The file's `tests:` are run first: a file with a test that fails is not attached.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl attach --policy web.yaml               every interface that names a device
  sgctl attach eth0 --policy web.yaml          eth0, as the interface that names it
  sgctl attach eth0 --policy web.yaml --interface web --side host
  sgctl attach tap0 --policy vm.yaml --grace 30s
  sgctl attach eth0 --policy web.yaml --audit  report what would be dropped, drop nothing")]
pub(super) struct Arguments {
    /// The device to attach; without it, every device that the file names
    device: Option<String>,
    /// The policy file
    #[arg(short, long, value_name = "FILE")]
    policy: PathBuf,
    /// The interface of the file that DEVICE is, where the file does not say
    #[arg(short, long, value_name = "NAME", requires = "device")]
    interface: Option<String>,
    /// Which end of the device is protected, where the file says otherwise
    #[arg(long, value_enum)]
    side: Option<SideArgument>,
    /// Where a host's ingress is judged
    #[arg(long, value_enum, default_value_t)]
    xdp: XdpArgument,
    /// How programs are attached at TC
    #[arg(long, value_enum, default_value_t)]
    tc: TcArgument,
    /// Judge and report, but let every packet pass
    #[arg(long)]
    audit: bool,
    /// Trace every packet; `sgctl events --trace` shows it. Costs much, for debugging
    #[arg(long)]
    trace: bool,
    /// Drops reported as events, per second and processor
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DROP_BUDGET)]
    drop_events: u32,
    /// Do not keep what is open behind the device: what no rule lets in anew is cut
    #[arg(long)]
    no_adopt: bool,
    /// How long connections are learnt from their packets, for taps, whose sockets cannot be asked, and
    /// routers. Meanwhile a segment that opens nothing passes whatever the rules say
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = adoption::grace)]
    grace: Duration,
    #[command(flatten)]
    sizes: SizeArguments,
}

/// Sizes of the kernel's tables.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sizes of the kernel's tables (fixed by the first attach)")]
struct SizeArguments {
    /// Established flows per address family, rounded up to a power of two
    #[arg(long, value_name = "N", value_parser = up_to(1 << 27))]
    max_flows: Option<u32>,
    /// Addresses of group members per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_members: Option<u32>,
    /// CIDRs and prefix list entries per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_cidrs: Option<u32>,
    /// Permits: rules times the classes of peers that they name
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_permits: Option<u32>,
    /// Rules of all attached interfaces, rounded up to a power of two
    #[arg(long, value_name = "N", value_parser = up_to(1 << 24))]
    max_rules: Option<u32>,
    /// Members, CIDRs and own addresses together, both families
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_addresses: Option<u32>,
    /// Interfaces on this machine
    #[arg(long, value_name = "N", value_parser = up_to(1 << 16))]
    max_interfaces: Option<u32>,
    /// Addresses of the interfaces themselves, per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_own_addresses: Option<u32>,
}

fn up_to(most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=most)
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SideArgument {
    /// The device is the protected host's own: what arrives is ingress
    Host,
    /// The device is the host's end of a veth or tap: what arrives is the workload's egress
    Workload,
}

impl From<SideArgument> for Side {
    fn from(side: SideArgument) -> Self {
        match side {
            SideArgument::Host => Self::Host,
            SideArgument::Workload => Self::Workload,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum XdpArgument {
    /// In the driver where that pays, else at TC
    #[default]
    Auto,
    /// In the driver
    Native,
    /// Behind the driver, for drivers without support
    Generic,
    /// At TC
    Off,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TcArgument {
    /// TCX where the kernel has it (6.6), else clsact
    #[default]
    Auto,
    /// TCX links
    Tcx,
    /// Filters of a clsact qdisc
    Clsact,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let file = policy_file::open(&arguments.policy, global)?;
    let targets = targets(arguments, &file.policy)?;
    kernel::require_root("attach programs")?;
    let devices = devices_of(&targets);
    let results =
        policy_file::test(&file.policy, &policy_file::device_addresses(&file.policy, &devices))?;
    if test_report::tell_failures(&file.policy, &arguments.policy, &results) > 0 {
        bail!("tests of {} fail; nothing was attached", arguments.policy.display());
    }
    let paths = Paths::from_environment();
    if arguments.sizes.is_given() && Live::read(&paths)?.is_some() {
        log::warn!("the first attach fixed the sizes of the tables; --max-... is ignored");
    }
    let request = AttachRequest {
        policy: &file.policy,
        source: Source { path: absolute(&arguments.policy), text: file.text.clone() },
        targets,
        hooks: arguments.hooks(),
        audit: arguments.audit,
        trace: arguments.trace,
        replay: false,
        drop_budget: arguments.drop_events,
        adopt: !arguments.no_adopt,
        grace: arguments.grace,
        sizes: arguments.sizes.sizes(),
    };
    let attached = attach(&paths, &request)?;
    if arguments.audit {
        log::warn!("--audit: packets are judged and reported, and none is dropped");
    }
    adoption::tell(&attached, arguments.grace);
    tell(&paths, &attached, global)?;
    Ok(Exit::Yes)
}

fn tell(paths: &Paths, attached: &[AttachedDevice], global: Global) -> anyhow::Result<()> {
    if global.output == Format::Json {
        let devices: Vec<_> =
            attached.iter().map(|device| status::DeviceStatus::new(paths, device)).collect();
        return output::print_json(&devices);
    }
    let line = |device: &AttachedDevice| {
        let hooks: Vec<_> = device.attached.hooks.iter().map(|hook| hook.name()).collect();
        let side = status::side_name(device);
        format!(
            "attached {} as {} ({side}): {}\n",
            device.device,
            device.interface,
            hooks.join(", ")
        )
    };
    Ok(output::print(&attached.iter().map(line).collect::<String>())?)
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Which device as which interface.
fn targets(arguments: &Arguments, policy: &Policy) -> anyhow::Result<Vec<Target>> {
    let side = arguments.side.map(Side::from);
    let target = |device: &str, interface: &Interface| Target {
        device: device.to_owned(),
        interface: interface.name.clone(),
        side,
    };
    if let Some(device) = &arguments.device {
        let interface = interface_of(policy, device, arguments.interface.as_deref())?;
        return Ok(vec![target(device, interface)]);
    }
    let mut targets = Vec::new();
    for interface in policy_file::interfaces(policy) {
        targets.extend(interface.devices.iter().map(|device| target(device, interface)));
    }
    if targets.is_empty() {
        bail!(
            "no interface of {} names a device; name one: `sgctl attach DEVICE --policy FILE`",
            arguments.policy.display()
        );
    }
    Ok(targets)
}

/// What a device is in the policy.
pub(super) fn interface_of<'p>(
    policy: &'p Policy,
    device: &str,
    name: Option<&str>,
) -> anyhow::Result<&'p Interface> {
    let all: Vec<_> = policy_file::interfaces(policy).collect();
    let names = || all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let found = all.iter().find(|one| one.name == name);
        let Some(found) = found else {
            bail!("the policy has no interface {name:?} (it has: {})", names());
        };
        return Ok(found);
    }
    if let Some(found) = all.iter().find(|one| one.devices.iter().any(|named| named == device)) {
        return Ok(found);
    }
    match all[..] {
        [] => bail!("the policy has no interface"),
        [only] => Ok(only),
        _ => bail!(
            "no interface of the policy names {device}; say which one it is with --interface ({})",
            names()
        ),
    }
}

/// The devices of each interface that is about to be attached.
fn devices_of(targets: &[Target]) -> BTreeMap<&str, Vec<&str>> {
    let mut devices: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for target in targets {
        devices.entry(&target.interface).or_default().push(&target.device);
    }
    devices
}

impl Arguments {
    fn hooks(&self) -> Wanted {
        Wanted {
            xdp: match self.xdp {
                XdpArgument::Auto => kernel::XdpMode::Auto,
                XdpArgument::Native => kernel::XdpMode::Native,
                XdpArgument::Generic => kernel::XdpMode::Generic,
                XdpArgument::Off => kernel::XdpMode::Off,
            },
            tc: match self.tc {
                TcArgument::Auto => kernel::TcMode::Auto,
                TcArgument::Tcx => kernel::TcMode::Tcx,
                TcArgument::Clsact => kernel::TcMode::Clsact,
            },
        }
    }
}

impl SizeArguments {
    fn all(&self) -> [Option<u32>; 7] {
        [
            self.max_flows,
            self.max_members,
            self.max_cidrs,
            self.max_permits,
            self.max_addresses,
            self.max_interfaces,
            self.max_own_addresses,
        ]
    }

    fn is_given(&self) -> bool {
        self.all().iter().any(Option::is_some)
    }

    fn sizes(&self) -> Sizes {
        let usual = Sizes::default();
        Sizes {
            flows: self.max_flows.map_or(usual.flows, u32::next_power_of_two),
            hosts: self.max_members.unwrap_or(usual.hosts),
            cidrs: self.max_cidrs.unwrap_or(usual.cidrs),
            permits: self.max_permits.unwrap_or(usual.permits),
            rules: self.max_rules.map_or(usual.rules, u32::next_power_of_two),
            classes: self.max_addresses.unwrap_or(usual.classes),
            interfaces: self.max_interfaces.unwrap_or(usual.interfaces),
            own: self.max_own_addresses.unwrap_or(usual.own),
            ..usual
        }
    }
}
