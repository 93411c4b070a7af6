//! `sgctl validate`: everything that is wrong with a policy file, at once.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::test_report::{Status, TestReport};
use super::{Exit, Format, Global, output, policy_file};
use crate::policy::model::Policy;
use crate::policy::{Diagnostics, Loaded, load, read_file};

/// Check a policy file and run its tests
///
/// Tells every error with file, line, column and a hint, then judges the file's `tests:` with the engine
/// that the kernel runs. Needs no privilege and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 fine (warnings do not count), 1 errors in the file, 3 a test failed.

Examples:
  sgctl validate web.yaml
  sgctl validate web.yaml -o json | jq -r '.diagnostics[].message'")]
pub(super) struct Arguments {
    /// The policy file
    file: PathBuf,
}

/// What `validate -o json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// The file, as it was named.
    file: String,
    /// Whether it has no error; tests apart.
    valid: bool,
    /// Errors and warnings, in the order of the file.
    diagnostics: &'a Diagnostics,
    /// The lines of `tests:`; empty when the file has errors.
    tests: Vec<TestReport>,
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    let file = &arguments.file;
    let text = read_file(file)?;
    match load(&file.display().to_string(), &text) {
        Ok(Loaded { policy, warnings }) => {
            let (policy, _) = policy_file::in_time(policy, file);
            let addresses = policy_file::device_addresses(&policy, &Default::default());
            let results = policy_file::test(&policy, &addresses)?;
            let tests = results.iter().map(|result| TestReport::new(&policy, result)).collect();
            accepted(file, &policy, &warnings, tests, global)
        }
        Err(rejected) => {
            print(file, false, &rejected.diagnostics, Vec::new(), global)?;
            eprintln!("error: {rejected}");
            Ok(Exit::Refused)
        }
    }
}

fn accepted(
    file: &Path,
    policy: &Policy,
    warnings: &Diagnostics,
    tests: Vec<TestReport>,
    global: Global,
) -> anyhow::Result<Exit> {
    let count = |status| tests.iter().filter(|test| test.status() == status).count();
    let (passed, failed) = (count(Status::Passed), count(Status::Failed));
    let skipped = count(Status::Skipped);
    print(file, true, warnings, tests, global)?;
    if failed > 0 {
        eprintln!("error: {}: {} failed", file.display(), output::count(failed, "test"));
        return Ok(Exit::No);
    }
    if global.output == Format::Text {
        output::print(&summary(file, policy, passed, skipped))?;
    }
    Ok(Exit::Yes)
}

fn summary(file: &Path, policy: &Policy, passed: usize, skipped: usize) -> String {
    let groups = policy.vpcs.iter().map(|vpc| vpc.groups.len()).sum::<usize>();
    let interfaces = policy_file::interfaces(policy).count();
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    format!(
        "{}: ok: {}, {}, {}, {} passed{skipped}\n",
        file.display(),
        output::count(policy.vpcs.len(), "VPC"),
        output::count(groups, "group"),
        output::count(interfaces, "interface"),
        output::count(passed, "test"),
    )
}

fn print(
    file: &Path,
    valid: bool,
    diagnostics: &Diagnostics,
    tests: Vec<TestReport>,
    global: Global,
) -> anyhow::Result<()> {
    if global.output == Format::Json {
        let file = file.display().to_string();
        return output::print_json(&Report { file, valid, diagnostics, tests });
    }
    let mut text = diagnostics.render(global.color.style(&io::stdout()));
    for test in tests.iter().filter(|test| test.status() != Status::Passed) {
        text += &test.text(file);
    }
    Ok(output::print(&text)?)
}
