//! bpf-linker, which turns the compiler's LLVM bitcode into one BPF object.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{already, doing, toolchain::Toolchain};
use crate::cmd;

/// Pinned: the linker decides what reaches the verifier, so it changes when we say so. 0.13 is the
/// one whose features include LLVM 22, that of Debian's compiler.
const VERSION: &str = "0.13.0";

/// Is the pinned version there, and does it start (its LLVM library may have gone)?
pub(crate) fn is_present() -> bool {
    cmd::output(cmd::command("bpf-linker").arg("--version"))
        .is_ok_and(|version| version.split_whitespace().nth(1) == Some(VERSION))
}

/// Compiles and installs the linker for the LLVM of the toolchain that it will serve.
///
/// # Errors
/// When it does not compile, or another version hides it.
pub(crate) fn ensure(toolchain: &Toolchain) -> Result<()> {
    if is_present() {
        already(&format!("bpf-linker {VERSION}"));
        return Ok(());
    }
    let llvm = toolchain.llvm_major()?;
    doing(&format!("compiling bpf-linker {VERSION} for LLVM {llvm}: a minute or two"));
    let mut cargo = cmd::cargo();
    cargo.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"]);
    cargo.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    // Debian keeps versions side by side; elsewhere the build asks llvm-config.
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if prefix.is_dir() {
        cargo.env("LLVM_PREFIX", prefix);
    }
    // Its artefacts are of no use afterwards; cargo then builds in a directory that it removes.
    cargo.env_remove("CARGO_TARGET_DIR");
    cmd::run(&mut cargo).with_context(|| {
        format!("install the development files of LLVM {llvm} (Debian: llvm-{llvm}-dev)")
    })?;
    if !is_present() {
        bail!(
            "bpf-linker {VERSION} is installed but another one comes first on PATH; remove it or \
             put cargo's bin directory first"
        );
    }
    Ok(())
}
