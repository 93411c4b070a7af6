//! What sgctl tells of what happened: events, counters, audit, trace. Each number is compared with
//! what the sockets saw.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    capture::Capture,
    example::Side::{self, Workload},
    lab,
    net::{DEVICE, Host, Net},
    scenario::{
        LONG,
        Probe::{Tcp, Udp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{self, Connected, TimedOut},
        tcp, udp,
    },
};

/// The next event that is `wanted`.
fn wait(running: &tests::process::Running, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let line = running.wait_for_line(LONG, |line| {
        serde_json::from_str(line).is_ok_and(|event: Value| wanted(&event))
    });
    Ok(serde_json::from_str(&line.context("no such event")?)?)
}

#[test]
fn events_name_group_rule_and_reason() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80)])?;
    let (client, server) = (net.host("client"), net.host("server"));
    let reader = scenario.controller("server").start(["events", "-f", "-o", "json"])?;
    for (from, to, everybody) in [
        (client.socket_v4(0), server.socket_v4(80), "0.0.0.0/0"),
        (client.socket_v6(0), server.socket_v6(80), "::/0"),
    ] {
        let mut stream =
            tcp::Client::open(client.ns(), Some(from), to, LONG)?.ok().context("a connection")?;
        let port = stream.local_address()?.port();
        assert_eq!(stream.exchange(LONG)?, Connected);
        let allow = wait(&reader, |event| event["verdict"] == "allow")?;
        for (key, value) in [
            ("direction", "ingress"),
            ("interface", "server"),
            ("protocol", "tcp"),
            ("reason", "rule"),
            ("source", &from.ip().to_string()),
            ("destination", &to.ip().to_string()),
            ("rule", &format!("group web ingress tcp/80 from {everybody} (everybody reads)")),
        ] {
            assert_eq!(allow[key], value, "{key} of {allow}");
        }
        assert_eq!(allow["source_port"], port);
        assert_eq!(allow["destination_port"], 80);

        // Closing the connection ends the flow, with its totals.
        drop(stream);
        let end = wait(&reader, |event| event["verdict"] == "end")?;
        assert_eq!(end["rule"], allow["rule"]);
        assert_eq!(end["source_port"], port);
        for way in ["ingress", "egress"] {
            assert!(end["packets"][way].as_u64() > Some(2), "{way} of {end}");
            assert!(end["bytes"][way].as_u64() > Some(100), "{way} of {end}");
        }

        let blocked = std::net::SocketAddr::new(to.ip(), 81);
        assert_eq!(tcp::connect(client.ns(), None, blocked, SHORT)?, TimedOut);
        let drop = wait(&reader, |event| event["verdict"] == "drop")?;
        assert_eq!(drop["reason"], "no_rule");
        assert_eq!(drop["destination_port"], 81);
        assert_eq!(drop["rule"], Value::Null);
    }

    // The other way round, and as text.
    drop(reader);
    let reader = scenario.controller("server").start(["events", "-f", "--direction", "egress"])?;
    scenario.serve("client", &[Tcp(443)])?;
    scenario.expect(&[("server", "client", Tcp(443), Connected)])?;
    let line = reader.wait_for_line(LONG, |line| line.contains(" allow ")).context("no event")?;
    assert!(line.contains("egress server tcp"), "{line}");
    assert!(line.contains("(group web egress all to "), "{line}");
    Ok(())
}

/// Packets of `status`, by what `wanted` says of a counter.
fn packets(status: &Value, wanted: impl Fn(&Value) -> bool) -> u64 {
    let counters = status["interfaces"][0]["counters"].as_array().into_iter().flatten();
    counters.filter(|one| wanted(one)).filter_map(|one| one["packets"].as_u64()).sum()
}

