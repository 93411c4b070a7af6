//! nftables in a namespace: rulesets checked and loaded, sets read.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::netns::Namespace;

/// Has nft read a ruleset and load nothing.
///
/// # Errors
/// With what nft does not like.
pub fn check(namespace: &Namespace, ruleset: &str) -> Result<()> {
    run(namespace, &["-c", "-f", "-"], ruleset).map(|_| ())
}

/// Loads a ruleset, all of it or nothing.
///
/// # Errors
/// With what nft does not like.
pub fn load(namespace: &Namespace, ruleset: &str) -> Result<()> {
    run(namespace, &["-f", "-"], ruleset).map(|_| ())
}

/// The elements of a set of a table of family inet, as nft's JSON has them.
///
/// # Errors
/// When there is no such set.
pub fn elements(namespace: &Namespace, table: &str, set: &str) -> Result<Vec<serde_json::Value>> {
    let listed = run(namespace, &["-j", "list", "set", "inet", table, set], "")?;
    let mut listed: serde_json::Value = serde_json::from_str(&listed)?;
    let items = listed["nftables"].as_array_mut().context("a list")?;
    let set = items.iter_mut().find(|item| item.get("set").is_some()).context("a set")?;
    // A set without elements has no list of them.
    let elements = set["set"]["elem"].as_array_mut();
    Ok(elements.map(std::mem::take).unwrap_or_default())
}

fn run(namespace: &Namespace, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = namespace
        .command("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `nft`: run `cargo xtask setup`")?;
    let mut stdin = child.stdin.take().context("standard input of `nft`")?;
    // It may stop reading at an error, which it then reports better than a broken pipe.
    _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().context("waiting for `nft`")?;
    if !output.status.success() {
        bail!(
            "nft {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
