//! Packets that do not lie in one piece, and pieces that travel as one packet: jumbo frames, buffers beyond
//! the linear part, batches that the stack has yet to cut. What the programs need of them is read wherever
//! it lies.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{PacketBuilder, UdpHeader};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tests::{
    big_tcp,
    capture::Capture,
    example::Side::{self, Host, Workload},
    inject::Injector,
    lab,
    net::{self, DEVICE, Net},
    scenario::{LONG, SHORT, Scenario},
    sgctl::Sgctl,
    traffic::{Outcome::TimedOut, tcp, udp},
};

/// Every kind of buffer that a program may meet: at TC on either side, and in the driver.
const WAYS: [(Side, &[&str]); 3] =
    [(Workload, &[]), (Host, &["--xdp", "off"]), (Host, &["--xdp", "native"])];
/// Where batches stay batches: a veth with XDP cuts them.
const AT_TC: [(Side, &[&str]); 2] = [WAYS[0], WAYS[1]];

/// The allowed port of [`lab::ONE`] and one that is not.
const OPEN: u16 = 53;
const SHUT: u16 = 54;

/// The usual network, its devices for frames of 9000 bytes.
fn jumbo_net() -> Result<Net> {
    let net = Net::pair()?;
    net.wire().ip("link set to-client mtu 9000\nlink set to-server mtu 9000\n")?;
    for host in ["client", "server"] {
        net.host(host).ns().ip(&format!("link set {DEVICE} mtu 9000\n"))?;
    }
    Ok(net)
}

/// Packets and bytes of the interface, by direction and reason.
fn counted(sgctl: &Sgctl<'_>, direction: &str, reason: &str) -> Result<(u64, u64)> {
    let status = sgctl.json(&["status"])?;
    let counters = status["interfaces"][0]["counters"].as_array().context("counters")?;
    let is_wanted = |one: &&Value| one["direction"] == direction && one["reason"] == reason;
    let number = |one: &Value, what: &str| one[what].as_u64().context("a number");
    counters
        .iter()
        .find(is_wanted)
        .map_or(Ok((0, 0)), |one| Ok((number(one, "packets")?, number(one, "bytes")?)))
}

/// Waits until as many packets have been counted: receiving is asynchronous.
fn await_count(sgctl: &Sgctl<'_>, reason: &str, wanted: u64) -> Result<u64> {
    let started = Instant::now();
    loop {
        let (packets, bytes) = counted(sgctl, "ingress", reason)?;
        if packets == wanted {
            return Ok(bytes);
        }
        ensure!(started.elapsed() < LONG, "{packets} packets of {reason} instead of {wanted}");
    }
}

/// Sends a frame to the open and to the shut port; only the one arrives, and both are judged by their rules.
fn check_ports(
    net: &Net,
    side: Side,
    options: &[&str],
    frame: impl Fn(&net::Host, &net::Host, u16) -> Result<Vec<u8>>,
) -> Result<()> {
    let (client, server) = (net.host("client"), net.host("server"));
    let scenario = Scenario::attach_with(net, &lab::one()?, side, options)?;
    let sgctl = scenario.controller("server");
    let mut behind = Capture::start(server.ns(), DEVICE)?;
    let listen = |address| udp::Server::start(server.ns(), address);
    let open = [listen(server.socket_v4(OPEN))?, listen(server.socket_v6(OPEN))?];
    let shut = [listen(server.socket_v4(SHUT))?, listen(server.socket_v6(SHUT))?];
    let received =
        |servers: &[udp::Server]| servers.iter().map(udp::Server::received).sum::<usize>();

    let wire = Injector::open(net.wire(), server.port())?;
    let (allowed, denied) = (frame(client, server, OPEN)?, frame(client, server, SHUT)?);
    wire.send(&denied)?;
    await_count(sgctl, "no_rule", 1)?;
    wire.send(&allowed)?;
    let seen = behind.wait_for(LONG, |seen| seen.bytes == allowed)?;
    ensure!(seen.is_some(), "{side} {options:?}: the allowed frame did not arrive");
    await_count(sgctl, "rule", 1)?;
    let started = Instant::now();
    while received(&open) == 0 {
        ensure!(started.elapsed() < LONG, "{side} {options:?}: no socket got the datagram");
        thread::yield_now();
    }
    ensure!(received(&shut) == 0, "{side} {options:?}: a shut port got a datagram");
    ensure!(counted(sgctl, "ingress", "malformed")?.0 == 0, "{side} {options:?}: malformed");
    Ok(())
}

