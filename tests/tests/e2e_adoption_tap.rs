//! What is open behind a tap, whose sockets nobody can ask: learnt from its packets in the grace time, or
//! known to connection tracking.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    netns::Namespace,
    scenario::{LONG, SHORT},
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, Stalled, TimedOut},
        tcp,
    },
    tun::Cable,
};

/// A connection over which data has gone both ways.
fn connect(namespace: &Namespace, to: SocketAddr) -> Result<tcp::Client> {
    let opened = tcp::Client::open(namespace, None, to, LONG)?;
    let mut opened = opened.ok().with_context(|| format!("a connection to {to}"))?;
    ensure!(opened.exchange(LONG)? == Connected, "no answer from {to}");
    Ok(opened)
}

/// The flows as `flows` lists them.
fn flows(sgctl: &Sgctl<'_>) -> Result<Vec<Value>> {
    let listed = sgctl.json(&["flows"])?;
    Ok(listed.as_array().context("a list")?.clone())
}

/// A workload whose sockets nobody can ask.
const TAP: &str = r#"vpcs:
  - name: lab
    cidrs: [10.79.0.0/16]
    security_groups: [{name: closed, egress: []}]
    interfaces: [{name: vm, addresses: [10.79.0.2], groups: [closed], device: tun0, side: workload}]
"#;

#[test]
fn behind_a_tap_flows_are_learnt_in_the_grace_time() -> Result<()> {
    let (carrier, vm) = (Namespace::new("carrier")?, Namespace::new("vm")?);
    let _cable = Cable::between([(&carrier, &["10.79.0.9/24"]), (&vm, &["10.79.0.2/24"])])?;
    let (at_carrier, at_vm): (SocketAddr, SocketAddr) =
        ("10.79.0.9:81".parse()?, "10.79.0.2:80".parse()?);
    let _servers = [tcp::Server::start(&carrier, at_carrier)?, tcp::Server::start(&vm, at_vm)?];
    let mut spoken = [connect(&vm, at_carrier)?, connect(&carrier, at_vm)?];
    let mut silent = [connect(&vm, at_carrier)?, connect(&carrier, at_vm)?];
    let sgctl = Sgctl::new(&carrier)?;
    let path = sgctl.policy("tap.yaml", TAP)?;
    let attach = ["attach", "--policy", path.to_str().context("a path in UTF-8")?];

    let output = sgctl.run(attach.iter().chain(&["--grace", "5m"]))?.ok()?;
    ensure!(output.stderr.contains("learning what is open for 300 s"), "{}", output.stderr);
    let device = sgctl.json(&["status"])?["devices"][0].clone();
    ensure!(device["grace_left"].as_u64().is_some_and(|left| left > 0), "{device}");
    ensure!(sgctl.run(["status"])?.ok()?.stdout.contains("s left"));
    for connection in &mut spoken {
        assert_eq!(connection.exchange(LONG)?, Connected);
    }
    let learnt = flows(&sgctl)?;
    assert_eq!(learnt.len(), 2, "{learnt:?}");
    assert!(learnt.iter().all(|flow| flow["adopted"] == true && flow["established"] == true));
    // What is new is judged by the rules all the same.
    assert_eq!(tcp::connect(&carrier, None, at_vm, SHORT)?, TimedOut);
    assert_eq!(tcp::connect(&vm, None, at_carrier, SHORT)?, TimedOut);
    sgctl.run(["detach", "--all"])?.ok()?;

    // Without it, the same connections end here, and a word says so.
    let output = sgctl.run(attach)?.ok()?;
    ensure!(output.stderr.contains("--grace 30s"), "{}", output.stderr);
    for connection in spoken.iter_mut().chain(&mut silent) {
        assert_eq!(connection.exchange(SHORT)?, Stalled);
    }
    Ok(())
}

#[test]
fn what_is_learnt_outlives_the_grace_time() -> Result<()> {
    let (carrier, vm) = (Namespace::new("carrier")?, Namespace::new("vm")?);
    let _cable = Cable::between([(&carrier, &["10.79.0.9/24"]), (&vm, &["10.79.0.2/24"])])?;
    let at_vm: SocketAddr = "10.79.0.2:80".parse()?;
    let _server = tcp::Server::start(&vm, at_vm)?;
    let (mut spoken, mut silent) = (connect(&carrier, at_vm)?, connect(&carrier, at_vm)?);
    let sgctl = Sgctl::new(&carrier)?;
    let path = sgctl.policy("tap.yaml", TAP)?;
    let path = path.to_str().context("a path in UTF-8")?;
    // Long enough for the verifier on a machine that is busy: it begins before the programs are loaded.
    sgctl.run(["attach", "--policy", path, "--grace", "15s"])?.ok()?;
    assert_eq!(spoken.exchange(LONG)?, Connected);
    let end = Instant::now() + LONG + Duration::from_secs(15);
    while !sgctl.json(&["status"])?["devices"][0]["grace_left"].is_null() {
        ensure!(Instant::now() < end, "the grace time has no end");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(spoken.exchange(LONG)?, Connected);
    assert_eq!(silent.exchange(SHORT)?, Stalled);
    Ok(())
}

/// Nor need a tap's flows be learnt where this host tracks what it forwards.
#[test]
fn what_connection_tracking_knows_is_adopted_behind_a_tap() -> Result<()> {
    let (carrier, vm) = (Namespace::new("carrier")?, Namespace::new("vm")?);
    let _cable = Cable::between([(&carrier, &["10.79.0.9/24"]), (&vm, &["10.79.0.2/24"])])?;
    let nft = carrier.command("nft").arg("add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state established accept").output()?;
    ensure!(nft.status.success(), "nft: {}", String::from_utf8_lossy(&nft.stderr));
    let (at_carrier, at_vm): (SocketAddr, SocketAddr) =
        ("10.79.0.9:81".parse()?, "10.79.0.2:80".parse()?);
    let _servers = [tcp::Server::start(&carrier, at_carrier)?, tcp::Server::start(&vm, at_vm)?];
    let mut open = [connect(&vm, at_carrier)?, connect(&carrier, at_vm)?];
    let sgctl = Sgctl::new(&carrier)?;
    let path = sgctl.policy("tap.yaml", TAP)?;
    let path = path.to_str().context("a path in UTF-8")?;
    let output = sgctl.run(["attach", "--policy", path])?.ok()?;
    ensure!(output.stderr.contains("adopted 2 flows (2 tcp, 0 udp)"), "{}", output.stderr);
    for connection in &mut open {
        assert_eq!(connection.exchange(LONG)?, Connected);
    }
    assert_eq!(tcp::connect(&carrier, None, at_vm, SHORT)?, TimedOut);
    Ok(())
}