/// A flood of drops does not drown the stream, and the sum is exact.
#[test]
fn drops_beyond_the_budget_are_counted() -> Result<()> {
    const SENT: u64 = 200;
    const BUDGET: u64 = 5;
    let net = Net::pair()?;
    let options = ["--drop-events", &BUDGET.to_string()];
    let scenario = Scenario::attach_with(&net, &lab::one()?, Workload, &options)?;
    let sgctl = scenario.controller("server");
    let (client, server) = (net.host("client"), net.host("server"));
    let socket = udp::Client::open(client.ns(), None, server.socket_v4(9))?;
    for _ in 0..SENT {
        socket.send(b"nobody is there")?;
    }
    let status = sgctl.json(&["status"])?;
    let dropped = packets(&status, |one| one["verdict"] == "drop");
    let udp_drops =
        packets(&status, |one| one["reason"] == "no_rule" && one["direction"] == "ingress");
    assert_eq!(udp_drops, SENT);
    // Nothing was allowed: every event is a drop.
    assert_eq!(packets(&status, |one| one["reason"] == "rule"), 0);
    let [emitted, suppressed, lost] =
        ["emitted", "suppressed", "lost"].map(|key| status["events"][key].as_u64().unwrap_or(0));
    assert_eq!(emitted + suppressed, dropped, "{}", status["events"]);
    assert_eq!(lost, 0);
    // The budget is one of each processor and second; sending took less than a few.
    let processors = u64::try_from(std::thread::available_parallelism()?.get())?;
    assert!(emitted >= BUDGET && emitted <= BUDGET * processors * 5, "{emitted} of {dropped}");
    let events = sgctl.run(["events", "-o", "json"])?.ok()?;
    assert_eq!(u64::try_from(events.stdout.lines().count())?, emitted);
    Ok(())
}

#[test]
fn status_agrees_with_the_sockets() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Side::Host)?;
    scenario.serve("server", &[Tcp(80), Udp(53)])?;
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Udp(53), Connected),
        ("client", "server", Udp(54), TimedOut),
    ])?;
    let status = scenario.controller("server").json(&["status"])?;
    let device = &status["devices"][0];
    for (key, value) in [("device", "eth0"), ("interface", "server"), ("side", "host")] {
        assert_eq!(device[key], value, "{device}");
    }
    assert_eq!(device["protected"], true);
    assert_eq!(device["here"], true);
    assert_eq!(status["warnings"], Value::Array(Vec::new()));
    let interface = &status["interfaces"][0];
    assert_eq!(interface["groups"], serde_json::json!(["web"]));
    // One connection and one datagram of each family were allowed, one datagram was dropped.
    assert_eq!(packets(&status, |one| one["reason"] == "rule"), 4);
    assert_eq!(packets(&status, |one| one["reason"] == "no_rule"), 2);
    assert!(packets(&status, |one| one["reason"] == "flow") > 12);
    let tables = status["tables"].as_array().context("tables")?;
    let filled = |name: &str| tables.iter().find(|table| table["table"] == name);
    assert_eq!(filled("flows IPv4").context("a table")?["entries"], 1);
    assert_eq!(filled("flows IPv6").context("a table")?["entries"], 1);

    // An unprotected device does not go unnoticed.
    net.host("server").ns().ip("link del eth0\n")?;
    let status = scenario.controller("server").json(&["status"])?;
    assert_eq!(status["devices"][0]["protected"], false);
    let warning = status["warnings"][0].as_str().context("a warning")?;
    assert!(warning.contains("eth0 is UNPROTECTED"), "{warning}");
    Ok(())
}

