//! What `sgctl status` warns of: devices that are not filtered, or by somebody else.

use super::policy_file;
use crate::kernel::Device;
use crate::kernel::live::Live;
use crate::kernel::versions::OtherVersion;

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
