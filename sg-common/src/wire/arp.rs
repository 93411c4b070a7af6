//! ARP for IPv4 over Ethernet (RFC 826).

use crate::{Packet, Reason, V4};

/// Length of a packet with Ethernet and IPv4 addresses.
pub const LENGTH: usize = 28;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Asks who has the target address.
    Request = 1,
    /// Says that the sender has the sender address.
    Reply = 2,
}

/// The fields a source check needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply: nobody listens to the other operations of RFC 5494 on Ethernet.
    pub operation: Operation,
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
/// [`Reason::Malformed`] when it is truncated, not about IPv4 over Ethernet, or neither request nor reply.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, offset: usize) -> Result<Arp, Reason> {
    let b = packet.load::<LENGTH>(offset).ok_or(Reason::Malformed)?;
    // Hardware type 1, protocol type 0x0800, lengths 6 and 4.
    if b[0] != 0 || b[1] != 1 || b[2] != 8 || b[3] != 0 || b[4] != 6 || b[5] != 4 {
        return Err(Reason::Malformed);
    }
    let operation = match [b[6], b[7]] {
        [0, 1] => Operation::Request,
        [0, 2] => Operation::Reply,
        _ => return Err(Reason::Malformed),
    };
    Ok(Arp {
        operation,
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
                operation: Operation::Request,
                sender_mac: [2, 0, 0, 0, 0, 5],
                sender: V4::new([10, 0, 0, 5]),
                target: V4::new([10, 0, 0, 1])
            })
        );
    }

    #[test]
    fn other_lengths_types_and_operations_are_malformed() {
        for (index, value) in [(0, 1), (1, 6), (3, 6), (4, 8), (5, 16), (6, 1), (7, 0), (7, 3)] {
            let mut bytes = REQUEST;
            bytes[index] = value;
            assert_eq!(parse(bytes.as_slice(), 0), Err(Reason::Malformed), "byte {index}");
        }
        assert_eq!(parse(&REQUEST[..27], 0), Err(Reason::Malformed));
    }
}
