//! A virtual machine without disk and network: a kernel, an image, two serial ports, and an end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cmd;

/// Memory: the image twice, once packed and once not, and maps of all processors.
const MEMORY: &str = "1G";
/// How much of the console is shown when something went wrong.
const LAST_LINES: usize = 60;
/// How often the machine is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// What is left of a machine.
pub(crate) struct Ended {
    /// Why it ended.
    pub(crate) how: String,
    /// What came through the second port.
    pub(crate) report: String,
    /// The end of what came through the first.
    pub(crate) last_words: String,
    /// The file with all of that.
    pub(crate) console: PathBuf,
}

/// Boots a kernel and waits for the machine to go off.
///
/// # Errors
/// When it cannot be started or watched. That it stopped early is no error here.
pub(crate) fn run(kernel: &Path, image: &Path, folder: &Path, limit: Duration) -> Result<Ended> {
    let (console, report) = (folder.join("console.log"), folder.join("report.tsv"));
    let mut qemu = cmd::command("qemu-system-x86_64");
    // Emulated, though a machine may have KVM: inside of another virtual machine that is often broken, and a
    // verifier's answer is the same. Nothing that was not asked for: no display, no disk, no network.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    for port in [&console, &report] {
        fs::write(port, "").with_context(|| port.display().to_string())?;
        // A comma in a value is written twice.
        qemu.arg("-serial").arg(format!("file:{}", port.display().to_string().replace(',', ",,")));
    }
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
    // On a busy host the emulated timer may tick too late for the kernel's check of it, which would panic.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
    cmd::announce(&qemu);
    let mut machine = Machine(qemu.spawn().context("cannot start qemu-system-x86_64")?);
    let how = machine.wait(limit)?;
    let read = |path: &Path| -> Result<String> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
    };
    let words = read(&console)?;
    let lines: Vec<&str> = words.lines().collect();
    let last_words = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Ok(Ended { how, report: read(&report)?, last_words, console })
}

/// The emulator, ended when dropped.
struct Machine(Child);

impl Machine {
    /// Waits for its end, or ends it; says which.
    fn wait(&mut self, limit: Duration) -> Result<String> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.0.try_wait().context("waiting for the machine")? {
                return Ok(format!("it went off by itself, {status}"));
            }
            thread::sleep(PAUSE);
        }
        Ok(format!("it was still running after {limit:?}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
