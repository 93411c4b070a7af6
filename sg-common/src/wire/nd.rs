//! IPv6 neighbour discovery (RFC 4861, section 4): what its messages say beside their type.

use super::icmp::Message;
use crate::{Address, Packet, V6};

/// Every message is sent with it, so that no packet from beyond a router passes for one.
pub const HOP_LIMIT: u8 = 255;
/// Length of a router solicitation before its options.
pub const ROUTER_SOLICITATION: usize = 8;
/// Length of a router advertisement before its options.
pub const ROUTER_ADVERTISEMENT: usize = 16;
/// Length of a neighbour solicitation or advertisement before its options.
pub const NEIGHBOUR: usize = 24;
/// More options than any message has: the five of RFC 3971 and a link-layer address.
pub const MAX_OPTIONS: usize = 8;

/// Offset of the target address in neighbour solicitations and advertisements.
const TARGET: usize = 8;
/// Bit of the first byte behind the checksum of an advertisement: it answers a solicitation.
const SOLICITED: u16 = 0x4000;
/// Option: link-layer address of the packet's sender.
const SOURCE_LINK_LAYER: u8 = 1;
/// Option: link-layer address of the target.
const TARGET_LINK_LAYER: u8 = 2;

/// What a message's options say of link-layer addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkLayer {
    /// Nothing.
    Untold,
    /// The one that was asked about, and no other.
    Same,
    /// Another one.
    Other,
    /// The options cannot be: an empty one, one that ends behind the message, or too many.
    Broken,
}

/// The target address of a neighbour solicitation or advertisement at `offset`.
#[inline(always)]
pub fn target<P: Packet + ?Sized>(packet: &P, offset: usize) -> Option<V6> {
    packet.load::<16>(offset + TARGET).map(|bytes| V6::new(bytes.0))
}

/// Whether a neighbour advertisement says that it was asked for.
#[inline(always)]
#[must_use]
pub const fn is_solicited(advertisement: &Message) -> bool {
    advertisement.identifier.get() & SOLICITED != 0
}

/// Whether a solicitation that asks who has an address goes there: `ff02::1:ff00:0/104` (RFC 4291,
/// section 2.7.1).
#[inline(always)]
pub fn is_solicited_node<A: Address>(destination: A) -> bool {
    let [first, second, third, last] = destination.widen();
    first == u32::from_ne_bytes([0xff, 2, 0, 0])
        && second == 0
        && third == u32::from_ne_bytes([0, 0, 0, 1])
        && last.to_ne_bytes()[0] == 0xff
}

/// Walks the options between two offsets and compares the link-layer addresses in them with `mac`.
#[inline(always)]
pub fn link_layer<P: Packet + ?Sized>(
    packet: &P,
    start: usize,
    end: usize,
    mac: [u8; 6],
) -> LinkLayer {
    let (mut at, mut found) = (start, LinkLayer::Untold);
    for _ in 0..MAX_OPTIONS {
        if at >= end {
            return found;
        }
        let Some(option) = packet.load::<8>(at) else { return LinkLayer::Broken };
        let length = usize::from(option[1]) * 8;
        let next = at + length;
        if length == 0 || next > end || next > crate::MAX_OFFSET {
            return LinkLayer::Broken;
        }
        if matches!(option[0], SOURCE_LINK_LAYER | TARGET_LINK_LAYER) {
            let address = [option[2], option[3], option[4], option[5], option[6], option[7]];
            if length != 8 || address != mac {
                return LinkLayer::Other;
            }
            found = LinkLayer::Same;
        }
        at = P::confine(next);
    }
    if at >= end { found } else { LinkLayer::Broken }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
    const SOURCE: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 5];
    const NONCE: [u8; 8] = [14, 1, 9, 9, 9, 9, 9, 9];

    fn walk(options: &[[u8; 8]]) -> LinkLayer {
        let bytes: Vec<u8> = options.concat();
        link_layer(bytes.as_slice(), 0, bytes.len(), MAC)
    }

    #[test]
    fn addresses_wherever_they_stand() {
        let other = [2, 1, 2, 0, 0, 0, 0, 6];
        assert_eq!(walk(&[]), LinkLayer::Untold);
        assert_eq!(walk(&[NONCE]), LinkLayer::Untold);
        assert_eq!(walk(&[NONCE, SOURCE]), LinkLayer::Same);
        assert_eq!(walk(&[SOURCE, NONCE, other]), LinkLayer::Other);
        assert_eq!(walk(&[[1, 2, 2, 0, 0, 0, 0, 5], [0; 8]]), LinkLayer::Other, "too long");
    }

    #[test]
    fn broken_options() {
        assert_eq!(walk(&[SOURCE, [1, 0, 2, 0, 0, 0, 0, 5]]), LinkLayer::Broken, "empty");
        assert_eq!(walk(&[[14, 2, 0, 0, 0, 0, 0, 0]]), LinkLayer::Broken, "beyond the end");
        assert_eq!(walk(&[NONCE; MAX_OPTIONS]), LinkLayer::Untold);
        assert_eq!(walk(&[NONCE; MAX_OPTIONS + 1]), LinkLayer::Broken, "too many");
        assert_eq!(link_layer(SOURCE.as_slice(), 0, 7, MAC), LinkLayer::Broken);
        assert_eq!(link_layer(SOURCE[..7].as_ref(), 0, 8, MAC), LinkLayer::Broken);
    }

    #[test]
    fn solicited_node_addresses() {
        let of = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(is_solicited_node(V6::new(of("ff02::1:ff00:5"))));
        assert!(!is_solicited_node(V6::new(of("ff02::1"))));
        assert!(!is_solicited_node(V6::new(of("ff05::1:ff00:5"))));
        assert!(!is_solicited_node(V6::new(of("fe80::1:ff00:5"))));
    }
}
