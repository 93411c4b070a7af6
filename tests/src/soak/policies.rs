//! Policies that differ in every table, and packets that tell which of them is in force.
//!
//! Each lets a client reach two servers at three ports of its own: by a rule for everybody, for a group and for
//! addresses. Two policies have no port in common, so whatever mixture of them were in force would show.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    example::{Example, Side::Workload},
    net::Net,
    scenario::Scenario,
};

/// How many policies there are.
pub(crate) const COUNT: u16 = 3;
/// The servers.
const SERVERS: [&str; 2] = ["one", "two"];
/// A port that every policy opens to everybody: what has been sent before has arrived before.
const FENCE: u16 = 9009;
/// Rules of a policy.
const RULES: u16 = 3;
/// Longest that a packet may take.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Source ports rise: of one that comes back soon the flows live on, whatever the policy says now.
static PORT: AtomicU16 = AtomicU16::new(FIRST_PORT);
const FIRST_PORT: u16 = 10_000;
/// For what was overtaken, should the sender have changed processors.
const STRAGGLERS: Duration = Duration::from_millis(50);

/// What a policy has besides: lines of its lists.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// Groups.
    pub(crate) groups: String,
    /// Ingress rules of the servers.
    pub(crate) rules: String,
    /// Interfaces.
    pub(crate) interfaces: String,
    /// Addresses of the first server.
    pub(crate) own: String,
}

/// The text of a policy, from 1 to [`COUNT`].
pub(crate) fn text(number: u16) -> String {
    with(number, &Extras::default())
}

/// The same with more in it.
pub(crate) fn with(number: u16, extras: &Extras) -> String {
    let Extras { groups, rules, interfaces, own } = extras;
    let port = |rule: u16| number * 1000 + rule;
    let mut text = format!(
        r#"quotas: {{rules_per_direction: 500, rules_per_interface: 5000}}
vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    prefix_lists:
      - {{name: nearby-{number}, cidrs: [10.77.1.0/24, "fd77:1::/64"]}}
    security_groups:
      - name: friends-{number}
{groups}      - name: served
        ingress:
          - {{protocol: udp, ports: [{FENCE}, {}], from: [0.0.0.0/0, "::/0"]}}
          - {{protocol: udp, ports: {}, from: {{group: friends-{number}}}}}
          - {{protocol: udp, ports: {}, from: {{prefix_list: nearby-{number}}}}}
{rules}    interfaces:
      - {{name: client, addresses: [10.77.1.10, "fd77:1::10"], groups: [friends-{number}]}}
{interfaces}"#,
        port(1),
        port(2),
        port(3),
    );
    for (index, server) in (2..).zip(SERVERS) {
        let own = if index == 2 { own.as_str() } else { "" };
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "      - {{name: {server}, addresses: [10.77.{index}.10, \"fd77:{index}::10\"{own}], groups: [served], device: to-{server}, side: workload}}"
        );
    }
    text
}

/// Client and servers.
pub(crate) fn net() -> Result<Net> {
    Net::builder()
        .routed("client", &["10.77.1.1/24", "fd77:1::1/64"], &["10.77.1.10", "fd77:1::10"])
        .routed("one", &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
        .routed("two", &["10.77.3.1/24", "fd77:3::1/64"], &["10.77.3.10", "fd77:3::10"])
        .build()
}

/// Attaches the first policy.
pub(crate) fn attach<'net>(net: &'net Net, options: &[&str]) -> Result<Scenario<'net>> {
    Scenario::attach_with(net, &Example::new("lab", text(1))?, Workload, options)
}

/// Sockets at both ends.
pub(crate) struct Probe<'net> {
    net: &'net Net,
    servers: Vec<Server>,
}

/// One server at one of its addresses.
struct Server {
    name: &'static str,
    address: IpAddr,
    fence: UdpSocket,
    /// By policy and rule.
    ports: Vec<(u16, u16, UdpSocket)>,
}

impl<'net> Probe<'net> {
    /// Listens at every port.
    pub(crate) fn open(net: &'net Net) -> Result<Self> {
        let mut servers = Vec::new();
        for name in SERVERS {
            let host = net.host(name);
            for &address in host.addresses() {
                let bind = |port| {
                    let socket = host.ns().run(|| UdpSocket::bind((address, port)))?;
                    anyhow::Ok(socket)
                };
                let fence = bind(FENCE)?;
                fence.set_read_timeout(Some(ARRIVAL))?;
                let mut ports = Vec::new();
                for policy in 1..=COUNT {
                    for rule in 1..=RULES {
                        let socket = bind(policy * 1000 + rule)?;
                        socket.set_nonblocking(true)?;
                        ports.push((policy, rule, socket));
                    }
                }
                servers.push(Server { name, address, fence, ports });
            }
        }
        Ok(Self { net, servers })
    }

    /// Which policy is in force: the same for every server, family and kind of rule.
    pub(crate) fn policy(&self) -> Result<u16> {
        let mut found = Vec::new();
        for server in &self.servers {
            found.push((server, server.ask(self.net)?));
        }
        let first = found[0].1;
        for (Server { name, address, .. }, policy) in &found {
            ensure!(*policy == first, "{name} {address} has policy {policy}, others have {first}");
        }
        Ok(first)
    }
}

impl Server {
    /// New flows to every port.
    fn ask(&self, net: &Net) -> Result<u16> {
        let client = net.host("client");
        let family = |address: &&IpAddr| address.is_ipv4() == self.address.is_ipv4();
        let from = *client.addresses().iter().find(family).context("an address")?;
        let port = PORT.fetch_add(1, Relaxed).max(FIRST_PORT);
        let socket = client.ns().run(|| UdpSocket::bind((from, port)))?;
        for (policy, rule, _) in &self.ports {
            socket.send_to(&[0], SocketAddr::new(self.address, policy * 1000 + rule))?;
        }
        socket.send_to(&[0], SocketAddr::new(self.address, FENCE))?;
        self.fence.recv(&mut [0; 8]).context("nothing arrives at the port that is always open")?;
        let mut arrived = vec![false; self.ports.len()];
        self.receive(&mut arrived)?;
        if let Some(policy) = self.policy_of(&arrived) {
            return Ok(policy);
        }
        thread::sleep(STRAGGLERS);
        self.receive(&mut arrived)?;
        self.policy_of(&arrived).with_context(|| {
            let ports = self.ports.iter().zip(&arrived).filter(|(_, arrived)| **arrived);
            let ports: Vec<_> = ports.map(|((policy, rule, _), _)| (policy, rule)).collect();
            let Self { name, address, .. } = self;
            format!("{name} {address} is reached by these rules of policies: {ports:?}")
        })
    }

    fn receive(&self, arrived: &mut [bool]) -> Result<()> {
        for ((_, _, socket), arrived) in self.ports.iter().zip(arrived) {
            match socket.recv(&mut [0; 8]) {
                Ok(_) => *arrived = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => bail!(error),
            }
        }
        Ok(())
    }

    /// The policy of which everything arrived and of whose others nothing did.
    fn policy_of(&self, arrived: &[bool]) -> Option<u16> {
        let is = |wanted: u16| {
            self.ports.iter().zip(arrived).all(|((policy, ..), it)| (*policy == wanted) == *it)
        };
        (1..=COUNT).find(|&policy| is(policy))
    }
}
