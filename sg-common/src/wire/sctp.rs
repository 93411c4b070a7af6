//! SCTP (RFC 9260), as far as a flow table needs it.

use crate::{Be16, Packet, Reason};

/// Length of the common header and the first chunk's header.
pub const HEADER: usize = 16;
/// Chunk type that opens an association.
pub const INIT: u8 = 1;

/// Ports and first chunk of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Type of the first chunk.
    pub chunk: u8,
}

/// Reads the header at `offset` of a payload of `length` bytes.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated or has no chunk.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, offset: usize, length: usize) -> Result<Head, Reason> {
    if length < HEADER {
        return Err(Reason::Malformed);
    }
    let b = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
    Ok(Head {
        source: Be16::from_bytes([b[0], b[1]]),
        destination: Be16::from_bytes([b[2], b[3]]),
        chunk: b[12],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init() {
        let bytes = [0x0b, 0x59, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, INIT, 0, 0, 20];
        assert_eq!(
            parse(bytes.as_slice(), 0, 16),
            Ok(Head { source: Be16::new(2905), destination: Be16::new(80), chunk: INIT })
        );
        assert_eq!(parse(bytes.as_slice(), 0, 15), Err(Reason::Malformed));
        assert_eq!(parse(&bytes[..15], 0, 16), Err(Reason::Malformed));
    }
}
