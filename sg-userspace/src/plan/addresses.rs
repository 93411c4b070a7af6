//! Sets of addresses of both families, as sorted ranges with gaps between them: what remains of a rule's
//! peer when other rules' peers are taken away is seldom a CIDR.

use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

/// A set of addresses; equal sets are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Addresses(Vec<(IpAddr, IpAddr)>);

impl Addresses {
    /// The union of these blocks.
    #[must_use]
    pub(super) fn of<'n>(nets: impl IntoIterator<Item = &'n IpNet>) -> Self {
        Self::of_ranges(nets.into_iter().map(|net| (net.network(), net.broadcast())).collect())
    }

    /// The union of these sets.
    #[must_use]
    pub(super) fn union<'s>(sets: impl IntoIterator<Item = &'s Self>) -> Self {
        Self::of_ranges(sets.into_iter().flat_map(|set| set.0.iter().copied()).collect())
    }

    fn of_ranges(mut ranges: Vec<(IpAddr, IpAddr)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= *end || after(*end) == Some(first) => {
                    *end = last.max(*end);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// Whether it holds nobody.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is made of no more ranges than an interface has addresses.
    pub(super) fn is_small(&self) -> bool {
        self.0.len() <= 16
    }

    /// Whether it holds this address.
    #[must_use]
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let next = self.0.partition_point(|&(_, last)| last < address);
        self.0.get(next).is_some_and(|&(first, _)| first <= address)
    }

    /// Those that `other` does not hold.
    #[must_use]
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut kept = Vec::new();
        let mut rest = other.0.as_slice();
        for &(first, last) in &self.0 {
            rest = &rest[rest.partition_point(|&(_, end)| end < first)..];
            let mut from = Some(first);
            for &(taken, end) in rest.iter().take_while(|(taken, _)| *taken <= last) {
                let Some(start) = from else { break };
                if let Some(before) = before(taken).filter(|before| start <= *before) {
                    kept.push((start, before));
                }
                from = after(end).filter(|_| end < last);
            }
            kept.extend(from.map(|start| (start, last)));
        }
        Self(kept)
    }

    /// As blocks, the fewest that there are.
    pub(super) fn blocks(&self) -> impl Iterator<Item = IpNet> {
        let blocks = |&range: &(IpAddr, IpAddr)| match range {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Some(IpSubnets::V4(Ipv4Subnets::new(first, last, 0)))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Some(IpSubnets::V6(Ipv6Subnets::new(first, last, 0)))
            }
            // No range has ends of two families: nothing joins them.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        };
        self.0.iter().filter_map(blocks).flatten()
    }
}

/// The next address of the family.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// The previous address of the family.
fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(nets: &[&str]) -> Addresses {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().expect(net)).collect();
        Addresses::of(&nets)
    }

    #[test]
    fn neighbours_join_and_families_stay_apart() {
        assert_eq!(set(&["10.0.0.0/25", "10.0.0.128/25"]), set(&["10.0.0.0/24"]));
        assert_eq!(set(&["10.0.0.0/8", "10.1.0.0/16"]), set(&["10.0.0.0/8"]));
        let everybody = set(&["::/0", "0.0.0.0/0"]);
        assert_eq!(
            everybody.blocks().map(|it| it.to_string()).collect::<Vec<_>>(),
            ["0.0.0.0/0", "::/0"]
        );
        assert_eq!(everybody.minus(&set(&["::/0"])), set(&["0.0.0.0/0"]));
        assert_eq!(everybody.minus(&everybody), Addresses::default());
    }

    #[test]
    fn what_is_taken_leaves_the_rest() {
        let left = |from: &[&str], taken: &[&str]| -> Vec<String> {
            set(from).minus(&set(taken)).blocks().map(|it| it.to_string()).collect()
        };
        assert_eq!(left(&["10.0.0.0/30"], &["10.0.0.1/32"]), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(left(&["10.0.0.0/24"], &["10.0.0.0/8"]), [""; 0]);
        assert_eq!(left(&["fd00::/127"], &["fd00::1/128", "10.0.0.0/8"]), ["fd00::/128"]);
        assert_eq!(
            left(&["0.0.0.0/31", "255.255.255.254/31"], &["0.0.0.0/32"]),
            ["0.0.0.1/32", "255.255.255.254/31"]
        );
    }

    proptest! {
        #[test]
        fn sets_are_sets(
            these in prop::collection::vec((any::<u8>(), 24..=32_u8), 0..6),
            those in prop::collection::vec((any::<u8>(), 24..=32_u8), 0..6),
        ) {
            let of = |list: &[(u8, u8)]| -> Vec<IpNet> {
                let net = |&(last, length)| IpNet::new(IpAddr::from([10, 0, 0, last]), length);
                list.iter().map(net).map(|net| net.expect("a length").trunc()).collect()
            };
            let (these, those) = (of(&these), of(&those));
            let (left, right) = (Addresses::of(&these), Addresses::of(&those));
            let difference = left.minus(&right);
            let union = Addresses::union([&left, &right]);
            for last in 0..=255 {
                let address = IpAddr::from([10, 0, 0, last]);
                let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(left.contains(address), is_in(&these));
                prop_assert_eq!(difference.contains(address), is_in(&these) && !is_in(&those));
                prop_assert_eq!(union.contains(address), is_in(&these) || is_in(&those));
            }
            let blocks: Vec<_> = difference.blocks().collect();
            prop_assert_eq!(Addresses::of(&blocks), difference);
        }
    }
}
