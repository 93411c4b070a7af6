//! Names of what a test run makes outside its own memory, and the sweep of what dead runs left.
//!
//! A guard cannot run when its process is killed. So every name carries the process id, and the
//! first thing that a test binary makes is preceded by a look for names whose process is gone.

use std::{
    env, fs,
    path::Path,
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// Starts the name of everything that the harness makes.
pub const PREFIX: &str = "sgt-";
/// Where `ip netns` keeps namespaces.
pub const NETNS_DIR: &str = "/run/netns";
/// Where pins live.
pub const BPFFS: &str = "/sys/fs/bpf";

/// A name that nothing else has: `sgt-PID-N-LABEL`.
#[must_use]
pub fn unique_name(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}-{label}", process::id())
}

/// Removes namespaces, pins and directories of test processes that no longer live.
pub fn sweep() {
    for name in stale_names(Path::new(NETNS_DIR)) {
        // Another binary's sweep may have been quicker; there is nothing to do about a failure.
        _ = Command::new("ip").args(["netns", "del", &name]).output();
    }
    for dir in [Path::new(BPFFS), &env::temp_dir()] {
        for name in stale_names(dir) {
            _ = fs::remove_dir_all(dir.join(name));
        }
    }
}

fn stale_names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
        .collect()
}

/// The process that a name belongs to; none if it is not one of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{owner, unique_name};

    #[test]
    fn names_carry_their_process() {
        assert_eq!(owner(&unique_name("x")), Some(std::process::id()));
        assert_eq!(owner("sgt-12-3-web-1"), Some(12));
        assert_eq!(owner("sgt-web"), None);
        assert_eq!(owner("docker-12"), None);
        assert_ne!(unique_name("x"), unique_name("x"));
    }
}
