//! Our parser against etherparse: of a frame that both read they must read the same, and where only one of them
//! takes it, the difference must be one that is listed here.

#![no_main]

use etherparse::err::{Layer, ipv6::SliceError, ipv6_exts::HeaderError};
use etherparse::{
    Icmpv4Slice, Icmpv6Slice, Ipv4Slice, Ipv6Slice, LaxLinkExtSlice, LaxSlicedPacket, TcpSlice,
    UdpSlice,
};
use libfuzzer_sys::fuzz_target;
use sg_common::wire::ethernet::{self, Network};
use sg_common::wire::ip::{self, IpHeader, IpVersion, Part};
use sg_common::wire::transport::{self, Transport};
use sg_common::{Address, Family, LinkLayer, Reason, V4, V6};

fuzz_target!(|frame: &[u8]| {
    let network = ethernet::locate(frame, LinkLayer::Ethernet);
    link(frame, network);
    match network {
        Ok(Network { ethertype: ethernet::IPV4, offset, .. }) => ipv4(frame, offset),
        Ok(Network { ethertype: ethernet::IPV6, offset, .. }) => ipv6(frame, offset),
        _ => {}
    }
});

/// Offset and kind of the network header.
fn link(frame: &[u8], ours: Result<Network, Reason>) {
    let Ok(theirs) = LaxSlicedPacket::from_ethernet(frame) else {
        assert_eq!(ours, Err(Reason::Malformed), "no Ethernet header");
        return;
    };
    // They know MACsec and a third EtherType of tags (0x9100), which to us are no tags.
    let ethernet = theirs.link.iter().map(|_| u16::from_be_bytes([frame[12], frame[13]]));
    let inner = theirs.link_exts.iter().filter_map(|tag| match tag {
        LaxLinkExtSlice::Vlan(tag) => Some(tag.to_header().ether_type.0),
        LaxLinkExtSlice::Macsec(_) => None,
    });
    let types: Vec<u16> = ethernet.chain(inner).collect();
    let tags = theirs.link_exts.len();
    if types.len() != tags + 1 || types.contains(&0x9100) {
        return;
    }
    match ours {
        Ok(network) => {
            assert_eq!(types.last(), Some(&network.ethertype));
            assert_eq!(network.offset, ethernet::HEADER + tags * ethernet::VLAN_TAG);
        }
        Err(Reason::VlanDepth) => assert!(tags > 2 || types.len() > 2, "{types:04x?}"),
        Err(reason) => {
            assert_eq!(reason, Reason::Malformed);
            assert!(theirs.stop_err.is_some(), "only we find it truncated");
        }
    }
}

/// Where a part of the frame stands in it.
fn place(frame: &[u8], part: &[u8]) -> (usize, usize) {
    (part.as_ptr() as usize - frame.as_ptr() as usize, part.len())
}

fn ipv4(frame: &[u8], offset: usize) {
    let mut header = IpHeader::<V4>::default();
    let ours = V4::parse(frame, offset, &mut header);
    match (ours, Ipv4Slice::from_slice(&frame[offset..])) {
        (Ok(()), Ok(theirs)) => {
            assert_eq!(header.source.octets(), theirs.header().source());
            assert_eq!(header.destination.octets(), theirs.header().destination());
            assert_eq!(header.hop_limit, theirs.header().ttl());
            let fragment = theirs.header();
            assert_eq!(header.fragment_offset, fragment.fragments_offset().byte_offset());
            assert_eq!(header.more_fragments, fragment.more_fragments());
            assert_eq!(header.fragment_id, fragment.identification().into());
            // They look behind an authentication header; to us it is a protocol like any other.
            if theirs.extensions().is_empty() {
                assert_eq!(header.protocol, theirs.payload_ip_number().0);
                let payload = place(frame, theirs.payload().payload);
                assert_eq!((header.payload, header.payload_length), payload);
            }
        }
        (Ok(()), Err(error)) => assert_eq!(header.protocol, 51, "only we take it: {error}"),
        // They read no options, and take fragments that cannot be: empty, of odd length, too far out.
        (Err(reason), Ok(theirs)) => {
            assert!(matches!(reason, Reason::Malformed | Reason::SourceRoute));
            let listed = !theirs.header().options().is_empty() || theirs.is_payload_fragmented();
            assert!(listed, "only they take it: {reason:?}");
        }
        (Err(_), Err(_)) => return,
    }
    if ours.is_ok() && header.part() == Part::Whole {
        transport(frame, &header);
    }
}

