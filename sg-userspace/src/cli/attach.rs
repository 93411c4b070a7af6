//! `sgctl attach`: puts devices under a policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;

use super::sizes::SizeArguments;
use super::{Exit, Format, Global, adoption, output, policy_file, ssh_guard, status, test_report};
use crate::kernel::live::{AttachedDevice, Live, Source};
use crate::kernel::refit::Fitted;
use crate::kernel::session::{AttachRequest, Target, attach};
use crate::kernel::{self, DEFAULT_DROP_BUDGET, Device, Hook, Paths, Wanted};
use crate::policy::model::{Interface, Policy, Side};

/// Attach devices: load, pin, enforce, return
///
/// Without DEVICE, every interface of the file that names a device is attached to it. All devices are
/// attached or none. Without --policy, the policy in force counts.
///
/// A device that is attached already gets the programs of this sgctl in place of those it has, with the options given
/// now; flows and counters stay, and no packet is missed in between. One that has been re-created or has lost a
/// program gets what it lacks. The programs stay when this command has ended, and after any crash of anything; see
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
  sgctl attach eth0 --policy web.yaml --audit  report what would be dropped, drop nothing
  sgctl attach                                 newer programs for all that is attached here")]
pub(super) struct Arguments {
    /// The device to attach; without it, every device that the file names
    device: Option<String>,
    /// The policy file; without it, the policy in force
    #[arg(short, long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The interface of the file that DEVICE is, where the file does not say
    #[arg(short, long, value_name = "NAME", requires = "device")]
    interface: Option<String>,
    /// Which end of the device is protected: of one that the policy does not name, or against what it looks like
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
    /// Also if it would cut the ssh session that this is typed in, or keep the next one out
    #[arg(long)]
    force: bool,
    /// How long connections are learnt from their packets, for taps, whose sockets cannot be asked, and
    /// routers. Meanwhile a segment that opens nothing passes whatever the rules say
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = adoption::grace)]
    grace: Duration,
    #[command(flatten)]
    sizes: SizeArguments,
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
    let paths = Paths::from_environment();
    let asked = match &arguments.policy {
        Some(path) => Asked::file(path, global)?,
        None => Asked::in_force(&paths)?,
    };
    let targets = targets(arguments, &asked)?;
    kernel::require_root("attach programs")?;
    if let Some(path) = &arguments.policy {
        asked.test(path, &targets)?;
    }
    if arguments.sizes.is_given() && Live::read(&paths)?.is_some() {
        log::warn!("the first attach fixed the sizes of the tables; --max-... is ignored");
    }
    let request = AttachRequest {
        policy: &asked.policy,
        source: asked.source.clone(),
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
    ssh_guard::before_attach(&paths, &request, arguments.force)?;
    let fitted = attach(&paths, &request)?;
    if arguments.audit {
        log::warn!("--audit: packets are judged and reported, and none is dropped");
    }
    let new: Vec<_> =
        fitted.iter().filter(|one| one.is_new).map(|one| one.device.clone()).collect();
    warn_of_sides(&asked.policy, &fitted);
    adoption::tell(&new, arguments.grace);
    if new.is_empty() && !arguments.grace.is_zero() {
        log::warn!("--grace is for devices that were not attached before; it is ignored");
    }
    tell(&paths, &fitted, global)?;
    Ok(Exit::Yes)
}

/// The policy to attach under.
struct Asked {
    policy: Policy,
    source: Source,
    /// What is attached under it, if it was not given.
    attached: Vec<AttachedDevice>,
}

impl Asked {
    fn file(path: &Path, global: Global) -> anyhow::Result<Self> {
        let file = policy_file::open(path, global)?;
        let source = Source::file(policy_file::absolute(path), file.text);
        Ok(Self { policy: file.policy, source, attached: Vec::new() })
    }

    fn in_force(paths: &Paths) -> anyhow::Result<Self> {
        kernel::require_root("attach programs")?;
        let Some(live) = Live::read(paths)? else {
            let other = kernel::versions::others(paths)?;
            anyhow::ensure!(
                other.is_empty(),
                "nothing is attached by this version of sgctl; see `sgctl status`"
            );
            bail!("nothing is attached, so there is no policy in force; name one: --policy FILE");
        };
        let loaded = crate::policy::load(&live.source.path, &live.source.text)?;
        Ok(Self { policy: loaded.policy, source: live.source, attached: live.devices })
    }

