//! The machine that was measured, and on which of its processors.

use std::fs;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// What absolute numbers are to be read with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Model of the processor.
    pub(crate) processor: String,
    /// How many of them.
    pub(crate) processors: usize,
    /// Whether it is somebody's guest.
    pub(crate) is_virtual: bool,
    /// Processes that wanted to run in the last minute, on average, when the benchmark began: other work is noise.
    pub(crate) load: String,
    /// What the kernel does against the processor's vulnerabilities, where it is affected.
    pub(crate) mitigations: Vec<String>,
    /// Whether BPF programs are compiled, hardened.
    pub(crate) jit: String,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look() -> Result<Self> {
        let processor = fs::read_to_string("/proc/cpuinfo")?;
        let line = |name: &str| {
            let mut lines = processor.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.split_once(':'));
            line.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let flags = line("flags");
        Ok(Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            processor: line("model name"),
            processors: processors()?.len(),
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
            load: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            mitigations: mitigations()?,
            jit: format!(
                "net.core.bpf_jit_enable={}, bpf_jit_harden={}",
                text("/proc/sys/net/core/bpf_jit_enable"),
                text("/proc/sys/net/core/bpf_jit_harden")
            ),
        })
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn mitigations() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities")? {
        let entry = entry?;
        let said = text(&entry.path().to_string_lossy());
        if said != "Not affected" {
            found.push(format!("{}: {said}", entry.file_name().to_string_lossy()));
        }
    }
    found.sort();
    Ok(found)
}

/// The processors that this process may use, in order, as it was when first asked: before any thread was held.
pub(crate) fn processors() -> Result<&'static [usize]> {
    static FOUND: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for the processors")?;
    let all = (0..CpuSet::count()).filter(|&one| allowed.is_set(one).unwrap_or(false));
    Ok(FOUND.get_or_init(|| all.collect()))
}

/// Holds this thread to a processor.
pub(crate) fn on_processor(processor: usize) -> Result<()> {
    on_processors(&[processor])
}

/// Holds this thread to the last one, which has the fewest interrupts to serve.
pub(crate) fn on_last_processor() -> Result<()> {
    on_processor(*processors()?.last().context("no processor")?)
}

/// Holds this thread to all but the last, where there are several.
pub(crate) fn on_the_others() -> Result<()> {
    match processors()? {
        [others @ .., _] if !others.is_empty() => on_processors(others),
        all => on_processors(all),
    }
}

fn on_processors(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &one in processors {
        set.set(one)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context("holding a thread to a processor")
}
