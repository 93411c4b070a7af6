//! Small networks: hosts, each a namespace with `eth0`, joined by one more namespace, the wire.
//!
//! The wire routes between segments. A *bridged* segment holds any number of hosts on one bridge; a
//! *routed* host has a veth to the wire for itself, whose near end is its gateway, as container
//! and VM hosts do it. What to protect depends on the side: side `host` the `eth0` inside the
//! host's own namespace ([`Host::ns`], [`DEVICE`]), side `workload` the wire's end of the veth
//! ([`Net::wire`], [`Host::port`]).

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::netns::Namespace;

/// The device of every host.
pub const DEVICE: &str = "eth0";

/// Parameters that make a namespace say nothing unasked and answer at once.
const QUIET: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    // Errors are asserted on; a rate limit would make the outcome depend on the test before.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // Echo sockets of any group.
    ("ipv4/ping_group_range", "0 2147483647"),
];
const FORWARDING: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
const NO_LINK_LOCAL: &[(&str, &str)] = &[("ipv6/conf/default/addr_gen_mode", "1")];

/// A host as asked for.
#[derive(Debug)]
struct HostPlan {
    name: String,
    /// Index of its bridged segment; none if it is routed.
    segment: Option<usize>,
    gateways: Vec<IpNet>,
    addresses: Vec<IpNet>,
}

/// A bridged segment as asked for.
#[derive(Debug)]
struct SegmentPlan {
    name: String,
    gateways: Vec<IpNet>,
}

/// A network being described; nothing is made before [`Builder::build`].
#[derive(Debug)]
pub struct Builder {
    link_local: bool,
    segments: Vec<SegmentPlan>,
    hosts: Vec<HostPlan>,
}

impl Builder {
    /// Whether devices get IPv6 link-local addresses (they do unless told otherwise).
    #[must_use]
    pub fn link_local(mut self, wanted: bool) -> Self {
        self.link_local = wanted;
        self
    }

    /// Adds a bridged segment. `gateways` are the wire's addresses in it, with prefix length, one
    /// per family.
    ///
    /// # Panics
    /// When an address does not parse.
    #[must_use]
    pub fn segment(mut self, name: &str, gateways: &[&str]) -> Self {
        let gateways = gateways.iter().map(|gateway| parse_net(gateway)).collect();
        self.segments.push(SegmentPlan { name: name.to_owned(), gateways });
        self
    }

    /// Adds a host to a segment added before. Its addresses need no prefix length: it is that of
    /// the segment's gateway that shares their network.
    ///
    /// # Panics
    /// When the segment is not known, an address does not parse or fits no gateway.
    #[must_use]
    pub fn host(self, name: &str, segment: &str, addresses: &[&str]) -> Self {
        let index = self.segments.iter().position(|known| known.name == segment);
        let index = index.unwrap_or_else(|| panic!("no segment {segment}"));
        let gateways = self.segments[index].gateways.clone();
        self.push(name, Some(index), gateways, addresses)
    }

    /// Adds a host with a veth to the wire for itself, whose end there has the gateways' addresses.
    ///
    /// # Panics
    /// When an address does not parse or fits no gateway.
    #[must_use]
    pub fn routed(self, name: &str, gateways: &[&str], addresses: &[&str]) -> Self {
        let gateways = gateways.iter().map(|gateway| parse_net(gateway)).collect();
        self.push(name, None, gateways, addresses)
    }

    fn push(
        mut self,
        name: &str,
        segment: Option<usize>,
        gateways: Vec<IpNet>,
        addresses: &[&str],
    ) -> Self {
        let addresses = addresses.iter().map(|address| in_network(address, &gateways)).collect();
        self.hosts.push(HostPlan { name: name.to_owned(), segment, gateways, addresses });
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// When we are not root, a name is too long for a device, or the kernel refuses.
    pub fn build(self) -> Result<Net> {
        let wire = self.namespace("wire", true)?;
        let mut hosts = Vec::new();
        for (index, plan) in self.hosts.iter().enumerate() {
            // A device name holds 15 bytes.
            ensure!(plan.name.len() <= 12, "host name {} is longer than 12 bytes", plan.name);
            let number = u8::try_from(index + 1).context("too many hosts")?;
            hosts.push(Host {
                ns: self.namespace(&plan.name, false)?,
                port: format!("to-{}", plan.name),
                mac: mac(0, number),
                gateway_mac: match plan.segment {
                    Some(segment) => segment_mac(segment)?,
                    None => mac(1, number),
                },
                port_mac: mac(1, number),
                addresses: plan.addresses.iter().map(IpNet::addr).collect(),
                name: plan.name.clone(),
            });
        }
        wire.ip(&self.wire_batch(&hosts)?)?;
        for (plan, host) in self.hosts.iter().zip(&hosts) {
            host.ns.ip(&host_batch(plan)?)?;
        }
        for namespace in hosts.iter().map(|host| &host.ns).chain([&wire]) {
            namespace.wait_until_running()?;
        }
        Ok(Net { wire, hosts })
    }

    fn namespace(&self, label: &str, forwarding: bool) -> Result<Namespace> {
        let namespace = Namespace::new(label)?;
        namespace.set_parameters(QUIET)?;
        if forwarding {
            namespace.set_parameters(FORWARDING)?;
        }
        if !self.link_local {
            namespace.set_parameters(NO_LINK_LOCAL)?;
        }
        Ok(namespace)
    }

    /// Bridges, then veth pairs whose far ends are born inside the hosts.
    fn wire_batch(&self, hosts: &[Host]) -> Result<String> {
        let mut batch = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let bridge = bridge_name(index);
            let address = mac_text(segment_mac(index)?);
            let options = "stp_state 0 forward_delay 0 mcast_snooping 0";
            writeln!(batch, "link add {bridge} address {address} type bridge {options}")?;
            writeln!(batch, "link set {bridge} up")?;
            for gateway in &segment.gateways {
                writeln!(batch, "{}", address_line(gateway, &bridge))?;
            }
        }
        for (plan, host) in self.hosts.iter().zip(hosts) {
            let (port, ns) = (&host.port, host.ns.name());
            let (near, far) = (mac_text(host.port_mac), mac_text(host.mac));
            let peer = format!("peer name {DEVICE} address {far} netns {ns}");
            writeln!(batch, "link add {port} address {near} type veth {peer}")?;
            if let Some(segment) = plan.segment {
                writeln!(batch, "link set {port} master {}", bridge_name(segment))?;
            }
            writeln!(batch, "link set {port} up")?;
            if plan.segment.is_none() {
                for gateway in &plan.gateways {
                    writeln!(batch, "{}", address_line(gateway, port))?;
                }
            }
        }
        Ok(batch)
    }
}