fn ipv6(frame: &[u8], offset: usize) {
    let mut header = IpHeader::<V6>::default();
    let ours = V6::parse(frame, offset, &mut header);
    let theirs = Ipv6Slice::from_slice(&frame[offset..]);
    // They take a length of zero for a jumbogram's, which fills the frame.
    let jumbogram = frame.get(offset + 4..offset + 6) == Some(&[0, 0]);
    match (ours, theirs) {
        (Ok(()), Ok(theirs)) => {
            assert_eq!(header.source.octets(), theirs.header().source());
            assert_eq!(header.destination.octets(), theirs.header().destination());
            assert_eq!(header.hop_limit, theirs.header().hop_limit());
            // We stop at the header of a later fragment, they go on as if it were the first.
            let later = header.part() == Part::Later;
            if !jumbogram && !later && !only_they_walk(header.protocol) {
                assert_eq!(header.part() == Part::First, theirs.is_payload_fragmented());
                assert_eq!(header.protocol, theirs.payload().ip_number.0);
                let payload = place(frame, theirs.payload().payload);
                assert_eq!((header.payload, header.payload_length), payload);
            }
        }
        (Ok(()), Err(error)) => {
            let later = header.part() == Part::Later;
            // An authentication header shorter than its fixed fields is walked by Linux, and by us.
            let authentication = match &error {
                SliceError::Exts(HeaderError::IpAuth(_)) => true,
                SliceError::Len(error) => error.layer == Layer::IpAuthHeader,
                SliceError::Header(_) | SliceError::Exts(_) => false,
            };
            let listed = later || only_they_walk(header.protocol) || jumbogram || authentication;
            assert!(listed, "{error}");
        }
        // Longer chains, routing type 0, several fragment headers, fragments that cannot be.
        (Err(reason), Ok(theirs)) => {
            let chain = matches!(reason, Reason::ExtensionHeaders | Reason::SourceRoute);
            assert!(chain || theirs.is_payload_fragmented(), "only they take it: {reason:?}");
            assert!(!theirs.extensions().is_empty() || jumbogram, "only they take it: {reason:?}");
        }
        (Err(_), Err(_)) => return,
    }
    if ours.is_ok() && header.part() == Part::Whole {
        transport(frame, &header);
    }
}

/// Extension headers that we take for protocols: ESP, mobility, HIP, shim6, experiments.
fn only_they_walk(protocol: u8) -> bool {
    matches!(protocol, 50 | 135 | 139 | 140 | 253 | 254)
}

fn transport<A: Address>(frame: &[u8], header: &IpHeader<A>) {
    let mut transport = Transport::Other;
    let ours = transport::parse(frame, header, &mut transport).map(|()| transport);
    let payload = &frame[header.payload..][..header.payload_length];
    match (header.protocol, A::FAMILY) {
        (ip::TCP, _) => tcp(ours, payload),
        (ip::UDP, _) => udp(ours, payload),
        (ip::ICMP, Family::V4) => {
            let theirs = Icmpv4Slice::from_slice(payload);
            // They want all of a timestamp message.
            let longer = matches!(payload.first(), Some(13 | 14));
            message(
                ours,
                theirs.map(|it| (it.type_u8(), it.code_u8(), it.bytes5to8())).ok(),
                longer,
            );
        }
        (ip::ICMPV6, Family::V6) => {
            let theirs = Icmpv6Slice::from_slice(payload);
            message(
                ours,
                theirs.map(|it| (it.type_u8(), it.code_u8(), it.bytes5to8())).ok(),
                false,
            );
        }
        (ip::SCTP, _) => match ours {
            Ok(Transport::Sctp(head)) => {
                assert_eq!(head.source.get().to_be_bytes(), payload[0..2]);
                assert_eq!(head.destination.get().to_be_bytes(), payload[2..4]);
                assert_eq!(head.chunk, payload[12]);
            }
            other => assert_eq!((other, payload.len() < 16), (Err(Reason::Malformed), true)),
        },
        _ => assert_eq!(ours, Ok(Transport::Other)),
    }
}

fn tcp(ours: Result<Transport, Reason>, payload: &[u8]) {
    match (ours, TcpSlice::from_slice(payload)) {
        (Ok(Transport::Tcp(segment)), Ok(theirs)) => {
            let ports = (theirs.source_port(), theirs.destination_port());
            assert_eq!((segment.source.get(), segment.destination.get()), ports);
            let numbers = (theirs.sequence_number(), theirs.acknowledgment_number());
            assert_eq!((segment.sequence, segment.acknowledgement), numbers);
            assert_eq!(segment.data as usize, theirs.payload().len());
            let flags = [theirs.fin(), theirs.syn(), theirs.rst(), theirs.psh(), theirs.ack()];
            let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
            assert_eq!(segment.flags & 0x1f, bits);
        }
        (Err(Reason::Malformed), Err(_)) => {}
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}

fn udp(ours: Result<Transport, Reason>, payload: &[u8]) {
    match (ours, UdpSlice::from_slice(payload)) {
        (Ok(Transport::Udp(source, destination)), Ok(theirs)) => {
            let ports = (theirs.source_port(), theirs.destination_port());
            assert_eq!((source.get(), destination.get()), ports);
        }
        (Err(Reason::Malformed), Err(_)) => {}
        // Zero is a jumbogram's length, to them.
        (Err(Reason::Malformed), Ok(theirs)) => assert_eq!(theirs.length(), 0),
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}

/// Type, code and the four bytes behind the checksum.
fn message(ours: Result<Transport, Reason>, theirs: Option<(u8, u8, [u8; 4])>, longer: bool) {
    match (ours, theirs) {
        (Ok(Transport::Icmp(message)), Some((kind, code, rest))) => {
            assert_eq!((message.kind, message.code), (kind, code));
            assert_eq!(message.identifier.get().to_be_bytes(), rest[..2]);
        }
        (Err(Reason::Malformed), None) => {}
        (Ok(Transport::Icmp(_)), None) => assert!(longer, "only we take it"),
        (ours, theirs) => panic!("{ours:?}, {theirs:?}"),
    }
}
