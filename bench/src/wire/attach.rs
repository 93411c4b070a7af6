//! Native XDP on a device, for programs that are not aya's to attach.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use ::tests::netns::Namespace;
use anyhow::{Context as _, Result};

/// `linux/bpf.h`, `linux/if_link.h`.
const BPF_LINK_CREATE: i64 = 28;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The first words of `union bpf_attr` for a link; the kernel takes the rest for zero.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    kind: u32,
    flags: u32,
}

/// A program on a device until dropped.
pub(crate) struct Attached(
    #[expect(dead_code, reason = "the link is there as long as it is open")] OwnedFd,
);

impl Attached {
    /// Attaches it.
    pub(crate) fn native(
        namespace: &Namespace,
        device: &str,
        program: BorrowedFd<'_>,
    ) -> Result<Self> {
        let target = namespace.device_index(device)?;
        let link = namespace.run(|| create(program, target));
        Ok(Self(link.with_context(|| format!("attaching native XDP to {device}"))?))
    }
}

fn create(program: BorrowedFd<'_>, target: u32) -> io::Result<OwnedFd> {
    let program = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let attribute = LinkCreate { program, target, kind: BPF_XDP, flags: XDP_FLAGS_DRV_MODE };
    // SAFETY: the kernel reads as many bytes as it is told.
    let made = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attribute, size_of::<LinkCreate>())
    };
    match i32::try_from(made) {
        // SAFETY: a descriptor that nobody else knows yet.
        Ok(made) if made >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(made) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
