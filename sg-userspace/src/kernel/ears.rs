//! What the kernel tells of devices and addresses, in every network namespace that matters.
//!
//! What is told is not believed in its letter: it says that it is time to look. So an overrun, after which messages
//! are missing, is one more message, and a namespace that is heard too late has lost nothing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;

use super::{Device, namespace};

/// Groups of `linux/rtnetlink.h`: links, traffic control, IPv4 and IPv6 addresses.
const GROUPS: [u32; 4] = [1, 4, 5, 9];
/// `RTM_NEWADDR` and `RTM_DELADDR`.
const ADDRESS_MESSAGES: std::ops::RangeInclusive<u16> = 20..=21;
/// `RTM_DELLINK`.
const LINK_GONE: u16 = 17;
/// More than one datagram of the kernel's holds.
const DATAGRAM: usize = 64 << 10;

/// A listener in each namespace, by its inode.
#[derive(Default)]
pub(super) struct Ears {
    open: BTreeMap<u64, Socket>,
}

/// What was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Something.
    pub(super) any: bool,
    /// Namespaces in which addresses may have changed.
    pub(super) addresses: Vec<u64>,
    /// Devices that have gone to other namespaces.
    pub(super) departures: Vec<Departure>,
}

/// A device that has been moved to another namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departure {
    /// Inode of the namespace that it was in.
    pub(super) from: u64,
    /// Its index there.
    pub(super) index: u32,
    /// By which number that namespace knows the new one.
    pub(super) to: i32,
    /// Its index in the new one.
    pub(super) new_index: u32,
}

impl Ears {
    /// Listens in these namespaces and in no other.
    pub(super) fn attend(&mut self, namespaces: &[u64]) {
        self.open.retain(|inode, _| namespaces.contains(inode));
        namespaces.iter().for_each(|inode| self.attend_also(*inode));
    }

    /// Listens in this one too.
    pub(super) fn attend_also(&mut self, inode: u64) {
        if self.open.contains_key(&inode) {
            return;
        }
        match listen(inode) {
            Ok(Some(socket)) => _ = self.open.insert(inode, socket),
            // It cannot be opened: what is seen of it is seen at the next look.
            Ok(None) => {}
            Err(error) => log::warn!("cannot listen in namespace {inode}: {error}"),
        }
    }

    /// Waits until something is told, but not for longer than `limit`.
    pub(super) fn wait(&self, limit: Duration) -> io::Result<Heard> {
        let mut fds: Vec<_> =
            self.open.values().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut heard = Heard::default();
        for (inode, socket) in &self.open {
            let drained = drain(socket, *inode)?;
            heard.any |= drained.any;
            if drained.addresses {
                heard.addresses.push(*inode);
            }
            heard.departures.extend(drained.departures);
        }
        Ok(heard)
    }
}

fn listen(inode: u64) -> io::Result<Option<Socket>> {
    if inode == Device::namespace_here() {
        return open().map(Some);
    }
    namespace::find(inode).map(|file| namespace::inside(&file, open)).transpose()
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    GROUPS.iter().try_for_each(|group| socket.add_membership(*group))?;
    Ok(socket)
}

#[derive(Default)]
struct Drained {
    any: bool,
    addresses: bool,
    departures: Vec<Departure>,
}

fn drain(socket: &Socket, from: u64) -> io::Result<Drained> {
    let mut drained = Drained::default();
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        match socket.recv(&mut datagram, 0) {
            Ok(_) => {
                drained.any = true;
                for (kind, message) in messages(&datagram) {
                    drained.addresses |= ADDRESS_MESSAGES.contains(&kind);
                    if kind == LINK_GONE {
                        drained.departures.extend(departure(message, from));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(drained),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Messages were lost: anything may have been in them.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                log::debug!("netlink has overrun");
                (drained.any, drained.addresses) = (true, true);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Where a device has gone that is no more in its namespace; nowhere, usually.
fn departure(message: &[u8], from: u64) -> Option<Departure> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload else {
        return None;
    };
    let index = link.header.index;
    // Without a word about it, it has kept its index.
    let (mut to, mut new_index) = (None, index);
    for attribute in &link.attributes {
        if let LinkAttribute::NewNetnsId(id) = attribute {
            to = Some(*id);
        } else if let LinkAttribute::NewIfIndex(found) = attribute {
            new_index = u32::try_from(*found).ok()?;
        }
    }
    Some(Departure { from, index, to: to?, new_index })
}

/// The messages of a datagram with their kinds (`struct nlmsghdr`: length, kind).
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?.max(16);
        let message = rest.get(..length).unwrap_or(rest);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_every_message() {
        let kinds = |bytes: &[u8]| messages(bytes).map(|(kind, _)| kind).collect::<Vec<_>>();
        let message = |length: u32, kind: u16| {
            let mut bytes = vec![0; usize::try_from(length).expect("small").next_multiple_of(4)];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes
        };
        let datagram = [message(17, 16), message(24, 20)].concat();
        assert_eq!(kinds(&datagram), [16, 20]);
        // A length that cannot be is no endless loop.
        assert_eq!(kinds(&message(16, 7)[..6]), [7]);
        let mut odd = message(16, 7);
        odd[0] = 0;
        assert_eq!(kinds(&odd), [7]);
    }
}
