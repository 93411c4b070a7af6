//! Frames as no socket would send them, put on a device.

use anyhow::Result;

use crate::{
    netns::Namespace,
    packet_socket::{Hears, PacketSocket},
};

/// A way onto a device. Frames pass the device's TC egress hook like any other; to have them
/// arrive at a device, inject at the other end of its veth.
#[derive(Debug)]
pub struct Injector(PacketSocket);

impl Injector {
    /// Opens one on a device of a namespace.
    ///
    /// # Errors
    /// When there is no such device or the kernel refuses.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        PacketSocket::open(namespace, device, Hears::Nothing).map(Self)
    }

    /// Sends one whole Ethernet frame. What a program on that device drops counts as sent.
    ///
    /// # Errors
    /// When the device refuses it (down, too long, shorter than a header).
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        match self.0.send(frame) {
            Err(error) if is_dropped(&error) => Ok(()),
            result => result,
        }
    }
}

/// How the kernel tells a packet socket that TC egress dropped its frame.
fn is_dropped(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref() == Some(&nix::errno::Errno::ENOBUFS)
}

/// Sends one whole Ethernet frame out of a device.
///
/// # Errors
/// As [`Injector::open`] and [`Injector::send`].
pub fn inject(namespace: &Namespace, device: &str, frame: &[u8]) -> Result<()> {
    Injector::open(namespace, device)?.send(frame)
}
