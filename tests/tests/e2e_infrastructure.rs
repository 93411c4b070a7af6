//! What passes without a rule and who may speak, on real devices: entries that a file switches off, forged
//! ARP and neighbour discovery, duplicate address detection, addresses that follow the device.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sg_common::Direction::{self, Egress, Ingress};
use tests::{
    capture::Capture,
    case::packet::frame,
    example::{Example, Side::Workload},
    inject::Injector,
    lab,
    net::{DEVICE, Net},
    scenario::{LONG, Probe::Tcp, Scenario},
    sgctl::Sgctl,
    traffic::{Outcome::Connected, icmp},
};

/// Packets of the interface so far, by direction and reason.
fn packets(status: &Value, direction: Direction, reason: &str) -> u64 {
    let counters = status["interfaces"][0]["counters"].as_array().into_iter().flatten();
    let wanted = |one: &&Value| one["direction"] == direction.name() && one["reason"] == reason;
    counters.filter(wanted).filter_map(|one| one["packets"].as_u64()).sum()
}

/// Waits until a packet has been counted: receiving is asynchronous.
fn await_count(sgctl: &Sgctl<'_>, direction: Direction, reason: &str, wanted: u64) -> Result<()> {
    let started = Instant::now();
    loop {
        let found = packets(&sgctl.json(&["status"])?, direction, reason);
        if found == wanted {
            return Ok(());
        }
        ensure!(started.elapsed() < LONG, "{found} of {reason} instead of {wanted}");
    }
}

/// The infrastructure entries of the first interface that are on, or off.
fn entries(status: &Value, on: bool) -> Vec<&str> {
    let all = status["interfaces"][0]["infrastructure"].as_array().into_iter().flatten();
    all.filter(|one| one["on"] == on).filter_map(|one| one["name"].as_str()).collect()
}

/// Each entry has its name in the file, in `status` and in the counters, and can be taken out.
#[test]
fn each_entry_is_named_and_removable() -> Result<()> {
    // Line and reason with every entry on; with that entry off the rules decide, or no rule can.
    let told = [
        ("arp", "arp request 10.77.2.10 > 10.77.2.1", "ethertype"),
        ("dhcp", "dhcp-ask 0.0.0.0 > 255.255.255.255 len=240", "source_check"),
        ("neighbour_discovery", "ns fd77:2::10 > ff02::1:ff00:1 target=fd77:2::1", "rule"),
        ("router_discovery", "rs fe80::10 > ff02::2", "source_check"),
        ("multicast_listener", "igmp 10.77.2.10 > 224.0.0.22", "rule"),
    ];
    let net = Net::pair()?;
    let server = net.host("server");
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    for switched in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
        if let Some(index) = switched {
            let (entry, ..) = told[index];
            let text = format!("infrastructure: {{{entry}: false}}\n{}", lab::ONE);
            scenario.replace(&Example::new("lab", text)?)?;
        }
        let sgctl = scenario.controller("server");
        let status = sgctl.json(&["status"])?;
        let off: Vec<_> = switched.map(|index| told[index].0).into_iter().collect();
        assert_eq!(entries(&status, false), off);
        assert_eq!(entries(&status, true).len() + off.len(), 10, "{status}");
        let text = sgctl.run(["status"])?.ok()?.stdout;
        let expected = format!("off: {}\n", off.first().copied().unwrap_or("none"));
        assert!(text.contains(&expected), "{text}");

        let inside = Injector::open(server.ns(), DEVICE)?;
        for (index, (entry, line, otherwise)) in told.into_iter().enumerate() {
            let on = format!("infrastructure:{entry}");
            let reason = if switched == Some(index) { otherwise } else { &on };
            let before = packets(&sgctl.json(&["status"])?, Egress, reason);
            inside.send(&frame(line, Egress, Some(server.mac()))?)?;
            await_count(sgctl, Egress, reason, before + 1)
                .with_context(|| format!("{line} without {switched:?}"))?;
        }
    }
    Ok(())
}