    /// Runs the file's tests.
    fn test(&self, path: &Path, targets: &[Target]) -> anyhow::Result<()> {
        let addresses = policy_file::device_addresses(&self.policy, &devices_of(targets));
        let results = policy_file::test(&self.policy, &addresses)?;
        if test_report::tell_failures(&self.policy, path, &results) > 0 {
            bail!("tests of {} fail; nothing was attached", path.display());
        }
        Ok(())
    }
}

fn warn_of_sides(policy: &Policy, fitted: &[Fitted]) {
    for Fitted { device, .. } in fitted {
        let interface = policy_file::interfaces(policy).find(|one| one.name == device.interface);
        if let (Some(interface), Ok(found)) = (interface, Device::open(&device.device)) {
            policy_file::warn_of_side(interface, &found, device.instance.workload);
        }
    }
}

/// A device as `attach -o json` prints it.
#[derive(serde::Serialize)]
struct FittedStatus {
    /// `attached`, or `upgraded`: its programs were replaced.
    done: &'static str,
    /// Hooks that were attached; in the others, the program was replaced.
    attached_hooks: Vec<&'static str>,
    #[serde(flatten)]
    device: status::DeviceStatus,
}

fn tell(paths: &Paths, fitted: &[Fitted], global: Global) -> anyhow::Result<()> {
    if global.output == Format::Json {
        let status = |one: &Fitted| FittedStatus {
            done: done(one),
            attached_hooks: one.fresh.iter().map(|hook| hook.name()).collect(),
            device: status::DeviceStatus::new(paths, &one.device),
        };
        return output::print_json(&fitted.iter().map(status).collect::<Vec<_>>());
    }
    Ok(output::print(&fitted.iter().map(line).collect::<String>())?)
}

fn done(fitted: &Fitted) -> &'static str {
    if fitted.fresh.is_empty() { "upgraded" } else { "attached" }
}

fn line(fitted: &Fitted) -> String {
    let Fitted { device, fresh, .. } = fitted;
    let hooks = &device.attached.hooks;
    let is_mixed = !fresh.is_empty() && fresh.len() < hooks.len();
    let hook = |hook: &Hook| match (is_mixed, fresh.contains(hook)) {
        (true, true) => format!("{} (attached)", hook.name()),
        (true, false) => format!("{} (upgraded)", hook.name()),
        (false, _) => hook.name().to_owned(),
    };
    let hooks: Vec<_> = hooks.iter().map(hook).collect();
    let side = status::side_name(device);
    let done = done(fitted);
    format!("{done} {} as {} ({side}): {}\n", device.device, device.interface, hooks.join(", "))
}

/// Which device as which interface.
fn targets(arguments: &Arguments, asked: &Asked) -> anyhow::Result<Vec<Target>> {
    let side = arguments.side.map(Side::from);
    let target = |device: &str, interface: &str| Target {
        device: device.to_owned(),
        interface: interface.to_owned(),
        side,
    };
    let attached: Vec<_> =
        asked.attached.iter().filter(|one| one.namespace == Device::namespace_here()).collect();
    if let Some(device) = &arguments.device {
        let known = attached.iter().find(|one| one.device == *device);
        if let (Some(known), None) = (known, &arguments.interface) {
            return Ok(vec![target(device, &known.interface)]);
        }
        let interface = interface_of(&asked.policy, device, arguments.interface.as_deref())?;
        return Ok(vec![target(device, &interface.name)]);
    }
    let mut targets = Vec::new();
    for interface in policy_file::interfaces(&asked.policy) {
        targets.extend(interface.devices.iter().map(|device| target(device, &interface.name)));
    }
    for one in attached {
        let is_named = targets.iter().any(|target| target.device == one.device);
        match (is_named, Device::open(&one.device)) {
            (true, _) => {}
            (false, Ok(_)) => targets.push(target(&one.device, &one.interface)),
            (false, Err(error)) => log::warn!("{error}; left out"),
        }
    }
    if targets.is_empty() {
        bail!(
            "no interface of {} names a device; name one: `sgctl attach DEVICE --policy FILE`",
            asked.source.path
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
