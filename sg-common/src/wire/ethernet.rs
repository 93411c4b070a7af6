//! Ethernet II with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use super::be16;
use crate::{LinkLayer, Packet, Reason};

/// Length of an untagged header.
pub const HEADER: usize = 14;
/// Length of one VLAN tag.
pub const VLAN_TAG: usize = 4;
/// Deepest stack of VLAN tags that is looked through.
pub const MAX_VLAN_TAGS: u8 = 2;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag.
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Where the network header starts, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// EtherType of the innermost header.
    pub ethertype: u16,
    /// Offset of the network header.
    pub offset: usize,
    /// Source MAC address; zero on devices without Ethernet.
    pub source: [u8; 6],
}

/// Walks the link layer.
///
/// # Errors
/// [`Reason::Malformed`] when the packet ends inside it or a device without Ethernet hands on what is not
/// IP, [`Reason::VlanDepth`] for a third tag.
#[inline(always)]
pub fn locate<P: Packet + ?Sized>(packet: &P, link: LinkLayer) -> Result<Network, Reason> {
    match link {
        LinkLayer::Ethernet => locate_ethernet(packet),
        LinkLayer::Ip => {
            let first = packet.load::<1>(0).ok_or(Reason::Malformed)?;
            let ethertype = match first[0] >> 4 {
                4 => IPV4,
                6 => IPV6,
                _ => return Err(Reason::Malformed),
            };
            Ok(Network { ethertype, offset: 0, source: [0; 6] })
        }
    }
}

#[inline(always)]
fn locate_ethernet<P: Packet + ?Sized>(packet: &P) -> Result<Network, Reason> {
    let header = packet.load::<HEADER>(0).ok_or(Reason::Malformed)?;
    let source = [header[6], header[7], header[8], header[9], header[10], header[11]];
    let mut ethertype = be16([header[12], header[13]]);
    let mut offset = HEADER;
    let mut tags = packet.stripped_vlan_tags();
    // A device may have stripped one tag, so that at most two more stand in the bytes.
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != VLAN && ethertype != SERVICE_VLAN {
            break;
        }
        let tag = packet.load::<VLAN_TAG>(offset).ok_or(Reason::Malformed)?;
        ethertype = be16([tag[2], tag[3]]);
        offset += VLAN_TAG;
        tags += 1;
    }
    if tags > MAX_VLAN_TAGS || ethertype == VLAN || ethertype == SERVICE_VLAN {
        return Err(Reason::VlanDepth);
    }
    if offset > HEADER {
        offset = P::confine(offset);
    }
    Ok(Network { ethertype, offset, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[u16], ethertype: u16) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 7]);
        }
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend([0; 20]);
        bytes
    }

    fn at(tags: &[u16]) -> Result<(u16, usize), Reason> {
        locate(frame(tags, IPV4).as_slice(), LinkLayer::Ethernet).map(|n| (n.ethertype, n.offset))
    }

    #[test]
    fn up_to_two_tags_of_either_kind() {
        assert_eq!(at(&[]), Ok((IPV4, 14)));
        assert_eq!(at(&[VLAN]), Ok((IPV4, 18)));
        assert_eq!(at(&[SERVICE_VLAN]), Ok((IPV4, 18)));
        assert_eq!(at(&[SERVICE_VLAN, VLAN]), Ok((IPV4, 22)));
        assert_eq!(at(&[VLAN, VLAN, VLAN]), Err(Reason::VlanDepth));
        assert_eq!(at(&[SERVICE_VLAN, VLAN, SERVICE_VLAN]), Err(Reason::VlanDepth));
    }

    #[test]
    fn truncation_is_malformed() {
        let frame = frame(&[VLAN], IPV4);
        for length in 0..18 {
            assert_eq!(
                locate(&frame[..length], LinkLayer::Ethernet),
                Err(Reason::Malformed),
                "{length}"
            );
        }
    }

    #[test]
    fn without_ethernet_the_version_decides() {
        assert_eq!(locate([0x45_u8].as_slice(), LinkLayer::Ip).map(|n| n.ethertype), Ok(IPV4));
        assert_eq!(locate([0x60_u8].as_slice(), LinkLayer::Ip).map(|n| n.ethertype), Ok(IPV6));
        assert_eq!(locate([0x50_u8].as_slice(), LinkLayer::Ip), Err(Reason::Malformed));
        assert_eq!(locate([].as_slice(), LinkLayer::Ip), Err(Reason::Malformed));
    }
}
