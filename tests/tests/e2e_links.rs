//! Links that are not plain Ethernet: tun devices, whose packets begin with the IP header, and VLAN
//! tags.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use serde_json::Value;
use tests::{
    capture::Capture,
    example::{Example, Side::Workload},
    inject::Injector,
    lab,
    net::{DEVICE, Host, Net},
    netns::Namespace,
    scenario::{LONG, Probe::Udp, SHORT, Scenario},
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, Refused, TimedOut},
        icmp, tcp,
    },
    tun::{self, Cable},
};

/// The far end of a VPN, protected at its own tun device.
const TUNNEL: &str = r#"vpcs:
  - name: vpn
    cidrs: [10.79.0.0/16, "fd79::/16"]
    security_groups:
      - name: web
        ingress: [{type: http, from: [0.0.0.0/0, "::/0"]}]
    interfaces:
      - {name: far, addresses: [10.79.0.2, "fd79::2"], groups: [web], device: tun0, side: host}
"#;

#[test]
fn a_device_without_ethernet_is_judged_by_its_ip_header() -> Result<()> {
    let (near, far) = (Namespace::new("near")?, Namespace::new("far")?);
    for namespace in [&near, &far] {
        // Echo sockets of any group.
        namespace.set_parameters(&[("ipv4/ping_group_range", "0 2147483647")])?;
    }
    let _cable = Cable::between([
        (&near, &["10.79.0.1/24", "fd79::1/64"]),
        (&far, &["10.79.0.2/24", "fd79::2/64"]),
    ])?;
    let sgctl = Sgctl::new(&far)?;
    let path = sgctl.policy("tunnel.yaml", TUNNEL)?;
    sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?.ok()?;
    let status = sgctl.json(&["status"])?;
    assert_eq!(status["devices"][0]["device"], tun::DEVICE);
    assert_eq!(status["devices"][0]["hooks"][0]["hook"], "tcx-ingress");
    let pairs: [[SocketAddr; 2]; 2] = [
        ["10.79.0.1:0".parse()?, "10.79.0.2:0".parse()?],
        ["[fd79::1]:0".parse()?, "[fd79::2]:0".parse()?],
    ];
    for [left, right] in pairs {
        let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
        let _web = tcp::Server::start(&far, at(right, 80))?;
        let _ssh = tcp::Server::start(&far, at(right, 22))?;
        let _outside = tcp::Server::start(&near, at(left, 443))?;
        assert_eq!(tcp::connect(&near, None, at(right, 80), LONG)?, Connected);
        assert_eq!(tcp::connect(&near, None, at(right, 22), SHORT)?, TimedOut);
        assert_eq!(tcp::connect(&far, None, at(left, 443), LONG)?, Connected);
        assert_eq!(tcp::connect(&far, None, at(left, 444), LONG)?, Refused);
        assert_eq!(icmp::ping(&near, None, right.ip(), SHORT)?, TimedOut);
        assert_eq!(icmp::ping(&far, None, left.ip(), LONG)?, Connected);
    }
    let status = sgctl.json(&["status"])?;
    assert_eq!(packets(&status, "ingress", "malformed"), 0, "{status}");
    Ok(())
}

