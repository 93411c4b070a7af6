//! Running other programs: one place that knows the workspace root, cargo's own bin directory and
//! how a failed command is reported.

use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Root of the workspace that this xtask belongs to.
pub(crate) fn workspace_root() -> PathBuf {
    // Asked at run time first: with a shared target directory the compiled-in path may be that of
    // another clone.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// Where `cargo install` puts programs; not always on `PATH`.
pub(crate) fn cargo_bin_dir() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin"))
}

/// A command that runs at the workspace root, finds what `cargo install` installed and what lives
/// in the `sbin` directories, and reads nothing.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace_root()).stdin(Stdio::null()).env("PATH", search_path());
    command
}

/// The cargo that runs this program, hence the toolchain that its user chose.
pub(crate) fn cargo() -> Command {
    command(&env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
}

fn search_path() -> OsString {
    let mut dirs: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    // The user's own order comes first; these are for accounts that lack them altogether.
    let extra = cargo_bin_dir().into_iter().chain(["/usr/sbin".into(), "/sbin".into()]);
    for dir in extra {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    env::join_paths(dirs).unwrap_or_else(|_| env::var_os("PATH").unwrap_or_default())
}

/// Is there a program of this name on the search path?
pub(crate) fn on_path(program: &str) -> bool {
    find(program).is_some()
}

/// Where on the search path a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Runs a command in sight of the user, printing it first.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status =
        command.status().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

/// Standard output of a command that must succeed; its messages are shown only if it does not.
///
/// # Errors
/// When it cannot be started, does not succeed or does not print text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot start `{}`", display(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", display(command), output.status, stderr.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", display(command)))
}

/// Does this command succeed? Says nothing either way.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The target that the compiler's host is.
///
/// # Errors
/// When there is no compiler to ask.
pub(crate) fn host_target() -> Result<String> {
    let version = output(command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV")?;
    Ok(host.to_owned())
}

/// Prints the command that is about to run.
pub(crate) fn announce(command: &Command) {
    eprintln!("  $ {}", display(command));
}

/// The command as a person would type it.
fn display(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
