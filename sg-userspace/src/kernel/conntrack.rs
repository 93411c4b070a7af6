//! The conversations that connection tracking knows in the calling thread's namespace (ctnetlink), where it
//! is in use.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Protocol,
    Status, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use sg_common::wire::ip;

use super::exchange::exchange;
use crate::adoption::{Tracked, TrackedState};

/// States of TCP, `linux/netfilter/nf_conntrack_tcp.h`.
const TCP_ESTABLISHED: u8 = 3;
const TCP_CLOSE_WAIT: u8 = 5;

/// Those that both ends have confirmed.
pub(super) fn tracked() -> io::Result<Vec<Tracked>> {
    let mut found = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let request = NetfilterMessage::new(
            NetfilterHeader::new(family, 0, 0),
            ConntrackMessage::Get(Vec::new()),
        );
        for answer in exchange(NETLINK_NETFILTER, request, NLM_F_DUMP)? {
            if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) =
                answer.inner
            {
                found.extend(conversation(&attributes));
            }
        }
    }
    Ok(found)
}

fn conversation(attributes: &[ConntrackAttribute]) -> Option<Tracked> {
    let (mut original, mut reply, mut tcp, mut confirmed) = (None, None, None, false);
    for attribute in attributes {
        if let ConntrackAttribute::CtaTupleOrig(tuple) = attribute {
            original = ends(tuple);
        } else if let ConntrackAttribute::CtaTupleReply(tuple) = attribute {
            reply = ends(tuple);
        } else if let ConntrackAttribute::CtaStatus(status) = attribute {
            confirmed = status.contains(Status::Assured);
        } else if let ConntrackAttribute::CtaProtoInfo(info) = attribute {
            tcp = info.iter().find_map(tcp_state);
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    let is_open = match protocol {
        ip::TCP => tcp.is_some_and(|state| (TCP_ESTABLISHED..=TCP_CLOSE_WAIT).contains(&state)),
        _ => true,
    };
    let state = if is_open { TrackedState::Open } else { TrackedState::Other };
    confirmed.then_some(Tracked { protocol, original, reply, state })
}

fn tcp_state(info: &ProtoInfo) -> Option<u8> {
    let ProtoInfo::TCP(attributes) = info else { return None };
    attributes.iter().find_map(|attribute| {
        let ProtoInfoTCP::State(state) = attribute else { return None };
        Some(*state)
    })
}

/// Protocol, source and destination of one direction, if it is TCP or UDP.
fn ends(tuple: &[Tuple]) -> Option<(u8, [SocketAddr; 2])> {
    let (mut addresses, mut ports, mut protocol) = ([None::<IpAddr>; 2], [0; 2], None);
    for part in tuple {
        if let Tuple::Ip(parts) = part {
            for part in parts {
                if let IPTuple::SourceAddress(address) = part {
                    addresses[0] = Some(*address);
                } else if let IPTuple::DestinationAddress(address) = part {
                    addresses[1] = Some(*address);
                }
            }
        } else if let Tuple::Proto(parts) = part {
            for part in parts {
                if let ProtoTuple::SourcePort(port) = part {
                    ports[0] = *port;
                } else if let ProtoTuple::DestinationPort(port) = part {
                    ports[1] = *port;
                } else if let ProtoTuple::Protocol(number) = part {
                    protocol = known(number);
                }
            }
        }
    }
    let [source, destination] = addresses;
    let ends = [SocketAddr::new(source?, ports[0]), SocketAddr::new(destination?, ports[1])];
    Some((protocol?, ends))
}

fn known(protocol: &Protocol) -> Option<u8> {
    if *protocol == Protocol::Tcp {
        Some(ip::TCP)
    } else if *protocol == Protocol::Udp {
        Some(ip::UDP)
    } else {
        None
    }
}
