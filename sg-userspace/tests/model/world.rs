//! The worlds in which packets travel: policy texts, and the few addresses and ports that make packets meet.

use std::net::IpAddr;

use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::policy::model::{Interface, Vpc};
use sg_userspace::policy::{self, Policy};

/// Groups with narrow rules both ways.
const NARROW: &str = "
      - name: own
        ingress:
          - {protocol: tcp, ports: 80, from: [0.0.0.0/0, '::/0']}
          - {protocol: tcp, ports: 22, from: {group: peers}}
          - {protocol: udp, ports: 53, from: [198.51.100.0/24, '2001:db8::/32']}
          - {protocol: sctp, ports: 80, from: [0.0.0.0/0, '::/0']}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
          - {protocol: icmpv6, icmp_type: 128, from: '::/0'}
          - {protocol: icmp, icmp_type: 3, icmp_code: 1, from: 198.51.100.0/24}
          - {protocol: icmpv6, icmp_type: 1, from: {group: peers}}
          - {protocol: 47, from: {group: peers}}
        egress:
          - {protocol: tcp, ports: 22, to: [198.51.100.0/24, '2001:db8::/32']}
          - {protocol: udp, ports: 53, to: [0.0.0.0/0, '::/0']}
          - {protocol: icmp, icmp_type: 8, to: {group: peers}}
          - {protocol: icmpv6, icmp_type: 128, to: {group: peers}}";

/// Nothing in, everything out: a client.
const CLIENT: &str = "
      - name: own";

/// Everything from some, nothing out: a server that never begins.
const SERVER: &str = "
      - name: own
        ingress:
          - {protocol: all, from: [198.51.100.0/24, '2001:db8::/32']}
          - {protocol: tcp, ports: [22, 1000-50000], from: {group: peers}}
        egress: []";

/// Everything both ways, so that nothing but the tables of flows decides.
const OPEN: &str = "
      - name: own
        ingress:
          - {protocol: all, from: [0.0.0.0/0, '::/0']}";

/// Policies, and what their interface says beside its addresses.
pub(crate) const WORLDS: [(&str, &str); 8] = [
    (NARROW, "side: host"),
    (NARROW, "side: workload"),
    (CLIENT, "side: host"),
    (CLIENT, "side: workload"),
    (SERVER, "side: host"),
    (SERVER, "side: workload"),
    (OPEN, "side: workload"),
    (OPEN, "side: workload, source_dest_check: false"),
];

/// The interface's own addresses, then one that is not its own.
pub(crate) const LOCALS: [[&str; 3]; 2] =
    [["10.0.1.5", "10.0.1.6", "10.0.1.66"], ["fd00:16::5", "fd00:16::6", "fd00:16::66"]];

/// Peers: one that CIDRs name, a member of the group, one that nothing names but everybody; the
/// interface's own address, loopback, multicast.
pub(crate) const REMOTES: [[&str; 6]; 2] = [
    ["198.51.100.7", "10.0.1.9", "203.0.113.9", "10.0.1.5", "127.0.0.1", "224.0.0.7"],
    ["2001:db8::7", "fd00:16::9", "2001:dc8::9", "fd00:16::5", "::1", "ff05::7"],
];

/// How many of [`REMOTES`] are hosts on the network.
pub(crate) const HOSTS: usize = 3;

/// Ports, both ends: few, so that one end's service is the other's source.
pub(crate) const PORTS: [u16; 5] = [80, 22, 53, 40_000, 40_001];

/// Idle timeouts in seconds, the shortest that a policy takes for established TCP.
pub(crate) const TCP_ESTABLISHED: u64 = 60;
/// UDP with at most one request and response.
pub(crate) const UDP: u64 = 30;
/// UDP with more.
pub(crate) const UDP_STREAM: u64 = 120;

/// A policy, as text, as rules and as tables. Two VPCs hold the same addresses and groups.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) spec: TableSpec,
}

impl World {
    /// One of [`WORLDS`].
    pub(crate) fn new(which: usize) -> Self {
        let (groups, interface) = WORLDS[which];
        let vpc = |name: &str| {
            let addresses = LOCALS.map(|family| format!("'{}', '{}'", family[0], family[1]));
            format!(
                "
  - name: {name}
    cidrs: [10.0.0.0/16, 'fd00:16::/56']
    security_groups:{groups}
      - {{name: peers}}
    interfaces:
      - name: {name}
        addresses: [{}]
        groups: [own]
        {}
        connection_tracking: {{tcp_established: 60, udp: 30, udp_stream: 120}}
      - {{name: {name}-peer, addresses: [10.0.1.9, 'fd00:16::9'], groups: [peers]}}",
                addresses.join(", "),
                interface.replace(", ", "\n        "),
            )
        };
        let text = format!("vpcs:{}{}\n", vpc("one"), vpc("two"));
        let loaded = policy::load("world", &text).unwrap_or_else(|rejected| {
            panic!("{}\n{text}", rejected.diagnostics.render(policy::Style::OneLine))
        });
        let spec = compile(&loaded.policy, &Surroundings::of(["one", "two"]), None).expect(&text);
        Self { policy: loaded.policy, spec }
    }

    /// The VPCs with their local interfaces.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = (&Vpc, &Interface)> {
        self.policy.vpcs.iter().map(|vpc| (vpc, &vpc.interfaces[0]))
    }
}

/// An address of the universe.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}
