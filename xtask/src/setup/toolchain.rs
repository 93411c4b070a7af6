//! The Rust toolchain that compiles for the BPF target.
//!
//! That target has no prebuilt core, so it takes core's source and `-Z build-std`, which a stable
//! toolchain from rustup refuses. Whichever is there is used: one that the user names, Debian's
//! packaged rustc linked into rustup as `sg-bpf` (its stable compiler unlocked by
//! `RUSTC_BOOTSTRAP=1`), or rustup's nightly. The order is that of sg-userspace's build script.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{already, doing};
use crate::cmd;

/// Names the toolchain to use, whatever else is there.
const OVERRIDE: &str = "SG_BPF_TOOLCHAIN";
/// The name under which Debian's rustc is linked into rustup.
const LINKED: &str = "sg-bpf";
/// Where Debian's rustc-web and cargo-web live.
const DEBIAN_PREFIX: &str = "/usr";
/// Oldest minor version of Rust 1 that compiles this workspace.
const OLDEST_MINOR: u32 = 95;

/// A toolchain by its rustup name.
pub(crate) struct Toolchain(String);

impl Toolchain {
    /// A command that runs a program of this toolchain.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = cmd::command("rustup");
        command.args(["run", &self.0, program]).env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// Its rustup name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The major version of its LLVM: bpf-linker reads bitcode of that version or older.
    pub(crate) fn llvm_major(&self) -> Result<u32> {
        let version = cmd::output(self.command("rustc").arg("-vV"))?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        llvm.and_then(|llvm| llvm.split('.').next()?.parse().ok())
            .with_context(|| format!("`rustc -vV` of {} names no LLVM version", self.0))
    }

    /// Can it build core? True only with core's source beside the compiler.
    fn has_core_source(&self) -> bool {
        let sysroot = cmd::output(self.command("rustc").args(["--print", "sysroot"]));
        sysroot.is_ok_and(|sysroot| core_source(Path::new(sysroot.trim())))
    }
}

fn core_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

/// The toolchain that builds will use, if there is a usable one.
pub(crate) fn find() -> Option<Toolchain> {
    if let Ok(name) = env::var(OVERRIDE) {
        return Some(Toolchain(name));
    }
    // Asked before use: `rustup run` may set out to download a toolchain it does not have.
    let installed = cmd::output(cmd::command("rustup").args(["toolchain", "list"])).ok()?;
    let is_installed = |name: &str| {
        let mut names = installed.lines().filter_map(|line| line.split_whitespace().next());
        names.any(|listed| listed == name || listed.strip_prefix(name).is_some_and(is_host_suffix))
    };
    [LINKED, "nightly"]
        .into_iter()
        .filter(|name| is_installed(name))
        .map(|name| Toolchain(name.to_owned()))
        .find(Toolchain::has_core_source)
}

/// Is this what rustup puts behind `nightly`, such as `-x86_64-unknown-linux-gnu`? Not a date.
fn is_host_suffix(suffix: &str) -> bool {
    suffix.strip_prefix('-').is_some_and(|rest| rest.starts_with(env::consts::ARCH))
}

/// Finds a toolchain, or makes one available.
///
/// # Errors
/// When there is no rustup, or none of the ways to a toolchain works.
pub(crate) fn ensure() -> Result<Toolchain> {
    if let Some(found) = find() {
        already(&format!("BPF toolchain {}", found.name()));
        return Ok(found);
    }
    if !cmd::on_path("rustup") {
        bail!("no rustup: install Rust through rustup, as README.md says");
    }
    if debian_toolchain_is_usable() {
        doing(&format!("linking {DEBIAN_PREFIX} into rustup as {LINKED}"));
        cmd::run(cmd::command("rustup").args(["toolchain", "link", LINKED, DEBIAN_PREFIX]))?;
    } else {
        doing("installing a nightly toolchain with core's source");
        let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
        cmd::run(cmd::command("rustup").args(install).args(["--component", "rust-src"])).context(
            "no packaged toolchain (rustc-web, cargo-web, rust-web-src) and no nightly either; \
             install one of them, or name one that has rust-src in SG_BPF_TOOLCHAIN",
        )?;
    }
    find().context("the toolchain just set up is not usable: see `rustup toolchain list`")
}

/// Debian 12 also has a rustc from 2022 under the same path, so the version counts.
fn debian_toolchain_is_usable() -> bool {
    let rustc = format!("{DEBIAN_PREFIX}/bin/rustc");
    let minor = cmd::output(cmd::command(&rustc).arg("--version"))
        .ok()
        .and_then(|version| version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok());
    minor.is_some_and(|minor: u32| minor >= OLDEST_MINOR) && core_source(Path::new(DEBIAN_PREFIX))
}

/// The formatter and the linter of the host toolchain: a minimal rustup profile has neither.
///
/// # Errors
/// When one is missing and rustup cannot add it.
pub(crate) fn host_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if cmd::succeeds(cmd::cargo().args([subcommand, "--version"])) {
            already(component);
        } else {
            doing(&format!("adding {component} to the host toolchain"));
            cmd::run(cmd::command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}
