//! What an operator does and meets: every kind of hook, several devices, several VPCs, killed
//! processes, and nothing left behind.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::Side::{self, Host, Workload},
    lab,
    net::{DEVICE, Net},
    netns::Namespace,
    scenario::{
        LONG,
        Probe::{Ping, Tcp, Udp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, Refused, TimedOut},
        tcp, udp,
    },
};

/// The hooks of the first device of `status`.
fn hooks(sgctl: &Sgctl<'_>) -> Result<Vec<String>> {
    let status = sgctl.json(&["status"])?;
    let hooks = status["devices"][0]["hooks"].as_array().context("hooks")?;
    Ok(hooks.iter().filter_map(|hook| Some(hook["hook"].as_str()?.to_owned())).collect())
}

/// One way to attach: the same verdicts whichever it is.
fn check_hook(side: Side, options: &[&str], expected: [&str; 2]) -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
    assert_eq!(hooks(scenario.controller("server"))?, expected);
    scenario.serve("server", &[Tcp(80), Tcp(81), Udp(53), Udp(54)])?;
    scenario.serve("client", &[Tcp(443), Udp(53)])?;
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Udp(53), Connected),
        ("client", "server", Tcp(81), TimedOut),
        ("client", "server", Udp(54), TimedOut),
        ("client", "server", Ping, TimedOut),
        ("server", "client", Tcp(443), Connected),
        ("server", "client", Tcp(444), Refused),
        ("server", "client", Udp(53), Connected),
        ("server", "client", Ping, Connected),
    ])?;
    // Bulk: what offloads make of segments is judged too.
    let address = net.host("server").socket_v4(80);
    let client = tcp::Client::open(net.host("client").ns(), None, address, LONG)?;
    let client = client.ok().context("a connection")?;
    bulk(client.stream())
}

/// A quarter of a megabyte there and back.
fn bulk(stream: &std::net::TcpStream) -> Result<()> {
    use std::io::{Read as _, Write as _};
    stream.set_read_timeout(Some(LONG))?;
    let sent: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    let mut received = vec![0; sent.len()];
    thread::scope(|scope| {
        let (mut reader, mut writer) = (stream, stream);
        let sent = &sent;
        let writer = scope.spawn(move || writer.write_all(sent));
        reader.read_exact(&mut received)?;
        writer.join().expect("no panic in a write")
    })?;
    ensure!(sent == received, "the answer is not what was sent");
    Ok(())
}

#[test]
fn hook_xdp_native() -> Result<()> {
    check_hook(Host, &["--xdp", "native"], ["xdp-native", "tcx-egress"])
}

#[test]
fn hook_xdp_generic() -> Result<()> {
    check_hook(Host, &["--xdp", "generic"], ["xdp-generic", "tcx-egress"])
}

#[test]
fn hook_tcx_on_the_host_itself() -> Result<()> {
    check_hook(Host, &["--xdp", "off", "--tc", "tcx"], ["tcx-ingress", "tcx-egress"])
}

#[test]
fn hook_clsact_on_the_host_itself() -> Result<()> {
    check_hook(Host, &["--tc", "clsact"], ["clsact-ingress", "clsact-egress"])
}

#[test]
fn hook_tcx_below_the_workload() -> Result<()> {
    check_hook(Workload, &["--tc", "tcx"], ["tcx-ingress", "tcx-egress"])
}

#[test]
fn hook_clsact_below_the_workload() -> Result<()> {
    check_hook(Workload, &["--tc", "clsact"], ["clsact-ingress", "clsact-egress"])
}

/// Without options a veth gets no XDP, which would cost it its offloads.
#[test]
fn hook_of_a_veth_is_tc() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Host)?;
    assert_eq!(hooks(scenario.controller("server"))?, ["tcx-ingress", "tcx-egress"]);
    Ok(())
}

