//! The range: a server under a policy, a way to put any frame on the wire in front of it, and captures
//! behind its programs.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::frames::{Ends, Link};
use crate::{
    capture::Capture,
    example::Example,
    net::{DEVICE, Host, Net},
    netns::Namespace,
    packet_socket::{Hears, PacketSocket},
    sgctl::Sgctl,
};

/// A server whom everybody may ask for web pages, names and echoes.
pub(super) const OPEN: &str = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: open
        ingress:
          - {type: http, from: [0.0.0.0/0, "::/0"]}
          - {type: dns-udp, from: [0.0.0.0/0, "::/0"]}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
          - {protocol: icmpv6, icmp_type: 128, from: "::/0"}
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [open], device: to-server, side: workload}
      - {name: client, addresses: [10.77.1.10, "fd77:1::10"]}
"#;

/// A server whom nobody may ask for anything.
pub(super) const CLOSED: &str = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: closed
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [closed], device: to-server, side: workload}
"#;

/// Flows of each opening table, as `Sizes::default` has it.
pub(super) const OPENING: usize = 1 << 15;
/// Frames handed to the kernel at a time.
const BATCH: usize = 256;
/// Longest that a frame may take from one end of a veth to the other.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Where the server's ingress is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// Side `workload`, TC at the host's end of its veth.
    Tc,
    /// Side `host`, native XDP at its own device.
    Xdp,
}

/// Two hosts and a wire between them that answers to nobody else: what is sent to a forged source is lost.
pub(super) fn routed() -> Result<Net> {
    let net = Net::pair()?;
    net.wire().ip("route add blackhole 0.0.0.0/0\nroute add blackhole ::/0\n")?;
    Ok(net)
}

/// `server` and others on one bridge, the first of them at 10.77.2.20 and fd77:2::20.
pub(super) fn bridged(others: &[&str]) -> Result<Net> {
    let mut builder = Net::builder().segment("lan", &["10.77.2.1/24", "fd77:2::1/64"]).host(
        "server",
        "lan",
        &["10.77.2.10", "fd77:2::10"],
    );
    for (number, name) in (20..).zip(others) {
        let addresses = [format!("10.77.2.{number}"), format!("fd77:2::{number}")];
        builder = builder.host(name, "lan", &addresses.each_ref().map(String::as_str));
    }
    builder.build()
}

/// `server` under a policy.
#[derive(Debug)]
pub(super) struct Target<'net> {
    net: &'net Net,
    sgctl: Sgctl<'net>,
    socket: PacketSocket,
    link: Link,
}

impl<'net> Target<'net> {
    pub(super) fn attach(
        net: &'net Net,
        policy: &str,
        hook: Hook,
        options: &[&str],
    ) -> Result<Self> {
        let example = Example::new("range", policy)?;
        let server = net.host("server");
        let (sgctl, text) = match hook {
            Hook::Tc => (Sgctl::new(net.wire())?, example.on_carrier(net)?),
            Hook::Xdp => (Sgctl::new(server.ns())?, example.on_host("server")?),
        };
        let path = sgctl.policy("policy.yaml", &text)?;
        let mut args = vec!["attach", "--policy", path.to_str().context("a path in UTF-8")?];
        if hook == Hook::Xdp {
            args.extend(["--xdp", "native"]);
        }
        sgctl.run(args.iter().chain(options))?.ok().context("sgctl attach")?;
        let socket = PacketSocket::open(net.wire(), server.port(), Hears::Nothing)?;
        let link = Link { source: server.gateway_mac(), destination: server.mac() };
        Ok(Self { net, sgctl, socket, link })
    }

    pub(super) fn server(&self) -> &'net Host {
        self.net.host("server")
    }

    pub(super) fn client(&self) -> &'net Host {
        self.net.host("client")
    }

    /// The namespace of the router between them.
    pub(super) fn wire(&self) -> &'net Namespace {
        self.net.wire()
    }

    pub(super) fn sgctl(&self) -> &Sgctl<'net> {
        &self.sgctl
    }

    /// The MAC addresses of frames that come from the router.
    pub(super) fn link(&self) -> Link {
        self.link
    }

    /// Client to server, in both families.
    pub(super) fn ends(&self) -> [Ends; 2] {
        let (client, server) = (self.client(), self.server());
        [Ends::new(client.v4(), server.v4()), Ends::new(client.v6(), server.v6())]
    }

    /// Puts frames on the wire in front of the server.
    pub(super) fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        frames.chunks(BATCH).try_for_each(|batch| self.socket.send_many(batch).map(drop))
    }

    /// Sends as many frames as asked for, made batch by batch; `pause` is called after each batch with the
    /// number sent so far.
    pub(super) fn flood(
        &self,
        count: usize,
        mut make: impl FnMut(usize) -> Vec<u8>,
        mut pause: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let mut sent = 0;
        while sent < count {
            let batch: Vec<_> = (sent..count.min(sent + BATCH)).map(&mut make).collect();
            self.socket.send_many(&batch)?;
            sent += batch.len();
            pause(sent)?;
        }
        Ok(())
    }

    /// A capture at the server's own device, which lies behind the programs.
    pub(super) fn capture(&self) -> Result<Capture> {
        Capture::start(self.server().ns(), DEVICE)
    }

    /// Waits until what was sent before has been judged and heard: by a frame that passes any policy.
    pub(super) fn fence(&self, capture: &mut Capture) -> Result<()> {
        let marker: [u8; 6] = std::array::from_fn(|_| fastrand::u8(..));
        let server = self.server();
        let asked = server.v4().octets();
        let asking = [asked[0], asked[1], asked[2], 1];
        // RFC 826; the target's hardware address is ignored in a request, so it can tell this one apart.
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        let link = self.link;
        let request = [&head[..], &link.source, &asking, &marker, &asked].concat();
        self.send(&[link.frame([0x08, 0x06], &request)])?;
        let seen = capture.wait_for(ARRIVAL, |frame| frame.bytes.get(32..38) == Some(&marker))?;
        ensure!(seen.is_some(), "the target does not hear a frame that passes any policy");
        Ok(())
    }

    /// Sends frames and returns those that reached the server, ARP left out.
    pub(super) fn arrivals(&self, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let mut capture = self.capture()?;
        self.send(frames)?;
        self.fence(&mut capture)?;
        let heard = capture.frames()?.iter().filter(|frame| !frame.outgoing);
        let arp = |bytes: &[u8]| bytes.get(12..14) == Some(&[0x08, 0x06]);
        Ok(heard.filter(|frame| !arp(&frame.bytes)).map(|frame| frame.bytes.clone()).collect())
    }

    /// Packets by direction and reason, as `sgctl status` has them.
    pub(super) fn counters(&self) -> Result<BTreeMap<(String, String), u64>> {
        let status = self.sgctl.json(&["status"])?;
        let counters = status["interfaces"][0]["counters"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entry = |one: &Value| {
            let packets = one["packets"].as_u64().unwrap_or(0);
            ((text(&one["direction"]), text(&one["reason"])), packets)
        };
        Ok(counters.iter().map(entry).collect())
    }

    /// Packets towards the server that were counted under a reason.
    pub(super) fn counted(&self, reason: &str) -> Result<u64> {
        Ok(self.counters()?.get(&("ingress".to_owned(), reason.to_owned())).copied().unwrap_or(0))
    }

    /// What `sgctl flows` lists of it.
    pub(super) fn flows(&self, args: &[&str]) -> Result<Vec<Value>> {
        let listed = self.sgctl.json(&[&["flows"], args].concat())?;
        listed.as_array().cloned().context("a list of flows")
    }
}
