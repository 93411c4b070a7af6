//! `sgctl detach`: takes devices out from under the policy.

use super::{Exit, Format, Global, output, status};
use crate::kernel::Paths;
use crate::kernel::live::AttachedDevice;
use crate::kernel::session::{detach, detach_all};

/// Detach one device, or everything
///
/// Removes the programs; with the last device, the maps and pins as well. From then on every packet
/// passes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl detach eth0
  sgctl detach --all    also what an unusable state has left behind")]
pub(super) struct Arguments {
    /// The device
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    device: Option<String>,
    /// Every device, in every network namespace
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let paths = Paths::from_environment();
    let detached = match &arguments.device {
        Some(device) => {
            let detached = detach(&paths, device)?;
            super::follow_addresses(&paths);
            vec![detached]
        }
        None => detach_all(&paths)?,
    };
    if global.output == Format::Json {
        let detached: Vec<_> = detached.iter().map(Detached::new).collect();
        output::print_json(&detached)?;
    } else if detached.is_empty() {
        eprintln!("nothing was attached");
    } else {
        let line = |one: &AttachedDevice| format!("detached {} ({})\n", one.device, one.interface);
        output::print(&detached.iter().map(line).collect::<String>())?;
    }
    Ok(Exit::Yes)
}

/// A device as `detach -o json` lists it.
#[derive(Debug, serde::Serialize)]
struct Detached<'a> {
    /// Its name.
    device: &'a str,
    /// What it was attached as.
    interface: &'a str,
    /// `host` or `workload`.
    side: &'static str,
    /// Inode of its network namespace.
    namespace: u64,
}

impl<'a> Detached<'a> {
    fn new(device: &'a AttachedDevice) -> Self {
        Self {
            device: &device.device,
            interface: &device.interface,
            side: status::side_name(device),
            namespace: device.namespace,
        }
    }
}
