//! Devices that are re-created, moved, renamed or stripped of programs: told at once, attached again by
//! `sgctl watch-devices` or by hand, and how long they were open in between.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    example::{
        Example,
        Side::{self, Host, Workload},
    },
    lab,
    net::{DEVICE, Net},
    netns::Namespace,
    nft,
    process::Running,
    scenario::{
        LONG,
        Probe::{Ping, Tcp},
        Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, TimedOut},
        udp,
    },
};

/// Server ports that the policy allows and denies.
const ALLOWED: u16 = 53;
const DENIED: u16 = 54;

fn device(sgctl: &Sgctl<'_>) -> Result<Value> {
    Ok(sgctl.json(&["status"])?["devices"][0].clone())
}

/// A watcher, and its events as they come.
struct Watch(Running);

impl Watch {
    fn start(sgctl: &Sgctl<'_>) -> Result<Self> {
        let watch = Self(sgctl.start(["watch-devices", "-o", "json"])?);
        watch.wait("watching", "")?;
        Ok(watch)
    }

    /// Waits for an event of this kind whose words hold these.
    fn wait(&self, kind: &str, words: &str) -> Result<Value> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
        let wanted = |line: &str| {
            let event = parse(line);
            let detail = event["detail"].as_str().unwrap_or_default();
            event["event"] == kind && detail.contains(words)
        };
        let line = self.0.wait_for_line(LONG, wanted);
        Ok(parse(&line.with_context(|| format!("no event {kind} with {words:?}"))?))
    }
}

/// Counts what reaches the server's network stack, whatever device it comes by.
fn count_denied(server: &Namespace) -> Result<()> {
    let table = "table inet seen {\ncounter denied {\n}\nchain c {\ntype filter hook prerouting priority -400\n";
    nft::load(server, &format!("{table}udp dport {DENIED} counter name denied drop\n}}\n}}\n"))
}

fn denied_so_far(server: &Namespace) -> Result<u64> {
    let output = server.command("nft").args(["-j", "list", "counters"]).output()?;
    let listed: Value = serde_json::from_slice(&output.stdout)?;
    let items = listed["nftables"].as_array().context("nft's list")?;
    let found = items.iter().find(|one| one["counter"]["name"] == "denied");
    found.and_then(|one| one["counter"]["packets"].as_u64()).context("a counter")
}

/// Denied datagrams from the client, as fast as they can, until `work` is done; returns how many were sent.
fn while_denied_come<T>(net: &Net, work: impl FnOnce(&AtomicU64) -> Result<T>) -> Result<T> {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let flood = scope.spawn(|| -> Result<()> {
            let client = net.host("client");
            let clients =
                [net.host("server").socket_v4(DENIED), net.host("server").socket_v6(DENIED)]
                    .map(|to| udp::Client::open(client.ns(), None, to));
            let [v4, v6] = clients;
            let (v4, v6) = (v4?, v6?);
            while !stop.load(Ordering::Relaxed) {
                for client in [&v4, &v6] {
                    // While there is no device, there is no route, and the socket says so.
                    if client.send(b"let me in").is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        });
        let done = work(&sent);
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("no panic in a flood")?;
        done
    })
}

/// Waits until so many more datagrams have been sent.
fn wait_for_more(sent: &AtomicU64, more: u64) -> Result<()> {
    let (started, before) = (Instant::now(), sent.load(Ordering::Relaxed));
    while sent.load(Ordering::Relaxed) < before + more {
        ensure!(started.elapsed() < LONG, "no datagram can be sent any more");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Makes the veth between wire and server anew, as it was.
fn recreate(net: &Net) -> Result<()> {
    let server = net.host("server");
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let (near, far, ns) = (mac(server.port_mac()), mac(server.mac()), server.ns().name());
    net.wire().ip(&format!(
        "link add to-server address {near} type veth peer name eth0 address {far} netns {ns}\n\
         address add 10.77.2.1/24 dev to-server\naddress add fd77:2::1/64 dev to-server nodad\n\
         link set to-server up\n"
    ))?;
    server.ns().ip(
        "link set eth0 up\naddress add 10.77.2.10/24 dev eth0\naddress add fd77:2::10/64 dev eth0 nodad\n\
         route add 0.0.0.0/0 via 10.77.2.1 dev eth0\nroute add ::/0 via fd77:2::1 dev eth0\n",
    )
}

fn remove(net: &Net) -> Result<()> {
    net.wire().ip("link del to-server\n")
}

/// The policy holds: what it allows passes, and nothing else.
fn holds(scenario: &mut Scenario<'_>) -> Result<()> {
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Tcp(81), TimedOut),
        ("client", "server", Ping, TimedOut),
    ])
}