/// What a workload forges reaches nobody on its segment, and what it needs for itself works.
#[test]
fn forgeries_reach_nobody() -> Result<()> {
    let net = Net::builder()
        .segment("lan", &["10.77.2.1/24", "fd77:2::1/64"])
        .host("server", "lan", &["10.77.2.10", "fd77:2::10"])
        .host("client", "lan", &["10.77.2.11", "fd77:2::11"])
        .build()?;
    let (server, client) = (net.host("server"), net.host("client"));
    let text = lab::ONE.replace("10.77.1.10", "10.77.2.11").replace("fd77:1::10", "fd77:2::11");
    let mut scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    scenario.serve("server", &[Tcp(80)])?;
    let mut heard = Capture::start(client.ns(), DEVICE)?;
    let inside = Injector::open(server.ns(), DEVICE)?;
    let to_all = "dmac=ff:ff:ff:ff:ff:ff";
    let to_nodes = "dmac=33:33:00:00:00:01";
    let lines = [
        format!("arp reply 10.77.2.1 > 10.77.2.11 {to_all}"),
        format!("arp request 0.0.0.0 > 10.77.2.11 {to_all}"),
        format!("arp reply 10.77.2.10 > 10.77.2.11 sha=02:00:00:00:00:99 {to_all}"),
        format!(
            "na fd77:2::1 > ff02::1 target=fd77:2::1 override tlla=02:00:00:00:00:99 {to_nodes}"
        ),
        format!("na fd77:2::10 > ff02::1 target=fd77:2::1 router override {to_nodes}"),
        format!("na fd77:2::10 > ff02::1 target=fd77:2::10 override frag=0@1 {to_nodes}"),
        format!("ns :: > ff02::1:ff00:11 target=fd77:2::11 {to_nodes}"),
        format!("ra fe80::1 > ff02::1 {to_nodes}"),
        format!("redirect fe80::1 > fd77:2::11 {to_nodes}"),
        format!(
            "icmp 10.77.2.1 > 10.77.2.11 type=5 code=1 {{ udp 10.77.2.11:1 > 203.0.113.9:2 }} {to_all}"
        ),
        format!("dhcp-answer 10.77.2.10 > 255.255.255.255 len=240 {to_all}"),
        format!("udp 10.77.2.10:4000 > 255.255.255.255:68 len=240 {to_all}"),
        format!("dhcp-answer fe80::10 > fe80::11 len=40 {to_nodes}"),
    ];
    let mut forged = Vec::new();
    for line in &lines {
        // The quotation ends a line.
        let line = match line.split_once('}') {
            Some((quoting, rest)) => line_with_quote(quoting, rest),
            None => line.clone(),
        };
        forged.push(frame(&line, Egress, Some(server.mac()))?);
    }
    for frame in &forged {
        inside.send(frame)?;
    }
    // Behind them all comes one that may pass.
    let honest =
        frame(&format!("arp reply 10.77.2.10 > 10.77.2.11 {to_all}"), Egress, Some(server.mac()))?;
    inside.send(&honest)?;
    ensure!(heard.wait_for(LONG, |seen| seen.bytes == honest)?.is_some(), "the last is missing");
    for (line, frame) in lines.iter().zip(&forged) {
        ensure!(heard.count(|seen| seen.bytes == *frame)? == 0, "arrived: {line}");
    }
    let status = scenario.controller("server").json(&["status"])?;
    let refused = packets(&status, Egress, "forged_infrastructure")
        + packets(&status, Egress, "source_check");
    ensure!(refused == u64::try_from(lines.len())?, "{refused} of {}: {status}", lines.len());
    // Neighbours still find each other, each by its own word.
    scenario.expect(&[("client", "server", Tcp(80), Connected)])
}

/// Words behind a quotation, moved before it.
fn line_with_quote(quoting: &str, rest: &str) -> String {
    quoting
        .split_once('{')
        .map_or_else(String::new, |(before, quote)| format!("{before}{rest} {{{quote}}}"))
}

