//! `sgctl flows flush`: live flows are forgotten, those that are meant and no others, beside packets.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use sg_common::Direction;
use sg_userspace::kernel::read;
use tests::{
    case::packet::frame,
    example::{Example, Side::Workload},
    inject::Injector,
    net::{DEVICE, Net},
    scenario::{
        LONG,
        Probe::{Tcp, Udp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    traffic::{Outcome::Connected, tcp, udp},
};

/// Nothing may be sent by the server of itself, so that only a rule for what arrives opens anything.
const POLICY: &str = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    prefix_lists: [{name: old, cidrs: ["fd77:1::/64"]}]
    security_groups:
      - name: web
        ingress:
          - {type: http, from: {group: clients}}
          - {type: dns-udp, from: {group: clients}}
          - {protocol: tcp, ports: 81, from: {group: clients}}
        egress: []
      - name: clients
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [web], device: to-server, side: workload}
      - {name: client, addresses: [10.77.1.10, "fd77:1::10"], groups: [clients]}
"#;

/// What the policy says before its rules for http and DNS go.
const GOING: &str = "          - {type: http, from: {group: clients}}
          - {type: dns-udp, from: {group: clients}}
";

/// One live flow of each kind.
struct Flows {
    tcp: Vec<tcp::Client>,
    udp: Vec<udp::Client>,
}

impl Flows {
    /// To http, to tcp/81 and to DNS, over each family.
    fn open(net: &Net) -> Result<Self> {
        let (client, server) = (net.host("client").ns(), net.host("server"));
        let mut flows = Self { tcp: Vec::new(), udp: Vec::new() };
        for port in [80, 81] {
            for to in [server.socket_v4(port), server.socket_v6(port)] {
                let opened = tcp::Client::open(client, None, to, LONG)?;
                flows.tcp.push(opened.ok().context("a connection")?);
            }
        }
        for to in [server.socket_v4(53), server.socket_v6(53)] {
            flows.udp.push(udp::Client::open(client, None, to)?);
        }
        Ok(flows)
    }

    /// Which of them go on: http, tcp/81, DNS, each over IPv4 and IPv6.
    fn alive(&mut self, expected: [bool; 6]) -> Result<()> {
        let limit = |lives| if lives { LONG } else { SHORT };
        let mut found = Vec::new();
        for (client, lives) in self.tcp.iter_mut().zip(expected) {
            found.push(client.exchange(limit(lives))? == Connected);
        }
        for (client, lives) in self.udp.iter().zip(&expected[4..]) {
            found.push(client.exchange(limit(*lives))? == Connected);
        }
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    }
}

fn flush(sgctl: &Sgctl<'_>, options: &[&str]) -> Result<u64> {
    let args: Vec<_> = ["flows", "flush"].iter().chain(options).copied().collect();
    let value = sgctl.json(&args)?;
    let flows = value["flows"].as_array().map_or(0, Vec::len);
    let forgotten = value["forgotten"].as_u64().context("a number")?;
    ensure!(u64::try_from(flows)? == forgotten, "{value}");
    Ok(forgotten)
}

#[test]
fn flushed_flows_end_and_others_live_on() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &Example::new("lab", POLICY.to_owned())?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(81), Udp(53)])?;
    let sgctl = scenario.controller("server");
    let mut flows = Flows::open(&net)?;
    flows.alive([true; 6])?;
    // No rule allows http and DNS any longer; what is open goes on.
    let next = sgctl.policy("next.yaml", &POLICY.replace(GOING, ""))?;
    sgctl.run(["apply", next.to_str().context("a path in UTF-8")?])?.ok()?;
    flows.alive([true; 6])?;

    assert_eq!(flush(sgctl, &["--port", "22"])?, 0);
    assert_eq!(flush(sgctl, &["--group", "clients"])?, 0, "none of them is attached");
    assert_eq!(flush(sgctl, &["--port", "80", "--peer", "10.77.1.0/24"])?, 1);
    flows.alive([false, true, true, true, true, true])?;
    assert_eq!(flush(sgctl, &["--interface", "server", "--protocol", "udp", "--peer", "old"])?, 1);
    flows.alive([false, true, true, true, true, false])?;
    // What a rule allows comes back with the next packet of the end that may open it.
    assert_eq!(flush(sgctl, &["--group", "web", "--peer", "group:clients"])?, 4);
    flows.alive([false, false, true, true, false, false])?;
    let text = sgctl.run(["flows", "flush", "--all"])?.ok()?.stdout;
    assert_eq!(text, "2 flows forgotten\n");
    assert_eq!(sgctl.json(&["flows"])?, serde_json::json!([]));

    for (args, code, words) in [
        (&["flows", "flush"][..], 2, "required"),
        (&["flows", "flush", "--all", "--port", "1"], 2, "cannot be used with"),
        (&["flows", "flush", "--group", "nope"], 1, "clients, default, web"),
        (&["flows", "flush", "--interface", "nope"], 1, "there are: server"),
        (&["flows", "--interface", "nope"], 1, "there are: server"),
    ] {
        let output = sgctl.run(args)?;
        ensure!(output.code == Some(code) && output.stderr.contains(words), "{args:?}: {output:?}");
    }
    Ok(())
}

