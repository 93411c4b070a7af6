//! One packet of a flow that does not exist yet, built as a host would send it.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use sg_common::Direction;
use sg_common::wire::icmp::v6;
use sg_common::wire::{ip, sctp};

use crate::policy::model::Traffic;

/// A question: would the first packet of such a flow pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Which way it travels, seen from the protected end.
    pub direction: Direction,
    /// Address of the protected end.
    pub local: IpAddr,
    /// Address of the other end.
    pub remote: IpAddr,
    /// The packet: one port, or one ICMP type and code.
    pub traffic: Traffic,
    /// Source port of protocols that have ports.
    pub source_port: u16,
}

impl Probe {
    /// A probe from an ephemeral port.
    #[must_use]
    pub const fn new(
        direction: Direction,
        local: IpAddr,
        remote: IpAddr,
        traffic: Traffic,
    ) -> Self {
        Self { direction, local, remote, traffic, source_port: 49152 }
    }
}

/// Why a probe is no packet.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A rule's traffic where one packet's is wanted.
    #[error("{} is more than one packet", crate::compile::TrafficText(*.0))]
    ManyPackets(Traffic),
    /// No packet goes from one family to the other.
    #[error("{0} and {1} are of different families")]
    Families(IpAddr, IpAddr),
    /// The packet could not be written.
    #[error("the packet cannot be built")]
    Build(#[from] etherparse::err::packet::BuildVecWriteError),
}

/// Stands for the router or neighbour.
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// Stands for the protected end where its address is not given.
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

const SEQUENCE: u32 = 1;
const WINDOW: u16 = 64240;
/// Identifier and sequence number of an echo.
const ECHO: [u8; 4] = [0, 1, 0, 1];

type IpStep = PacketBuilderStep<etherparse::IpHeaders>;

/// The frame that a probe stands for; `mac` is the protected end's address.
///
/// # Errors
///
/// [`ProbeError`] says what the probe leaves open or mixes.
pub fn packet(probe: &Probe, mac: Option<[u8; 6]>) -> Result<Vec<u8>, ProbeError> {
    let own_mac = mac.unwrap_or(OWN_MAC);
    let (source, destination, source_mac, destination_mac) = match probe.direction {
        Direction::Ingress => (probe.remote, probe.local, OTHER_MAC, own_mac),
        Direction::Egress => (probe.local, probe.remote, own_mac, OTHER_MAC),
    };
    let hop_limit = hop_limit(probe.traffic);
    let ethernet = PacketBuilder::ethernet2(source_mac, destination_mac);
    let builder = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), hop_limit)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), hop_limit)
        }
        (source, destination) => return Err(ProbeError::Families(source, destination)),
    };
    let mut frame = Vec::new();
    transport(builder, probe, source, destination, &mut frame)?;
    Ok(frame)
}

/// Neighbour discovery and listener reports are what they are by their hop limit.
fn hop_limit(traffic: Traffic) -> u8 {
    match traffic {
        Traffic::Icmp { protocol: ip::ICMPV6, kind: Some((kind, _)) } => match kind {
            v6::ROUTER_SOLICITATION..=v6::REDIRECT => 255,
            v6::LISTENER_QUERY..=v6::LISTENER_DONE | v6::LISTENER_REPORT_V2 => 1,
            _ => 64,
        },
        Traffic::All | Traffic::Ports { .. } | Traffic::Icmp { .. } | Traffic::Protocol(_) => 64,
    }
}

