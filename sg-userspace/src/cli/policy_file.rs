//! Opening a policy file for a verb: its diagnostics told, its `tests:` run.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ipnet::IpNet;

use super::Global;
use crate::engine::{TestResult, run_tests};
use crate::kernel::{Device, transaction};
use crate::policy::model::{Interface, Policy};
use crate::policy::{FileError, load, read_file, write};

/// A policy file that was taken.
#[derive(Debug)]
pub(super) struct PolicyFile {
    pub(super) policy: Policy,
    pub(super) text: String,
}

/// Opens a policy file, and tells its errors and warnings on standard error.
pub(super) fn open(path: &Path, global: Global) -> Result<PolicyFile, FileError> {
    let text = read_file(path)?;
    let style = global.color.style(&io::stderr());
    match load(&path.display().to_string(), &text) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings.render(style));
            let (policy, is_whole) = in_time(loaded.policy, path);
            // What is put in force holds what is in force: no later edit may bring back what is over.
            let text = if is_whole { text } else { write(&policy) };
            Ok(PolicyFile { policy, text })
        }
        Err(rejected) => {
            eprint!("{}", rejected.diagnostics.render(style));
            Err(rejected.into())
        }
    }
}

/// A path that means the same wherever it is read.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The policy without the rules whose time is over, each of which is told; whether there were none.
pub(super) fn in_time(policy: Policy, path: &Path) -> (Policy, bool) {
    let (policy, expired) = policy.without_expired(transaction::now());
    for rule in &expired {
        log::warn!("{}: counts as absent, its time is over: {rule}", path.display());
    }
    (policy, expired.is_empty())
}

/// What the devices of interfaces with `addresses: auto` have, as far as they are here; `instead` names
/// the devices of interfaces that the command line attaches elsewhere.
pub(super) fn device_addresses(
    policy: &Policy,
    instead: &BTreeMap<&str, Vec<&str>>,
) -> BTreeMap<String, Vec<IpNet>> {
    let of = |interface: &Interface| {
        let named = interface.devices.iter().map(String::as_str).collect();
        let devices = instead.get(interface.name.as_str()).cloned().unwrap_or(named);
        let found =
            devices.into_iter().filter_map(|name| Device::open(name).ok()?.addresses().ok());
        found.flatten().collect::<Vec<_>>()
    };
    interfaces(policy)
        .filter(|interface| interface.auto_addresses)
        .map(|interface| (interface.name.clone(), of(interface)))
        .filter(|(_, addresses)| !addresses.is_empty())
        .collect()
}

/// Says which interfaces with `addresses: auto` have none: what is worked out for them holds for no address.
pub(super) fn warn_without_addresses(policy: &Policy, found: &BTreeMap<String, Vec<IpNet>>) {
    let without = |one: &&Interface| one.auto_addresses && !found.contains_key(&one.name);
    for Interface { name, devices, .. } in interfaces(policy).filter(without) {
        let devices = match &devices[..] {
            [] => "names no device".to_owned(),
            devices => {
                format!("has no device here with addresses (it names {})", devices.join(", "))
            }
        };
        log::warn!(
            "interface {name} has `addresses: auto` and {devices}: it is taken to have no address"
        );
    }
}

/// Says where a device does not look like the side that it is attached on.
pub(super) fn warn_of_side(interface: &Interface, device: &Device, is_workload: bool) {
    let Ok(on_device) = device.addresses() else { return };
    let has = |own: &IpNet| on_device.iter().any(|found| own.contains(&found.addr()));
    let is_its_own = interface.addresses.iter().any(has);
    let (device, name) = (&device.name, &interface.name);
    if is_workload && is_its_own {
        log::warn!(
            "{device} itself has an address of interface {name}, so it looks like the protected host's own device: is it --side host?"
        );
    } else if !is_workload && !is_its_own && !interface.auto_addresses {
        log::warn!(
            "{device} has no address of interface {name}: if it is the host's end of a workload's veth or tap, it is --side workload; as it is, everything is judged the other way round"
        );
    }
}

/// The interfaces of every VPC.
pub(super) fn interfaces(policy: &Policy) -> impl Iterator<Item = &Interface> {
    policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces)
}

/// Runs `tests:` and sorts what came out.
pub(super) fn test(
    policy: &Policy,
    addresses: &BTreeMap<String, Vec<IpNet>>,
) -> anyhow::Result<Vec<TestResult>> {
    Ok(run_tests(policy, addresses)?)
}
