//! Wire formats: one file a protocol, each with its field offsets, a checked parser and tests on literal
//! bytes. A length from the wire is compared before it is used, and subtracted with checks.

pub mod arp;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod nd;
pub mod sctp;
pub mod tcp;
pub mod transport;

/// A big-endian 16-bit field.
#[inline(always)]
pub(crate) const fn be16(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}
