//! Policies of any size, the same in every run.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{
    ConnectionTracking, Dialect, Infrastructure, Interface, LiveFlows, Peer, PrefixList, Quotas,
    Rule, SecurityGroup, Side, Traffic, Vpc,
};

/// Everywhere.
const EVERYWHERE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

/// A number that looks drawn, the same in every run.
pub fn drawn(seed: usize) -> usize {
    let mixed = (seed as u64 ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from(mixed >> 33).unwrap_or_default()
}

/// An address of 10.0.0.0/8 by its number.
pub fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | (u32::try_from(index).unwrap_or_default() & 0x00ff_ffff))
}

/// A block by its first address and length.
pub fn block(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length).trunc())
}

/// A rule for a TCP port.
pub fn tcp(port: usize, peer: Peer) -> Rule {
    let port = u16::try_from(port % 60_000).unwrap_or_default() + 1;
    rule(Traffic::Ports { protocol: 6, first: port, last: port }, peer)
}

/// A rule to everywhere.
pub fn everywhere() -> Rule {
    rule(Traffic::All, Peer::Cidr(EVERYWHERE))
}

fn rule(traffic: Traffic, peer: Peer) -> Rule {
    Rule { traffic, peer, description: String::new(), expires: None }
}

/// A group by its number.
pub fn group(index: usize, ingress: Vec<Rule>, egress: Vec<Rule>) -> SecurityGroup {
    let name = if index == 0 { "default".to_owned() } else { format!("group-{index}") };
    SecurityGroup { name, description: String::new(), ingress, egress }
}

/// An interface by its number.
pub fn interface(index: usize, address: IpNet, mut groups: Vec<usize>) -> Interface {
    groups.sort_unstable();
    groups.dedup();
    Interface {
        name: interface_name(index),
        addresses: vec![address],
        auto_addresses: false,
        groups,
        devices: Vec::new(),
        side: Side::Workload,
        source_dest_check: true,
        mac: None,
        connection_tracking: ConnectionTracking::default(),
    }
}

/// Its name.
pub fn interface_name(index: usize) -> String {
    format!("interface-{index}")
}

/// A policy of one VPC.
pub fn policy(
    groups: Vec<SecurityGroup>,
    interfaces: Vec<Interface>,
    prefix_lists: Vec<PrefixList>,
) -> Policy {
    let vpc = Vpc {
        name: "large".to_owned(),
        cidrs: vec![block(Ipv4Addr::new(10, 0, 0, 0), 8)],
        subnets: Vec::new(),
        prefix_lists,
        groups,
        interfaces,
    };
    Policy {
        dialect: Dialect::Aws,
        live_flows: LiveFlows::Keep,
        infrastructure: Infrastructure::of(Dialect::Aws),
        quotas: Quotas::default(),
        vpcs: vec![vpc],
        tests: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_stay_where_they_belong() {
        assert_eq!(address(0x01_0203), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(address(0xffff_ffff), Ipv4Addr::new(10, 255, 255, 255));
        assert_eq!(block(Ipv4Addr::new(10, 1, 2, 3), 24).to_string(), "10.1.2.0/24");
    }
}