/// A workload behind a tun device, as a VPN's client is: nobody's word but its own.
#[test]
fn a_workload_behind_a_device_without_ethernet() -> Result<()> {
    let (near, far) = (Namespace::new("near")?, Namespace::new("far")?);
    let _cable = Cable::between([
        (&near, &["10.79.0.1/24", "fd79::1/64"]),
        (&far, &["10.79.0.2/24", "10.79.0.3/24", "fd79::2/64", "fd79::3/64"]),
    ])?;
    let sgctl = Sgctl::new(&near)?;
    let path = sgctl.policy("client.yaml", &TUNNEL.replace("side: host", "side: workload"))?;
    sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?.ok()?;
    let pairs: [[SocketAddr; 3]; 2] = [
        ["10.79.0.1:443".parse()?, "10.79.0.2:80".parse()?, "10.79.0.3:0".parse()?],
        ["[fd79::1]:443".parse()?, "[fd79::2]:80".parse()?, "[fd79::3]:0".parse()?],
    ];
    for (index, [outside, web, other]) in pairs.into_iter().enumerate() {
        let shut = SocketAddr::new(web.ip(), 22);
        let own = SocketAddr::new(web.ip(), 0);
        let _web = tcp::Server::start(&far, web)?;
        let _ssh = tcp::Server::start(&far, shut)?;
        let _outside = tcp::Server::start(&near, outside)?;
        assert_eq!(tcp::connect(&near, None, web, LONG)?, Connected);
        assert_eq!(tcp::connect(&near, None, shut, SHORT)?, TimedOut);
        assert_eq!(tcp::connect(&far, Some(own), outside, LONG)?, Connected);
        assert_eq!(tcp::connect(&far, Some(other), outside, SHORT)?, TimedOut);
        let status = sgctl.json(&["status"])?;
        ensure!(packets(&status, "egress", "source_check") > u64::try_from(index)?, "{status}");
        ensure!(packets(&status, "egress", "malformed") == 0, "{status}");
    }
    Ok(())
}

/// A bridge hands on what its port has stripped of a tag: beside the bytes of the frame, where a device
/// that inserts tags by itself wants it. Then the tag that a program sees is not in the packet.
#[test]
fn tags_beside_the_frame_hide_nothing() -> Result<()> {
    const TAG: u16 = 0x8100;
    let net = Net::builder()
        .segment("lan", &["10.77.2.1/24"])
        .host("client", "lan", &["10.77.2.11"])
        .host("server", "lan", &["10.77.2.10"])
        .build()?;
    let (client, server) = (net.host("client"), net.host("server"));
    let text = lab::ONE.replace("10.77.1.10\", \"fd77:1::10", "10.77.2.11\", \"fd77:2::11");
    let scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    let sgctl = scenario.controller("server");
    let mut inside = Capture::start(server.ns(), DEVICE)?;
    let wire = Injector::open(client.ns(), DEVICE)?;
    let await_count = |reason: &str, wanted| -> Result<()> {
        let started = std::time::Instant::now();
        while packets(&sgctl.json(&["status"])?, "ingress", reason) != wanted {
            ensure!(started.elapsed() < LONG, "{wanted} of {reason} did not come about");
        }
        Ok(())
    };
    for (tags, wanted) in [(0, 1), (1, 2), (2, 3)] {
        let tags = &[TAG; 3][..tags];
        let (allowed, blocked) =
            (tagged(client, server, tags, 53)?, tagged(client, server, tags, 54)?);
        wire.send(&blocked)?;
        await_count("no_rule", wanted)?;
        wire.send(&allowed)?;
        let seen = inside.wait_for(LONG, |seen| seen.bytes == allowed)?;
        ensure!(seen.is_some(), "{tags:x?}: an allowed frame did not arrive");
        ensure!(inside.count(|seen| seen.bytes == blocked)? == 0, "{tags:x?}: arrived");
    }
    let deep = tagged(client, server, &[TAG; 3], 53)?;
    wire.send(&deep)?;
    await_count("vlan_depth", 1)?;
    ensure!(inside.count(|seen| seen.bytes == deep)? == 0, "three tags arrived");
    Ok(())
}

/// Packets of the one interface, by direction and reason.
fn packets(status: &Value, direction: &str, reason: &str) -> u64 {
    let counters = status["interfaces"][0]["counters"].as_array().into_iter().flatten();
    let wanted = |one: &&Value| one["direction"] == direction && one["reason"] == reason;
    counters.filter(wanted).filter_map(|one| one["packets"].as_u64()).sum()
}

/// A datagram behind VLAN tags, outermost first.
fn tagged(from: &Host, to: &Host, tags: &[u16], port: u16) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from.mac(), to.mac())
        .ipv4(from.v4().octets(), to.v4().octets(), 64)
        .udp(4000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"behind tags")?;
    let stack = tags.iter().flat_map(|tag| [tag.to_be_bytes(), [0, 7]]).flatten();
    frame.splice(12..12, stack);
    Ok(frame)
}

