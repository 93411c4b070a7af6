//! Conversations that nobody would write down, the same ones for the same seed: handshakes that go right and
//! wrong, segments in and out of their window, resets, errors with quotes, fragments in every order.
//!
//! Each is a list of lines of the packet language, so that a failure can be copied into a case.

mod datagrams;
mod tcp;

use fastrand::Rng;
use sg_common::Direction;

use super::Line;

/// What the conversations speak under: every form of a rule, both families.
pub(super) const POLICY: &str = r#"vpcs:
  - name: mix
    cidrs: [10.0.0.0/16, "2001:db8:1::/56"]
    prefix_lists:
      - {name: office, cidrs: [198.51.100.0/25, 203.0.113.7, "2001:db8:9:1::/64"]}
    security_groups:
      - name: friends
      - name: mixed
        ingress:
          - {type: http, from: [0.0.0.0/0, "::/0"]}
          - {protocol: tcp, ports: [8000-8080, 9000], from: [198.51.100.0/24, "2001:db8:9::/48"]}
          - {type: ssh, from: {group: friends}}
          - {type: dns-udp, from: [0.0.0.0/0, "::/0"]}
          - {protocol: udp, ports: 5000-5010, from: {prefix_list: office}}
          - {protocol: sctp, ports: 36412, from: [0.0.0.0/0, "::/0"]}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
          - {protocol: icmpv6, icmp_type: 128, from: "::/0"}
          - {protocol: icmp, icmp_type: 11, icmp_code: 0, from: {prefix_list: office}}
          - {protocol: icmp, icmp_type: 9, from: {prefix_list: office}}
          - {protocol: 47, from: [198.51.100.0/24, "2001:db8:9::/48"]}
          - {protocol: all, from: {group: mixed}}
        egress:
          - {type: https, to: [0.0.0.0/0, "::/0"]}
          - {type: dns-udp, to: [0.0.0.0/0, "::/0"]}
          - {protocol: tcp, ports: 5432, to: {group: friends}}
          - {protocol: udp, ports: 5000-5010, to: {prefix_list: office}}
          - {protocol: sctp, ports: 3868, to: [0.0.0.0/0, "::/0"]}
          - {protocol: icmp, icmp_type: 8, to: 0.0.0.0/0}
          - {protocol: icmpv6, icmp_type: 128, to: "::/0"}
          - {protocol: 50, to: {prefix_list: office}}
    interfaces:
      - {name: mixed, addresses: [10.0.0.5, "2001:db8:1::5"], groups: [mixed]}
      - {name: self, addresses: [10.0.0.6, "2001:db8:1::6"], groups: [mixed]}
      - {name: friend, addresses: [10.0.0.9, "2001:db8:1::9"], groups: [friends]}
"#;

/// The interface that judges.
pub(super) const INTERFACE: &str = "mixed";

const REMOTES_V4: [&str; 6] =
    ["198.51.100.7", "198.51.100.200", "203.0.113.7", "192.0.2.9", "10.0.0.6", "10.0.0.9"];
const REMOTES_V6: [&str; 5] =
    ["2001:db8:9:1::7", "2001:db8:9:2::7", "2001:db8:8::7", "2001:db8:1::6", "2001:db8:1::9"];
const ROUTERS: [&str; 2] = ["192.0.2.1", "2001:db8:7::1"];
const LOCAL: [&str; 2] = ["10.0.0.5", "2001:db8:1::5"];

/// One conversation: a name and its lines.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Which kind, and which of its seed.
    pub name: String,
    /// In the order in which they are sent.
    pub lines: Vec<Line>,
}

/// So many conversations of a seed.
#[must_use]
pub(super) fn conversations(seed: u64, number: usize) -> Vec<Conversation> {
    (0..number)
        .map(|index| {
            // Each has a seed of its own: one that is taken out leaves the others as they are.
            let mut rng = Rng::with_seed(seed.wrapping_add(index as u64));
            let (kind, lines) = conversation(&mut rng);
            Conversation { name: format!("{kind} {index} of seed {seed}"), lines }
        })
        .collect()
}