/// Two tenants with the same addresses, on one machine and in one set of tables.
const TENANTS: &str = r#"vpcs:
  - name: red
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: clients
      - name: web
        ingress:
          - {protocol: tcp, ports: 80, from: {group: clients}}
          - {protocol: udp, ports: 53, from: {group: clients}}
    interfaces:
      - {name: red-server, addresses: [10.77.2.10, "fd77:2::10"], groups: [web], device: to-red, side: workload}
      - {name: red-client, addresses: [10.77.1.10, "fd77:1::10"], groups: [clients]}
  - name: blue
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: clients
      - name: web
        ingress:
          - {protocol: tcp, ports: 81, from: {group: clients}}
    interfaces:
      - {name: blue-server, addresses: [10.77.2.10, "fd77:2::10"], groups: [web], device: to-blue, side: workload}
      # Not the member that red's client is.
      - {name: blue-client, addresses: [10.77.3.10, "fd77:3::10"], groups: [clients]}
      - {name: blue-other, addresses: [10.77.1.10, "fd77:1::10"]}
"#;

#[test]
fn vpcs_with_the_same_addresses_do_not_meet() -> Result<()> {
    let tenant = |server: &str| {
        Net::builder()
            .routed("client", &["10.77.1.1/24", "fd77:1::1/64"], &["10.77.1.10", "fd77:1::10"])
            .routed("second", &["10.77.3.1/24", "fd77:3::1/64"], &["10.77.3.10", "fd77:3::10"])
            .routed(server, &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
            .build()
    };
    let (red, blue) = (tenant("red")?, tenant("blue")?);
    let sgctl = Sgctl::new(red.wire())?;
    let path = sgctl.policy("tenants.yaml", TENANTS)?;
    let policy = path.to_str().context("a path in UTF-8")?;
    sgctl.run(["attach", "to-red", "--policy", policy])?.ok()?;
    sgctl.run_in(blue.wire(), ["attach", "to-blue", "--policy", policy])?.ok()?;

    thread::scope(|scope| {
        let mut tasks = Vec::new();
        for (tenant, server) in [(&red, "red"), (&blue, "blue")] {
            for (client, port) in [("client", 80), ("second", 80), ("client", 81), ("second", 81)] {
                tasks.push(scope.spawn(move || -> Result<()> {
                    let expected = match (server, client, port) {
                        ("red", "client", 80) | ("blue", "second", 81) => Connected,
                        _ => TimedOut,
                    };
                    for address in
                        [tenant.host(server).socket_v4(port), tenant.host(server).socket_v6(port)]
                    {
                        let _web = tcp::Server::start(tenant.host(server).ns(), address);
                        let limit = if expected == Connected { LONG } else { SHORT };
                        let seen = tcp::connect(tenant.host(client).ns(), None, address, limit)?;
                        ensure!(seen == expected, "{client} to {server} {address}: {seen:?}");
                    }
                    Ok(())
                }));
            }
        }
        tasks.into_iter().try_for_each(|task| task.join().expect("no panic in a check"))
    })?;

    // Red's live flow is not blue's, though every byte of the two packets is the same.
    for (from, to) in [
        (red.host("client").socket_v4(5000), red.host("red").socket_v4(53)),
        (red.host("client").socket_v6(5000), red.host("red").socket_v6(53)),
    ] {
        let _red = udp::Server::start(red.host("red").ns(), to)?;
        let _blue = udp::Server::start(blue.host("blue").ns(), to)?;
        let ask = |net: &Net, limit| udp::request(net.host("client").ns(), Some(from), to, limit);
        assert_eq!(ask(&red, LONG)?, Connected);
        assert_eq!(ask(&blue, SHORT)?, TimedOut);
    }
    Ok(())
}

/// The verdicts are the kernel's: no process of ours lives for them, and none is missed.
#[test]
fn killed_processes_change_nothing() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(81)])?;
    let expectations =
        [("client", "server", Tcp(80), Connected), ("client", "server", Tcp(81), TimedOut)];
    let address = net.host("server").socket_v6(80);
    let client = tcp::Client::open(net.host("client").ns(), None, address, LONG)?;
    let mut client = client.ok().context("a connection")?;
    let reader = scenario.controller("server").start(["events", "-f"])?;
    scenario.expect(&expectations)?;
    assert!(reader.wait_for_line(LONG, |line| line.contains(" drop ")).is_some());
    assert_eq!(client.exchange(LONG)?, Connected);

    // `drop` of the guard is a SIGKILL.
    drop(reader);
    scenario.expect(&expectations)?;
    assert_eq!(client.exchange(LONG)?, Connected);
    // Its lock went with it.
    let reader = scenario.controller("server").start(["events", "-f"])?;
    scenario.expect(&expectations)?;
    assert!(reader.wait_for_line(LONG, |line| line.contains(" drop ")).is_some());
    assert_eq!(client.exchange(LONG)?, Connected);
    Ok(())
}

