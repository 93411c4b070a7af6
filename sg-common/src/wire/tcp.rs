//! TCP (RFC 9293).

use crate::{Be16, Packet, Reason};

/// Length of a header without options.
pub const HEADER: usize = 20;
/// The sender is done.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset.
pub const RST: u8 = 0x04;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;

/// What a combination of flags makes of a segment; PSH, URG and the ECN bits play no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SYN alone.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// RST, with or without ACK.
    Reset,
    /// ACK without SYN and RST; FIN may be set.
    Plain,
    /// NULL, Xmas, FIN alone and whatever else no stack sends.
    Invalid,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// Sequence number of the first byte (of the SYN, where it is set).
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The low eight flags.
    pub flags: u8,
    /// Bytes of data.
    pub data: u32,
}

impl Segment {
    /// What the flags say.
    #[inline(always)]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        match self.flags & (FIN | SYN | RST | ACK) {
            SYN => Kind::Syn,
            SYN_ACK => Kind::SynAck,
            RST | RST_ACK => Kind::Reset,
            ACK | FIN_ACK => Kind::Plain,
            _ => Kind::Invalid,
        }
    }

    /// Sequence number behind the segment; SYN and FIN count one each.
    #[inline(always)]
    #[must_use]
    pub const fn end(&self) -> u32 {
        let syn = if self.flags & SYN != 0 { 1 } else { 0 };
        let fin = if self.flags & FIN != 0 { 1 } else { 0 };
        self.sequence.wrapping_add(self.data).wrapping_add(syn + fin)
    }
}

/// Reads the header at `offset` of a payload of `length` bytes.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated or its length field cannot be.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    length: usize,
) -> Result<Segment, Reason> {
    let b = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
    let header = usize::from(b[12] >> 4) * 4;
    if header < HEADER || header > length {
        return Err(Reason::Malformed);
    }
    let data = u32::try_from(length - header).map_err(|_| Reason::Malformed)?;
    Ok(Segment {
        source: Be16::from_bytes([b[0], b[1]]),
        destination: Be16::from_bytes([b[2], b[3]]),
        sequence: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        acknowledgement: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
        flags: b[13],
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN_SEGMENT: [u8; 20] =
        [0x04, 0xd2, 0, 80, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];

    #[test]
    fn fields() {
        let segment = parse(SYN_SEGMENT.as_slice(), 0, 20).unwrap();
        assert_eq!((segment.source.get(), segment.destination.get()), (1234, 80));
        assert_eq!((segment.sequence, segment.acknowledgement, segment.data), (7, 9, 0));
        assert_eq!((segment.kind(), segment.end()), (Kind::Syn, 8));
    }

    #[test]
    fn header_length() {
        for (words, length, data) in
            [(5, 25, Some(5)), (6, 24, Some(0)), (6, 23, None), (4, 20, None)]
        {
            let mut bytes = [0; 64];
            bytes[..20].copy_from_slice(&SYN_SEGMENT);
            bytes[12] = words << 4;
            assert_eq!(parse(bytes.as_slice(), 0, length).ok().map(|s| s.data), data);
        }
        assert_eq!(parse(&SYN_SEGMENT[..19], 0, 19), Err(Reason::Malformed));
    }

    #[test]
    fn every_combination_of_flags() {
        for flags in 0..=u8::MAX {
            let segment = Segment { flags, ..parse(SYN_SEGMENT.as_slice(), 0, 20).unwrap() };
            let [fin, syn, rst, ack] = [FIN, SYN, RST, ACK].map(|bit| flags & bit != 0);
            let expected = match (syn, rst, ack, fin) {
                (true, false, false, false) => Kind::Syn,
                (true, false, true, false) => Kind::SynAck,
                (false, true, _, false) => Kind::Reset,
                (false, false, true, _) => Kind::Plain,
                _ => Kind::Invalid,
            };
            assert_eq!(segment.kind(), expected, "{flags:#04x}");
        }
    }
}
