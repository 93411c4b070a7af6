//! The link-local services that pass without a rule (rule 12, dialect `aws`), as implicit egress rules.
//!
//! Sources: AWS VPC user guide, "AmazonProvidedDNS", "Subnet sizing" and "Work with security groups"
//! (traffic that security groups do not filter); the addresses of each service in the EC2 user guide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use sg_common::wire::ip;

use crate::policy::model::{Infrastructure, Traffic, Vpc};

/// An implicit egress rule: the entry it belongs to, its packets, its peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) entry: &'static str,
    pub(crate) traffic: Traffic,
    pub(crate) peer: IpNet,
}

/// The entry of the subnets' routers.
pub(crate) const ROUTER: &str = "subnet_router";

const fn v4(third: u8, fourth: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(169, 254, third, fourth))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

const DNS: &[IpAddr] = &[v4(169, 253), v6(0x253)];
const METADATA: &[IpAddr] = &[v4(169, 254), v4(170, 2), v6(0x254)];
const TIME: &[IpAddr] = &[v4(169, 123), v6(0x123)];
const LICENCES: &[IpAddr] = &[v4(169, 250), v4(169, 251), v6(0x250)];

const fn port(protocol: u8, port: u16) -> Traffic {
    Traffic::Ports { protocol, first: port, last: port }
}

/// What every interface of the VPC reaches.
pub(crate) fn services(on: Infrastructure, cidrs: &[IpNet]) -> Vec<Service> {
    let mut services = Vec::new();
    let mut add = |on: bool, entry, traffic, addresses: &[IpAddr]| {
        for &address in addresses.iter().filter(|_| on) {
            services.push(Service { entry, traffic, peer: IpNet::from(address) });
        }
    };
    let resolvers: Vec<_> = DNS.iter().copied().chain(nth(cidrs, 2)).collect();
    add(on.dns, "dns", port(ip::UDP, 53), &resolvers);
    add(on.dns, "dns", port(ip::TCP, 53), &resolvers);
    add(on.metadata, "metadata", port(ip::TCP, 80), METADATA);
    add(on.time, "time", port(ip::UDP, 123), TIME);
    add(on.licences, "licences", port(ip::TCP, 1688), LICENCES);
    services
}

/// The subnets' routers that an interface with these addresses reaches.
pub(crate) fn routers(on: Infrastructure, vpc: &Vpc, addresses: &[IpNet]) -> Vec<IpNet> {
    if !on.subnet_router {
        return Vec::new();
    }
    let mut routers: Vec<_> =
        addresses.iter().flat_map(|net| nth(home(vpc, net), 1)).map(IpNet::from).collect();
    routers.sort_unstable();
    routers.dedup();
    routers
}

/// The subnet that holds an address; where none does, the VPC's block.
fn home<'v>(vpc: &'v Vpc, net: &IpNet) -> &'v [IpNet] {
    let holding = |blocks: &'v [IpNet]| {
        blocks.iter().find(|block| block.contains(net)).map(std::slice::from_ref)
    };
    holding(&vpc.subnets).or_else(|| holding(&vpc.cidrs)).unwrap_or_default()
}

/// The address so far into each IPv4 block that is large enough.
fn nth(blocks: &[IpNet], offset: u32) -> impl Iterator<Item = IpAddr> {
    let of = move |block: &Ipv4Net| {
        let address = block.network().to_bits().checked_add(offset).map(Ipv4Addr::from_bits)?;
        block.contains(&address).then_some(IpAddr::V4(address))
    };
    blocks.iter().filter_map(move |block| match block {
        IpNet::V4(block) => of(block),
        IpNet::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Infrastructure = Infrastructure {
        arp: false,
        dhcp: false,
        neighbour_discovery: false,
        router_discovery: false,
        multicast_listener: false,
        dns: false,
        metadata: false,
        time: false,
        licences: false,
        subnet_router: false,
    };

    fn told(on: Infrastructure) -> Vec<String> {
        let cidrs = ["172.16.0.0/16", "fd00:16::/56", "10.0.0.0/31"].map(|c| c.parse().expect(c));
        let text = |service: Service| {
            let traffic = super::super::TrafficText(service.traffic);
            format!("{} {traffic} {}", service.entry, service.peer.addr())
        };
        services(on, &cidrs).into_iter().map(text).collect()
    }

    #[test]
    fn each_entry_is_its_own() {
        assert_eq!(told(NONE), [""; 0]);
        assert_eq!(
            told(Infrastructure { dns: true, ..NONE }),
            [
                "dns udp/53 169.254.169.253",
                "dns udp/53 fd00:ec2::253",
                "dns udp/53 172.16.0.2",
                "dns tcp/53 169.254.169.253",
                "dns tcp/53 fd00:ec2::253",
                "dns tcp/53 172.16.0.2",
            ]
        );
        assert_eq!(
            told(Infrastructure { metadata: true, time: true, licences: true, ..NONE }),
            [
                "metadata tcp/80 169.254.169.254",
                "metadata tcp/80 169.254.170.2",
                "metadata tcp/80 fd00:ec2::254",
                "time udp/123 169.254.169.123",
                "time udp/123 fd00:ec2::123",
                "licences tcp/1688 169.254.169.250",
                "licences tcp/1688 169.254.169.251",
                "licences tcp/1688 fd00:ec2::250",
            ]
        );
    }
}
