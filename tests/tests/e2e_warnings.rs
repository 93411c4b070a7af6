//! What status, attach and export say of devices and addresses that are not as the policy has them.

use anyhow::{Context as _, Result, ensure};
use tests::{
    lab,
    net::{DEVICE, Net},
    sgctl::Sgctl,
};

#[test]
fn wrong_sides_and_unattached_devices_are_told() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let policy = sgctl.policy("two.yaml", lab::two()?.text())?;
    let policy = policy.to_str().context("a path in UTF-8")?;
    let right = sgctl.run(["attach", "to-server", "--policy", policy])?.ok()?;
    ensure!(!right.stderr.contains("--side"), "{right:?}");
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(status.stderr.contains("to-client is interface client's device"), "{status:?}");
    ensure!(status.stdout.contains("10.77.2.10, fd77:2::10"), "{status:?}");
    let addresses = sgctl.json(&["status"])?["interfaces"][0]["addresses"].clone();
    ensure!(addresses == serde_json::json!(["10.77.2.10", "fd77:2::10"]), "{addresses}");
    let wrong = sgctl.run(["attach", "to-client", "--side", "host"])?.ok()?;
    ensure!(wrong.stderr.contains("it is --side workload"), "{wrong:?}");
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(!status.stderr.contains("is not attached"), "{status:?}");

    let server = Sgctl::new(net.host("server").ns())?;
    let policy = server.policy("one.yaml", lab::ONE)?;
    let policy = policy.to_str().context("a path in UTF-8")?;
    let args = ["attach", DEVICE, "--interface", "server", "--policy", policy, "--side"];
    let wrong = server.run(args.iter().chain(&["workload"]))?.ok()?;
    ensure!(wrong.stderr.contains("is it --side host?"), "{wrong:?}");
    server.run(["detach", DEVICE])?.ok()?;
    let right = server.run(args.iter().chain(&["host"]))?.ok()?;
    ensure!(!right.stderr.contains("--side"), "{right:?}");
    Ok(())
}

/// An interface whose addresses nobody here knows is not worked out in silence.
#[test]
fn unknown_addresses_are_told() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let text = lab::ONE.replace("addresses: [10.77.2.10, \"fd77:2::10\"]", "addresses: auto");
    let text = text.replace("device: to-server, side: workload", "device: nowhere0");
    let policy = sgctl.policy("auto.yaml", &text)?;
    let policy = policy.to_str().context("a path in UTF-8")?;
    let exported = sgctl.run(["export", "nft", "--policy", policy])?;
    let warning = "interface server has `addresses: auto` and has no device here";
    ensure!(exported.stderr.contains(warning), "{exported:?}");
    Ok(())
}
