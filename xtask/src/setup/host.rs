//! What the running machine must offer: a mounted bpffs and a kernel new enough.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{already, doing, warn};
use crate::{cmd, privilege::Privilege};

/// Where pins live.
const BPFFS: &str = "/sys/fs/bpf";
/// Oldest kernel that is tested.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Mounts bpffs where nothing has (minimal images and containers).
///
/// # Errors
/// When mounting fails.
pub(crate) fn mount_bpffs(privilege: Privilege) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    if mounts.lines().any(|line| is_mount(line, BPFFS, "bpf")) {
        already(BPFFS);
        return Ok(());
    }
    let Some(mut mount) = privilege.command("mount") else {
        warn(&format!("{BPFFS} is not mounted and we may not mount it: tests cannot pin"));
        return Ok(());
    };
    doing(&format!("mounting {BPFFS}"));
    cmd::run(mount.args(["-t", "bpf", "bpf", BPFFS]))
        .with_context(|| format!("as root: mount -t bpf bpf {BPFFS}"))
}

/// Is this line of a mount table this file system at this place?
fn is_mount(line: &str, place: &str, kind: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    words.next() == Some(place) && words.next() == Some(kind)
}

/// Says which kernel this is. Never an error: an old one compiles everything, and may load it.
pub(crate) fn check_kernel() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let btf = if Path::new("/sys/kernel/btf/vmlinux").exists() { "with" } else { "without" };
    match parse_release(release) {
        Some(version) if version >= OLDEST_KERNEL => eprintln!("ok: kernel {release}, {btf} BTF"),
        Some(_) | None => warn(&format!(
            "kernel {release} ({btf} BTF) is not known to be {}.{} or newer: programs may not load",
            OLDEST_KERNEL.0, OLDEST_KERNEL.1
        )),
    }
}

/// Major and minor number of a kernel release such as `6.1.0-37-cloud-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{is_mount, parse_release};

    #[test]
    fn reads_kernel_releases() {
        assert_eq!(parse_release("6.1.0-37-cloud-amd64"), Some((6, 1)));
        assert_eq!(parse_release("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(parse_release("7.0"), Some((7, 0)));
        assert_eq!(parse_release("next"), None);
    }

    #[test]
    fn reads_mount_tables() {
        assert!(is_mount("bpf /sys/fs/bpf bpf rw,relatime 0 0", "/sys/fs/bpf", "bpf"));
        assert!(!is_mount("tmpfs /sys/fs/bpf tmpfs rw 0 0", "/sys/fs/bpf", "bpf"));
        assert!(!is_mount("bpf /sys/fs/bpf/other bpf rw 0 0", "/sys/fs/bpf", "bpf"));
    }
}
