//! Programs of attached devices replaced by newer ones: what stays, what is refused, and that it is all or nothing.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::{
        Example,
        Side::{self, Host, Workload},
    },
    lab,
    net::{DEVICE, Net},
    netns::Namespace,
    scenario::{
        LONG,
        Probe::{Ping, Tcp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{self, Connected, TimedOut},
        tcp,
    },
};

/// The devices of `status`.
fn devices(sgctl: &Sgctl<'_>) -> Result<Vec<Value>> {
    let status = sgctl.json(&["status"])?;
    status["devices"].as_array().cloned().context("devices")
}

/// The programs in every hook of every device.
fn programs(sgctl: &Sgctl<'_>) -> Result<Vec<u64>> {
    let devices = devices(sgctl)?;
    let hooks = devices.iter().flat_map(|one| one["hooks"].as_array().into_iter().flatten());
    hooks
        .map(|hook| hook["program"].as_u64().with_context(|| format!("program of {hook}")))
        .collect()
}

fn packets(sgctl: &Sgctl<'_>) -> Result<u64> {
    let status = sgctl.json(&["status"])?;
    let counters = status["interfaces"][0]["counters"].as_array().context("counters")?.clone();
    Ok(counters.iter().filter_map(|one| one["packets"].as_u64()).sum())
}

fn connect(net: &Net, to: SocketAddr) -> Result<Outcome> {
    tcp::connect(net.host("client").ns(), None, to, SHORT)
}

/// Refused with these words, and nothing has changed.
fn refused(sgctl: &Sgctl<'_>, args: &[&str], words: &[&str]) -> Result<()> {
    let before = (devices(sgctl)?, programs(sgctl)?);
    let output = sgctl.run(args)?;
    ensure!(output.code == Some(1), "{args:?}: {output:?}");
    for word in words {
        ensure!(output.stderr.contains(word), "{args:?}: no {word:?} in {}", output.stderr);
    }
    ensure!((devices(sgctl)?, programs(sgctl)?) == before, "{args:?} has changed something");
    Ok(())
}

/// Whatever the hooks are: a connection, counters and verdicts outlive the programs that they were made by.
fn check(side: Side, options: &[&str]) -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let server = net.host("server");
    let mut clients = Vec::new();
    for address in [server.socket_v4(80), server.socket_v6(80)] {
        let client = tcp::Client::open(net.host("client").ns(), None, address, LONG)?;
        clients.push(client.ok().context("a connection")?);
    }
    let sgctl = scenario.controller("server");
    let (first, counted) = (programs(sgctl)?, packets(sgctl)?);
    let pins = pins(sgctl)?;

    // Without the file, which is in force anyway, and with it.
    let output = sgctl.run(["attach"])?.ok()?;
    ensure!(output.stdout.starts_with("upgraded "), "{output:?}");
    let second = programs(sgctl)?;
    let policy = sgctl.dir().join("policy.yaml");
    let output = sgctl.run(["attach".as_ref(), "--policy".as_ref(), policy.as_os_str()])?.ok()?;
    ensure!(output.stdout.starts_with("upgraded "), "{output:?}");
    let third = programs(sgctl)?;
    ensure!(first.iter().all(|one| !second.contains(one)), "{first:?}, then {second:?}");
    ensure!(second.iter().all(|one| !third.contains(one)), "{second:?}, then {third:?}");
    ensure!(pins == self::pins(sgctl)?, "pins came or went");
    ensure!(packets(sgctl)? >= counted, "counters began anew");
    let report = sgctl.json(&["attach"])?;
    ensure!(report[0]["done"] == "upgraded" && report[0]["protected"] == true, "{report}");

    for client in &mut clients {
        ensure!(client.exchange(LONG)? == Connected, "a connection is cut");
    }
    let flows = sgctl.json(&["flows", "--established", "--port", "80"])?;
    ensure!(flows.as_array().is_some_and(|flows| flows.len() >= 2), "{flows}");
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Tcp(81), TimedOut),
        ("client", "server", Ping, TimedOut),
    ])
}

