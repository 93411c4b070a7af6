//! Filters of a clsact qdisc, which is all that kernels before 6.6 have: what sgctl knows of a hook without a link.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::Side::Workload,
    lab,
    net::Net,
    scenario::{LONG, Probe::Tcp, Scenario},
    traffic::Outcome::Connected,
};

const CLSACT: [&str; 2] = ["--tc", "clsact"];

fn device(scenario: &Scenario<'_>) -> Result<Value> {
    Ok(scenario.controller("server").json(&["status"])?["devices"][0].clone())
}

/// As a link would: the program of each hook, and whether it is still there.
#[test]
fn status_knows_its_filters() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach_with(&net, &lab::one()?, Workload, &CLSACT)?;
    let before = device(&scenario)?;
    let hooks = before["hooks"].as_array().context("hooks")?;
    ensure!(hooks.len() == 2, "{before}");
    let programs: Vec<u64> = hooks.iter().filter_map(|hook| hook["program"].as_u64()).collect();
    ensure!(programs.len() == 2 && programs[0] != programs[1], "{before}");
    ensure!(before["protected"] == true, "{before}");

    // Somebody else's filter is not taken for ours, and none of ours is missed without being told.
    let port = net.host("server").port();
    let tc = |words: &str| -> Result<()> {
        let output = net.wire().command("tc").args(words.split(' ')).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    tc(&format!("filter add dev {port} egress prio 7 protocol ip u32 match u32 0 0 flowid 1:1"))?;
    ensure!(device(&scenario)? == before);
    tc(&format!("filter del dev {port} egress prio 1"))?;
    let after = device(&scenario)?;
    ensure!(after["protected"] == false, "{after}");
    let left = after["hooks"].as_array().context("hooks")?.iter();
    ensure!(left.filter(|hook| hook["program"].is_null()).count() == 1, "{after}");
    Ok(())
}

/// Which hangs on the identity of the program.
#[test]
fn trace_reads_a_filter() -> Result<()> {
    let net = Net::pair()?;
    let options = [CLSACT.as_slice(), &["--trace"]].concat();
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Workload, &options)?;
    scenario.serve("server", &[Tcp(80)])?;
    let reader = scenario.controller("server").start(["events", "-f", "--trace"])?;
    scenario.expect(&[("client", "server", Tcp(80), Connected)])?;
    let found = reader.wait_for_line(LONG, |line| {
        line.starts_with("trace to-server server ") && line.contains("ingress allow rule")
    });
    ensure!(found.is_some(), "no line of the packet that opened the connection");
    Ok(())
}
