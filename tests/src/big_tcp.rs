//! BIG TCP: batches of segments longer than 64 KiB, which a device must be told to take. Debian's `ip` does
//! not know the attributes for IPv4 yet.

use std::{io, mem::size_of, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::netns::Namespace;

/// `IFLA_GSO_MAX_SIZE`, `IFLA_GRO_MAX_SIZE`, `IFLA_GSO_IPV4_MAX_SIZE` and `IFLA_GRO_IPV4_MAX_SIZE` of
/// linux/if_link.h.
const SIZES: [u16; 4] = [41, 58, 63, 64];

/// Lets a device send and receive batches of up to `length` bytes, of either family.
///
/// # Errors
/// When there is no such device or the kernel knows no such batches (IPv4: before 6.3).
pub fn allow(namespace: &Namespace, device: &str, length: u32) -> Result<()> {
    let index = i32::try_from(namespace.device_index(device)?)?;
    let fd = namespace.run(|| {
        let kind = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)
    })?;
    let request = request(index, length)?;
    send(fd.as_raw_fd(), &request, nix::sys::socket::MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let received = recv(fd.as_raw_fd(), &mut answer, nix::sys::socket::MsgFlags::empty())?;
    // struct nlmsghdr, then the error of struct nlmsgerr: 0 acknowledges.
    let error = answer[..received].get(16..20).context("a short answer")?;
    match i32::from_ne_bytes(error.try_into()?) {
        0 => Ok(()),
        error => {
            Err(io::Error::from_raw_os_error(-error)).with_context(|| format!("sizes of {device}"))
        }
    }
}

/// struct nlmsghdr, struct ifinfomsg and an attribute for each size.
fn request(index: i32, length: u32) -> Result<Vec<u8>> {
    const HEADER: usize = 16;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
    let mut body = vec![0; size_of::<i32>()];
    body.extend(index.to_ne_bytes());
    body.extend([0; 8]);
    for kind in SIZES {
        body.extend(8_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(length.to_ne_bytes());
    }
    let mut request = u32::try_from(HEADER + body.len())?.to_ne_bytes().to_vec();
    request.extend(libc::RTM_SETLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    Ok(request)
}
