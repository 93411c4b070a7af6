//! What is open when the programs come: it goes on, whatever the rules say of new connections.

use std::{
    io::Write as _,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sg_common::Direction;
use tests::{
    case::packet::frame,
    example::{
        Example,
        Side::{self, Host, Workload},
    },
    inject::Injector,
    net::Net,
    netns::Namespace,
    process::Output,
    scenario::{LONG, SHORT},
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, Stalled, TimedOut},
        tcp, udp,
    },
};

/// Nothing may be opened, in no direction.
const CLOSED: &str = r#"live_flows: keep
vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups: [{name: closed, egress: []}]
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [closed], device: to-server, side: workload}
      - {name: client, addresses: [10.77.1.10, "fd77:1::10"], groups: [closed]}
"#;

/// Conversations of the host `server` with the host `client`.
struct Open {
    connections: Vec<tcp::Client>,
    datagrams: Vec<udp::Client>,
    _tcp: Vec<tcp::Server>,
    _udp: Vec<udp::Server>,
}

impl Open {
    /// TCP in and out and UDP out, each over IPv4 and IPv6.
    fn new(net: &Net) -> Result<Self> {
        let (client, server) = (net.host("client"), net.host("server"));
        let mut tcp_servers = Vec::new();
        let mut udp_servers = Vec::new();
        let mut connections = Vec::new();
        let mut datagrams = Vec::new();
        for (at_client, at_server) in
            [(client.socket_v4(0), server.socket_v4(0)), (client.socket_v6(0), server.socket_v6(0))]
        {
            let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
            tcp_servers.push(tcp::Server::start(server.ns(), at(at_server, 80))?);
            tcp_servers.push(tcp::Server::start(client.ns(), at(at_client, 81))?);
            udp_servers.push(udp::Server::start(client.ns(), at(at_client, 82))?);
            for (from, to) in [(client, at(at_server, 80)), (server, at(at_client, 81))] {
                connections.push(connect(from.ns(), to)?);
            }
            datagrams.push(udp::Client::open(server.ns(), None, at(at_client, 82))?);
        }
        Ok(Self { connections, datagrams, _tcp: tcp_servers, _udp: udp_servers })
    }

    /// Each of them goes on.
    fn all_live(&mut self) -> Result<()> {
        self.connections_live()?;
        for one in &self.datagrams {
            ensure!(one.exchange(LONG)? == Connected, "{:?} was cut", one.local_address());
        }
        Ok(())
    }

    fn connections_live(&mut self) -> Result<()> {
        for one in &mut self.connections {
            ensure!(one.exchange(LONG)? == Connected, "{:?} was cut", one.local_address());
        }
        Ok(())
    }
}

/// A connection over which data has gone both ways.
fn connect(namespace: &Namespace, to: SocketAddr) -> Result<tcp::Client> {
    let opened = tcp::Client::open(namespace, None, to, LONG)?;
    let mut opened = opened.ok().with_context(|| format!("a connection to {to}"))?;
    ensure!(opened.exchange(LONG)? == Connected, "no answer from {to}");
    Ok(opened)
}

/// The controller that protects `server` from one side.
fn controller(net: &Net, side: Side) -> Result<Sgctl<'_>> {
    Sgctl::new(match side {
        Host => net.host("server").ns(),
        Workload => net.wire(),
    })
}

fn attach(sgctl: &Sgctl<'_>, net: &Net, side: Side, policy: &str, more: &[&str]) -> Result<Output> {
    let example = Example::new("adoption", policy)?;
    let text = match side {
        Host => example.on_host("server")?,
        Workload => example.on_carrier(net)?,
    };
    let path = sgctl.policy("policy.yaml", &text)?;
    let path = path.to_str().context("a path in UTF-8")?;
    sgctl.run(["attach", "--policy", path].iter().chain(more))
}

/// The flows as `flows` lists them.
fn flows(sgctl: &Sgctl<'_>) -> Result<Vec<Value>> {
    let listed = sgctl.json(&["flows"])?;
    Ok(listed.as_array().context("a list")?.clone())
}

