//! What a device sent and received: the witness that a dropped packet never arrived.
//!
//! A capture on the protected device itself sees received packets before TC ingress judges them
//! (though after native XDP has); to show that something was kept out, capture on the other end of
//! the veth, or on the device behind the program.

use std::{
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pcap_file::pcap::{PcapPacket, PcapWriter};

use crate::{
    frame::Frame,
    netns::Namespace,
    packet_socket::{Hears, PacketSocket},
};

/// A running capture; the kernel keeps the frames until they are asked for.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
    frames: Vec<Frame>,
}

impl Capture {
    /// Starts on a device of a namespace.
    ///
    /// # Errors
    /// When there is no such device or the kernel refuses.
    pub fn start(namespace: &Namespace, device: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, device, Hears::Everything)?;
        Ok(Self { socket, frames: Vec::new() })
    }

    /// Every frame up to now.
    ///
    /// # Errors
    /// When the kernel had to lose some: then absence proves nothing.
    pub fn frames(&mut self) -> Result<&[Frame]> {
        while let Some(heard) = self.socket.receive()? {
            self.frames.push(Frame { bytes: heard.bytes, outgoing: heard.outgoing });
        }
        let lost = self.socket.take_lost().context("capture statistics")?;
        ensure!(lost == 0, "the capture lost {lost} frames");
        Ok(&self.frames)
    }

    /// Waits until there is a frame that is `wanted`; none after `limit`.
    ///
    /// # Errors
    /// As [`Self::frames`].
    pub fn wait_for(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Option<Frame>> {
        let started = Instant::now();
        loop {
            if let Some(frame) = self.frames()?.iter().find(|frame| wanted(frame)) {
                return Ok(Some(frame.clone()));
            }
            if started.elapsed() >= limit {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many frames up to now are `wanted`.
    ///
    /// # Errors
    /// As [`Self::frames`].
    pub fn count(&mut self, wanted: impl Fn(&Frame) -> bool) -> Result<usize> {
        Ok(self.frames()?.iter().filter(|frame| wanted(frame)).count())
    }

    /// Forgets what was captured up to now.
    ///
    /// # Errors
    /// As [`Self::frames`].
    pub fn clear(&mut self) -> Result<()> {
        self.frames()?;
        self.frames.clear();
        Ok(())
    }

    /// Writes every frame up to now as a pcap file, such as `sgctl replay` reads.
    ///
    /// # Errors
    /// As [`Self::frames`], or when the file cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut writer = PcapWriter::new(file)?;
        for (index, frame) in self.frames()?.iter().enumerate() {
            // The order is what counts; real times would make files differ from run to run.
            let time = Duration::from_millis(u64::try_from(index)?);
            let length = u32::try_from(frame.bytes.len())?;
            writer.write_packet(&PcapPacket::new(time, length, &frame.bytes))?;
        }
        Ok(())
    }
}