fn host_batch(plan: &HostPlan) -> Result<String> {
    let mut batch = format!("link set {DEVICE} up\n");
    for address in &plan.addresses {
        writeln!(batch, "{}", address_line(address, DEVICE))?;
    }
    for gateway in &plan.gateways {
        // Only families that the host speaks.
        if plan.addresses.iter().any(|address| gateway.contains(&address.addr())) {
            let default = if gateway.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            writeln!(batch, "route add {default} via {} dev {DEVICE}", gateway.addr())?;
        }
    }
    Ok(batch)
}

fn address_line(address: &IpNet, device: &str) -> String {
    // Duplicate address detection would keep an address unusable for a second.
    let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
    format!("address add {address} dev {device}{nodad}")
}

fn parse_net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|error| panic!("gateway {text}: {error}"))
}

fn in_network(text: &str, gateways: &[IpNet]) -> IpNet {
    let address: IpAddr = text.parse().unwrap_or_else(|error| panic!("address {text}: {error}"));
    let gateway = gateways.iter().find(|gateway| gateway.contains(&address));
    let gateway = gateway.unwrap_or_else(|| panic!("no gateway shares a network with {text}"));
    IpNet::new(address, gateway.prefix_len()).expect("a prefix length of the same family")
}

fn bridge_name(segment: usize) -> String {
    format!("br{segment}")
}

fn segment_mac(segment: usize) -> Result<[u8; 6]> {
    Ok(mac(2, u8::try_from(segment + 1).context("too many segments")?))
}

/// Locally administered, and readable in a capture: kind 0 host, 1 port, 2 bridge.
const fn mac(kind: u8, number: u8) -> [u8; 6] {
    [0x02, b's', b'g', 0, kind, number]
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A network that is up. Gone when dropped.
#[derive(Debug)]
pub struct Net {
    wire: Namespace,
    hosts: Vec<Host>,
}

impl Net {
    /// Begins a description.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { link_local: true, segments: Vec::new(), hosts: Vec::new() }
    }

    /// The usual one: `client` (10.77.1.10, fd77:1::10) and `server` (10.77.2.10, fd77:2::10),
    /// each routed by the wire.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn pair() -> Result<Self> {
        Self::builder()
            .routed("client", &["10.77.1.1/24", "fd77:1::1/64"], &["10.77.1.10", "fd77:1::10"])
            .routed("server", &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
            .build()
    }

    /// The namespace that joins the hosts.
    #[must_use]
    pub fn wire(&self) -> &Namespace {
        &self.wire
    }

    /// The host of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.unwrap_or_else(|| panic!("no host {name} in this network"))
    }
}

/// One host.
#[derive(Debug)]
pub struct Host {
    name: String,
    ns: Namespace,
    port: String,
    mac: [u8; 6],
    port_mac: [u8; 6],
    gateway_mac: [u8; 6],
    addresses: Vec<IpAddr>,
}

impl Host {
    /// Its namespace, in which its device is [`DEVICE`].
    #[must_use]
    pub fn ns(&self) -> &Namespace {
        &self.ns
    }

    /// The wire's end of its veth.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The MAC of its device.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The MAC of the wire's end.
    #[must_use]
    pub fn port_mac(&self) -> [u8; 6] {
        self.port_mac
    }

    /// The MAC that it sends to when it sends to another segment.
    #[must_use]
    pub fn gateway_mac(&self) -> [u8; 6] {
        self.gateway_mac
    }

    /// Its addresses, as they were given.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its first IPv4 address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        let first = self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        first.unwrap_or_else(|| panic!("host {} has no IPv4 address", self.name))
    }

    /// Its first IPv6 address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        let first = self.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        first.unwrap_or_else(|| panic!("host {} has no IPv6 address", self.name))
    }

    /// A port at its first IPv4 address.
    #[must_use]
    pub fn socket_v4(&self, port: u16) -> SocketAddr {
        (self.v4(), port).into()
    }

    /// A port at its first IPv6 address.
    #[must_use]
    pub fn socket_v6(&self, port: u16) -> SocketAddr {
        (self.v6(), port).into()
    }
}
