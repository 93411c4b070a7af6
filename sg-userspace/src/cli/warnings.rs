//! What `sgctl status` warns of: devices that are not filtered, or by somebody else, and what is to happen by itself.

use super::policy_file;
use crate::kernel::live::Live;
use crate::kernel::versions::OtherVersion;
use crate::kernel::{Device, Paths, keeper};
use crate::moment;

/// Devices that the policy in force names and that are here, without programs.
pub(super) fn unattached(live: &Live) -> Vec<String> {
    let Ok(loaded) = crate::policy::load(&live.source.path, &live.source.text) else {
        return Vec::new();
    };
    let here = Device::namespace_here();
    let mut found = Vec::new();
    for interface in policy_file::interfaces(&loaded.policy) {
        for device in &interface.devices {
            if live.device(device, here).is_none() && Device::open(device).is_ok() {
                found.push(format!(
                    "{device} is interface {}'s device in the policy and is not attached: nothing is filtered there; `sgctl attach {device}`",
                    interface.name
                ));
            }
        }
    }
    found
}

/// What is to happen by itself, what has not happened, and whether somebody sees to it.
pub(super) fn waiting(paths: &Paths, live: &Live) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pending) = &live.pending {
        let (number, before) = (live.number, pending.number);
        lines.push(if pending.is_overdue() {
            format!("policy {number} was not confirmed in time, and policy {before} is not back yet")
        } else {
            let left = pending.left().as_secs();
            format!(
                "policy {number} waits for its confirmation, {left} s more: `sgctl confirm`, or policy {before} comes back"
            )
        });
    }
    if let Some(at) = live.next_expiry.filter(|_| live.has_expired()) {
        let at = moment::rfc3339(at);
        lines.push(format!("the time of a rule was over at {at}, and it is still in force"));
    }
    lines.extend(keeper::hindrance(paths));
    if let Err(error) = keeper::ensure_if_needed(paths, live) {
        lines.push(error.to_string());
    }
    lines
}

/// Of programs that are not ours to read.
pub(super) fn foreign_warning(other: &OtherVersion) -> String {
    format!(
        "another version of sgctl (ABI {}) is attached to {}; this one reads nothing of it; `sgctl detach --all` takes it off",
        other.abi,
        other.devices.join(", ")
    )
}

/// What mends it.
pub(super) fn remedy(why: &str, device: &str) -> String {
    let by_itself = "`sgctl watch-devices` does so by itself";
    match why {
        "gone" => {
            format!("when it is back, `sgctl attach {device}` protects it again, and {by_itself}")
        }
        _ => format!("`sgctl attach {device}`, in its namespace, protects it again; {by_itself}"),
    }
}
