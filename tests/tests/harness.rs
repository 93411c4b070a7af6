//! The harness proves itself: every outcome that the end-to-end tests assert on is produced here
//! without any program of ours, by a listener, a closed port, a blackhole route.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use etherparse::PacketBuilder;
use tests::{
    capture::Capture,
    frame::Frame,
    inject::inject,
    net::{DEVICE, Host, Net},
    netns::Namespace,
    sgctl::Sgctl,
    stale,
    traffic::{Outcome, icmp, ip, sctp, tcp, udp},
};

/// Time for what must not arrive to arrive nonetheless.
const SHORT: Duration = Duration::from_millis(500);
/// Time for what must arrive.
const LONG: Duration = Duration::from_secs(5);

/// The same port at both of a host's addresses.
fn sockets(host: &Host, port: u16) -> [SocketAddr; 2] {
    [host.socket_v4(port), host.socket_v6(port)]
}

/// One bridged segment with two hosts and one routed host, both families.
fn mixed_net() -> Result<Net> {
    Net::builder()
        .segment("lan", &["10.78.1.1/24", "fd78:1::1/64"])
        .host("a", "lan", &["10.78.1.10", "fd78:1::10"])
        .host("b", "lan", &["10.78.1.11", "fd78:1::11"])
        .routed("c", &["10.78.2.1/24", "fd78:2::1/64"], &["10.78.2.10", "fd78:2::10"])
        .build()
}

#[test]
fn listener_connects_and_closed_port_refuses() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    for address in sockets(server, 80) {
        let web = tcp::Server::start(server.ns(), address)?;
        assert_eq!(tcp::connect(client.ns(), None, address, LONG)?, Outcome::Connected);
        assert_eq!(web.accepted(), 1);
        let closed = SocketAddr::new(address.ip(), 81);
        assert_eq!(tcp::connect(client.ns(), None, closed, LONG)?, Outcome::Refused);

        let echo = udp::Server::start(server.ns(), address)?;
        assert_eq!(udp::request(client.ns(), None, address, LONG)?, Outcome::Connected);
        assert_eq!(echo.received(), 1);
        assert_eq!(udp::request(client.ns(), None, closed, LONG)?, Outcome::Refused);
    }
    Ok(())
}

#[test]
fn blackhole_times_out_and_missing_route_is_unreachable() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    net.wire().ip("route add blackhole 10.77.9.0/24\nroute add blackhole fd77:9::/64\n")?;
    let holes: [SocketAddr; 2] = ["10.77.9.1:80".parse()?, "[fd77:9::1]:80".parse()?];
    for hole in holes {
        assert_eq!(tcp::connect(client.ns(), None, hole, SHORT)?, Outcome::TimedOut);
        assert_eq!(udp::request(client.ns(), None, hole, SHORT)?, Outcome::TimedOut);
        assert_eq!(icmp::ping(client.ns(), None, hole.ip(), SHORT)?, Outcome::TimedOut);
    }
    // The wire has no default route and says so.
    let nowhere: [SocketAddr; 2] = ["203.0.113.1:80".parse()?, "[2001:db8::1]:80".parse()?];
    for address in nowhere {
        assert_eq!(tcp::connect(client.ns(), None, address, LONG)?, Outcome::Unreachable);
        assert_eq!(udp::request(client.ns(), None, address, LONG)?, Outcome::Unreachable);
        assert_eq!(icmp::ping(client.ns(), None, address.ip(), LONG)?, Outcome::Unreachable);
    }
    // A conversation survives being left alone, and notices when its way goes.
    let address = server.socket_v4(22);
    let _ssh = tcp::Server::start(server.ns(), address)?;
    let mut client = tcp::Client::open(client.ns(), None, address, LONG)?.expect("a connection");
    assert_eq!(client.exchange(LONG)?, Outcome::Connected);
    net.wire().ip("route add blackhole 10.77.1.10/32\n")?;
    assert_eq!(client.exchange(SHORT)?, Outcome::Stalled);
    Ok(())
}

