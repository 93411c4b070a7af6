//! What other versions of sgctl have attached. Their pins lie beside ours, under the number of their ABI, and their
//! maps are not ours to read: they are told apart, shown, and taken off, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sg_common::abi::ABI_VERSION;

use super::hooks::{self, Attached};
use super::{Device, KernelError, Paths};

/// What a version of another ABI has in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherVersion {
    /// The number of its ABI.
    pub abi: u32,
    /// The devices that it is attached to, as far as its state can be read.
    pub devices: Vec<String>,
    #[serde(skip)]
    pins: PathBuf,
    #[serde(skip)]
    state: Vec<OtherDevice>,
}

/// What all versions so far write of a device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OtherDevice {
    device: String,
    namespace: u64,
    attached: Attached,
}

#[derive(Deserialize)]
struct OtherState {
    devices: Vec<OtherDevice>,
}

/// The versions of another ABI that have maps or links in place.
///
/// # Errors
/// When the directory of pins cannot be read.
pub fn others(paths: &Paths) -> Result<Vec<OtherVersion>, KernelError> {
    if !paths.bpffs.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&paths.bpffs).map_err(KernelError::file("read", &paths.bpffs))?;
    let mut found: Vec<_> =
        entries.flatten().filter_map(|entry| read(paths, &entry.path())).collect();
    found.sort_by_key(|other| other.abi);
    Ok(found)
}

fn read(paths: &Paths, pins: &Path) -> Option<OtherVersion> {
    let abi: u32 = pins.file_name()?.to_str()?.strip_prefix('v')?.parse().ok()?;
    let links = files(&pins.join("links"));
    if abi == ABI_VERSION || (links.is_empty() && files(&pins.join("maps")).is_empty()) {
        return None;
    }
    let state = state(paths);
    let mut devices: Vec<_> = state.iter().map(|one| one.device.clone()).collect();
    devices.extend(links.iter().filter_map(|pin| device_of(pin)));
    devices.sort();
    devices.dedup();
    Some(OtherVersion { abi, devices, pins: pins.to_owned(), state })
}

/// The device that a pin is called after: namespace, device, hook.
fn device_of(pin: &Path) -> Option<String> {
    let (_namespace, rest) = pin.file_name()?.to_str()?.split_once('-')?;
    let at = ["-xdp-", "-tcx-"].iter().find_map(|hook| rest.rfind(hook))?;
    Some(rest.get(..at)?.replace(':', "."))
}

/// What the state in the run directory says, which is the other version's as long as nothing of ours is attached.
fn state(paths: &Paths) -> Vec<OtherDevice> {
    if paths.maps().join("GENERATION").exists() {
        return Vec::new();
    }
    let states = files(&paths.run).into_iter().filter(|path| is_state(path));
    let read = states.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
    read.flat_map(|state: OtherState| state.devices).collect()
}

fn is_state(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with("live.") && name.ends_with(".json")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Refuses to work beside another version: there would be two sets of programs on a device.
pub(super) fn refuse(paths: &Paths) -> Result<(), KernelError> {
    match others(paths)?.into_iter().next() {
        None => Ok(()),
        Some(OtherVersion { abi, devices, .. }) => {
            let devices =
                if devices.is_empty() { "a device".to_owned() } else { devices.join(", ") };
            Err(KernelError::AnotherVersion { abi, devices, ours: ABI_VERSION })
        }
    }
}

/// Takes off what another version has attached, and removes its pins and state. Links come off by their pins, and
/// filters by their programs' names, whatever their maps look like.
pub(super) fn detach(paths: &Paths, other: &OtherVersion) -> Result<(), KernelError> {
    let here = Device::namespace_here();
    let filters = |one: &&OtherDevice| one.attached.hooks.iter().any(|hook| hook.is_clsact());
    let away =
        |one: &&OtherDevice| one.namespace != here && Device::namespace_exists(one.namespace);
    if let Some(one) = other.state.iter().find(|one| filters(one) && away(one)) {
        return Err(KernelError::ElsewhereAttached { device: one.device.clone() });
    }
    for one in other.state.iter().filter(|one| filters(one) && one.namespace == here) {
        // Its links are under another path, and come off below.
        hooks::detach(paths, one.namespace, &one.device, &one.attached)?;
    }
    for folder in ["links", "maps"].map(|folder| other.pins.join(folder)) {
        for pin in files(&folder) {
            if folder.ends_with("links") {
                // An error means that the device has gone.
                let _gone = super::bpf::detach_link(&pin);
            }
            fs::remove_file(&pin).map_err(KernelError::file("unpin", &pin))?;
        }
        if folder.exists() {
            fs::remove_dir(&folder).map_err(KernelError::file("remove", &folder))?;
        }
    }
    fs::remove_dir(&other.pins).map_err(KernelError::file("remove", &other.pins))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_their_devices() {
        let device = |pin: &str| device_of(Path::new(pin));
        assert_eq!(device("4026531840-eth0-tcx-ingress").as_deref(), Some("eth0"));
        assert_eq!(device("1-br-tcx-1:100-xdp-native").as_deref(), Some("br-tcx-1.100"));
        assert_eq!(device("something"), None);
    }
}
