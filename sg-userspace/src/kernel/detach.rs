//! Detaching: one device, or every trace of all.

use super::live::{AttachedDevice, Live};
use super::session::open_live;
use super::{Device, KernelError, Lock, Paths, hooks, journal, maps, require_root, room, versions};
use crate::history::History;

/// Takes one device off.
///
/// # Errors
/// Any [`KernelError`]; [`KernelError::NotAttached`] when it has no programs of ours.
pub fn detach(paths: &Paths, name: &str) -> Result<AttachedDevice, KernelError> {
    require_root("detach programs")?;
    let _lock = Lock::take(&paths.lock())?;
    let mut live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
    let here = Device::namespace_here();
    let found = live.device(name, here).cloned().ok_or_else(|| {
        if live.devices.iter().any(|one| one.device == name) {
            // Never another namespace's device of the same name.
            return KernelError::ElsewhereAttached { device: name.to_owned() };
        }
        KernelError::NotAttached {
            device: name.to_owned(),
            attached: live.devices.iter().map(|one| one.device.clone()).collect(),
        }
    })?;
    detach_hooks(paths, &found)?;
    live.devices.retain(|one| *one != found);
    if live.devices.is_empty() {
        close_history(paths, live.number);
        remove_everything(paths)?;
    } else {
        let generation = maps::generation(&paths.maps())?;
        live.write(paths, generation)?;
    }
    Ok(found)
}

/// Takes everything off and removes every trace: links, maps, state.
///
/// # Errors
/// Any [`KernelError`].
pub fn detach_all(paths: &Paths) -> Result<Vec<AttachedDevice>, KernelError> {
    require_root("detach programs")?;
    let _lock = Lock::take(&paths.lock())?;
    Live::refuse_hidden(paths)?;
    for other in versions::others(paths)? {
        log::warn!(
            "ABI version {} of sgctl is attached to {}",
            other.abi,
            other.devices.join(", ")
        );
        versions::detach(paths, &other)?;
    }
    // Also with a state that cannot be read: links and maps go by their pins.
    let (devices, number) = match Live::read(paths) {
        Ok(live) => live.map_or_else(Default::default, |live| (live.devices, Some(live.number))),
        Err(error) => {
            log::warn!("{error}");
            (Vec::new(), None)
        }
    };
    // Before anything goes: a filter belongs to its device's namespace and can be removed only there.
    if let Some(device) = devices.iter().find(|device| is_filter_elsewhere(device)) {
        return Err(KernelError::ElsewhereAttached { device: device.device.clone() });
    }
    for device in &devices {
        detach_hooks(paths, device)?;
    }
    if let Some(number) = number {
        close_history(paths, number);
    }
    remove_everything(paths)?;
    Ok(devices)
}

/// Whether a device has clsact filters in another namespace than this one.
fn is_filter_elsewhere(device: &AttachedDevice) -> bool {
    device.namespace != Device::namespace_here()
        && device.attached.hooks.iter().any(|hook| hook.is_clsact())
        && Device::namespace_exists(device.namespace)
}

pub(super) fn detach_hooks(paths: &Paths, device: &AttachedDevice) -> Result<(), KernelError> {
    hooks::detach(paths, device.namespace, &device.device, &device.attached)
}

/// Removes pins and state. A link that nothing pins is gone from its device.
pub(super) fn remove_everything(paths: &Paths) -> Result<(), KernelError> {
    for path in [paths.links(), paths.maps()] {
        if path.exists() {
            for entry in
                std::fs::read_dir(&path).map_err(KernelError::file("read", &path))?.flatten()
            {
                let pin = entry.path();
                std::fs::remove_file(&pin).map_err(KernelError::file("unpin", &pin))?;
            }
            std::fs::remove_dir(&path).map_err(KernelError::file("remove", &path))?;
        }
    }
    for path in [paths.version(), paths.bpffs.clone()] {
        // Not empty: another version's pins are in it.
        let _kept = std::fs::remove_dir(path);
    }
    room::release(paths);
    journal::forget_others(paths, None)
}

/// Takes from the history what has never been in force, while it is known what has: an interrupted command's entry would
/// be listed as if it had.
pub(super) fn close_history(paths: &Paths, number: u64) {
    let closed =
        History::open(&paths.state, Some(number)).and_then(|mut history| history.forget_strays());
    if let Err(error) = closed {
        log::warn!("the history may list a policy that has never been in force: {error}");
    }
}
