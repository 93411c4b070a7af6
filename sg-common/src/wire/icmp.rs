//! ICMP (RFC 792, RFC 950) and ICMPv6 (RFC 4443).

use crate::{Be16, Family, Packet, Reason};

/// Length of the part that every message has.
pub const HEADER: usize = 8;

/// ICMP types that are known by name.
pub mod v4 {
    /// Source quench (RFC 792).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
}

/// ICMPv6 types that the infrastructure entries know.
pub mod v6 {
    /// Multicast listener query (RFC 2710).
    pub const LISTENER_QUERY: u8 = 130;
    /// Multicast listener report.
    pub const LISTENER_REPORT: u8 = 131;
    /// Multicast listener done.
    pub const LISTENER_DONE: u8 = 132;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const LISTENER_REPORT_V2: u8 = 143;
}

/// What a message is to a flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks; the reply carries the same identifier.
    Query,
    /// Answers a query of the type given.
    Reply(u8),
    /// Reports on a packet that it quotes.
    Error,
    /// Anything else: nothing answers it.
    OneWay,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of queries and replies; part of something else in other messages.
    pub identifier: Be16,
}

impl Message {
    /// What the type says, in the numbers of its family.
    #[inline(always)]
    #[must_use]
    pub const fn classify(&self, family: Family) -> Kind {
        match family {
            Family::V4 => match self.kind {
                8 | 13 | 15 | 17 => Kind::Query,
                0 => Kind::Reply(8),
                14 => Kind::Reply(13),
                16 => Kind::Reply(15),
                18 => Kind::Reply(17),
                3 | 4 | 5 | 11 | 12 => Kind::Error,
                _ => Kind::OneWay,
            },
            // RFC 4443, section 2.1: the high bit clear means an error.
            Family::V6 => match self.kind {
                0..=127 => Kind::Error,
                128 => Kind::Query,
                129 => Kind::Reply(128),
                _ => Kind::OneWay,
            },
        }
    }
}

impl Message {
    /// Whether it reports what became of a packet. A source quench must be ignored (RFC 6633), and a
    /// redirect tells a host where to send, which takes a rule.
    #[inline(always)]
    #[must_use]
    pub const fn is_about_a_packet(&self, family: Family) -> bool {
        match family {
            Family::V4 => !matches!(self.kind, v4::SOURCE_QUENCH | v4::REDIRECT),
            Family::V6 => true,
        }
    }
}

/// Reads the header at `offset` of a payload of `length` bytes.
///
/// # Errors
/// [`Reason::Malformed`] when it is truncated.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    length: usize,
) -> Result<Message, Reason> {
    if length < HEADER {
        return Err(Reason::Malformed);
    }
    let b = packet.load::<HEADER>(offset).ok_or(Reason::Malformed)?;
    Ok(Message { kind: b[0], code: b[1], identifier: Be16::from_bytes([b[4], b[5]]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_names_a_query() {
        for family in [Family::V4, Family::V6] {
            for kind in 0..=u8::MAX {
                let message = Message { kind, code: 0, identifier: Be16::new(1) };
                if let Kind::Reply(query) = message.classify(family) {
                    let query = Message { kind: query, ..message };
                    assert_eq!(query.classify(family), Kind::Query, "{family:?} {kind}");
                }
            }
        }
    }

    #[test]
    fn truncated() {
        assert_eq!(parse([8_u8, 0, 0, 0, 0, 1, 0].as_slice(), 0, 7), Err(Reason::Malformed));
        assert_eq!(parse([8_u8; 8].as_slice(), 0, 7), Err(Reason::Malformed));
        assert_eq!(
            parse([8_u8, 0, 0, 0, 1, 2, 0, 0].as_slice(), 0, 8),
            Ok(Message { kind: 8, code: 0, identifier: Be16::new(258) })
        );
    }
}
