//! Captures of other people: which files there are, and a policy whose interface one of their addresses has.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use etherparse::{LaxNetSlice, LaxSlicedPacket};
use sg_common::LinkLayer;
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::kernel::run::RunHook;
use sg_userspace::policy;
use sg_userspace::replay::Capture;

/// The policies by name: what they allow, where the interface stands, and the hooks that it may have.
/// `ADDRESSES` and `CIDRS` are the capture's.
pub const POLICIES: [(&str, &str, &[RunHook]); 2] = [
    (
        "wide",
        "vpcs:
  - name: capture
    cidrs: [CIDRS]
    security_groups:
      - name: wide
        ingress:
          - {protocol: all, from: [0.0.0.0/1, 192.0.0.0/2, '::/1']}
          - {protocol: tcp, ports: [22-25, 80, 8000-9000], from: [0.0.0.0/0, '::/0']}
          - {protocol: icmp, icmp_type: 8, from: 0.0.0.0/0}
    interfaces:
      - {name: capture, addresses: [ADDRESSES], groups: [wide]}
",
        &[RunHook::Tc, RunHook::Xdp],
    ),
    (
        "strict",
        "dialect: kakao
infrastructure: {dhcp: false}
vpcs:
  - name: capture
    cidrs: [CIDRS]
    security_groups:
      - name: strict
        ingress:
          - {type: ssh, from: 10.0.0.0/8}
          - {protocol: icmpv6, from: '2001:db8::/32'}
        egress:
          - {type: dns-udp, to: [0.0.0.0/0, '::/0']}
          - {type: http, to: 0.0.0.0/0}
    interfaces:
      - {name: capture, addresses: [ADDRESSES], groups: [strict], side: workload}
",
        &[RunHook::Tc],
    ),
];

/// Every capture file under a folder, in the order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    find(folder, &mut files)?;
    files.sort();
    Ok(files)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|it| it == "pcap" || it == "pcapng") {
            files.push(path);
        }
    }
    Ok(())
}

/// The slot of the interface of [`tables`].
///
/// # Errors
/// When it is not in them.
pub fn slot(spec: &TableSpec) -> Result<u16> {
    spec.slot("capture").context("the interface")
}

/// The policy for an interface with these addresses.
///
/// # Errors
/// When it is refused.
pub fn tables(text: &str, own: &[IpAddr], previous: Option<&TableSpec>) -> Result<TableSpec> {
    let list =
        |text: &dyn Fn(&IpAddr) -> String| own.iter().map(text).collect::<Vec<_>>().join(", ");
    let block = |address: &IpAddr| {
        let length = if address.is_ipv4() { 24 } else { 64 };
        let block = ipnet::IpNet::new(*address, length).map(|block| block.trunc());
        block.map_or_else(|_| String::new(), |block| format!("'{block}'"))
    };
    let text = text
        .replace("ADDRESSES", &list(&|address| format!("'{address}'")))
        .replace("CIDRS", &list(&block));
    compiled(&text, previous)
}

/// A policy whose one interface on this machine is `capture`.
///
/// # Errors
/// When it is refused.
pub fn compiled(text: &str, previous: Option<&TableSpec>) -> Result<TableSpec> {
    let loaded = policy::load("capture", text).map_err(|rejected| {
        anyhow::anyhow!("{}", rejected.diagnostics.render(policy::Style::OneLine))
    })?;
    Ok(compile(&loaded.policy, &Surroundings::of(["capture"]), previous)?)
}

/// The most frequent address of each family that an interface may have.
#[must_use]
pub fn own_addresses(link: LinkLayer, capture: &Capture) -> Vec<IpAddr> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for packet in &capture.packets {
        for address in addresses(link, &packet.bytes).into_iter().flat_map(|(a, b)| [a, b]) {
            *counts.entry(address).or_default() += 1;
        }
    }
    let of_family = |v4: bool, otherwise: &str| {
        let possible = counts.iter().filter(|(it, _)| it.is_ipv4() == v4 && is_possible(**it));
        let best = possible.max_by_key(|(address, count)| (**count, **address));
        best.map(|(address, _)| *address).or_else(|| otherwise.parse().ok())
    };
    let families = [of_family(true, "10.0.0.5"), of_family(false, "2001:db8::5")];
    families.into_iter().flatten().collect()
}

/// Whether a policy takes it as an interface's address.
fn is_possible(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(it) => it.is_broadcast() || it.is_link_local() || it.octets()[0] == 0,
        IpAddr::V6(it) => it.is_unicast_link_local() || it.to_ipv4_mapped().is_some(),
    };
    !special && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Source and destination of an IP packet, however broken behind them.
#[must_use]
pub fn addresses(link: LinkLayer, bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = match link {
        LinkLayer::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok()?,
        LinkLayer::Ip => LaxSlicedPacket::from_ip(bytes).ok()?,
    };
    match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Ipv6(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}