/// Up to two tags are looked through, and the packet is judged as it would be without.
#[test]
fn tags_hide_nothing() -> Result<()> {
    const CUSTOMER: u16 = 0x8100;
    const SERVICE: u16 = 0x88a8;
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let mut inside = Capture::start(server.ns(), DEVICE)?;
    let wire = Injector::open(net.wire(), server.port())?;
    let count =
        |reason| Ok::<_, anyhow::Error>(packets(&sgctl.json(&["status"])?, "ingress", reason));
    for (index, tags) in
        [&[][..], &[CUSTOMER], &[SERVICE], &[SERVICE, CUSTOMER], &[CUSTOMER, CUSTOMER]]
            .iter()
            .enumerate()
    {
        // An allowed port opens one flow, and is the same flow behind other tags.
        let allowed = tagged(client, server, tags, 53)?;
        wire.send(&allowed)?;
        let seen = inside.wait_for(LONG, |seen| seen.bytes == allowed)?;
        ensure!(seen.is_some(), "{tags:x?}: an allowed frame did not arrive");
        ensure!(count("rule")? == 1, "{tags:x?}: allowed by {} rules", count("rule")?);
        // A blocked one is dropped, and seen to be.
        let blocked = tagged(client, server, tags, 54)?;
        wire.send(&blocked)?;
        let dropped = u64::try_from(index + 1)?;
        ensure!(count("no_rule")? == dropped, "{tags:x?}: {} drops", count("no_rule")?);
        ensure!(inside.count(|seen| seen.bytes == blocked)? == 0, "{tags:x?}: arrived");
    }
    // A third tag hides too much, allowed port or not.
    for (index, tags) in
        [[CUSTOMER; 3], [SERVICE, CUSTOMER, CUSTOMER], [SERVICE; 3]].iter().enumerate()
    {
        let deep = tagged(client, server, tags, 53)?;
        wire.send(&deep)?;
        let dropped = u64::try_from(index + 1)?;
        ensure!(count("vlan_depth")? == dropped, "{tags:x?}: {} drops", count("vlan_depth")?);
        ensure!(inside.count(|seen| seen.bytes == deep)? == 0, "{tags:x?}: arrived");
    }
    // Untagged traffic is none the worse for it.
    let _echo = tests::traffic::udp::Server::start(server.ns(), server.socket_v4(53))?;
    scenario.expect(&[("client", "server", Udp(54), TimedOut)])?;
    let answer = tests::traffic::udp::request(client.ns(), None, server.socket_v4(53), LONG)?;
    ensure!(answer == Connected, "untagged: {answer:?}");
    sgctl.run(["detach", server.port()])?.ok().context("detach")?;
    Ok(())
}

/// On the host's own device the same, where the kernel takes one tag off before the program looks.
#[test]
fn tags_hide_nothing_on_the_host_itself() -> Result<()> {
    let net = Net::pair()?;
    let (client, server) = (net.host("client"), net.host("server"));
    for options in [&["--xdp", "off"][..], &["--xdp", "native"], &["--xdp", "generic"]] {
        let scenario =
            Scenario::attach_with(&net, &lab::one()?, tests::example::Side::Host, options)?;
        let sgctl = scenario.controller("server");
        let wire = Injector::open(net.wire(), server.port())?;
        let expected = [(0, "no_rule"), (1, "no_rule"), (2, "no_rule"), (3, "vlan_depth")];
        for (tags, reason) in expected {
            let before = packets(&sgctl.json(&["status"])?, "ingress", reason);
            wire.send(&tagged(client, server, &[0x8100; 3][..tags], 54)?)?;
            // Receiving is asynchronous.
            let started = std::time::Instant::now();
            loop {
                let now = packets(&sgctl.json(&["status"])?, "ingress", reason);
                if now == before + 1 {
                    break;
                }
                ensure!(started.elapsed() < LONG, "{options:?}, {tags} tags: {now} of {reason}");
            }
        }
    }
    Ok(())
}
