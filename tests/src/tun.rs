//! A cable of tun devices: packets that begin with their IP header, as a VPN's do.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::Namespace;

/// The device at either end.
pub const DEVICE: &str = "tun0";
/// `TUNSETIFF` of linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// How long a look for packets takes: the delay of a drop.
const TICK_MS: u16 = 20;

/// Two tun devices and the thread that carries packets between them.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Joins two namespaces. Each end is given its addresses, with prefix length.
    ///
    /// # Errors
    /// When there is no /dev/net/tun, or the kernel refuses.
    pub fn between(ends: [(&Namespace, &[&str]); 2]) -> Result<Self> {
        let [left, right] = ends.map(|(namespace, addresses)| open(namespace, addresses));
        let ends = [left?, right?];
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                carry(&ends);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            _ = thread.join();
        }
    }
}

fn open(namespace: &Namespace, addresses: &[&str]) -> Result<File> {
    let file = namespace.run(|| -> Result<File> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: all zero bytes are a valid request: an empty name and no flags.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
            *place = byte.cast_signed();
        }
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
        // SAFETY: the call reads a request, which lives until it returns.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
        nix::errno::Errno::result(result).context("making a tun device")?;
        Ok(file)
    })?;
    let mut batch = format!("link set {DEVICE} up\n");
    for address in addresses {
        batch += &format!("address add {address} dev {DEVICE}\n");
    }
    namespace.ip(&batch)?;
    Ok(file)
}

/// Carries a packet from each end that has one; waits a little when neither has.
fn carry([left, right]: &[File; 2]) {
    let mut ready = [left, right].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
    if poll(&mut ready, PollTimeout::from(TICK_MS)).is_err() {
        return;
    }
    let ready = ready.map(|end| end.any() == Some(true));
    for (is_ready, from, to) in [(ready[0], left, right), (ready[1], right, left)] {
        if is_ready {
            // What cannot be carried is lost, as on any cable.
            _ = copy_packet(from, to);
        }
    }
}

fn copy_packet(mut from: &File, mut to: &File) -> io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut buffer = [0; 65536];
    let length = from.read(&mut buffer)?;
    to.write_all(&buffer[..length])
}
