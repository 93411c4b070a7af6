//! What sgctl refuses: with the right exit code, one error that says how to mend it, and nothing done.

use anyhow::{Context as _, Result, ensure};
use tests::{
    lab::{self, ONE},
    net::Net,
    process::Output,
    sgctl::Sgctl,
};

/// What is wrong with a policy, and words that the messages must hold.
const POLICIES: &[(&str, &str, &str, &[&str])] = &[
    (
        "unknown key",
        "ingress:",
        "ingres:",
        &["policy.yaml:6:", "ingres", "did you mean `ingress`?"],
    ),
    (
        "impossible CIDR",
        "[0.0.0.0/0, \"::/0\"], description",
        "[10.0.0.0/33, \"::/0\"], description",
        &["policy.yaml:7:", "10.0.0.0/33"],
    ),
    (
        "no such group",
        "groups: [web]",
        "groups: [wbe]",
        &["InvalidGroup.NotFound", "did you mean `web`?"],
    ),
    ("address outside", "10.77.2.10", "10.78.2.10", &["10.78.2.10", "CIDR blocks of the VPC"]),
    ("missing device", "device: to-server", "device: to-nobody", &["to-nobody", "there are: "]),
    (
        "failing test",
        "    interfaces:",
        "tests: [{from: client, to: server, type: ssh, expect: allow}]\n    interfaces:",
        &["expected allow, got drop", "nothing was attached"],
    ),
    (
        "no device at all",
        ", device: to-server, side: workload",
        "",
        &["names a device", "sgctl attach DEVICE"],
    ),
];

/// How the command line is wrong.
const COMMAND_LINES: &[(&[&str], i32, &[&str])] = &[
    (&["attach", "nodev0", "--policy", "POLICY"], 1, &["nodev0"]),
    (
        &["attach", "nodev0", "--interface", "server", "--policy", "POLICY"],
        1,
        &["nodev0", "there are: "],
    ),
    (
        &["attach", "to-server", "--interface", "sever", "--policy", "POLICY"],
        1,
        &["no interface \"sever\"", "it has: server, client"],
    ),
    (&["attach", "--policy", "/no/such/file.yaml"], 1, &["/no/such/file.yaml", "No such file"]),
    (&["attach", "--policy", "POLICY", "--xdp", "native"], 1, &["--xdp off or leave it out"]),
    (&["attach", "--policy", "POLICY", "--max-permits", "1"], 1, &["--max-permits", "room for 1"]),
    (&["detach", "to-server"], 1, &["nothing is attached", "sgctl attach"]),
    (&["events"], 1, &["nothing is attached"]),
    (&["attach"], 1, &["nothing is attached", "--policy FILE"]),
    (&["attach", "--policy", "POLICY", "--xdp", "sideways"], 2, &["sideways", "native"]),
    (&["attach", "--interface", "server", "--policy", "POLICY"], 2, &["DEVICE"]),
    (&["detach"], 2, &["DEVICE"]),
    (&["detach", "to-server", "--all"], 2, &["--all"]),
    (&["frobnicate"], 2, &["frobnicate"]),
    (&[], 2, &["Usage"]),
];

/// Refused so, in one error, and nothing is left of it.
fn check(sgctl: &Sgctl<'_>, what: &str, output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let Output { stdout, stderr, .. } = output;
    ensure!(output.code == Some(code), "{what}: code {:?}, {stdout}{stderr}", output.code);
    for word in words {
        ensure!(stderr.contains(word), "{what}: no {word:?} in:\n{stderr}");
    }
    ensure!(stdout.is_empty(), "{what}: printed {stdout}");
    ensure!(!stderr.contains("panicked"), "{what}: {stderr}");
    if code == 1 {
        let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        ensure!(errors == 1, "{what}: {errors} errors in:\n{stderr}");
    }
    ensure!(!sgctl.pins().exists(), "{what}: {} is left", sgctl.pins().display());
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(status.stdout == "nothing is attached\n", "{what}: {}", status.stdout);
    let history = sgctl.json(&["history"])?;
    ensure!(history == serde_json::json!([]), "{what}: {history}");
    Ok(())
}

#[test]
fn policies() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    for (what, before, after, words) in POLICIES {
        assert!(ONE.contains(before), "{what}: no {before:?} to replace");
        // `tests:` stands at the end and without indentation.
        let mut text = ONE.replacen(before, after, 1);
        if let Some(tests) = text.lines().find(|line| line.starts_with("tests:")) {
            let tests = tests.to_owned();
            text = text.replace(&format!("{tests}\n"), "") + &tests + "\n";
        }
        let path = sgctl.policy("policy.yaml", &text)?;
        let output = sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?;
        check(&sgctl, what, &output, 1, words)?;
    }
    Ok(())
}

