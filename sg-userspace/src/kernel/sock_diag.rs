//! The TCP and UDP sockets of a network namespace (`sock_diag(7)`).

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_CLOSING,
    TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::exchange::exchange;
use crate::adoption::{Socket, SocketState};

/// Those of the calling thread's namespace.
pub(super) fn sockets() -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            let request = InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all(),
                socket_id: any.clone(),
            };
            let request = SockDiagMessage::InetRequest(request);
            for answer in exchange(NETLINK_SOCK_DIAG, request, NLM_F_DUMP)? {
                if let SockDiagMessage::InetResponse(response) = answer {
                    found.extend(socket(protocol, &response.header));
                }
            }
        }
    }
    Ok(found)
}

/// `None` for one that only begins to connect or lingers in TIME-WAIT.
fn socket(protocol: u8, header: &InetResponseHeader) -> Option<Socket> {
    let state = match (protocol, header.state) {
        (_, TCP_ESTABLISHED) => SocketState::Established,
        (IPPROTO_TCP, TCP_FIN_WAIT1) => SocketState::FinWait1,
        (IPPROTO_TCP, TCP_FIN_WAIT2) => SocketState::FinWait2,
        (IPPROTO_TCP, TCP_CLOSE_WAIT) => SocketState::CloseWait,
        (IPPROTO_TCP, TCP_LAST_ACK | TCP_CLOSING) => SocketState::LastAck,
        (IPPROTO_TCP, TCP_LISTEN) => SocketState::Listen,
        (IPPROTO_UDP, TCP_CLOSE) => SocketState::Unconnected,
        _ => return None,
    };
    let id = &header.socket_id;
    Some(Socket {
        protocol,
        state,
        local: SocketAddr::new(id.source_address, id.source_port),
        remote: SocketAddr::new(id.destination_address, id.destination_port),
        unacknowledged: header.send_queue,
    })
}