/// The kernel's own duplicate address detection, of an address that is the workload's and of one that is not.
#[test]
fn a_workload_takes_its_address_into_use() -> Result<()> {
    let net = Net::pair()?;
    let server = net.host("server").ns();
    let text = lab::ONE.replace("\"fd77:2::10\"]", "\"fd77:2::10\", \"fd77:2:0:0:80::/80\"]");
    let scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    let on = [("ipv6/conf/eth0/accept_dad", "1"), ("ipv6/conf/eth0/dad_transmits", "1")];
    server.set_parameters(&on)?;
    server.ip("address add fd77:2::80:1:2:3/64 dev eth0\n")?;
    let started = Instant::now();
    loop {
        let shown = server.command("ip").args(["-6", "address", "show", "dev", DEVICE]).output()?;
        let shown = String::from_utf8(shown.stdout)?;
        ensure!(!shown.contains("dadfailed"), "{shown}");
        if !shown.contains("tentative") {
            break;
        }
        ensure!(started.elapsed() < LONG, "still tentative: {shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = scenario.controller("server").json(&["status"])?;
    ensure!(packets(&status, Egress, "infrastructure:neighbour_discovery") > 0, "{status}");
    ensure!(packets(&status, Egress, "forged_infrastructure") == 0, "{status}");
    Ok(())
}

/// All that a kernel says of itself while its device comes up is infrastructure, and none of it forged.
#[test]
fn a_workload_boots() -> Result<()> {
    let net = Net::pair()?;
    let server = net.host("server").ns();
    server.ip("link set eth0 down\naddress flush dev eth0\n")?;
    server.set_parameters(&[
        ("ipv6/conf/eth0/accept_dad", "1"),
        ("ipv6/conf/eth0/dad_transmits", "1"),
        ("ipv6/conf/eth0/accept_ra", "1"),
        ("ipv6/conf/eth0/router_solicitations", "1"),
        ("ipv6/conf/eth0/router_solicitation_delay", "0"),
    ])?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    server.ip(
        "link set eth0 up\naddress add 10.77.2.10/24 dev eth0\naddress add fd77:2::10/64 dev eth0\n",
    )?;
    let gateway = "10.77.2.1".parse()?;
    assert_eq!(icmp::ping(server, None, gateway, LONG)?, Connected);
    for entry in ["arp", "neighbour_discovery", "multicast_listener", "router_discovery"] {
        let started = Instant::now();
        while packets(&sgctl.json(&["status"])?, Egress, &format!("infrastructure:{entry}")) == 0 {
            ensure!(started.elapsed() < LONG, "no packet of {entry}: {}", sgctl.json(&["status"])?);
        }
    }
    let status = sgctl.json(&["status"])?;
    for reason in ["forged_infrastructure", "source_check", "no_rule", "malformed"] {
        ensure!(packets(&status, Egress, reason) == 0, "{reason}: {status}");
    }
    Ok(())
}

/// `addresses: auto`: at attach, and followed by the next command of any kind.
#[test]
fn addresses_follow_the_device() -> Result<()> {
    let net = Net::pair()?;
    let server = net.host("server");
    let sgctl = Sgctl::new(server.ns())?;
    let policy = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - {name: open, ingress: [{protocol: all, from: [0.0.0.0/0, "::/0"]}]}
    interfaces:
      - {name: server, addresses: auto, groups: [open], device: eth0}
"#;
    let path = sgctl.policy("auto.yaml", policy)?;
    let path = path.to_str().context("a path in UTF-8")?;
    sgctl.run(["attach", "--policy", path])?.ok()?;
    let wire = Injector::open(net.wire(), server.port())?;
    let send = |source: &str, destination: &str| {
        let line = format!("udp {source}:9 > {destination}:9");
        wire.send(&frame(&line, Ingress, Some(server.mac()))?)
    };
    // Nothing arrives from an address that the device has.
    send("10.77.2.10", "10.77.2.10")?;
    await_count(&sgctl, Ingress, "source_check", 1)?;
    send("[fd77:2::10]", "[fd77:2::10]")?;
    await_count(&sgctl, Ingress, "source_check", 2)?;
    send("10.77.2.99", "10.77.2.10")?;
    await_count(&sgctl, Ingress, "rule", 1)?;
    // The file does not have the address; the tables do.
    let explain = ["explain", "--interface", "server", "--from", "10.77.2.99", "--protocol", "47"];
    let explained = sgctl.run(explain)?.ok()?;
    ensure!(!explained.stderr.contains("warning"), "{}", explained.stderr);
    let explained = sgctl.run(explain.iter().chain(&["--local", "10.77.2.77"]))?;
    ensure!(explained.stderr.contains("10.77.2.77 is no address of"), "{}", explained.stderr);

    server.ns().ip("address add 10.77.2.98/24 dev eth0\naddress del fd77:2::10/64 dev eth0\n")?;
    let followed = sgctl.run(["status"])?.ok()?;
    ensure!(followed.stderr.contains("server has other addresses"), "{}", followed.stderr);
    send("10.77.2.98", "10.77.2.10")?;
    await_count(&sgctl, Ingress, "source_check", 3)?;
    send("10.77.2.10", "10.77.2.10")?;
    await_count(&sgctl, Ingress, "source_check", 4)?;
    send("[fd77:2::10]", "[fd77:2::11]")?;
    await_count(&sgctl, Ingress, "rule", 2)?;
    // From another namespace the device cannot be asked, and nothing is forgotten of it.
    let elsewhere = sgctl.run_in(net.wire(), ["status"])?.ok()?;
    ensure!(!elsewhere.stderr.contains("other addresses"), "{}", elsewhere.stderr);
    send("10.77.2.98", "10.77.2.10")?;
    await_count(&sgctl, Ingress, "source_check", 5)
}
