//! SCTP's first two packets, INIT and INIT ACK, through raw sockets: many kernels, that of our CI
//! among them, have no SCTP, and what a security group decides, it decides on the first.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use super::{Outcome, ip};
use crate::netns::Namespace;

/// IP protocol number.
pub const PROTOCOL: u8 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Any number serves as our tag; the answer must carry it.
const TAG: [u8; 4] = *b"sgt!";

/// Answers INIT at one port with INIT ACK, until dropped.
#[derive(Debug)]
pub struct Server(ip::Server);

impl Server {
    /// Listens at an address of the namespace.
    ///
    /// # Errors
    /// When the address is not there.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let port = address.port();
        let answer = move |packet: &[u8]| {
            let ports = ports(packet)?;
            let tag = packet.get(16..20)?.try_into().ok()?;
            (ports.1 == port && packet.get(12) == Some(&INIT))
                .then(|| build((port, ports.0), tag, INIT_ACK))
        };
        ip::Server::answering(namespace, address.ip(), PROTOCOL, answer).map(Self)
    }

    /// How many INITs reached it.
    #[must_use]
    pub fn received(&self) -> usize {
        self.0.received()
    }
}

/// Sends one INIT and waits for its INIT ACK. `from` gives address and port.
///
/// # Errors
/// When the sockets cannot be made, or fail in a way that is not the network's answer.
pub fn request(
    namespace: &Namespace,
    from: SocketAddr,
    to: SocketAddr,
    limit: Duration,
) -> Result<Outcome> {
    let client = ip::Client::open(namespace, PROTOCOL, Some(from.ip()), to.ip())?;
    let init = build((from.port(), to.port()), [0; 4], INIT);
    client.exchange(&init, limit, |answer| {
        ports(answer) == Some((to.port(), from.port()))
            && answer.get(4..8) == Some(&TAG)
            && answer.get(12) == Some(&INIT_ACK)
    })
}

fn ports(packet: &[u8]) -> Option<(u16, u16)> {
    let source = packet.get(0..2)?.try_into().ok()?;
    let destination = packet.get(2..4)?.try_into().ok()?;
    Some((u16::from_be_bytes(source), u16::from_be_bytes(destination)))
}

/// A packet of one chunk, RFC 9260 sections 3.1 and 3.3.2.
fn build((source, destination): (u16, u16), verification: [u8; 4], chunk: u8) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(verification);
    packet.extend([0; 4]); // checksum, below
    packet.extend([chunk, 0, 0, 20]);
    packet.extend(TAG);
    packet.extend(65536_u32.to_be_bytes()); // receiver window
    packet.extend([0, 1, 0, 1]); // one stream each way
    packet.extend([0, 0, 0, 1]); // first sequence number
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

/// CRC32c, bit by bit: RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{INIT, build, crc32c, ports};

    #[test]
    fn checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn packet_has_its_parts_in_place() {
        let packet = build((1000, 2000), [1, 2, 3, 4], INIT);
        assert_eq!(packet.len(), 32);
        assert_eq!(ports(&packet), Some((1000, 2000)));
        assert_eq!((&packet[4..8], packet[12]), ([1, 2, 3, 4].as_slice(), INIT));
    }
}
