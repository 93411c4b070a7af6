//! Policy files: every file of `tests/data/policy` against a snapshot of what `load` says of it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sg_userspace::policy::model::{Endpoint, Interface, Policy, Rule, Vpc};
use sg_userspace::policy::{FileError, Style, load, load_file, schema};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policy")
}

/// Name and text of every file whose name begins with `prefix`, sorted.
fn files(prefix: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(data())
        .expect("the data directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no file {prefix}*.yaml");
    files
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("data/policy/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn bad_files_are_refused_with_all_their_errors() {
    for (name, text) in files("bad-") {
        let file = format!("{name}.yaml");
        let rejected = load(&file, &text).expect_err(&name);
        assert!(rejected.diagnostics.errors() > 0, "{name}");
        snapshot(&name, &rejected.diagnostics.render(Style::OneLine));
    }
}

#[test]
fn good_files_mean_what_they_say() {
    for (name, text) in files("good-") {
        let loaded = load(&format!("{name}.yaml"), &text)
            .unwrap_or_else(|error| panic!("{}", error.diagnostics.render(Style::OneLine)));
        let mut written = loaded.warnings.render(Style::OneLine);
        describe(&loaded.policy, &mut written).expect("text");
        snapshot(&name, &written);
    }
}

#[test]
fn styles_of_one_file() {
    let (_, text) = files("bad-duplicates").remove(0);
    let diagnostics = load("sg.yaml", &text).expect_err("bad").diagnostics;
    let graphical = Style::Graphical { color: false, width: 100 };
    snapshot("style-graphical", &diagnostics.render(graphical));
    snapshot("style-narrated", &diagnostics.render(Style::Narrated));
    let json = serde_json::to_string_pretty(&diagnostics).expect("JSON");
    snapshot("style-json", &json);
}

#[test]
fn schema_is_as_recorded_and_knows_every_key_of_the_good_files() {
    let schema = serde_json::to_string_pretty(&schema()).expect("JSON");
    for (name, text) in files("good-") {
        for line in text.lines().filter_map(|line| line.split(" #").next()) {
            for word in line.split([' ', '{', ',', '[']).filter_map(|word| word.strip_suffix(':')) {
                let is_key = word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                assert!(!is_key || schema.contains(&format!("\"{word}\"")), "{name}: {word}");
            }
        }
    }
    snapshot("schema", &schema);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    assert!(matches!(load_file(&path("missing")), Err(FileError::Read { .. })));
    assert!(matches!(load_file(directory.path()), Err(FileError::Directory(_))));
    fs::write(path("latin1"), b"vpcs: [] # \xe9").expect("written");
    assert!(matches!(load_file(&path("latin1")), Err(FileError::NotUtf8 { offset: 11, .. })));
    let large = fs::File::create(path("large")).expect("created");
    large.set_len(257 << 20).expect("sparse");
    assert!(matches!(load_file(&path("large")), Err(FileError::TooLarge(_))));
    fs::write(path("bad"), "vpcs: 1").expect("written");
    let error = load_file(&path("bad")).expect_err("bad");
    assert!(error.to_string().ends_with("bad: 1 error in the policy"), "{error}");
    fs::write(path("good"), "\u{feff}vpcs: []\r\n").expect("written");
    assert_eq!(load_file(&path("good")).expect("good").policy.vpcs, []);
}

/// A policy in a form that a person can compare with its file.
fn describe(policy: &Policy, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{:?} {:?} {:?}", policy.dialect, policy.live_flows, policy.infrastructure)?;
    for vpc in &policy.vpcs {
        writeln!(out, "vpc {} {:?} subnets {:?}", vpc.name, vpc.cidrs, vpc.subnets)?;
        for list in &vpc.prefix_lists {
            writeln!(out, "  list {} {:?} of {}", list.name, list.cidrs, list.size())?;
        }
        for group in &vpc.groups {
            writeln!(out, "  group {} {:?}", group.name, group.description)?;
            rules("in ", &group.ingress, out)?;
            rules("out", &group.egress, out)?;
        }
        for interface in &vpc.interfaces {
            describe_interface(vpc, interface, out)?;
        }
    }
    for test in &policy.tests {
        let end = |end: Endpoint| match end {
            Endpoint::Address(address) => address.to_string(),
            Endpoint::Interface { vpc, interface } => {
                policy.vpcs[vpc].interfaces[interface].name.clone()
            }
        };
        let (from, to) = (end(test.from), end(test.to));
        writeln!(out, "test {}: {from} to {to} {:?} {:?}", test.line, test.traffic, test.expect)?;
    }
    Ok(())
}

fn rules(direction: &str, rules: &[Rule], out: &mut String) -> std::fmt::Result {
    for rule in rules {
        writeln!(out, "    {direction} {:?} {:?} {:?}", rule.traffic, rule.peer, rule.description)?;
    }
    Ok(())
}

fn describe_interface(vpc: &Vpc, interface: &Interface, out: &mut String) -> std::fmt::Result {
    let groups: Vec<_> = interface.groups.iter().map(|&group| &vpc.groups[group].name).collect();
    writeln!(
        out,
        "  interface {} {:?} auto {} groups {groups:?} devices {:?} {:?} check {} mac {:?} {:?}",
        interface.name,
        interface.addresses,
        interface.auto_addresses,
        interface.devices,
        interface.side,
        interface.source_dest_check,
        interface.mac,
        interface.connection_tracking,
    )
}