fn check_recreated(options: &[&str]) -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Workload, options)?;
    let server = net.host("server").ns();
    count_denied(server)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let sgctl = scenario.controller("server");
    let before = device(sgctl)?;
    let watch = Watch::start(sgctl)?;
    while_denied_come(&net, |sent| {
        wait_for_more(sent, 100)?;
        ensure!(denied_so_far(server)? == 0, "denied packets pass an attached device");
        remove(&net)?;
        let gone = watch.wait("changed", "gone")?;
        ensure!(gone["protected"] == false, "{gone}");
        let status = device(sgctl)?;
        ensure!(status["protected"] == false && status["change"] == "gone", "{status}");

        recreate(&net)?;
        let made = Instant::now();
        let again = watch.wait("attached", "attached again")?;
        let window = made.elapsed();
        ensure!(again["protected"] == true, "{again}");
        let passed = denied_so_far(server)?;
        println!(
            "{options:?}: re-created and attached again in {window:?}, {passed} denied packets passed"
        );
        wait_for_more(sent, 200)?;
        ensure!(denied_so_far(server)? == passed, "denied packets pass the device attached again");
        Ok(())
    })?;
    let after = device(sgctl)?;
    ensure!(after["protected"] == true && after["change"].is_null(), "{after}");
    for key in ["interface", "side", "audit", "trace", "drop_events", "since"] {
        ensure!(after[key] == before[key], "{before}, then {after}");
    }
    let names = |device: &Value| -> Vec<Value> {
        let hooks = device["hooks"].as_array().into_iter().flatten();
        hooks.map(|hook| hook["hook"].clone()).collect()
    };
    ensure!(names(&before) == names(&after), "{before}, then {after}");
    holds(&mut scenario)
}

#[test]
fn recreated_with_links() -> Result<()> {
    check_recreated(&["--tc", "tcx", "--drop-events", "5"])
}

#[test]
fn recreated_with_filters() -> Result<()> {
    check_recreated(&["--tc", "clsact"])
}

/// Without a watcher: status says why, and the same command as ever mends it.
#[test]
fn recreated_and_attached_by_hand() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let sgctl = scenario.controller("server");
    remove(&net)?;
    let status = sgctl.run(["status"])?;
    ensure!(status.code == Some(0), "{status:?}");
    for word in ["to-server is UNPROTECTED: gone", "sgctl attach to-server"] {
        ensure!(status.stderr.contains(word), "no {word:?} in {}", status.stderr);
    }
    recreate(&net)?;
    let found = device(sgctl)?;
    let change = found["change"].as_str().unwrap_or_default();
    ensure!(found["protected"] == false && change.starts_with("re-created"), "{found}");
    // Nothing is filtered there now, and who says otherwise has not looked.
    scenario.expect(&[("client", "server", Tcp(81), Connected)])?;
    let sgctl = scenario.controller("server");
    let output = sgctl.run(["attach", "to-server"])?.ok()?;
    ensure!(output.stdout.starts_with("attached to-server as server (workload)"), "{output:?}");
    ensure!(device(sgctl)?["protected"] == true);
    holds(&mut scenario)?;
    // Also while a policy waits for its confirmation, which goes on waiting.
    let sgctl = scenario.controller("server");
    let text = lab::ONE.replace("description: everybody reads", "description: everybody");
    sgctl.with_file("apply", &text, &["--confirm-within", "1h"])?.ok()?;
    remove(&net)?;
    recreate(&net)?;
    sgctl.run(["attach", "to-server"])?.ok()?;
    ensure!(device(sgctl)?["protected"] == true);
    ensure!(sgctl.run(["status"])?.ok()?.stderr.contains("waits for its confirmation"));
    sgctl.run(["confirm"])?.ok()?;
    holds(&mut scenario)
}

/// A device that is moved to another namespace, and back. Links go with it, filters do not.
fn check_moved(options: &[&str], links: bool) -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Host, options)?;
    let (server, other) = (net.host("server").ns(), Namespace::new("other")?);
    count_denied(&other)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let sgctl = scenario.controller("server");
    let watch = Watch::start(sgctl)?;
    let outcome = if links { "still has its programs" } else { "attached again" };
    let configure = "link set eth0 up\naddress add 10.77.2.10/24 dev eth0\n\
                     address add fd77:2::10/64 dev eth0 nodad\n\
                     route add 0.0.0.0/0 via 10.77.2.1 dev eth0\nroute add ::/0 via fd77:2::1 dev eth0\n";
    while_denied_come(&net, |sent| {
        server.ip(&format!("link set eth0 netns {}\n", other.name()))?;
        other.ip(configure)?;
        let made = Instant::now();
        let words = format!("moved to namespace {}", other.name());
        let moved = watch.wait("changed", &words)?;
        ensure!(moved["protected"] == links, "{moved}");
        watch.wait("attached", outcome)?;
        let (window, passed) = (made.elapsed(), denied_so_far(&other)?);
        println!("{options:?}: moved and {outcome} in {window:?}, {passed} denied packets passed");
        ensure!(!links || passed == 0, "{passed} denied packets passed a device with links");
        wait_for_more(sent, 200)?;
        ensure!(denied_so_far(&other)? == passed, "denied packets pass in the other namespace");
        Ok(())
    })?;
    let found = device(sgctl)?;
    ensure!(found["protected"] == true && found["here"] == false, "{found}");

    other.ip(&format!("link set eth0 netns {}\n", server.name()))?;
    server.ip(configure)?;
    watch.wait("attached", outcome)?;
    let found = device(sgctl)?;
    ensure!(found["protected"] == true && found["here"] == true, "{found}");
    holds(&mut scenario)?;
    scenario.controller("server").run(["detach", DEVICE])?.ok()?;
    scenario.expect(&[("client", "server", Tcp(81), Connected)])
}