#[test]
fn every_pair_of_hosts_talks() -> Result<()> {
    let net = mixed_net()?;
    for (from, to) in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")] {
        let (from, to) = (net.host(from), net.host(to));
        for address in sockets(to, 8080) {
            let _server = tcp::Server::start(to.ns(), address)?;
            assert_eq!(tcp::connect(from.ns(), None, address, LONG)?, Outcome::Connected);
            assert_eq!(icmp::ping(from.ns(), None, address.ip(), LONG)?, Outcome::Connected);
        }
    }
    Ok(())
}

#[test]
fn source_address_and_port_are_as_asked() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    client.ns().ip(&format!("address add 10.77.1.11/24 dev {DEVICE}\n"))?;
    let _echo = udp::Server::start(server.ns(), server.socket_v4(53))?;
    let mut capture = Capture::start(server.ns(), DEVICE)?;
    let from = SocketAddr::from(([10, 77, 1, 11], 4000));
    let outcome = udp::request(client.ns(), Some(from), server.socket_v4(53), LONG)?;
    assert_eq!(outcome, Outcome::Connected);
    let request = |frame: &Frame| {
        frame.is_between(from.ip(), server.v4().into()) && frame.ports() == Some((4000, 53))
    };
    assert_eq!(capture.count(|frame| request(frame) && !frame.outgoing)?, 1);
    assert_eq!(capture.count(|frame| frame.is_to(from) && frame.outgoing)?, 1);
    Ok(())
}

#[test]
fn other_protocols_pass_and_are_refused() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    for (from, to) in sockets(client, 9).into_iter().zip(sockets(server, 9)) {
        let reach = |protocol| ip::request(client.ns(), protocol, None, to.ip(), LONG);
        let experiment = ip::Server::start(server.ns(), to.ip(), 253)?;
        assert_eq!(reach(253)?, Outcome::Connected);
        assert_eq!(experiment.received(), 1);
        assert_eq!(reach(254)?, Outcome::Refused);

        let sctp = sctp::Server::start(server.ns(), to)?;
        assert_eq!(sctp::request(client.ns(), from, to, LONG)?, Outcome::Connected);
        let closed = SocketAddr::new(to.ip(), 10);
        assert_eq!(sctp::request(client.ns(), from, closed, SHORT)?, Outcome::TimedOut);
        assert_eq!(sctp.received(), 1);
    }
    Ok(())
}

#[test]
fn capture_sees_an_injected_frame() -> Result<()> {
    let net = Net::pair()?;
    let host = net.host("server");
    let mut capture = Capture::start(host.ns(), DEVICE)?;
    let builder = PacketBuilder::ethernet2(host.port_mac(), host.mac())
        .ipv4([192, 0, 2, 1], host.v4().octets(), 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"out of the blue")?;
    inject(net.wire(), host.port(), &frame)?;
    let seen = capture.wait_for(LONG, |seen| seen.is_to(host.socket_v4(2)))?;
    assert_eq!(seen, Some(Frame { bytes: frame.clone(), outgoing: false }));

    // The kernel takes tags off before a socket sees the frame; the capture puts them back.
    let tag = [0x81, 0x00, 0x00, 0x2a];
    frame.splice(12..12, tag);
    capture.clear()?;
    inject(net.wire(), host.port(), &frame)?;
    let seen = capture.wait_for(LONG, |seen| seen.bytes.get(12..16) == Some(&tag))?;
    assert_eq!(seen.map(|seen| seen.bytes), Some(frame));
    Ok(())
}

#[test]
fn capture_is_quiet_without_link_local_addresses() -> Result<()> {
    let net = Net::builder()
        .link_local(false)
        .routed("a", &["10.79.1.1/24", "fd79:1::1/64"], &["10.79.1.10", "fd79:1::10"])
        .build()?;
    let host = net.host("a");
    let mut capture = Capture::start(host.ns(), DEVICE)?;
    std::thread::sleep(SHORT);
    assert_eq!(capture.count(|frame| !frame.is_chatter())?, 0, "{:?}", capture.frames()?);
    for gateway in ["10.79.1.1", "fd79:1::1"] {
        let gateway: IpAddr = gateway.parse()?;
        assert_eq!(icmp::ping(host.ns(), None, gateway, LONG)?, Outcome::Connected);
        assert_eq!(capture.count(|frame| frame.is_between(host_ip(host, gateway), gateway))?, 1);
    }
    Ok(())
}

