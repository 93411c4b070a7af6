//! Builds a package for the BPF target, with the toolchain that `cargo xtask setup` found or linked. Part of the build
//! scripts of those who carry an object.

use std::process::Command;

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// The toolchain that set-up links to Debian's compiler. It calls itself stable, so the unstable features
/// that the BPF target needs are unlocked by `RUSTC_BOOTSTRAP`.
const LINKED: &str = "sg-bpf";

/// The binaries of a package, into the directory that cargo gives to the build script.
pub(crate) fn build(name: &str, root_dir: &str) -> Result<()> {
    println!("cargo:rerun-if-env-changed=SG_BPF_TOOLCHAIN");
    println!("cargo:rerun-if-changed=../sg-common/src");
    let toolchain = match std::env::var("SG_BPF_TOOLCHAIN") {
        Ok(name) => name,
        Err(_unset) if is_installed(LINKED) => LINKED.to_owned(),
        Err(_unset) => "nightly".to_owned(),
    };
    // SAFETY: a build script has one thread here.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    // Cargo shows a build script's lines as warnings, and progress is none.
    // SAFETY: likewise.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
    aya_build::build_ebpf(
        [Package { name, root_dir, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
    .with_context(|| {
        format!("{name} does not build with toolchain {toolchain:?}; run `cargo xtask setup`")
    })
}

fn is_installed(toolchain: &str) -> bool {
    Command::new("rustup")
        .args(["run", toolchain, "rustc", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
