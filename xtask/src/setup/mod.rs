//! `cargo xtask setup`: from a Debian 12 with a stable Rust toolchain and a C linker to a machine
//! that builds and tests this workspace.
//!
//! Every step looks first and acts only on what is missing, so that running it again costs a
//! second; every other subcommand runs it.

mod host;
mod linker;
pub(crate) mod packages;
pub(crate) mod toolchain;

use anyhow::{Context as _, Result};

use crate::privilege::Privilege;

/// Runs every step in order.
///
/// # Errors
/// At the first step that fails, with what its user can do about it.
pub(crate) fn run() -> Result<()> {
    let privilege = Privilege::detect();
    toolchain::host_components().context("setup: components of the host toolchain")?;
    packages::ensure(&wanted_packages(), privilege).context("setup: packages")?;
    let toolchain = toolchain::ensure().context("setup: BPF toolchain")?;
    linker::ensure(&toolchain).context("setup: BPF linker")?;
    host::mount_bpffs(privilege).context("setup: bpffs")?;
    host::check_kernel();
    Ok(())
}

/// What only the attack suite runs; no other subcommand has to wait for it.
///
/// # Errors
/// When a package is missing and cannot be installed.
pub(crate) fn attack_tools(privilege: Privilege) -> Result<()> {
    packages::ensure(&packages::ATTACK_TOOLS, privilege).context("setup: tools of the attack suite")
}

/// What only the benchmarks of packets run.
///
/// # Errors
/// When a package is missing and cannot be installed.
pub(crate) fn bench_tools(privilege: Privilege) -> Result<()> {
    packages::ensure(&packages::BENCH_TOOLS, privilege).context("setup: tools of the benchmarks")
}

/// The large packages are wanted only while what they serve is not there yet: a machine with a
/// nightly toolchain, say, needs no second compiler.
fn wanted_packages() -> Vec<packages::Package> {
    let mut wanted = packages::TOOLS.to_vec();
    if toolchain::find().is_none() {
        wanted.extend(packages::BPF_TOOLCHAIN);
    }
    if !linker::is_present() {
        wanted.extend(packages::BPF_LINKER);
    }
    wanted
}

/// Reports a step that had nothing to do.
fn already(what: &str) {
    eprintln!("ok: {what} already present");
}

/// Reports a step that is about to act.
fn doing(what: &str) {
    eprintln!("setup: {what}");
}

/// Reports what does not stop the set-up but will be felt later.
fn warn(what: &str) {
    eprintln!("warning: {what}");
}