#[test]
fn moved_with_links() -> Result<()> {
    check_moved(&["--xdp", "off", "--tc", "tcx"], true)
}

#[test]
fn moved_with_xdp() -> Result<()> {
    check_moved(&["--xdp", "native"], true)
}

#[test]
fn moved_with_filters() -> Result<()> {
    check_moved(&["--tc", "clsact"], false)
}

/// What somebody else takes off comes back; what cannot be taken off stays.
#[test]
fn programs_taken_off() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Host, &["--tc", "clsact"])?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let sgctl = scenario.controller("server");
    let watch = Watch::start(sgctl)?;
    let server = net.host("server").ns();
    let take_off = |words: &str| -> Result<bool> {
        let mut words = words.split(' ');
        let program = words.next().context("a program")?;
        Ok(server.command(program).args(words).output()?.status.success())
    };
    for (words, lost) in [
        ("tc qdisc del dev eth0 clsact", "lost clsact-ingress, clsact-egress"),
        ("tc filter del dev eth0 egress", "lost clsact-egress"),
    ] {
        ensure!(take_off(words)?, "{words}");
        watch.wait("changed", lost)?;
        watch.wait("attached", "attached again: clsact-")?;
        ensure!(device(sgctl)?["protected"] == true);
    }
    holds(&mut scenario)?;
    drop(watch);

    let mut scenario = Scenario::attach_with(&net, &lab::one()?, Host, &["--xdp", "native"])?;
    scenario.serve("server", &[Tcp(82)])?;
    ensure!(!take_off("ip link set dev eth0 xdp off")?, "a link can be taken off");
    ensure!(device(scenario.controller("server"))?["protected"] == true);
    Ok(())
}

/// Another name is no other device.
fn check_renamed(side: Side, options: &[&str]) -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
    let sgctl = scenario.controller("server");
    let (namespace, name) = match side {
        Host => (net.host("server").ns(), DEVICE),
        Workload => (net.wire(), "to-server"),
    };
    namespace.ip(&format!("link set {name} name other0\n"))?;
    let found = device(sgctl)?;
    ensure!(found["protected"] == true && found["change"] == "renamed to other0", "{found}");
    let watch = Watch::start(sgctl)?;
    watch.wait("attached", "still has its programs")?;
    let found = device(sgctl)?;
    ensure!(found["device"] == "other0" && found["change"].is_null(), "{found}");
    ensure!(found["protected"] == true, "{found}");
    drop(watch);
    sgctl.run(["detach", "other0"])?.ok()?;
    ensure!(!sgctl.pins().exists());
    Ok(())
}

#[test]
fn renamed_with_links() -> Result<()> {
    check_renamed(Workload, &["--tc", "tcx"])
}

#[test]
fn renamed_with_filters() -> Result<()> {
    check_renamed(Host, &["--tc", "clsact"])
}

/// Messages that the watcher was too slow for are no events that it has missed.
#[test]
fn overruns_are_survived() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let watch = Watch::start(sgctl)?;
    remove(&net)?;
    watch.wait("changed", "gone")?;
    let process = Pid::from_raw(i32::try_from(watch.0.id())?);
    // `nsenter` becomes the program that it runs.
    kill(process, Signal::SIGSTOP)?;
    let noise: String = (0..4000).map(|at| format!("link set lo alias noise{at}\n")).collect();
    net.wire().ip(&noise)?;
    recreate(&net)?;
    kill(process, Signal::SIGCONT)?;
    watch.wait("attached", "attached again")?;
    // It hears on.
    remove(&net)?;
    watch.wait("changed", "gone")?;
    recreate(&net)?;
    watch.wait("attached", "attached again")?;
    Ok(())
}

/// `addresses: auto` follows without another command.
#[test]
fn addresses_are_followed() -> Result<()> {
    let net = Net::pair()?;
    let text = lab::ONE.replace("addresses: [10.77.2.10, \"fd77:2::10\"]", "addresses: auto");
    let text = text.replace("device: to-server, side: workload", "device: eth0");
    let server = net.host("server").ns();
    let sgctl = Sgctl::new(server)?;
    let path = sgctl.policy("auto.yaml", Example::new("auto", text)?.text())?;
    sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?.ok()?;
    let watch = Watch::start(&sgctl)?;
    let to = |last: u8| std::net::SocketAddr::from(([10, 77, 2, last], ALLOWED));
    let last = 50;
    server.ip(&format!("address add 10.77.2.{last}/24 dev eth0\n"))?;
    watch.wait("addresses", "followed")?;
    let _server = udp::Server::start(server, to(last))?;
    let seen = udp::request(net.host("client").ns(), None, to(last), LONG)?;
    ensure!(seen == Connected, "{seen:?}");
    Ok(())
}