/// What `bpftool` and `tc` see of a namespace's devices.
fn hooks_in_use(namespace: &Namespace) -> Result<[String; 3]> {
    let words: [&[&str]; 3] =
        [&["bpftool", "-j", "net"], &["tc", "-j", "qdisc"], &["ip", "-d", "link"]];
    let mut seen = [const { String::new() }; 3];
    for (seen, words) in seen.iter_mut().zip(words) {
        let output = namespace.command(words[0]).args(&words[1..]).output()?;
        ensure!(output.status.success(), "{words:?} fails");
        *seen = String::from_utf8(output.stdout)?;
    }
    Ok(seen)
}

/// Whether the kernel still has a program or map of this number.
fn exists(net: &Net, kind: &str, id: u64) -> Result<bool> {
    let output =
        net.wire().command("bpftool").args([kind, "show", "id", &id.to_string()]).output()?;
    Ok(output.status.success())
}

/// Numbers of the maps or links that sgctl has pinned.
fn pinned(sgctl: &Sgctl<'_>, net: &Net, kind: &str) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for version in fs::read_dir(sgctl.pins())? {
        for pin in fs::read_dir(version?.path().join(format!("{kind}s")))? {
            let mut bpftool = net.wire().command("bpftool");
            bpftool.args(["-j", kind, "show", "pinned"]).arg(pin?.path());
            let shown: Value = serde_json::from_slice(&bpftool.output()?.stdout)?;
            found.push(shown["id"].as_u64().with_context(|| format!("id of a {kind}: {shown}"))?);
        }
    }
    Ok(found)
}

