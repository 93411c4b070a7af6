//! The frames that the driver rewrites, and the numbers that it writes into them: one connection each, as far as it is
//! to go.

use anyhow::Result;
use etherparse::PacketBuilder;

use crate::driver::Drive;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The protected end.
pub(crate) const LOCAL_V4: [u8; 4] = [10, 255, 0, 10];
/// The same.
pub(crate) const LOCAL_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10];
/// Bytes of data in a packet of an established connection.
const DATA: u32 = 64;
/// Sequence numbers of the first byte of data, of the remote and of the local end.
const REMOTE: u32 = 1000;
const LOCAL: u32 = 5000;

/// TCP's flags.
pub(crate) const SYN: u16 = 0x02;
pub(crate) const ACK: u16 = 0x10;

/// What stage of a connection the packets are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The remote end opens it.
    Syn,
    /// The local end answers.
    SynAck,
    /// The remote end completes the handshake.
    Ack,
    /// The remote end sends data, in order from round to round.
    Data,
}

/// Packets of one family and stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packets {
    pub(crate) family: Family,
    pub(crate) stage: Stage,
}

impl Packets {
    /// Where the driver begins.
    pub(crate) fn drive(self) -> Drive {
        let (sequence, acknowledgement, flags, advance) = match self.stage {
            // Another round is another attempt.
            Stage::Syn => (REMOTE - 1, 0, SYN, DATA),
            Stage::SynAck => (LOCAL - 1, REMOTE, SYN | ACK, 0),
            Stage::Ack => (REMOTE, LOCAL, ACK, 0),
            Stage::Data => (REMOTE, LOCAL, ACK, DATA),
        };
        Drive {
            v6: u32::from(self.family == Family::V6),
            egress: u32::from(self.is_egress()),
            sequence,
            advance,
            acknowledgement,
            flags,
            ..Drive::default()
        }
    }

    fn is_egress(self) -> bool {
        matches!(self.stage, Stage::SynAck)
    }

    /// A frame for the driver to write into.
    pub(crate) fn frame(self) -> Result<Vec<u8>> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let network = match (self.family, self.is_egress()) {
            (Family::V4, false) => link.ipv4([192, 0, 2, 1], LOCAL_V4, 64),
            (Family::V4, true) => link.ipv4(LOCAL_V4, [192, 0, 2, 1], 64),
            (Family::V6, false) => link.ipv6([0x24; 16], LOCAL_V6, 64),
            (Family::V6, true) => link.ipv6(LOCAL_V6, [0x24; 16], 64),
        };
        let data = match self.stage {
            Stage::Syn | Stage::SynAck | Stage::Ack => 0,
            Stage::Data => usize::try_from(DATA)?,
        };
        let transport = network.tcp(1, 2, 0, 1024);
        let mut frame = Vec::with_capacity(transport.size(data));
        transport.write(&mut frame, &vec![0; data])?;
        Ok(frame)
    }
}
