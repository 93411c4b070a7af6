//! Builds the BPF object that `sgctl` carries, with the toolchain that `cargo xtask setup` found or linked.

#[cfg(feature = "kernel")]
use std::process::Command;

#[cfg(feature = "kernel")]
use anyhow::{Context as _, Result};
#[cfg(feature = "kernel")]
use aya_build::{Package, Toolchain};

/// The toolchain that set-up links to Debian's compiler. It calls itself stable, so the unstable features
/// that the BPF target needs are unlocked by `RUSTC_BOOTSTRAP`.
#[cfg(feature = "kernel")]
const LINKED: &str = "sg-bpf";

#[cfg(not(feature = "kernel"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "kernel")]
fn main() -> Result<()> {
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
        [Package { name: "sg-ebpf", root_dir: "../sg-ebpf", ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
    .with_context(|| {
        format!(
            "the BPF object does not build with toolchain {toolchain:?}; run `cargo xtask setup`"
        )
    })
}

#[cfg(feature = "kernel")]
fn is_installed(toolchain: &str) -> bool {
    Command::new("rustup")
        .args(["run", toolchain, "rustc", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