/// Eight destination options headers of a kilobyte each, of options that a receiver skips, and a datagram.
fn behind_headers(client: &net::Host, server: &net::Host, port: u16) -> Result<Vec<u8>> {
    const DESTINATION_OPTIONS: u8 = 60;
    const LENGTH: usize = 1024;
    // RFC 8200, section 4.2: type 0x1e is for experiments, and the high bits say to skip it; PadN ends it.
    let option = [&[0x1e, 253][..], &[0; 253]].concat();
    let options = [option.repeat(4), vec![1, 0]].concat();
    let mut body = Vec::new();
    for index in 0..8 {
        body.push(if index == 7 { 17 } else { DESTINATION_OPTIONS });
        body.push(u8::try_from(LENGTH / 8 - 1)?);
        body.extend(&options);
    }
    ensure!(body.len() == 8 * LENGTH, "{} bytes of headers", body.len());
    let payload = b"behind eight headers";
    let (source, destination) = (client.v6().octets(), server.v6().octets());
    let mut udp = UdpHeader::without_ipv4_checksum(4000, port, payload.len())?;
    udp.checksum = udp.calc_checksum_ipv6_raw(source, destination, payload)?;
    body.extend(udp.to_bytes());
    body.extend(payload);
    let mut frame = [&server.mac()[..], &server.port_mac(), &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend(u16::try_from(body.len())?.to_be_bytes());
    frame.extend([DESTINATION_OPTIONS, 64]);
    frame.extend([source, destination].concat());
    frame.extend(body);
    Ok(frame)
}

/// The ports lie in the third page of the packet: beyond the first buffer of an XDP frame, and beyond what
/// a packet socket puts into the linear part.
#[test]
fn ports_behind_eight_kilobytes_of_headers() -> Result<()> {
    for (side, options) in WAYS {
        check_ports(&jumbo_net()?, side, options, behind_headers)?;
    }
    Ok(())
}

/// A packet socket puts the Ethernet header of a frame of more than a page into the linear part, and all the
/// rest elsewhere.
#[test]
fn headers_outside_the_linear_part() -> Result<()> {
    for (side, options) in WAYS {
        let net = jumbo_net()?;
        check_ports(&net, side, options, |client, server, port| {
            let builder = PacketBuilder::ethernet2(server.port_mac(), server.mac());
            let mut frame = Vec::new();
            let builder = builder.ipv4(client.v4().octets(), server.v4().octets(), 64);
            builder.udp(4000, port).write(&mut frame, &[7; 8000])?;
            Ok(frame)
        })?;
        check_ports(&net, side, options, |client, server, port| {
            let builder = PacketBuilder::ethernet2(server.port_mac(), server.mac());
            let mut frame = Vec::new();
            let builder = builder.ipv6(client.v6().octets(), server.v6().octets(), 64);
            builder.udp(4000, port).write(&mut frame, &[7; 8000])?;
            Ok(frame)
        })?;
    }
    Ok(())
}

/// Megabytes there and back.
fn bulk(stream: &TcpStream, length: usize) -> Result<()> {
    stream.set_read_timeout(Some(LONG))?;
    let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
    let mut received = vec![0; length];
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

fn connect(net: &Net, address: SocketAddr) -> Result<tcp::Client> {
    let opened = tcp::Client::open(net.host("client").ns(), None, address, LONG)?;
    opened.ok().context("a connection")
}

/// Bulk by either family, with a shut port beside it; what a flow's packets came to on average.
fn check_bulk(net: &Net, side: Side, options: &[&str], length: usize) -> Result<u64> {
    let scenario = Scenario::attach_with(net, &lab::one()?, side, options)?;
    let sgctl = scenario.controller("server");
    exchange(net, sgctl, length)?;
    let (packets, bytes) = counted(sgctl, "ingress", "flow")?;
    Ok(bytes / packets.max(1))
}

fn exchange(net: &Net, sgctl: &Sgctl<'_>, length: usize) -> Result<()> {
    let server = net.host("server");
    for address in [server.socket_v4(80), server.socket_v6(80)] {
        let _web = tcp::Server::start(server.ns(), address)?;
        let shut = SocketAddr::new(address.ip(), 81);
        let _shut = tcp::Server::start(server.ns(), shut)?;
        let client = connect(net, address)?;
        bulk(client.stream(), length)?;
        let outcome = tcp::connect(net.host("client").ns(), None, shut, SHORT)?;
        ensure!(outcome == TimedOut, "{shut}: {outcome:?}");
    }
    for direction in ["ingress", "egress"] {
        ensure!(counted(sgctl, direction, "malformed")?.0 == 0, "malformed");
    }
    Ok(())
}

#[test]
fn bulk_in_jumbo_frames() -> Result<()> {
    for (side, options) in WAYS {
        check_bulk(&jumbo_net()?, side, options, 4 << 20)?;
    }
    Ok(())
}

/// TSO and GRO: what a program judges once is many segments.
#[test]
fn batches_of_tcp_segments() -> Result<()> {
    for (side, options) in AT_TC {
        let average = check_bulk(&Net::pair()?, side, options, 8 << 20)?;
        ensure!(average > 1514, "{side}: packets of {average} bytes are no batches");
    }
    Ok(())
}

/// BIG TCP: batches that no length field can tell; IPv6 has a jumbo option before them, or had.
#[test]
fn batches_longer_than_a_length_field() -> Result<()> {
    const LIMIT: u32 = 100_000;
    const ATTEMPTS: usize = 10;
    for (side, options) in AT_TC {
        let net = Net::pair()?;
        for host in ["client", "server"] {
            big_tcp::allow(net.wire(), net.host(host).port(), LIMIT)?;
            big_tcp::allow(net.host(host).ns(), DEVICE, LIMIT)?;
        }
        let scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
        let mut seen = Capture::start(net.wire(), net.host("server").port())?;
        let mut missing = vec![4, 6];
        // How long a batch grows is the sender's choice, and on a busy machine it has less to choose from.
        for _ in 0..ATTEMPTS {
            exchange(&net, scenario.controller("server"), 16 << 20)?;
            let frames = seen.frames()?;
            let is_long = |family| {
                frames.iter().any(|one| one.bytes[14] >> 4 == family && one.bytes.len() > 66_000)
            };
            missing.retain(|&family| !is_long(family));
            if missing.is_empty() {
                break;
            }
            seen.clear()?;
        }
        ensure!(missing.is_empty(), "{side}: no batch of IPv{missing:?} was longer than 64 KiB");
    }
    Ok(())
}

/// A sender's batch of datagrams (UDP_SEGMENT).
#[test]
fn batches_of_datagrams() -> Result<()> {
    const SEGMENT: i32 = 1000;
    const COUNT: usize = 30;
    for (side, options) in AT_TC {
        let net = Net::pair()?;
        let (client, server) = (net.host("client"), net.host("server"));
        let scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
        let sgctl = scenario.controller("server");
        for (family, [open, shut]) in [
            (1, [server.socket_v4(OPEN), server.socket_v4(SHUT)]),
            (2, [server.socket_v6(OPEN), server.socket_v6(SHUT)]),
        ] {
            let listening = [open, shut].map(|address| udp::Server::start(server.ns(), address));
            let [listening, deaf] = listening;
            let (listening, deaf) = (listening?, deaf?);
            let any = if open.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = client.ns().run(|| UdpSocket::bind(any))?;
            setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &SEGMENT)?;
            let batch = vec![7; COUNT * 1000];
            socket.send_to(&batch, shut)?;
            let dropped = await_count(sgctl, "no_rule", family)?;
            ensure!(dropped > family * 30_000, "{side}: {dropped} bytes are no batch");
            socket.send_to(&batch, open)?;
            let allowed = await_count(sgctl, "rule", family)?;
            ensure!(allowed > family * 30_000, "{side}: {allowed} bytes are no batch");
            let started = Instant::now();
            while listening.received() < COUNT {
                ensure!(started.elapsed() < LONG, "{side}: {} arrived", listening.received());
                thread::yield_now();
            }
            ensure!(deaf.received() == 0, "{side}: a shut port got datagrams");
        }
        drop(scenario);
    }
    Ok(())
}

/// Pages of a file go out as they are in the cache: nothing but the headers is linear.
#[test]
fn files_without_a_copy() -> Result<()> {
    const LENGTH: usize = 1 << 20;
    for (side, options) in WAYS {
        let net = Net::pair()?;
        let server = net.host("server");
        let scenario = Scenario::attach_with(&net, &lab::one()?, side, options)?;
        let path = scenario.controller("server").dir().join("pages");
        let content: Vec<u8> = (0..=250).cycle().take(LENGTH).collect();
        std::fs::write(&path, &content)?;
        let file = std::fs::File::open(&path)?;
        for address in [server.socket_v4(80), server.socket_v6(80)] {
            let _web = tcp::Server::start(server.ns(), address)?;
            let client = connect(&net, address)?;
            let stream = client.stream();
            stream.set_read_timeout(Some(LONG))?;
            let mut echoed = vec![0; LENGTH];
            thread::scope(|scope| {
                let sender = scope.spawn(|| send_file(stream, &file, LENGTH));
                let mut reader = stream;
                reader.read_exact(&mut echoed)?;
                sender.join().expect("no panic in a sender")
            })?;
            ensure!(echoed == content, "{side} {options:?}: the echo is not the file");
        }
    }
    Ok(())
}

fn send_file(stream: &TcpStream, file: &std::fs::File, length: usize) -> Result<()> {
    let mut offset = 0;
    while offset < libc::off_t::try_from(length)? {
        let rest = length - usize::try_from(offset)?;
        ensure!(
            nix::sys::sendfile::sendfile(stream, file, Some(&mut offset), rest)? > 0,
            "the end"
        );
    }
    Ok(())
}
