//! The built `sgctl`, run inside a namespace with pins, lock and history of its own.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use sg_userspace::kernel::Paths;

use crate::{
    netns::Namespace,
    process::{self, Output, Running},
    stale::{BPFFS, unique_name},
};

/// Longest that one command may take: loading on a slow machine, verifier included.
const LIMIT: Duration = Duration::from_secs(60);

/// A controller confined to a namespace. When dropped it detaches everything and removes its pins
/// and directories; the namespace outlives it.
#[derive(Debug)]
pub struct Sgctl<'ns> {
    namespace: &'ns Namespace,
    program: PathBuf,
    /// Holds what it pins; sgctl makes it.
    pins: PathBuf,
    /// Holds its lock, its history and files of the test.
    dir: PathBuf,
}

impl<'ns> Sgctl<'ns> {
    /// Prepares the sgctl that was built with this test; nothing runs yet.
    ///
    /// # Errors
    /// When sgctl is not built, or bpffs not mounted.
    pub fn new(namespace: &'ns Namespace) -> Result<Self> {
        Self::with_program(namespace, program()?)
    }

    /// Prepares another program that takes sgctl's place, such as an older release.
    ///
    /// # Errors
    /// When bpffs is not mounted.
    pub fn with_program(namespace: &'ns Namespace, program: PathBuf) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let mounted = mounts.contains(&format!(" {BPFFS} bpf "));
        ensure!(mounted, "{BPFFS} is not mounted: run `cargo xtask setup`");
        let name = unique_name("sgctl");
        let dir = env::temp_dir().join(&name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { namespace, program, pins: Path::new(BPFFS).join(name), dir })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or hangs; its exit code is for the test to judge.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output> {
        self.run_within(LIMIT, args)
    }

    /// The same for what may take longer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_within<S: AsRef<OsStr>>(
        &self,
        limit: Duration,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        process::run(&mut self.command(args), limit)
    }

    /// Runs it in another namespace: one controller, one set of tables, devices in both.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_in<S: AsRef<OsStr>>(
        &self,
        namespace: &Namespace,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        process::run(&mut self.command_in(namespace.command(&self.program), args), LIMIT)
    }

    /// Runs it where bpffs is hidden behind another file system, as `ip netns exec` does.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_without_bpffs(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.namespace.command("unshare");
        let script = format!("mount -t tmpfs none {BPFFS} && exec \"$@\"");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&self.program);
        process::run(&mut self.command_in(command, args), LIMIT)
    }

    /// Runs it as `nobody`, who owns nothing and may do nothing.
    ///
    /// # Errors
    /// As [`Self::run`], or when the program cannot be put where nobody finds it.
    pub fn run_as_nobody<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        // The build directory may lie in a home that is closed to others.
        let program = self.dir.join("sgctl");
        // By another process: a program that is open for writing cannot be run, and what this one opens is open in
        // whatever another test starts meanwhile.
        let copy = process::run(Command::new("cp").arg(&self.program).arg(&program), LIMIT);
        copy?.ok().context("copying sgctl")?;
        let mut command = self.namespace.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
        process::run(&mut self.command_in(command, args), LIMIT)
    }

    /// What it prints with `-o json`.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let output = self.run(args.iter().chain(&["-o", "json"]))?.ok()?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("{args:?} printed {}", output.stdout))
    }

    /// Number in the history of the policy in force.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn number(&self) -> Result<u64> {
        self.json(&["status"])?["number"].as_u64().context("a number")
    }

    /// A command that is started by another program, which finds `argument` before it.
    pub fn wrapped<S: AsRef<OsStr>>(
        &self,
        wrapper: &[&str],
        argument: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.namespace.command(wrapper[0]);
        command.args(&wrapper[1..]).arg(argument).arg(&self.program);
        self.command_in(command, args)
    }

    /// Starts one that goes on, such as `events -f`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Running> {
        Running::start(&mut self.command(args))
    }

    /// Writes a policy file and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn policy(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Runs a verb on a policy file with this text, such as `apply`.
    ///
    /// # Errors
    /// When the file cannot be written, and as [`Self::run`].
    pub fn with_file(&self, verb: &str, text: &str, options: &[&str]) -> Result<Output> {
        let path = self.policy("next.yaml", text)?;
        let path = path.to_str().context("a path in UTF-8")?;
        self.run([verb, path].iter().chain(options))
    }

    /// Where everything of it is, for the library that it is made of.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths { bpffs: self.pins.clone(), run: self.dir.join("run"), state: self.dir.join("state") }
    }

    /// The process that keeps its deadlines, as its lock names it.
    ///
    /// # Errors
    /// When there has been none.
    pub fn keeper(&self) -> Result<Pid> {
        let holder = fs::read_to_string(self.paths().keeper_lock()).context("the keeper's lock")?;
        Ok(Pid::from_raw(holder.trim().parse()?))
    }

    /// Where its pins are.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The directory of this test's files, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_in(self.namespace.command(&self.program), args)
    }

    fn command_in<S: AsRef<OsStr>>(
        &self,
        mut command: Command,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        command.args(args);
        let Paths { bpffs, run, state } = self.paths();
        command.env("SG_BPFFS", bpffs).env("SG_RUN", run).env("SG_STATE", state);
        command
    }
}

impl Drop for Sgctl<'_> {
    fn drop(&mut self) {
        // Whatever it answers, the pins go, and with the last pin the programs.
        if self.pins.exists() {
            _ = self.run(["detach", "--all"]);
            _ = fs::remove_dir_all(&self.pins);
        }
        _ = fs::remove_dir_all(&self.dir);
    }
}

/// Beside this binary, or for a test, which lies in `deps`, one directory up.
fn program() -> Result<PathBuf> {
    let this = env::current_exe().context("path of this binary")?;
    let found =
        this.ancestors().skip(1).take(2).map(|dir| dir.join("sgctl")).find(|it| it.is_file());
    found.with_context(|| {
        format!(
            "sgctl is not built beside {}: run `cargo xtask test`, or `cargo build` before `cargo test`",
            this.display()
        )
    })
}
