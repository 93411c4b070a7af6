//! A server on a wire, under the packet filter in question, for conversations of sockets.

use ::tests::net::DEVICE;
use ::tests::sgctl::Sgctl;
use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::rivals::{Open, Rival};
use crate::sockets::PORT;
use crate::wire::Wire;

/// Who guards the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nobody.
    Nobody,
    /// Ours, on the server's own device, at the hooks that `attach` takes by itself.
    OursOnHost,
    /// Ours, at the other end of the server's veth, where a container host would put it.
    OursOnWorkload,
    /// Ours, on the server's own device, at native XDP.
    OursAtXdp,
    /// Another.
    Rival(Rival),
}

/// The server under its guard, until dropped.
pub(crate) struct Guarded<'wire> {
    sgctl: Option<Sgctl<'wire>>,
}

impl<'wire> Guarded<'wire> {
    /// Puts it there.
    pub(crate) fn new(wire: &'wire Wire, guard: Guard) -> Result<Self> {
        let server = wire.server();
        let (namespace, side) = match guard {
            Guard::Nobody => return Ok(Self { sgctl: None }),
            Guard::Rival(rival) => {
                let from: [IpNet; 1] = [PEERS.parse()?];
                let open =
                    ["tcp", "udp"].map(|protocol| Open { protocol, port: PORT, from: &from });
                rival.load(server.ns(), &open)?;
                return Ok(Self { sgctl: None });
            }
            Guard::OursOnHost | Guard::OursAtXdp => (server.ns(), "host"),
            Guard::OursOnWorkload => (wire.near(), "workload"),
        };
        let options: &[&str] = if guard == Guard::OursAtXdp { &["--xdp", "native"] } else { &[] };
        let device = if side == "host" { DEVICE } else { server.port() };
        let sgctl = Sgctl::new(namespace)?;
        let path = sgctl.policy("bench.yaml", &policy(&server.v4().to_string(), device, side))?;
        let path = path.to_str().context("a path in UTF-8")?;
        sgctl
            .run(["attach", "--policy", path].iter().chain(options))?
            .ok()
            .context("sgctl attach")?;
        Ok(Self { sgctl: Some(sgctl) })
    }

    /// Whether ours has dropped nothing and judged something. Others have no say.
    pub(crate) fn verify(&self) -> Result<()> {
        let Some(sgctl) = &self.sgctl else { return Ok(()) };
        let status = sgctl.json(&["status"])?;
        let counters = status["interfaces"][0]["counters"].as_array().context("no counters")?;
        let mut flow = 0;
        for counter in counters {
            let packets = counter["packets"].as_u64().unwrap_or(0);
            let reason = counter["reason"].as_str().unwrap_or_default();
            let passes = ["flow", "rule"].contains(&reason) || reason.starts_with("infra");
            ensure!(passes || packets == 0, "{packets} packets were dropped: {reason}");
            flow += if reason == "flow" { packets } else { 0 };
        }
        ensure!(flow > 0, "the programs have seen no packet of a flow");
        Ok(())
    }
}

/// Those who may reach the server's port.
const PEERS: &str = "10.0.0.0/8";

fn policy(address: &str, device: &str, side: &str) -> String {
    format!(
        "vpcs:
  - name: bench
    cidrs: [{PEERS}]
    security_groups:
      - name: served
        ingress:
          - {{protocol: tcp, ports: {PORT}, from: {PEERS}}}
          - {{protocol: udp, ports: {PORT}, from: {PEERS}}}
    interfaces:
      - {{name: server, addresses: [{address}], groups: [served], device: {device}, side: {side}}}
"
    )
}
