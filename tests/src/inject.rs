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

    /// Sends one whole Ethernet frame.
    ///
    /// # Errors
    /// When the device refuses it (down, too long, shorter than a header).
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.0.send(frame)
    }
}

/// Sends one whole Ethernet frame out of a device.
///
/// # Errors
/// As [`Injector::open`] and [`Injector::send`].
pub fn inject(namespace: &Namespace, device: &str, frame: &[u8]) -> Result<()> {
    Injector::open(namespace, device)?.send(frame)
}
