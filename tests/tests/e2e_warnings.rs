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
    sgctl.run(["attach", "to-client"])?.ok()?;
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
    // What counts is shown, not what the file says of its own device.
    for verb in [&["interface", "show", "server"][..], &["interface", "list"], &["status"]] {
        let shown = server.run(verb)?.ok()?.stdout;
        ensure!(shown.contains("host") && !shown.contains("workload"), "{verb:?}: {shown}");
    }
    Ok(())
}

/// The wrong side judges everything the other way round: it is neither guessed nor forgotten.
#[test]
fn a_side_is_not_turned_round_in_silence() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let silent = sgctl.policy("silent.yaml", &lab::ONE.replace(", side: workload", ""))?;
    let silent = silent.to_str().context("a path in UTF-8")?;
    let one = sgctl.policy("one.yaml", lab::ONE)?;
    let one = one.to_str().context("a path in UTF-8")?;
    let unnamed = lab::ONE.replace(", device: to-server, side: workload", "");
    let unnamed = sgctl.policy("unnamed.yaml", &unnamed)?;
    let unnamed = unnamed.to_str().context("a path in UTF-8")?;
    let as_server = ["--interface", "server", "--policy", unnamed];
    for (args, words) in [
        // The file is silent, and the device is none of the host's own.
        (vec!["attach", "--policy", silent], "looks like the host's end of a workload's"),
        // It would be forgotten with the next detach.
        (
            vec!["attach", "to-server", "--policy", silent, "--side", "workload"],
            "write `side: workload`",
        ),
        (vec!["attach", "to-server", "--policy", one, "--side", "host"], "write `side: host`"),
        ([&["attach", "to-server"], &as_server[..]].concat(), "say which it is: --side workload"),
    ] {
        let refused = sgctl.run(&args)?;
        ensure!(refused.code == Some(1) && refused.stderr.contains(words), "{args:?}: {refused:?}");
        ensure!(sgctl.run(["status"])?.ok()?.stdout.contains("nothing is attached"), "{args:?}");
    }
    let attach = [&["attach", "to-server"], &as_server[..], &["--side", "workload"]].concat();
    sgctl.run(attach)?.ok()?;
    let shown = sgctl.run(["interface", "show", "server"])?.ok()?.stdout;
    ensure!(shown.contains("side: workload"), "{shown}");
    // A policy that has the attached device on the other side would count at the next attach.
    let turned = sgctl.run(["apply", silent])?;
    ensure!(turned.code == Some(1) && turned.stderr.contains("on side workload"), "{turned:?}");
    sgctl.run(["apply", one])?.ok()?;
    sgctl.run(["detach", "to-server"])?.ok()?;
    sgctl.run(["attach", "--policy", one])?.ok()?;
    let side = sgctl.json(&["status"])?["devices"][0]["side"].clone();
    ensure!(side == "workload", "{side}");
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