#[test]
fn command_lines() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let two = sgctl.policy("policy.yaml", ONE)?;
    let two = two.to_str().context("a path in UTF-8")?;
    for (args, code, words) in COMMAND_LINES {
        let args = args.iter().map(|arg| if *arg == "POLICY" { two } else { arg });
        let what = args.clone().collect::<Vec<_>>().join(" ");
        check(&sgctl, &what, &sgctl.run(args)?, *code, words)?;
    }
    Ok(())
}

#[test]
fn nobody() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    let policy = path.to_str().context("a path in UTF-8")?;
    for args in
        [&["attach", "--policy", policy][..], &["detach", "--all"], &["status"], &["events", "-f"]]
    {
        let output = sgctl.run_as_nobody(args)?;
        check(&sgctl, &args.join(" "), &output, 1, &["needs root", "try sudo"])?;
    }
    // What changes nothing needs nothing.
    sgctl.run_as_nobody(["validate", policy])?.ok()?;
    Ok(())
}

/// All devices or none: the first is not under the policy when the second is missing.
#[test]
fn a_missing_second_device_attaches_none() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let text = lab::two()?.text().replace("to-client", "to-nobody");
    let path = sgctl.policy("policy.yaml", &text)?;
    let output = sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?;
    check(&sgctl, "second device", &output, 1, &["to-nobody"])
}

/// Pins that cannot be seen are not taken for none.
#[test]
fn hidden_pins_are_no_empty_table() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    let policy = path.to_str().context("a path in UTF-8")?;
    sgctl.run(["attach", "--policy", policy])?.ok()?;
    for args in [&["status"][..], &["detach", "--all"], &["detach", "to-server"], &["events"]] {
        let output = sgctl.run_without_bpffs(args)?;
        ensure!(output.code == Some(1), "{args:?}: {:?}, {}", output.code, output.stdout);
        ensure!(output.stderr.contains("mount -t bpf"), "{args:?}: {}", output.stderr);
    }
    let status = sgctl.json(&["status"])?;
    ensure!(status["devices"][0]["protected"] == true, "{status}");
    sgctl.run(["detach", "--all"])?.ok()?;
    Ok(())
}

/// What is in force stays so, whatever is refused beside it.
#[test]
fn refused_beside_what_is_in_force() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    let policy = path.to_str().context("a path in UTF-8")?;
    let another = sgctl.policy("another.yaml", &ONE.replace("type: http", "type: https"))?;
    let another = another.to_str().context("a path in UTF-8")?;
    let missing = sgctl.policy("missing.yaml", &ONE.replace("to-server", "to-nobody"))?;
    let missing = missing.to_str().context("a path in UTF-8")?;
    sgctl.run(["attach", "--policy", policy])?.ok()?;
    let before = sgctl.json(&["status"])?;
    for (args, words) in [
        (
            &["attach", "--policy", policy, "--tc", "clsact"][..],
            &["attached already", "`sgctl detach to-server` first"][..],
        ),
        (
            &["attach", "to-server", "--interface", "client", "--policy", policy],
            &["attached already", "as interface \"server\""],
        ),
        (
            &["attach", "to-client", "--interface", "client", "--policy", another],
            &["another policy is in force on to-server"],
        ),
        (&["attach", "--policy", missing], &["to-nobody"]),
        // Refused at the hook, when the policy for both devices is in the tables.
        (
            &[
                "attach",
                "to-client",
                "--interface",
                "client",
                "--side",
                "workload",
                "--xdp",
                "native",
            ],
            &["--xdp off or leave it out"],
        ),
        (&["detach", "to-client"], &["to-client is not attached", "(attached: to-server)"]),
    ] {
        let output = sgctl.run(args)?;
        assert_eq!(output.code, Some(1), "{args:?}: {}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{args:?}: no {word:?} in:\n{}", output.stderr);
        }
        let after = sgctl.json(&["status"])?;
        assert_eq!(after["devices"], before["devices"], "{args:?}");
        assert_eq!(after["policy"], before["policy"], "{args:?}");
        assert_eq!(after["tables"], before["tables"], "{args:?}");
        assert!(!output.stderr.contains("by force"), "{args:?}: {}", output.stderr);
    }
    let edited = sgctl.run(["group", "create", "afterwards"])?.ok()?;
    assert_eq!(edited.stderr, "", "it found everything in order");
    Ok(())
}