fn transport(
    builder: IpStep,
    probe: &Probe,
    source: IpAddr,
    destination: IpAddr,
    frame: &mut Vec<u8>,
) -> Result<(), ProbeError> {
    let from = probe.source_port;
    match probe.traffic {
        Traffic::Ports { protocol, first: to, last } if to == last => match protocol {
            ip::TCP => builder.tcp(from, to, SEQUENCE, WINDOW).syn().write_to_vec(frame, &[])?,
            ip::UDP => builder.udp(from, to).write_to_vec(frame, &[])?,
            ip::SCTP => builder.write_to_vec(frame, IpNumber::SCTP, &sctp_init(from, to))?,
            other => builder.write_to_vec(frame, IpNumber(other), &[0; 8])?,
        },
        Traffic::Icmp { protocol, kind: Some((kind, Some(code))) } => {
            match (protocol, destination) {
                (ip::ICMP, IpAddr::V4(_)) => {
                    builder.icmpv4_raw(kind, code, ECHO).write_to_vec(frame, &[0; 28])?;
                }
                (ip::ICMPV6, IpAddr::V6(_)) => {
                    let payload = message_body(kind, source, destination);
                    builder.icmpv6_raw(kind, code, ECHO).write_to_vec(frame, &payload)?;
                }
                _ => builder.write_to_vec(
                    frame,
                    IpNumber(protocol),
                    &[kind, code, 0, 0, 0, 0, 0, 0],
                )?,
            }
        }
        Traffic::Protocol(protocol) => {
            builder.write_to_vec(frame, IpNumber(protocol), &[0; 8])?;
        }
        Traffic::All | Traffic::Ports { .. } | Traffic::Icmp { .. } => {
            return Err(ProbeError::ManyPackets(probe.traffic));
        }
    }
    Ok(())
}

/// What stands behind an ICMPv6 message's first eight bytes: the target, where it has one.
fn message_body(kind: u8, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let target = match kind {
        v6::NEIGHBOUR_SOLICITATION => destination,
        v6::NEIGHBOUR_ADVERTISEMENT => source,
        _ => return vec![0; 48],
    };
    match target {
        IpAddr::V4(target) => target.octets().to_vec(),
        IpAddr::V6(target) => target.octets().to_vec(),
    }
}

/// Common header and an INIT chunk (RFC 9260, section 3.3.2).
fn sctp_init(from: u16, to: u16) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0..2].copy_from_slice(&from.to_be_bytes());
    bytes[2..4].copy_from_slice(&to.to_be_bytes());
    bytes[12] = sctp::INIT;
    bytes[15] = 20;
    bytes[19] = 1;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(local: &str, remote: &str, traffic: Traffic) -> Probe {
        let parse = |text: &str| text.parse().expect("an address");
        Probe::new(Direction::Egress, parse(local), parse(remote), traffic)
    }

    #[test]
    fn what_leaves_something_open_is_no_packet() {
        for traffic in [
            Traffic::All,
            Traffic::Ports { protocol: 6, first: 1, last: 2 },
            Traffic::Icmp { protocol: 1, kind: None },
            Traffic::Icmp { protocol: 1, kind: Some((8, None)) },
        ] {
            let built = packet(&probe("10.0.0.1", "10.0.0.2", traffic), None);
            assert!(matches!(built, Err(ProbeError::ManyPackets(found)) if found == traffic));
        }
        let mixed = probe("10.0.0.1", "::1", Traffic::Protocol(47));
        assert!(matches!(packet(&mixed, None), Err(ProbeError::Families(..))));
    }

    #[test]
    fn frames_begin_and_end_as_they_should() {
        let mac = [2, 0, 0, 0, 0, 5];
        let traffic = Traffic::Ports { protocol: 132, first: 36412, last: 36412 };
        let frame = packet(&probe("10.0.0.1", "10.0.0.2", traffic), Some(mac)).expect("a frame");
        assert_eq!((&frame[6..12], &frame[12..14], frame[23]), (&mac[..], &[8, 0][..], 132));
        assert_eq!((frame.len(), frame[34 + 12]), (14 + 20 + 32, sctp::INIT));
        let traffic = Traffic::Icmp { protocol: 58, kind: Some((135, Some(0))) };
        let frame = packet(&probe("fd00::1", "fd00::2", traffic), None).expect("a frame");
        assert_eq!((frame[21], frame.len()), (255, 14 + 40 + 24), "hop limit, target address");
    }
}