/// The host's address of the same family as another.
fn host_ip(host: &Host, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { host.v4().into() } else { host.v6().into() }
}

#[test]
fn capture_is_saved_as_pcap() -> Result<()> {
    let net = Net::pair()?;
    let host = net.host("client");
    let mut capture = Capture::start(host.ns(), DEVICE)?;
    let peer = net.host("server").v4().into();
    assert_eq!(icmp::ping(host.ns(), None, peer, LONG)?, Outcome::Connected);
    let path = std::env::temp_dir().join(stale::unique_name("ping.pcap"));
    capture.save(&path)?;
    let mut reader = pcap_file::pcap::PcapReader::new(fs::File::open(&path)?)?;
    let mut packets = 0;
    while let Some(packet) = reader.next_packet() {
        assert!(packet?.data.len() >= 14);
        packets += 1;
    }
    fs::remove_file(&path)?;
    assert!(packets >= 2, "{packets} packets");
    Ok(())
}

#[test]
fn commands_run_inside_and_see_bpffs() -> Result<()> {
    let namespace = Namespace::new("inside")?;
    let here = namespace.command("ip").args(["netns", "identify"]).output()?;
    assert_eq!(String::from_utf8(here.stdout)?.trim(), namespace.name());
    let mounts = namespace.command("cat").arg("/proc/self/mounts").output()?;
    assert!(String::from_utf8(mounts.stdout)?.contains(" /sys/fs/bpf bpf "));
    let error = namespace.ip("link set nothing up\n").expect_err("there is no such device");
    assert!(error.to_string().contains("nothing"), "{error:#}");
    Ok(())
}

/// A stand-in for sgctl: says what it was given, and leaves a trace where it may.
fn stand_in() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(stale::unique_name("stand-in"));
    let script = "#!/bin/sh\n\
        mkdir -p \"$SG_BPFFS/v1\" \"$SG_RUN\" \"$SG_STATE\"\n\
        echo \"$*\" >> \"$SG_RUN/../../${0##*/}.log\"\n\
        echo \"$SG_BPFFS\"; ip netns identify >&2; exit 3\n";
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[test]
fn sgctl_has_its_own_state_and_takes_it_along() -> Result<()> {
    let (namespace, program) = (Namespace::new("sgctl")?, stand_in()?);
    let sgctl = Sgctl::with_program(&namespace, program.clone())?;
    let (pins, dir) = (sgctl.pins().to_owned(), sgctl.dir().to_owned());
    let output = sgctl.run(["status", "-o", "json"])?;
    assert_eq!(output.code, Some(3));
    assert_eq!(output.stdout.trim(), pins.display().to_string());
    assert_eq!(output.stderr.trim(), namespace.name());
    assert!(pins.join("v1").is_dir() && dir.join("state").is_dir());
    drop(sgctl);
    assert!(!pins.exists() && !dir.exists());
    let log = program.with_extension("log");
    assert_eq!(fs::read_to_string(&log)?, "status -o json\ndetach --all\n");
    fs::remove_file(log)?;
    fs::remove_file(program)?;
    Ok(())
}

#[test]
fn guards_clean_up_even_when_a_test_panics() -> Result<()> {
    let net = Net::pair()?;
    let paths = [net.wire().path(), net.host("client").ns().path()];
    assert!(paths.iter().all(|path| path.exists()));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _net = net;
        std::panic::resume_unwind(Box::new("as a failed assertion does"));
    }));
    assert!(panicked.is_err());
    assert!(!paths.iter().any(|path| path.exists()), "{paths:?}");
    Ok(())
}

#[test]
fn namespaces_of_dead_processes_are_swept() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    let dead = child.id();
    child.wait()?;
    let living = Namespace::new("living")?;
    let stale_name = format!("{}{dead}-0-left", stale::PREFIX);
    assert!(Command::new("ip").args(["netns", "add", &stale_name]).status()?.success());
    let file = Path::new(stale::NETNS_DIR).join(&stale_name);
    assert!(file.exists());
    stale::sweep();
    assert!(!file.exists());
    assert!(living.path().exists());
    Ok(())
}