/// The state of the only flow, once it is `wanted`; the last seen otherwise.
fn state_of_only_flow(sgctl: &Sgctl<'_>, wanted: &str) -> Result<String> {
    let end = Instant::now() + LONG;
    loop {
        let flows = flows(sgctl)?;
        ensure!(flows.len() == 1, "one flow wanted: {flows:?}");
        let state = flows[0]["state"].as_str().context("a state")?.to_owned();
        if state == wanted || Instant::now() > end {
            return Ok(state);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn check_everything_goes_on(side: Side) -> Result<()> {
    let net = Net::pair()?;
    let mut open = Open::new(&net)?;
    let sgctl = controller(&net, side)?;
    let output = attach(&sgctl, &net, side, CLOSED, &[])?.ok()?;
    let summary =
        "adopted 6 flows (4 tcp, 2 udp); 6 of them no rule allows: kept (live_flows: keep)";
    ensure!(output.stderr.contains(summary), "{}", output.stderr);
    let listed = flows(&sgctl)?;
    assert_eq!(listed.len(), 6, "{listed:?}");
    assert!(listed.iter().all(|flow| flow["adopted"] == true && flow["rule"].is_null()));
    let opened = |direction| listed.iter().filter(|flow| flow["opened"] == direction).count();
    assert_eq!((opened("ingress"), opened("egress")), (2, 4));

    open.all_live()?;
    // Nothing new comes in or goes out, not even between the addresses that talk already.
    let (client, server) = (net.host("client"), net.host("server"));
    for (from, to) in [
        (client, server.socket_v4(80)),
        (server, client.socket_v4(81)),
        (client, server.socket_v6(80)),
        (server, client.socket_v6(81)),
    ] {
        assert_eq!(tcp::connect(from.ns(), None, to, SHORT)?, TimedOut, "{to}");
    }
    assert_eq!(udp::request(server.ns(), None, client.socket_v4(82), SHORT)?, TimedOut);
    open.all_live()?;
    let status = sgctl.json(&["status"])?;
    assert_eq!(status["interfaces"][0]["adopted_flows"], 6);
    assert_eq!(status["devices"][0]["adoption"]["denied"], 6);
    assert!(status["devices"][0]["grace_left"].is_null());
    Ok(())
}

#[test]
fn everything_goes_on_at_the_host() -> Result<()> {
    check_everything_goes_on(Host)
}

/// Its sockets are found in the namespace behind the veth.
#[test]
fn everything_goes_on_below_the_workload() -> Result<()> {
    check_everything_goes_on(Workload)
}

#[test]
fn audit_changes_nothing_for_what_is_open() -> Result<()> {
    let net = Net::pair()?;
    let mut open = Open::new(&net)?;
    let sgctl = controller(&net, Host)?;
    attach(&sgctl, &net, Host, CLOSED, &["--audit"])?.ok()?;
    open.all_live()?;
    let (client, server) = (net.host("client"), net.host("server"));
    assert_eq!(tcp::connect(client.ns(), None, server.socket_v4(80), LONG)?, Connected);
    let counters = sgctl.json(&["status"])?["interfaces"][0]["counters"].clone();
    let counters = counters.as_array().context("counters")?;
    let drops = counters.iter().filter(|one| one["verdict"] == "drop");
    // Of the connection that is new alone.
    let reasons: Vec<_> = drops.map(|one| one["reason"].clone()).collect();
    assert!(reasons.iter().all(|one| one == "no_rule" || one == "no_flow"), "{reasons:?}");
    assert!(!reasons.is_empty());
    Ok(())
}

#[test]
fn with_cut_only_what_a_rule_allows_goes_on() -> Result<()> {
    let net = Net::pair()?;
    let mut open = Open::new(&net)?;
    let rules = r#"{name: closed, ingress: [{type: http, from: 0.0.0.0/0}], egress: [{protocol: udp, ports: 82, to: "::/0"}]}"#;
    let policy = CLOSED.replace("{name: closed, egress: []}", rules).replace("keep", "cut");
    let sgctl = controller(&net, Host)?;
    let output = attach(&sgctl, &net, Host, &policy, &[])?.ok()?;
    let summary = "adopted 2 flows (1 tcp, 1 udp); 4 more no rule allows: cut (live_flows: cut)";
    ensure!(output.stderr.contains(summary), "{}", output.stderr);
    let ends: Vec<_> =
        open.connections.iter_mut().map(|one| one.exchange(SHORT)).collect::<Result<_>>()?;
    assert_eq!(ends, [Connected, Stalled, Stalled, Stalled], "in, out; IPv4, IPv6");
    let ends: Vec<_> =
        open.datagrams.iter().map(|one| one.exchange(SHORT)).collect::<Result<_>>()?;
    assert_eq!(ends, [TimedOut, Connected]);
    Ok(())
}

/// Offset of the checksum behind an Ethernet and an IPv4 header.
const TCP_CHECKSUM: usize = 14 + 20 + 16;

/// Forged resets, and forged segments that would teach them the number, end nothing before the numbers are
/// known nor after; the true one does.
#[test]
fn only_the_true_reset_ends_an_adopted_flow() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    let _service = tcp::Server::start(server.ns(), server.socket_v4(80))?;
    let mut connection = connect(client.ns(), server.socket_v4(80))?;
    let sgctl = controller(&net, Host)?;
    attach(&sgctl, &net, Host, CLOSED, &[])?.ok()?;
    let injector = Injector::open(net.wire(), server.port())?;
    let ends = format!("{} > {}", connection.local_address()?, server.socket_v4(80));
    let forge = || -> Result<()> {
        for step in 0..200_u32 {
            let sequence = step.wrapping_mul(21_474_836).wrapping_add(7);
            for line in [
                format!("tcp {ends} A seq={sequence} ack=1"),
                format!("tcp {ends} R seq={sequence}"),
                format!("tcp {ends} FA seq={sequence} ack=1"),
                format!("tcp {ends} S seq={sequence}"),
            ] {
                let mut forged = frame(&line, Direction::Ingress, Some(server.mac()))?;
                // A wrong checksum: the host does not answer, and what it says corrects nothing.
                forged[TCP_CHECKSUM] ^= 1;
                injector.send(&forged)?;
            }
        }
        Ok(())
    };
    forge()?;
    assert_eq!(state_of_only_flow(&sgctl, "adopted")?, "adopted");
    assert_eq!(connection.exchange(LONG)?, Connected);
    assert_eq!(state_of_only_flow(&sgctl, "established")?, "established");
    forge()?;
    assert_eq!(connection.exchange(LONG)?, Connected);
    assert_eq!(state_of_only_flow(&sgctl, "established")?, "established");
    // What is closed with data unread resets. Once the answer is there no segment is on its way that the reset could
    // overtake on another processor.
    connection.stream().set_nonblocking(false)?;
    connection.stream().set_read_timeout(Some(LONG))?;
    connection.stream().write_all(b"unread")?;
    connection.stream().peek(&mut [0])?;
    let linger = socket2::SockRef::from(connection.stream());
    linger.set_linger(Some(Duration::ZERO))?;
    drop(connection);
    assert_eq!(state_of_only_flow(&sgctl, "closed")?, "closed");
    Ok(())
}

/// A connection whose client has finished speaking before the programs came still gets its answer.
#[test]
fn a_half_closed_connection_goes_on() -> Result<()> {
    use std::io::Read as _;
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    let listener = server.ns().run(|| std::net::TcpListener::bind(server.socket_v4(80)))?;
    let connection = tcp::Client::open(client.ns(), None, server.socket_v4(80), LONG)?;
    let connection = connection.ok().context("a connection")?;
    let (mut accepted, _) = listener.accept()?;
    connection.stream().shutdown(std::net::Shutdown::Write)?;
    accepted.set_read_timeout(Some(LONG))?;
    ensure!(accepted.read(&mut [0; 9])? == 0, "the client has finished");
    let sgctl = controller(&net, Host)?;
    attach(&sgctl, &net, Host, CLOSED, &[])?.ok()?;
    assert_eq!(state_of_only_flow(&sgctl, "half-closed")?, "half-closed");
    accepted.write_all(b"the answer")?;
    connection.stream().set_read_timeout(Some(LONG))?;
    let mut answer = [0; 10];
    connection.stream().read_exact(&mut answer)?;
    drop(accepted);
    assert_eq!(state_of_only_flow(&sgctl, "closed")?, "closed");
    Ok(())
}

#[test]
fn nothing_is_attached_where_what_is_open_finds_no_room() -> Result<()> {
    let net = Net::pair()?;
    let mut open = Open::new(&net)?;
    let sgctl = controller(&net, Host)?;
    let output = attach(&sgctl, &net, Host, CLOSED, &["--max-flows", "2"])?;
    assert_eq!(output.code, Some(1));
    for wanted in [
        "3 IPv4 conversations are open behind eth0 and the flow tables have room for 2 of them",
        "nothing was attached",
        "--max-flows 6",
        "--no-adopt",
    ] {
        ensure!(output.stderr.contains(wanted), "{wanted}: {}", output.stderr);
    }
    open.all_live()?;
    assert!(!sgctl.pins().exists(), "pins are left");
    // With the room that it names it works.
    attach(&sgctl, &net, Host, CLOSED, &["--max-flows", "6"])?.ok()?;
    open.all_live()?;
    sgctl.run(["detach", "--all"])?.ok()?;
    let output = attach(&sgctl, &net, Host, CLOSED, &["--max-flows", "1", "--no-adopt"])?.ok()?;
    ensure!(!output.stderr.contains("adopted"), "{}", output.stderr);
    assert_eq!(open.connections[1].exchange(SHORT)?, Stalled);
    Ok(())
}

/// The tables are shared: flows of the second device are entered while the programs of the first run. And
/// what an earlier attachment knew of a flow is out of date.
#[test]
fn a_later_device_is_adopted_too_and_again() -> Result<()> {
    let net = Net::pair()?;
    let mut open = Open::new(&net)?;
    let sgctl = controller(&net, Workload)?;
    let both = CLOSED.replace(
        r#""fd77:1::10"], groups: [closed]}"#,
        r#""fd77:1::10"], groups: [closed], device: to-client, side: workload}"#,
    );
    let (first, second) = (net.host("client").port(), net.host("server").port());
    attach(&sgctl, &net, Workload, &both, &[first])?.ok()?;
    open.connections_live()?;
    for _ in 0..2 {
        let output = attach(&sgctl, &net, Workload, &both, &[second])?.ok()?;
        ensure!(output.stderr.contains("adopted 6 flows"), "{}", output.stderr);
        assert_eq!(flows(&sgctl)?.len(), 10, "the client's UDP sockets have no peer");
        open.connections_live()?;
        sgctl.run(["detach", second])?.ok()?;
        // Goes on unseen at that device, far beyond the numbers that its entry holds.
        open.connections_live()?;
    }
    Ok(())
}

/// Connections that are made while sgctl works: those that came about live on, one after another.
#[test]
fn what_opens_while_the_programs_are_attached_is_not_lost() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    let _service = tcp::Server::start(client.ns(), client.socket_v4(81))?;
    let sgctl = controller(&net, Host)?;
    let mut opened = thread::scope(|scope| -> Result<_> {
        let opening = scope.spawn(|| -> Result<Vec<tcp::Client>> {
            let mut opened = Vec::new();
            while let Ok(one) = tcp::Client::open(server.ns(), None, client.socket_v4(81), SHORT)? {
                opened.push(one);
                ensure!(opened.len() < 20_000, "nothing stops them");
                thread::sleep(Duration::from_micros(300));
            }
            Ok(opened)
        });
        attach(&sgctl, &net, Host, CLOSED, &[])?.ok()?;
        opening.join().expect("no panic in a connection")
    })?;
    ensure!(opened.len() > 20, "too few to tell: {}", opened.len());
    for one in &mut opened {
        assert_eq!(one.exchange(LONG)?, Connected, "{:?}", one.local_address());
    }
    Ok(())
}