fn pins(sgctl: &Sgctl<'_>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for version in fs::read_dir(sgctl.pins())? {
        for folder in fs::read_dir(version?.path())? {
            found.extend(fs::read_dir(folder?.path())?.flatten().map(|pin| pin.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn tcx_below_the_workload() -> Result<()> {
    check(Workload, &["--tc", "tcx"])
}

#[test]
fn clsact_below_the_workload() -> Result<()> {
    check(Workload, &["--tc", "clsact"])
}

#[test]
fn clsact_on_the_host_itself() -> Result<()> {
    check(Host, &["--tc", "clsact"])
}

#[test]
fn xdp_native() -> Result<()> {
    check(Host, &["--xdp", "native"])
}

#[test]
fn xdp_generic() -> Result<()> {
    check(Host, &["--xdp", "generic"])
}

/// What the programs are told is told anew each time.
#[test]
fn options_of_programs_take_effect() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(81)])?;
    let denied = net.host("server").socket_v4(81);
    let sgctl = scenario.controller("server");
    ensure!(connect(&net, denied)? == TimedOut);
    sgctl.run(["attach", "to-server", "--audit", "--trace", "--drop-events", "7"])?.ok()?;
    let device = devices(sgctl)?.remove(0);
    ensure!(device["audit"] == true && device["protected"] == false, "{device}");
    ensure!(device["trace"] == true && device["drop_events"] == 7, "{device}");
    ensure!(connect(&net, denied)? == Connected);
    sgctl.run(["attach", "to-server"])?.ok()?;
    let device = devices(sgctl)?.remove(0);
    ensure!(device["audit"] == false && device["protected"] == true, "{device}");
    ensure!(connect(&net, denied)? == TimedOut);
    Ok(())
}

/// What cannot be done without a gap is not done.
#[test]
fn other_hooks_sides_and_policies_are_refused() -> Result<()> {
    let net = Net::pair()?;
    let scenario =
        Scenario::attach_with(&net, &lab::one()?, Host, &["--tc", "tcx", "--xdp", "off"])?;
    let sgctl = scenario.controller("server");
    let detach = "`sgctl detach eth0` first";
    refused(sgctl, &["attach", "--xdp", "native"], &["--xdp native", "tcx-ingress", detach])?;
    refused(sgctl, &["attach", "--tc", "clsact"], &["--tc clsact", detach])?;
    refused(
        sgctl,
        &["attach", "--side", "workload"],
        &["on side host", "on side workload", detach],
    )?;
    let other = ["attach", DEVICE, "--interface", "client"];
    refused(sgctl, &other, &["as interface \"server\"", "as interface \"client\"", detach])?;
    let text = fs::read_to_string(sgctl.dir().join("policy.yaml"))?.replace("everybody", "anybody");
    let other = sgctl.policy("other.yaml", &text)?;
    let other = other.to_str().context("a path in UTF-8")?;
    refused(sgctl, &["attach", "--policy", other], &["another policy", "`sgctl apply FILE`"])?;
    // What it has is no change.
    sgctl.run(["attach", "--xdp", "off", "--tc", "tcx", "--side", "host"])?.ok()?;
    Ok(())
}

/// A third host beside client and server, all three with a device.
fn three() -> Result<(Net, Example)> {
    let net = Net::builder()
        .routed("client", &["10.77.1.1/24", "fd77:1::1/64"], &["10.77.1.10", "fd77:1::10"])
        .routed("server", &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
        .routed("third", &["10.77.3.1/24", "fd77:3::1/64"], &["10.77.3.10", "fd77:3::10"])
        .build()?;
    let third =
        "      - {name: third, addresses: [10.77.3.10], device: to-third, side: workload}\n";
    Ok((net, Example::new("three", lab::two()?.text().to_owned() + third)?))
}

fn tc(namespace: &Namespace, words: &str) -> Result<()> {
    let output = namespace.command("tc").args(words.split(' ')).output()?;
    ensure!(output.status.success(), "tc {words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn all_devices_or_none() -> Result<()> {
    let (net, example) = three()?;
    let scenario = Scenario::attach_with(&net, &example, Workload, &["--tc", "clsact"])?;
    let sgctl = scenario.controller("server");
    let names: Vec<_> = devices(sgctl)?.iter().map(|one| one["device"].clone()).collect();
    ensure!(names == ["to-server", "to-client", "to-third"], "{names:?}");
    let before = programs(sgctl)?;
    // Where `ingress` stands there is no place for clsact, and none for what leaves.
    tc(net.wire(), "qdisc del dev to-third clsact")?;
    tc(net.wire(), "qdisc add dev to-third ingress")?;

    let output = sgctl.run(["attach"])?;
    ensure!(output.code == Some(1) && output.stderr.contains("to-third"), "{output:?}");
    let after = devices(sgctl)?;
    let of = |device: &Value| -> Vec<_> {
        let hooks = device["hooks"].as_array().into_iter().flatten();
        hooks.filter_map(|hook| hook["program"].as_u64()).collect()
    };
    ensure!([of(&after[0]), of(&after[1])].concat() == before[..4], "{before:?}, then {after:?}");
    ensure!(of(&after[2]).is_empty(), "a half-attached device: {}", after[2]);
    let protected: Vec<_> = after.iter().map(|one| one["protected"] == true).collect();
    ensure!(protected == [true, true, false], "{after:?}");

    tc(net.wire(), "qdisc del dev to-third ingress")?;
    let output = sgctl.run(["attach"])?.ok()?;
    for line in ["upgraded to-server ", "upgraded to-client ", "attached to-third "] {
        ensure!(output.stdout.contains(line), "no {line:?} in {}", output.stdout);
    }
    ensure!(devices(sgctl)?.iter().all(|one| one["protected"] == true));
    Ok(())
}

/// A pinned map that is not what the programs expect is not read as if it were.
#[test]
fn maps_of_another_shape_are_refused() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let pin = pins(sgctl)?.into_iter().find(|pin| pin.ends_with("HANDS")).context("a pin")?;
    let spare = pin.with_file_name("spare");
    fs::rename(&pin, &spare)?;
    let mut bpftool = net.wire().command("bpftool");
    bpftool.args(["map", "create"]).arg(&pin);
    bpftool.args("type array key 4 value 16 entries 8 name HANDS".split(' '));
    ensure!(bpftool.output()?.status.success(), "bpftool map create");
    refused(sgctl, &["attach"], &["HANDS has ", "detach --all"])?;
    fs::remove_file(&pin)?;
    fs::rename(&spare, &pin)?;
    sgctl.run(["attach"])?.ok()?;
    Ok(())
}

/// Pins of another ABI are seen, not joined by a second set of programs, and can be taken off.
fn check_version(options: &[&str]) -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Workload, options)?;
    scenario.serve("server", &[Tcp(81)])?;
    let denied = net.host("server").socket_v4(81);
    let sgctl = scenario.controller("server");
    let ours = fs::read_dir(sgctl.pins())?.next().context("a version")??.path();
    fs::rename(&ours, ours.with_file_name("v1"))?;

    let policy = sgctl.dir().join("policy.yaml");
    let policy = policy.to_str().context("a path in UTF-8")?;
    for args in [&["attach", "--policy", policy][..], &["attach"], &["detach", "to-server"]] {
        let output = sgctl.run(args)?;
        ensure!(output.code == Some(1), "{args:?}: {output:?}");
        ensure!(output.stderr.contains("version"), "{args:?}: {output:?}");
    }
    let output = sgctl.run(["attach", "--policy", policy])?;
    for word in ["ABI 1,", "to-server", "sgctl detach --all"] {
        ensure!(output.stderr.contains(word), "no {word:?} in {}", output.stderr);
    }
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(status.stdout.contains("another version"), "{status:?}");
    ensure!(status.stdout.contains("to-server"), "{status:?}");
    let status = sgctl.json(&["status"])?;
    ensure!(status["other_versions"][0]["abi"] == 1, "{status}");
    ensure!(connect(&net, denied)? == TimedOut, "its programs are gone");

    sgctl.run(["detach", "--all"])?.ok()?;
    ensure!(connect(&net, denied)? == Connected, "its programs are still there");
    ensure!(!sgctl.pins().exists(), "its pins are still there");
    sgctl.run(["attach", "--policy", policy])?.ok()?;
    ensure!(connect(&net, denied)? == TimedOut);
    Ok(())
}

#[test]
fn another_version_by_links() -> Result<()> {
    check_version(&["--tc", "tcx"])
}

#[test]
fn another_version_by_filters() -> Result<()> {
    check_version(&["--tc", "clsact"])
}