#[test]
fn audit_reports_and_drops_nothing() -> Result<()> {
    let net = Net::pair()?;
    for side in [Side::Host, Workload] {
        let mut scenario = Scenario::attach_with(&net, &lab::one()?, side, &["--audit"])?;
        scenario.serve("server", &[Tcp(80), Tcp(81)])?;
        let ask = |port| -> Result<Outcome> {
            let address = net.host("server").socket_v6(port);
            tcp::connect(net.host("client").ns(), None, address, LONG)
        };
        assert_eq!((ask(80)?, ask(81)?), (Connected, Connected));
        let sgctl = scenario.controller("server");
        let events = sgctl.run(["events", "-o", "json"])?.ok()?;
        let events: Vec<Value> =
            events.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let of = |port: u64| {
            let wanted = move |event: &&Value| {
                event["verdict"] != "end" && event["destination_port"] == port
            };
            events.iter().filter(wanted).map(|event| event["verdict"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(80), ["allow"]);
        // No flow is made of what no rule allows, so each packet of it is told.
        assert!(of(81).len() > 2 && of(81).iter().all(|verdict| verdict == "audit"), "{events:?}");
        let status = sgctl.json(&["status"])?;
        assert_eq!(status["devices"][0]["audit"], true);
        assert!(status["warnings"][0].as_str().is_some_and(|text| text.contains("--audit")));
    }
    Ok(())
}

#[test]
fn trace_tells_every_packet() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Workload, &["--trace"])?;
    scenario.serve("server", &[Tcp(80)])?;
    let reader = scenario.controller("server").start(["events", "-f", "--trace"])?;
    // What is read is gone: one question after the other.
    for (port, outcome, reasons) in [
        (80, Connected, &["ingress allow rule (group web ", "egress allow flow "][..]),
        (81, TimedOut, &["ingress drop no_rule"]),
    ] {
        scenario.expect(&[("client", "server", Tcp(port), outcome)])?;
        for reason in reasons {
            let found = reader.wait_for_line(LONG, |line| {
                let is_told = line.contains(reason) && line.contains("10.77.2.10");
                line.starts_with("trace to-server server ") && is_told
            });
            assert!(found.is_some(), "no {reason}");
        }
    }
    Ok(())
}

#[test]
fn flows_show_live_connections_and_who_opened_them() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80)])?;
    scenario.serve("client", &[Tcp(443)])?;
    let (client, server) = (net.host("client"), net.host("server"));
    let open = |from: &Host, to| -> Result<tcp::Client> {
        let mut stream = tcp::Client::open(from.ns(), None, to, LONG)?.ok().context("open")?;
        assert_eq!(stream.exchange(LONG)?, Connected);
        Ok(stream)
    };
    let inwards = open(client, server.socket_v4(80))?;
    let outwards = open(server, client.socket_v6(443))?;
    // What is dropped makes no flow.
    assert_eq!(tcp::connect(client.ns(), None, server.socket_v4(81), SHORT)?, TimedOut);

    let flows = scenario.controller("server").json(&["flows"])?;
    let flows = flows.as_array().context("a list")?;
    assert_eq!(flows.len(), 2, "{flows:?}");
    for (stream, local, remote, opened, rule) in [
        (
            &inwards,
            server.socket_v4(80),
            inwards.local_address()?,
            "ingress",
            "group web ingress tcp/80 from 0.0.0.0/0 (everybody reads)",
        ),
        (
            &outwards,
            outwards.local_address()?,
            client.socket_v6(443),
            "egress",
            "group web egress all to ::/0",
        ),
    ] {
        assert!(stream.stream().take_error()?.is_none());
        let flow = flows.iter().find(|flow| flow["opened"] == opened).context("a flow")?;
        for (key, value) in [
            ("interface", Value::from("server")),
            ("protocol", "tcp".into()),
            ("local", local.ip().to_string().into()),
            ("local_port", local.port().into()),
            ("remote", remote.ip().to_string().into()),
            ("remote_port", remote.port().into()),
            ("state", "established".into()),
            ("established", true.into()),
            ("rule", rule.into()),
        ] {
            assert_eq!(flow[key], value, "{key} of {flow}");
        }
        // AWS's default, which nothing has used up yet.
        let expires = flow["expires_in"].as_u64().context("a number")?;
        assert!((431_900..=432_000).contains(&expires), "{flow}");
    }
    Ok(())
}

