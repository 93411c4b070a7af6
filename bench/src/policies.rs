//! Policies of any size for one protected host, as the compiler takes them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ::tests::bench::generate::{self, block, everywhere, tcp};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sg_userspace::policy::Policy;
use sg_userspace::policy::model::{Interface, Peer, PrefixList, Rule, SecurityGroup, Side};

use crate::frames::{Family, LOCAL_V4, LOCAL_V6};
use crate::rings::{PORT, rng};

/// A rule for the port that the rings go to.
pub(crate) fn open_port(peer: Peer) -> Rule {
    // `tcp` counts from one.
    tcp(usize::from(PORT) - 1, peer)
}

/// Everybody, of both families.
pub(crate) fn everybody() -> [Peer; 2] {
    [Peer::Cidr(IpNet::V4(Ipv4Net::default())), Peer::Cidr(IpNet::V6(Ipv6Net::default()))]
}

/// The protected host, in these groups.
pub(crate) fn host(groups: Vec<usize>) -> Interface {
    let mut host = generate::interface(0, IpNet::from(IpAddr::from(LOCAL_V4)), groups);
    host.addresses.push(IpNet::from(IpAddr::from(LOCAL_V6)));
    host.side = Side::Host;
    host
}

/// Its name.
pub(crate) fn host_name() -> String {
    generate::interface_name(0)
}

/// A policy in which the host is in group 1, which has these rules. Groups and members behind it are others'.
pub(crate) fn of_rules(
    ingress: Vec<Rule>,
    others: Vec<SecurityGroup>,
    members: Vec<Interface>,
    lists: Vec<PrefixList>,
) -> Policy {
    let default = generate::group(0, Vec::new(), vec![everywhere()]);
    let own = generate::group(1, ingress, vec![everywhere()]);
    let groups = [default, own].into_iter().chain(others).collect();
    let interfaces = std::iter::once(host(vec![1])).chain(members).collect();
    generate::policy(groups, interfaces, lists)
}

/// The port is open to everybody.
pub(crate) fn open() -> Policy {
    of_rules(everybody().map(open_port).into(), Vec::new(), Vec::new(), Vec::new())
}

/// The port is open to a prefix list.
pub(crate) fn listed(blocks: &[IpNet]) -> Policy {
    let list = PrefixList { name: "listed".to_owned(), cidrs: blocks.to_vec(), max_entries: None };
    of_rules(vec![open_port(Peer::PrefixList(0))], Vec::new(), Vec::new(), vec![list])
}

/// A member elsewhere, by its number.
pub(crate) fn member(index: usize, groups: Vec<usize>) -> Interface {
    generate::interface(index, block(member_address(index), 32), groups)
}

/// Its address.
pub(crate) fn member_address(index: usize) -> Ipv4Addr {
    generate::address(index)
}

/// Different blocks of lengths as routers meet them, the same in every run.
pub(crate) fn blocks(count: usize, family: Family) -> Vec<IpNet> {
    // Length and how many of a hundred have it.
    let lengths: &[(u8, u32)] = match family {
        Family::V4 => &[(16, 2), (20, 8), (22, 10), (24, 60), (28, 10), (32, 10)],
        Family::V6 => &[(32, 5), (40, 5), (44, 10), (48, 55), (56, 10), (64, 10), (128, 5)],
    };
    let mut rng = rng();
    let mut found = BTreeSet::new();
    while found.len() < count {
        let mut left = rng.u32(..100);
        let length = lengths.iter().find_map(|&(length, share)| {
            let is_it = left < share;
            left = left.saturating_sub(share);
            is_it.then_some(length)
        });
        let address = crate::rings::anybody(&mut rng, family);
        if let Some(block) = length.and_then(|length| IpNet::new(address, length).ok()) {
            found.insert(block.trunc());
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_different_and_of_their_family() {
        for family in [Family::V4, Family::V6] {
            let blocks = blocks(1000, family);
            assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), 1000);
            assert!(blocks.iter().all(|block| block.addr().is_ipv4() == (family == Family::V4)));
        }
    }
}
