//! CIDR blocks and addresses as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::diagnostic::{Code, Report};
use super::source::Span;

/// Why a text is not a CIDR block.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrError {
    #[error("{0:?} is not an IP address")]
    Address(String),
    #[error("{0:?} is not a prefix length: IPv{1} has 0 to {2}")]
    Length(String, u8, u8),
}

impl CidrError {
    fn hint(&self) -> Option<&'static str> {
        let Self::Address(text) = self else { return None };
        let dotted = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if text.contains('%') {
            Some("leave the zone out: a rule is about addresses, not about links")
        } else if dotted {
            Some("an IPv4 address has four numbers from 0 to 255, without leading zeros")
        } else if text.contains(':') {
            None
        } else {
            Some(
                "host names are not resolved; a group is written {group: name}, a prefix list {prefix_list: name}",
            )
        }
    }
}

/// What a text says: a block, perhaps with bits set behind its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// As written, host bits and all.
    pub(crate) net: IpNet,
    /// Whether a prefix length was given.
    pub(crate) is_block: bool,
}

impl Written {
    /// Host bits cleared.
    pub(crate) fn canonical(self) -> IpNet {
        self.net.trunc()
    }

    pub(crate) fn has_host_bits(self) -> bool {
        self.net.addr() != self.net.network()
    }
}

/// Reads `address` or `address/length`; a bare address is the block of itself alone.
pub(crate) fn parse(text: &str) -> Result<Written, CidrError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| CidrError::Address(address.to_owned()))?;
    let Some(length) = length else {
        return Ok(Written { net: IpNet::from(address), is_block: false });
    };
    let (version, longest) = if address.is_ipv4() { (4, 32) } else { (6, 128) };
    let malformed = || CidrError::Length(length.to_owned(), version, longest);
    // Digits only: `parse` alone would take a plus sign.
    let digits = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
    let bits = length.parse().ok().filter(|_| digits).ok_or_else(malformed)?;
    let net = IpNet::new(address, bits).map_err(|_| malformed())?;
    Ok(Written { net, is_block: true })
}

/// A canonical block (rule 17): what is not a CIDR is an error, host bits are a warning.
pub(crate) fn canonical(text: &str, code: Code, span: Span, report: &mut Report) -> Option<IpNet> {
    let written = written(text, code, span, report)?;
    let net = written.canonical();
    if written.has_host_bits() {
        report
            .warning(span, format!("{text} has host bits set, it is taken as {net}"))
            .hint(format!("write {net}"));
    }
    Some(net)
}

/// A block or address as it stands; what is neither is an error.
pub(crate) fn written(text: &str, code: Code, span: Span, report: &mut Report) -> Option<Written> {
    match parse(text) {
        Ok(written) => Some(written),
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            report
                .error(code, span, format!("CIDR block {text:?} is malformed: {error}"))
                .maybe_hint(hint);
            None
        }
    }
}

/// Pairs of blocks that overlap, each as (later in the list, its nearest container), where `same`
/// does not hold of them.
///
/// Blocks either nest or are disjoint, so after sorting each one need only look at the chain of
/// blocks that it lies in: a million of them take one sort.
pub(crate) fn overlaps<T: Copy>(
    mut blocks: Vec<(IpNet, T)>,
    same: impl Fn(T, T) -> bool,
) -> Vec<((IpNet, T), (IpNet, T))> {
    blocks.sort_by_key(|&(net, _)| net);
    let mut chain: Vec<(IpNet, T)> = Vec::new();
    let mut found = Vec::new();
    for block in blocks {
        while chain.last().is_some_and(|(outer, _)| !outer.contains(&block.0)) {
            chain.pop();
        }
        if let Some(&outer) = chain.last().filter(|outer| !same(outer.1, block.1)) {
            found.push((block, outer));
        }
        chain.push(block);
    }
    found
}

/// Blocks that can be asked whether they hold another, by binary search.
#[derive(Debug)]
pub(crate) struct Ranges(Vec<IpNet>);

impl Ranges {
    pub(crate) fn new(blocks: &[IpNet]) -> Self {
        Self(IpNet::aggregate(&blocks.to_vec()))
    }

    pub(crate) fn contain(&self, block: &IpNet) -> bool {
        // Sorted and disjoint: only the last one that does not begin behind `block` can hold it.
        let mut sorted = self.0.partition_point(|range| range.network() <= block.network());
        sorted = sorted.saturating_sub(1);
        self.0.get(sorted).is_some_and(|range| range.contains(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_written() {
        for (text, canonical, block, host_bits) in [
            ("10.0.0.0/8", "10.0.0.0/8", true, false),
            ("10.1.2.3/8", "10.0.0.0/8", true, true),
            ("10.1.2.3", "10.1.2.3/32", false, false),
            ("0.0.0.0/0", "0.0.0.0/0", true, false),
            ("1.2.3.4/0", "0.0.0.0/0", true, true),
            ("::/0", "::/0", true, false),
            ("2001:DB8::1/32", "2001:db8::/32", true, true),
            ("2001:db8:0:0::1", "2001:db8::1/128", false, false),
            ("10.0.0.0/08", "10.0.0.0/8", true, false),
        ] {
            let written = parse(text).expect(text);
            assert_eq!(written.canonical().to_string(), canonical, "{text}");
            assert_eq!((written.is_block, written.has_host_bits()), (block, host_bits), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_block_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0/8",
            "10.0.0.256",
            "010.0.0.1",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "::/129",
            "fe80::1%eth0",
            "bastion",
            "10.0.0.1-10.0.0.9",
            "10.0.0.0/255.0.0.0",
            "1:2",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn overlaps_are_found_in_any_order() {
        let nets = ["10.0.0.0/8", "2001:db8::/32", "10.1.0.0/16", "11.0.0.0/8", "10.1.2.3/32"];
        let blocks = nets.iter().rev().zip(0..).map(|(n, i)| (n.parse().expect("block"), i));
        let found: Vec<_> = overlaps(blocks.collect(), |a: i32, b| a == b)
            .iter()
            .map(|(inner, outer)| format!("{} in {}", inner.0, outer.0))
            .collect();
        assert_eq!(found, ["10.1.0.0/16 in 10.0.0.0/8", "10.1.2.3/32 in 10.1.0.0/16"]);
    }

    #[test]
    fn ranges_contain_what_lies_inside_one() {
        let blocks =
            ["10.0.0.0/8", "fd00::/8", "192.168.0.0/24"].map(|n| n.parse().expect("block"));
        let ranges = Ranges::new(&blocks);
        for (block, inside) in [
            ("10.255.0.0/16", true),
            ("10.0.0.0/7", false),
            ("9.255.255.255/32", false),
            ("192.168.0.7/32", true),
            ("192.168.1.0/32", false),
            ("fd12::1/128", true),
            ("fe80::/10", false),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(ranges.contain(&block.parse().expect("block")), inside, "{block}");
        }
        assert!(!Ranges::new(&[]).contain(&blocks[0]));
    }
}
