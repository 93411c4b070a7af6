//! AF_PACKET sockets: the only file of the harness that talks to libc itself.

use std::{
    io::{self, IoSliceMut},
    mem::size_of,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike,
        bind, recvmsg, send, setsockopt, socket, sockopt,
    },
};

use crate::netns::Namespace;

/// Receive buffer: a test reads only at its end, and nothing may be lost until then.
const BUFFER: usize = 64 << 20;
/// Largest frame that a veth hands over: segmentation offload makes 64 KiB, and headers.
const LARGEST_FRAME: usize = 128 << 10;

/// What a socket hears.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Nothing: it only sends.
    Nothing,
    /// Every frame that the device sends or receives.
    Everything,
}

/// A frame as heard.
pub(crate) struct Heard {
    /// With its VLAN tag, if it had one.
    pub(crate) bytes: Vec<u8>,
    /// Sent by the device, rather than received.
    pub(crate) outgoing: bool,
}

/// A socket bound to one device.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on a device of a namespace.
    pub(crate) fn open(namespace: &Namespace, device: &str, hears: Hears) -> Result<Self> {
        let index = i32::try_from(namespace.device_index(device)?)?;
        let context = || format!("packet socket on {device} in {}", namespace.name());
        // Protocol 0: deaf until bound, so that no other device's frames slip in.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = namespace
            .run(|| socket(AddressFamily::Packet, SockType::Raw, flags, None))
            .with_context(context)?;
        let protocol = if hears == Hears::Everything {
            setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).with_context(context)?;
            enable_auxdata(&fd).with_context(context)?;
            u16::try_from(libc::ETH_P_ALL)?.to_be()
        } else {
            0
        };
        bind(fd.as_raw_fd(), &link_address(index, protocol)?).with_context(context)?;
        Ok(Self(fd))
    }

    /// Sends one frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).context("sending a frame")?;
        anyhow::ensure!(sent == frame.len(), "{sent} of {} bytes sent", frame.len());
        Ok(())
    }

    /// Sends many frames with few calls. What TC egress drops counts as sent; returns how many it dropped.
    pub(crate) fn send_many(&self, frames: &[Vec<u8>]) -> Result<usize> {
        let mut parts: Vec<_> = frames.iter().map(|frame| part(frame)).collect();
        let mut messages: Vec<_> = parts.iter_mut().map(message).collect();
        let (mut done, mut dropped) = (0, 0);
        while let Some(rest) = messages.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match send_messages(&self.0, rest) {
                Ok(sent) => done += sent,
                // The first of the rest: a call reports an error only where nothing went before it.
                Err(Errno::ENOBUFS) => (done, dropped) = (done + 1, dropped + 1),
                // The receiving end is behind.
                Err(Errno::EAGAIN) => std::thread::yield_now(),
                Err(error) => return Err(error).context("sending frames"),
            }
        }
        Ok(dropped)
    }

    /// The next frame heard, if there is one.
    pub(crate) fn receive(&self) -> Result<Option<Heard>> {
        let mut buffer = vec![0; LARGEST_FRAME];
        let mut control = nix::cmsg_space!(libc::tpacket_auxdata);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let fd = self.0.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<LinkAddr>(fd, &mut slices, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error).context("receiving a frame"),
        };
        let outgoing =
            message.address.is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING);
        let tag = message.cmsgs().ok().and_then(|mut messages| messages.find_map(vlan_tag));
        let length = message.bytes;
        buffer.truncate(length);
        if let Some(tag) = tag {
            buffer.splice(12..12, tag);
        }
        Ok(Some(Heard { bytes: buffer, outgoing }))
    }

    /// How many frames the kernel had no room for since the last call.
    pub(crate) fn take_lost(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = socklen(size_of::<libc::tpacket_stats>());
        // SAFETY: the pointers are to a live tpacket_stats and to its length, and the kernel
        // writes no more than that length.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok(stats.tp_drops) } else { Err(io::Error::last_os_error()) }
    }
}

/// A frame as the kernel reads it.
fn part(frame: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: both are plain C structures, for which zeros mean "not given".
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (part, 1);
    libc::mmsghdr { msg_hdr: header, msg_len: 0 }
}

/// Sends messages up to the first that fails.
fn send_messages(fd: &OwnedFd, messages: &mut [libc::mmsghdr]) -> Result<usize, Errno> {
    let count = libc::c_uint::try_from(messages.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: the array is as long as said, and each header points to a part that points to a frame, both of
    // which outlive the call: the caller holds them.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    Errno::result(sent).map(|sent| usize::try_from(sent).unwrap_or(0))
}

/// Asks for the VLAN tag beside each frame: the kernel has taken it off before anyone can look.
fn enable_auxdata(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live c_int and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            socklen(size_of::<libc::c_int>()),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socklen(size: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(size).unwrap_or(libc::socklen_t::MAX)
}

fn link_address(index: i32, protocol: u16) -> Result<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: protocol,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = socklen(size_of::<libc::sockaddr_ll>());
    // SAFETY: the pointer is to a live sockaddr_ll, whose family field says so, and the length is
    // its size; the address is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) };
    address.context("link-layer address")
}

/// The four bytes of the tag that the kernel reports beside a frame, as they were in it.
fn vlan_tag(message: ControlMessageOwned) -> Option<[u8; 4]> {
    let ControlMessageOwned::Unknown(unknown) = message else { return None };
    let header = unknown.cmsg_header;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    // struct tpacket_auxdata: status, len, snaplen (u32), mac, net, vlan_tci, vlan_tpid (u16)
    let data = unknown.data_bytes;
    let status = u32::from_ne_bytes(data.get(0..4)?.try_into().ok()?);
    if status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tci = u16::from_ne_bytes(data.get(16..18)?.try_into().ok()?).to_be_bytes();
    let tpid = u16::from_ne_bytes(data.get(18..20)?.try_into().ok()?).to_be_bytes();
    Some([tpid[0], tpid[1], tci[0], tci[1]])
}
