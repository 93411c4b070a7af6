//! The first process of a virtual machine: makes a bare kernel into one that programs can be loaded and attached
//! in, and switches it off at the end, whatever has happened.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// The serial port that carries the report; messages of the kernel and ours share the console.
pub(crate) const REPORT: &str = "/dev/ttyS1";
/// Where the image keeps the modules, named so that the order is that of loading.
const MODULES: &str = "/modules";
/// Time until the machine goes off by itself, should whoever watches it be gone.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// File systems, by kind and place.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Runs `work` in a machine made ready for it. Never returns.
pub(crate) fn run(work: impl FnOnce() -> Result<()>) -> ! {
    thread::spawn(|| {
        thread::sleep(LIMIT);
        eprintln!("error: not done within {LIMIT:?}");
        off()
    });
    // A panic would end the first process, and with it the kernel, before its message is out.
    let work = std::panic::AssertUnwindSafe(|| make_ready().and_then(|()| work()));
    if let Ok(Err(error)) = std::panic::catch_unwind(work) {
        eprintln!("error: {error:#}");
    }
    off()
}

fn make_ready() -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).context(place)?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {place}"))?;
    }
    // Nothing else has set it; commands are looked for where the image has them.
    // SAFETY: the other thread reads no environment.
    unsafe { std::env::set_var("PATH", "/usr/sbin:/usr/bin:/sbin:/bin") };
    let mut modules = fs::read_dir(MODULES)
        .context(MODULES)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    modules.sort();
    modules.iter().try_for_each(|module| insert(module))
}

fn insert(module: &Path) -> Result<()> {
    let file = File::open(module).with_context(|| module.display().to_string())?;
    finit_module(file, &CString::default(), ModuleInitFlags::empty())
        .with_context(|| format!("inserting {}", module.display()))
}

fn off() -> ! {
    // The console is slower than we are.
    thread::sleep(Duration::from_millis(200));
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        // Then the kernel panics for want of a first process, which ends the machine as well.
        Err(error) => panic!("cannot switch off: {error}"),
    }
}
