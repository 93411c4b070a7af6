//! ARP for IPv4 over Ethernet (RFC 826).

use crate::{Packet, Reason, V4};

/// Length of a packet with Ethernet and IPv4 addresses.
pub const LENGTH: usize = 28;

/// The fields a source check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Sender hardware address.
    pub sender_mac: [u8; 6],
    /// Sender protocol address.
    pub sender: V4,
    /// Target protocol address.
    pub target: V4,
}

/// Reads an ARP packet.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated or not about IPv4 over Ethernet.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<Arp, Reason> {
    let b = packet.load::<LENGTH>(offset).ok_or(Reason::Malformed)?;
    // Hardware type 1, protocol type 0x0800, lengths 6 and 4.
    if b[0] != 0 || b[1] != 1 || b[2] != 8 || b[3] != 0 || b[4] != 6 || b[5] != 4 {
        return Err(Reason::Malformed);
    }
    Ok(Arp {
        sender_mac: [b[8], b[9], b[10], b[11], b[12], b[13]],
        sender: V4::new([b[14], b[15], b[16], b[17]]),
        target: V4::new([b[24], b[25], b[26], b[27]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; LENGTH] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1];

    #[test]
    fn request() {
        assert_eq!(
            parse(REQUEST.as_slice(), 0),
            Ok(Arp {
                sender_mac: [2, 0, 0, 0, 0, 5],
                sender: V4::new([10, 0, 0, 5]),
                target: V4::new([10, 0, 0, 1])
            })
        );
    }

    #[test]
    fn other_lengths_and_types_are_malformed() {
        for (index, value) in [(0, 1), (1, 6), (3, 6), (4, 8), (5, 16)] {
            let mut bytes = REQUEST;
            bytes[index] = value;
            assert_eq!(parse(bytes.as_slice(), 0), Err(Reason::Malformed), "byte {index}");
        }
        assert_eq!(parse(&REQUEST[..27], 0), Err(Reason::Malformed));
    }
}
