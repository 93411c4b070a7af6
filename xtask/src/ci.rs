//! `cargo xtask ci`: what a change must pass.

use anyhow::{Context as _, Result};

use crate::{cmd, setup::toolchain, test};

/// Format, lints of the host crates, lints of the BPF crate, tests; the first failure ends it.
///
/// # Errors
/// When one of them does.
pub(crate) fn run() -> Result<()> {
    cmd::run(cmd::cargo().args(["fmt", "--all", "--check"])).context("format: run `cargo fmt`")?;
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    cmd::run(cmd::cargo().args(fuzz)).context("format: run `cargo fmt` in fuzz")?;
    cmd::run(cmd::cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]))
        .context("lints of the host crates")?;
    for (package, bins) in EBPF {
        lint_ebpf(package, bins).with_context(|| format!("lints of {package}"))?;
    }
    // Not among what `test` builds: nobody needs it to develop.
    cmd::run(cmd::cargo().args([
        "clippy",
        "--package",
        "bench",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
    .context("lints of bench")?;
    cmd::run(cmd::cargo().args(["test", "--package", "bench"])).context("tests of bench")?;
    test::run(&test::Args::default())
}

/// The packages that are BPF programs, and these.
const EBPF: [(&str, &[&str]); 2] =
    [("sg-ebpf", &["sg-ebpf"]), ("sg-bench-ebpf", &["drive", "flood", "floor"])];

/// Debian's BPF toolchain has no clippy, so two passes: clippy of the host's toolchain sees the
/// same source compiled for the host, and the compiler's own lints run on the real target.
fn lint_ebpf(package: &str, bins: &[&str]) -> Result<()> {
    let clippy = ["clippy", "--package", package, "--", "-D", "warnings"];
    let mut cargo = cmd::cargo();
    // The crate has its own panic handler and nothing to unwind with, and BPF instructions in it, which
    // take an unstable feature even where they are only looked at. In a directory of its own: the variable
    // would have the host's crates compiled anew.
    cargo.args(clippy).env("CARGO_PROFILE_DEV_PANIC", "abort").env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_TARGET_DIR", cmd::target_dir().join("xtask-lint"));
    cmd::run(&mut cargo)?;

    let toolchain = toolchain::find().context("no BPF toolchain")?;
    for bin in bins {
        let mut cargo = toolchain.command("cargo");
        cargo.args(["rustc", "--package", package, "--bin", bin, "--release"]);
        cargo.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
        // Its own directory: another compiler's output would evict the host's.
        cargo.arg("--target-dir").arg(cmd::target_dir().join("xtask-bpf"));
        cargo.args(["--", "-D", "warnings"]);
        // The flags that aya-build passes.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags());
        cmd::run(&mut cargo)?;
    }
    Ok(())
}

fn rustflags() -> String {
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    [arch.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f")
}
