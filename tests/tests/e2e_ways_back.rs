//! The ways back to what protected a machine: to the policy before, and to a first attach that something was in the way of.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use tests::{
    example::Side::Workload,
    lab::{self, HTTP, ONE, SSH},
    net::Net,
    process::{run, wait_until},
    scenario::{LONG, Probe::Tcp, Scenario},
    sgctl::Sgctl,
    traffic::Outcome::{Connected, TimedOut},
};

/// What was taken back because nobody confirmed it never comes back by itself, nor does a rule whose time is over stand
/// in the way of the change before it.
#[test]
fn rollback_undoes_what_somebody_did() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22), Tcp(443)])?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &ONE.replace("everybody reads", "everybody"), &[])?.ok()?;
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "1s"])?.ok()?;
    wait_until(LONG, || Ok(sgctl.number()? == 4))?;
    let told = sgctl.run(["rollback"])?.ok()?.stdout;
    ensure!(told.contains("policy 1 of 2"), "{told}");
    let http = [("client", "server", Tcp(80), Connected), ("client", "server", Tcp(22), TimedOut)];
    scenario.expect(&http)?;

    let sgctl = scenario.controller("server");
    let authorize = ["rule", "authorize", "web", "--from", "10.77.0.0/16", "--type"];
    sgctl.run([&authorize[..], &["ssh", "--timeout", "2s"]].concat())?.ok()?;
    sgctl.run([&authorize[..], &["https"]].concat())?.ok()?;
    let again = sgctl.run([&authorize[..], &["ssh"]].concat())?;
    if again.code == Some(1) {
        ensure!(again.stderr.contains("revoke it first to have another time"), "{again:?}");
    }
    let before = sgctl.number()?;
    wait_until(LONG, || Ok(sgctl.number()? > before))?;
    sgctl.run(["rollback"])?.ok()?;
    scenario.expect(&http)?;
    scenario.expect(&[("client", "server", Tcp(443), TimedOut)])
}

/// Killed when its permits are written and no state of it is: the next change, which gives the same numbers to another
/// policy, must not bring them in force.
#[test]
fn what_a_killed_change_left_is_not_the_next_ones() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22), Tcp(443)])?;
    let sgctl = scenario.controller("server");
    let path = sgctl.policy("killed.yaml", &ONE.replace(HTTP, SSH))?;
    let apply = ["apply", path.to_str().context("a path in UTF-8")?];
    // The entry of the history fits, the state is more: SIGXFSZ, setrlimit(2).
    let killed = run(&mut sgctl.wrapped(&["prlimit"], "--fsize=6000", apply), LONG)?;
    ensure!(killed.code.is_none(), "{killed:?}");
    let left = fs::read_dir(sgctl.paths().run)?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.collect();
    ensure!(left.iter().any(|name| name == "live.2.tmp"), "{left:?}");
    // A moment earlier there was nothing of it.
    fs::remove_file(sgctl.paths().run.join("live.2.tmp"))?;
    let https = "{type: https, from: [0.0.0.0/0, \"::/0\"]}";
    sgctl.with_file("apply", &ONE.replace(HTTP, https), &[])?.ok()?;
    scenario.expect(&[
        ("client", "server", Tcp(443), Connected),
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), TimedOut),
    ])
}

/// Killed at any moment, a first attach can be made again.
#[test]
fn a_first_attach_that_was_killed_is_made_again() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    let attach = ["attach", "--policy", path.to_str().context("a path in UTF-8")?];
    let started = std::time::Instant::now();
    sgctl.run(attach)?.ok()?;
    let whole = started.elapsed();
    for part in 1..11 {
        sgctl.run(["detach", "--all"])?.ok()?;
        let attaching = sgctl.start(attach)?;
        thread::sleep(whole.mul_f64(f64::from(part) / 11.0));
        drop(attaching);
        sgctl.run(attach)?.ok().with_context(|| format!("killed after {part} elevenths"))?;
        ensure!(sgctl.json(&["status"])?["devices"][0]["protected"] == true);
    }
    Ok(())
}

/// A host that comes up is protected, and what can no longer be read is kept for whoever can.
#[test]
fn a_damaged_history_keeps_no_host_unprotected() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    let attach = ["attach", "--policy", path.to_str().context("a path in UTF-8")?];
    sgctl.run(attach)?.ok()?;
    sgctl.run(["detach", "--all"])?.ok()?;
    let state = sgctl.paths().state;
    let segment = state.join("history/00000000000000000001.jsonl");
    fs::write(&segment, "garbage\n{}\n")?;
    let output = sgctl.run(attach)?.ok()?;
    ensure!(output.stderr.contains("the history begins anew"), "{output:?}");
    assert_eq!(sgctl.number()?, 1);
    let aside = state.join("history.damaged.1/00000000000000000001.jsonl");
    assert_eq!(fs::read_to_string(aside)?, "garbage\n{}\n");
    sgctl.run(["group", "create", "other"])?.ok()?;
    assert_eq!(sgctl.number()?, 2);
    Ok(())
}

/// A second device of an interface cannot be on the other side, nor is it taken for what it is not.
#[test]
fn an_interface_has_one_side() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path =
        sgctl.policy("policy.yaml", &ONE.replace(", device: to-server, side: workload", ""))?;
    let path = path.to_str().context("a path in UTF-8")?;
    let server = ["--interface", "server", "--policy", path];
    sgctl.run([&["attach", "to-server", "--side", "workload"], &server[..]].concat())?.ok()?;
    let other = sgctl.run([&["attach", "to-client", "--side", "host"], &server[..]].concat())?;
    ensure!(
        other.code == Some(1) && other.stderr.contains("one interface has one side"),
        "{other:?}"
    );
    assert_eq!(sgctl.json(&["status"])?["devices"].as_array().map(Vec::len), Some(1));
    sgctl.run([&["attach", "to-client", "--side", "workload"], &server[..]].concat())?.ok()?;
    Ok(())
}