fn check_detach(side: Side, options: &[&str]) -> Result<()> {
    let net = Net::pair()?;
    let place = if side == Host { net.host("server").ns() } else { net.wire() };
    let before = hooks_in_use(place)?;
    let scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
    let sgctl = scenario.controller("server");
    let maps = pinned(sgctl, &net, "map")?;
    assert!(maps.len() > 10, "{maps:?}");
    let links = pinned(sgctl, &net, "link")?;
    let status = sgctl.json(&["status"])?;
    let hooks = status["devices"][0]["hooks"].as_array().context("hooks")?;
    let programs: Vec<_> = hooks.iter().filter_map(|hook| hook["program"].as_u64()).collect();
    for program in &programs {
        assert!(exists(&net, "prog", *program)?);
    }

    sgctl.run(["detach", "--all"])?.ok()?;
    assert_eq!(hooks_in_use(place)?, before);
    assert!(!sgctl.pins().exists(), "{} is still there", sgctl.pins().display());
    let left: Vec<_> = fs::read_dir(sgctl.dir().join("run"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().into_string().unwrap_or_default()))
        .filter(|name| name.contains("live"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // The kernel frees what nothing refers to a little later.
    let started = Instant::now();
    for (kind, ids) in [("link", links), ("prog", programs), ("map", maps)] {
        for id in ids {
            while exists(&net, kind, id)? {
                ensure!(started.elapsed() < LONG, "{kind} {id} is still there");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    assert_eq!(sgctl.run(["status"])?.ok()?.stdout, "nothing is attached\n");
    Ok(())
}

#[test]
fn detach_leaves_nothing_of_tcx() -> Result<()> {
    check_detach(Workload, &["--tc", "tcx"])
}

#[test]
fn detach_leaves_nothing_of_clsact() -> Result<()> {
    check_detach(Host, &["--tc", "clsact"])
}

#[test]
fn detach_leaves_nothing_of_xdp() -> Result<()> {
    check_detach(Host, &["--xdp", "native"])
}

/// A clsact qdisc that somebody else made, with a filter of theirs, survives ours.
#[test]
fn detach_leaves_other_peoples_qdisc() -> Result<()> {
    let net = Net::pair()?;
    let server = net.host("server").ns();
    for words in [
        "qdisc add dev eth0 clsact",
        "filter add dev eth0 ingress prio 7 protocol ip u32 match u32 0 0 flowid 1:1",
    ] {
        let tc = server.command("tc").args(words.split(' ')).output()?;
        assert!(tc.status.success(), "{}", String::from_utf8_lossy(&tc.stderr));
    }
    let before = hooks_in_use(server)?;
    let scenario = Scenario::attach_with(&net, &lab::one()?, Host, &["--tc", "clsact"])?;
    assert_ne!(hooks_in_use(server)?, before);
    scenario.controller("server").run(["detach", DEVICE])?.ok()?;
    assert_eq!(hooks_in_use(server)?, before);
    let filters =
        server.command("tc").args(["filter", "show", "dev", DEVICE, "ingress"]).output()?;
    assert!(String::from_utf8_lossy(&filters.stdout).contains("pref 7"), "the filter is gone");
    Ok(())
}

#[test]
fn devices_come_and_go_one_by_one() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let path = sgctl.policy("two.yaml", lab::two()?.text())?;
    let policy = path.to_str().context("a path in UTF-8")?;
    let (client, server) = (net.host("client"), net.host("server"));
    let reach = |from: &tests::net::Host, to: SocketAddr, expected| -> Result<()> {
        let limit = if expected == TimedOut { SHORT } else { LONG };
        let seen = tcp::connect(from.ns(), None, to, limit)?;
        ensure!(seen == expected, "{to}: {seen:?} instead of {expected:?}");
        Ok(())
    };
    let devices = || -> Result<Vec<String>> {
        let status = sgctl.json(&["status"])?;
        let devices = status["devices"].as_array().context("devices")?;
        Ok(devices.iter().filter_map(|one| Some(one["device"].as_str()?.to_owned())).collect())
    };

    // The client allows nothing in, the server tcp/80: a closed port tells the two apart.
    reach(server, client.socket_v4(80), Refused)?;
    sgctl.run(["attach", "to-server", "--policy", policy])?.ok()?;
    reach(client, server.socket_v4(81), TimedOut)?;
    reach(server, client.socket_v4(80), Refused)?;
    sgctl.run(["attach", "to-client", "--policy", policy])?.ok()?;
    assert_eq!(devices()?, ["to-server", "to-client"]);
    reach(client, server.socket_v6(81), TimedOut)?;
    reach(server, client.socket_v6(80), TimedOut)?;
    reach(client, server.socket_v6(80), Refused)?;

    sgctl.run(["detach", "to-client"])?.ok()?;
    assert_eq!(devices()?, ["to-server"]);
    reach(server, client.socket_v4(80), Refused)?;
    reach(client, server.socket_v4(81), TimedOut)?;
    sgctl.run(["detach", "to-server"])?.ok()?;
    assert!(!sgctl.pins().exists());
    // At once: a datagram is sent but once, so one that met the programs would stay lost.
    let first = udp::request(client.ns(), None, server.socket_v4(81), LONG)?;
    assert_eq!(first, Refused);

    // Without a name: every device that the file names.
    sgctl.run(["attach", "--policy", policy])?.ok()?;
    assert_eq!(devices()?, ["to-server", "to-client"]);
    reach(server, client.socket_v4(80), TimedOut)
}