/// Datagrams from one source port after another, until told to stop.
fn flood(net: &Net, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let (client, server) = (net.host("client"), net.host("server"));
    let text = format!("udp {}:1 > {}:53 len=12", client.v4(), server.v4());
    let mut packet = frame(&text, Direction::Ingress, None)?;
    packet[..6].copy_from_slice(&client.gateway_mac());
    packet[6..12].copy_from_slice(&client.mac());
    let injector = Injector::open(client.ns(), DEVICE)?;
    for port in (1024..=u16::MAX).cycle() {
        if stop.load(SeqCst) {
            break;
        }
        packet[34..36].copy_from_slice(&port.to_be_bytes());
        injector.send(&packet)?;
        sent.fetch_add(1, SeqCst);
    }
    Ok(())
}

#[test]
fn flows_are_flushed_beside_a_flood() -> Result<()> {
    const ROUNDS: u64 = 4;
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &Example::new("lab", POLICY.to_owned())?, Workload)?;
    let sgctl = scenario.controller("server");
    let (client, server) = (net.host("client"), net.host("server"));
    let services: Vec<_> = [80, 81]
        .iter()
        .map(|&port| tcp::Server::start(server.ns(), server.socket_v4(port)))
        .collect::<Result<_>>()?;
    let connect = |to: SocketAddr| -> Result<tcp::Client> {
        tcp::Client::open(client.ns(), None, to, LONG)?.ok().context("a connection")
    };
    let mut other = connect(server.socket_v4(80))?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        let flooding = scope.spawn(|| flood(&net, &stop, &sent));
        let mut rounds = || -> Result<()> {
            let mut open = Vec::new();
            for round in 0..ROUNDS {
                let mut flushed = connect(server.socket_v4(81))?;
                assert_eq!(flushed.exchange(LONG)?, Connected);
                let before = sent.load(SeqCst);
                let forgotten = flush(sgctl, &["--port", "81"])?;
                // And the one of the round before, which has come back.
                ensure!(forgotten == 2.min(round + 1), "{forgotten} in round {round}");
                ensure!(sent.load(SeqCst) > before, "there was no flood");
                assert_eq!(flushed.exchange(LONG)?, Connected, "its rule allows it anew");
                ensure!(flush(sgctl, &["--protocol", "udp"])? > 0, "nothing of the flood");
                assert_eq!(other.exchange(LONG)?, Connected);
                open.push(flushed);
            }
            Ok(())
        };
        let done = rounds();
        stop.store(true, SeqCst);
        flooding.join().expect("no panic in the flood")?;
        done
    })?;
    flush(sgctl, &["--all"])?;
    assert_eq!(sgctl.json(&["flows"])?, serde_json::json!([]));
    assert_eq!(other.exchange(LONG)?, Connected);
    drop(services);
    every_packet_is_a_rules(sgctl)
}

/// What a killed command has left is levelled by the next; rules that stay are counted on from where they were.
#[test]
fn an_interrupted_change_loses_no_hits() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &Example::new("lab", POLICY.to_owned())?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(81), Udp(53)])?;
    let sgctl = scenario.controller("server");
    let mut flows = Flows::open(&net)?;
    flows.alive([true; 6])?;
    let hits = || read::rule_hits(&sgctl.paths());
    let before = hits()?;
    ensure!(before.iter().filter(|one| one.packets > 0).count() == 3, "{before:?}");
    let left = sgctl.paths().run.join("live.999.json");
    std::fs::write(&left, "half of it")?;
    assert_eq!(flush(sgctl, &["--port", "9"])?, 0);
    ensure!(!left.exists(), "nothing was levelled");
    let after = hits()?;
    let lost = before.iter().zip(&after).find(|(old, new)| old.packets > new.packets);
    ensure!(lost.is_none() && before.len() == after.len(), "{lost:?}");
    flows.alive([true; 6])?;
    ensure!(after != hits()?, "nothing is counted any longer");
    Ok(())
}

/// Nothing but rules and their flows lets an IP packet of this policy pass, and every rule is still in force.
fn every_packet_is_a_rules(sgctl: &Sgctl<'_>) -> Result<()> {
    let before = read::rule_hits(&sgctl.paths())?;
    let status = sgctl.json(&["status"])?;
    if before != read::rule_hits(&sgctl.paths())? {
        // Something was still on its way.
        return every_packet_is_a_rules(sgctl);
    }
    let counters = status["interfaces"][0]["counters"].as_array().context("counters")?;
    let passed = counters
        .iter()
        .filter(|one| ["rule", "flow", "related"].iter().any(|reason| one["reason"] == *reason));
    for (what, sum) in [
        ("packets", before.iter().map(|one| one.packets).sum::<u64>()),
        ("bytes", before.iter().map(|one| one.bytes).sum()),
    ] {
        let all: u64 = passed.clone().filter_map(|one| one[what].as_u64()).sum();
        ensure!(sum == all && sum > 1000, "{what}: {sum} by rule, {all} passed: {before:?}");
    }
    Ok(())
}
