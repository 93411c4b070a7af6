//! Network namespaces: made, entered and removed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    panic,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    net::if_::InterfaceFlags,
    sched::{CloneFlags, setns},
};

use crate::stale::{NETNS_DIR, unique_name};

/// Longest that the kernel may take to notice a carrier.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// A network namespace of our own, with its loopback device up. Gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one named `sgt-PID-N-LABEL`.
    ///
    /// # Errors
    /// When we are not root, or `ip` fails.
    pub fn new(label: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("this test makes network namespaces and needs root: run `cargo xtask test`");
        }
        let name = unique_name(label);
        let output = Command::new("ip").args(["netns", "add", &name]).output();
        let output = output.context("cannot run `ip`: run `cargo xtask setup`")?;
        if !output.status.success() {
            bail!("ip netns add {name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let namespace = Self { name };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Sockets opened there stay in
    /// the namespace wherever they are used afterwards.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let file = File::open(self.path()).expect("namespace file");
            setns(file, CloneFlags::CLONE_NEWNET).expect("setns into our namespace");
            work()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// A command that will run inside. By `nsenter`, because `ip netns exec` mounts a new /sys and
    /// hides bpffs.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs lines of `ip` commands (without the word `ip`) inside, all or an error.
    ///
    /// # Errors
    /// When a line fails; the message names it.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let output = self.run(|| -> Result<_> {
            // A child is born into the namespace of the thread that makes it.
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("cannot run `ip`: run `cargo xtask setup`")?;
            let mut stdin = child.stdin.take().context("standard input of `ip`")?;
            // It may stop reading at an error, which it then reports better than a broken pipe.
            _ = stdin.write_all(batch.as_bytes());
            drop(stdin);
            child.wait_with_output().context("waiting for `ip`")
        })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("ip in {}: {}\nbatch:\n{batch}", self.name, stderr.trim_end());
        }
        Ok(())
    }

    /// Sets kernel parameters by path below /proc/sys/net, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When one does not exist or refuses the value.
    pub fn set_parameters(&self, parameters: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (path, value) in parameters {
                let file = Path::new("/proc/sys/net").join(path);
                fs::write(&file, value).with_context(|| format!("{} = {value}", file.display()))?;
            }
            Ok(())
        })
    }

    /// Waits until every device sends. Between "up" and that the kernel takes note of the carrier in
    /// the background, and throws away what it is given to send.
    ///
    /// # Errors
    /// When one does not within some seconds.
    pub fn wait_until_running(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let idle = self.run(|| -> Result<Vec<String>> {
                let devices = nix::ifaddrs::getifaddrs().context("listing devices")?;
                let idle = devices.filter(|one| !one.flags.contains(InterfaceFlags::IFF_RUNNING));
                Ok(idle.map(|one| one.interface_name).collect())
            })?;
            if idle.is_empty() {
                return Ok(());
            }
            if started.elapsed() > READY_LIMIT {
                bail!("not running in {}: {}", self.name, idle.join(", "));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The index that a device has in here.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device_index(&self, device: &str) -> Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(device))
            .with_context(|| format!("no device {device} in {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A drop has no one to tell; the sweep of a later run tries again.
        _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