/// What the sockets met on the wire, the programs say again of a capture of it.
#[test]
fn replay_agrees_with_what_was_seen() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    // Recorded before anything is attached: whatever is sent is in it.
    let mut capture = Capture::start(server.ns(), DEVICE)?;
    let _web = tcp::Server::start(server.ns(), server.socket_v4(80))?;
    let _ssh = tcp::Server::start(server.ns(), server.socket_v4(22))?;
    for port in [80, 22] {
        assert_eq!(tcp::connect(client.ns(), None, server.socket_v4(port), LONG)?, Connected);
    }
    let sgctl = Sgctl::new(net.wire())?;
    let pcap = sgctl.dir().join("seen.pcap");
    capture.save(&pcap)?;
    let (pcap, policy) = (
        pcap.to_str().context("a path in UTF-8")?.to_owned(),
        sgctl.policy("policy.yaml", lab::ONE)?,
    );
    let policy = policy.to_str().context("a path in UTF-8")?;
    let args = ["replay", &pcap, "--policy", policy, "--interface", "server", "--oracle"];
    let report = sgctl.json(&args)?;
    assert_eq!(report["totals"]["differences"], 0, "{}", report["totals"]);
    let judged = report["packets"].as_array().context("packets")?;
    // Two connections; what has come since the capture was saved is not judged.
    assert!(judged.len() >= 16 && judged.len() <= capture.frames()?.len());
    let mut opened = 0;
    for (frame, judged) in capture.frames()?.iter().zip(judged) {
        match frame.ports() {
            // The whole connection to the open port passes, both ways.
            Some((80, _) | (_, 80)) => {
                assert_eq!(judged["verdict"], "allow", "{frame:?}: {judged}");
                opened += usize::from(judged["reason"] == "rule");
            }
            // Of the other one nothing does: neither what comes nor what would be its answer.
            Some((22, _) | (_, 22)) => assert_eq!(judged["verdict"], "drop", "{frame:?}: {judged}"),
            _ => {}
        }
    }
    assert_eq!(opened, 1);

    // A capture that is none.
    let corrupt = sgctl.dir().join("corrupt.pcap");
    std::fs::write(&corrupt, b"\xd4\xc3\xb2\xa1 and then nothing of the kind")?;
    let corrupt = corrupt.to_str().context("a path in UTF-8")?;
    for broken in [corrupt, policy, "/no/such.pcap"] {
        let output = sgctl.run(["replay", broken, "--policy", policy, "--interface", "server"])?;
        assert_eq!(output.code, Some(1), "{broken}: {}", output.stderr);
        assert!(output.stderr.contains(broken), "{broken}: {}", output.stderr);
        assert_eq!(output.stderr.matches("error: ").count(), 1, "{}", output.stderr);
        assert!(!sgctl.pins().exists());
    }
    Ok(())
}

#[test]
fn events_of_an_interface_that_is_not_there() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let output = scenario.sgctl("server", &["events", "--interface", "client"])?;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("(there are: server)"), "{}", output.stderr);
    scenario.sgctl("server", &["events", "--interface", "server"])?.ok()?;
    Ok(())
}

/// What explain says is what sockets meet, and the rule it proposes does what it promises.
#[test]
fn explain_agrees_with_what_was_seen() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Tcp(81), TimedOut),
    ])?;
    let ask = |from: &str, port: &str| {
        let words = ["explain", "--interface", "server", "--from", from, "--protocol", "tcp"];
        scenario.sgctl("server", &[&words[..], &["--port", port, "-o", "json"]].concat())
    };
    let mut remedies = Vec::new();
    for from in net.host("client").addresses() {
        let from = from.to_string();
        let allowed = ask(&from, "80")?;
        assert_eq!(allowed.code, Some(0), "{}", allowed.stderr);
        let allowed: Value = serde_json::from_str(&allowed.stdout)?;
        assert_eq!((&allowed["verdict"], &allowed["reason"]), (&"allow".into(), &"rule".into()));
        let rule = allowed["rule"].as_str().context("a rule")?;
        assert!(rule.starts_with("group web ingress tcp/80 from "), "{rule}");

        let dropped = ask(&from, "81")?;
        assert_eq!(dropped.code, Some(3), "{}", dropped.stderr);
        let dropped: Value = serde_json::from_str(&dropped.stdout)?;
        assert_eq!((&dropped["verdict"], &dropped["reason"]), (&"drop".into(), &"no_rule".into()));
        let remedy = dropped["remedy"].as_str().context("a remedy")?;
        let line = remedy.strip_prefix("ingress: [").and_then(|text| text.strip_suffix(']'));
        remedies.push(format!("          - {}\n", line.context("one line")?));
    }
    let mended = lab::one()?.edited("ingress:\n", &format!("ingress:\n{}", remedies.concat()))?;
    scenario.replace(&mended)?;
    scenario.expect(&[
        ("client", "server", Tcp(81), Connected),
        ("client", "server", Tcp(82), TimedOut),
    ])
}