fn conversation(rng: &mut Rng) -> (&'static str, Vec<Line>) {
    let ends = Ends::any(rng);
    let (kind, lines) = match rng.u8(0..20) {
        0..=8 => ("tcp", tcp::connection(rng, &ends)),
        9..=11 => ("udp", datagrams::udp(rng, &ends)),
        12..=13 => ("echo", datagrams::echo(rng, &ends)),
        14..=15 => ("sctp", datagrams::sctp(rng, &ends)),
        16 => ("other", datagrams::other(rng, &ends)),
        _ => ("fragments", datagrams::fragments(rng, &ends)),
    };
    (kind, disturbed(rng, lines))
}

/// Here and there a line is lost, comes twice, or too late.
fn disturbed(rng: &mut Rng, lines: Vec<Line>) -> Vec<Line> {
    let mut out: Vec<Line> = Vec::new();
    for line in lines {
        match rng.u8(0..40) {
            0 => {}
            1 => out.extend([line.clone(), line]),
            2 if !out.is_empty() => out.insert(out.len() - 1, line),
            _ => out.push(line),
        }
    }
    out
}

/// The two ends of a conversation.
struct Ends {
    v6: bool,
    remote: &'static str,
    /// Port of whoever opens.
    client: u16,
}

impl Ends {
    fn any(rng: &mut Rng) -> Self {
        let v6 = rng.bool();
        let remotes: &[&'static str] = if v6 { &REMOTES_V6 } else { &REMOTES_V4 };
        let remote = remotes[rng.usize(..remotes.len())];
        Self { v6, remote, client: rng.u16(20000..60000) }
    }

    const fn local(&self) -> &'static str {
        LOCAL[self.v6 as usize]
    }

    /// `A > B` of a packet without ports.
    fn addresses(&self, direction: Direction) -> String {
        let (from, to) = match direction {
            Direction::Ingress => (self.remote, self.local()),
            Direction::Egress => (self.local(), self.remote),
        };
        format!("{from} > {to}")
    }

    /// `A:p > B:q` where the opener has the client's port, the other end `server`.
    fn ports(&self, direction: Direction, opener: Direction, server: u16) -> String {
        let (from, to) = match direction {
            Direction::Ingress => (self.remote, self.local()),
            Direction::Egress => (self.local(), self.remote),
        };
        let (from_port, to_port) =
            if direction == opener { (self.client, server) } else { (server, self.client) };
        if self.v6 {
            format!("[{from}]:{from_port} > [{to}]:{to_port}")
        } else {
            format!("{from}:{from_port} > {to}:{to_port}")
        }
    }

    /// An error about a packet that travelled in `quoted`: it goes back to its sender, or astray.
    fn error(&self, rng: &mut Rng, quoted: Direction, quote: &str) -> Line {
        let direction = if rng.u8(0..8) == 0 { quoted } else { quoted.reverse() };
        let (addressee, other) = match direction {
            Direction::Ingress => (self.local(), self.remote),
            Direction::Egress => (self.remote, self.local()),
        };
        // From the other end, or from a router on the way if it arrives.
        let router = direction == Direction::Ingress && rng.bool();
        let from = if router { ROUTERS[usize::from(self.v6)] } else { other };
        let (head, kinds): (&str, &[(u8, u8)]) = if self.v6 {
            ("icmpv6", &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)])
        } else {
            ("icmp", &[(3, 0), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (5, 1)])
        };
        let (kind, code) = kinds[rng.usize(..kinds.len())];
        let text = format!("{head} {from} > {addressee} type={kind} code={code} {{ {quote} }}");
        (direction, text)
    }
}

fn direction(rng: &mut Rng) -> Direction {
    if rng.bool() { Direction::Ingress } else { Direction::Egress }
}

fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}
