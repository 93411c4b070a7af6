//! What a device is told besides its address: that a thread serves it, and that it gathers what arrives.

use std::time::Duration;
use std::{fs, io};

use ::tests::netns::Namespace;
use ::tests::process;
use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::machine;

const LIMIT: Duration = Duration::from_secs(10);

/// Has a kernel thread serve the device, which is polled already.
pub(super) fn thread(namespace: &Namespace, device: &str) -> Result<()> {
    // /sys shows the devices of the namespace in which it was mounted.
    let script = "mount -t sysfs none /sys && echo 1 > \"/sys/class/net/$1/threaded\"";
    let mut command = namespace.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", device]);
    process::run(&mut command, LIMIT)?.ok().context("threaded NAPI").map(|_output| ())
}

/// Has the device gather segments: a veth without that has no ring for frames.
pub(super) fn gro(namespace: &Namespace, device: &str) -> Result<()> {
    let mut command = namespace.command("ethtool");
    command.args(["--offload", device, "gro", "on"]);
    process::run(&mut command, LIMIT)?.ok().context("GRO").map(|_output| ())
}

/// The kernel's threads that serve devices of this name, whatever their namespace.
pub(super) fn napi_threads(device: &str) -> Result<Vec<Pid>> {
    let prefix = format!("napi/{device}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse() else { continue };
        // It may have ended meanwhile.
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            found.push(Pid::from_raw(id));
        }
    }
    Ok(found)
}

/// Holds it to the first processor, with the priority of this process: on a machine that has other work, `nice -n -19`
/// or `chrt` before the benchmark is then for the receiver too.
pub(super) fn on_first_processor(thread: Pid) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(*machine::processors()?.first().context("no processor")?)?;
    sched_setaffinity(thread, &set).context("holding a thread of the kernel to a processor")?;
    scheduled_as_we_are(thread).context("scheduling a thread of the kernel")
}

fn scheduled_as_we_are(thread: Pid) -> io::Result<()> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: asks about this thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    // SAFETY: the kernel writes as much as the type holds.
    let asked = unsafe { libc::sched_getparam(0, &raw mut parameters) };
    // SAFETY: the kernel reads as much.
    let set = unsafe { libc::sched_setscheduler(thread.as_raw(), policy, &raw const parameters) };
    // SAFETY: no memory is involved. -1 may be the answer, and then nothing is wrong.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let id = libc::id_t::try_from(thread.as_raw()).map_err(io::Error::other)?;
    // SAFETY: likewise.
    let given = unsafe { libc::setpriority(libc::PRIO_PROCESS, id, nice) };
    if policy < 0 || asked < 0 || set < 0 || given < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
