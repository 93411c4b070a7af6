//! The generator: frames of a test run, changed by a program of `sg-bench-ebpf`'s `flood` and sent out of one end of
//! a veth.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use etherparse::PacketBuilder;

use super::{Window, Wire};
use crate::machine;
use kernel::{BURST, Pace, Sums};
pub(crate) use kernel::{Frame, LONGEST};

#[path = "../../../sg-bench-ebpf/src/flood.rs"]
mod kernel;

// SAFETY: `repr(C)` without padding, and every bit pattern is a value.
unsafe impl aya::Pod for Sums {}
// SAFETY: likewise.
unsafe impl aya::Pod for Pace {}
// SAFETY: likewise.
unsafe impl aya::Pod for Frame {}

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flood"));

/// Frames that are made before they are sent.
const BATCH: u32 = 64;
/// Frames sent for each that arrived, where hardly any was too much.
pub(crate) const KEPT_UP: f64 = 1.07;
/// Nanoseconds from frame to frame at which no sender arrives.
const FASTEST: f64 = 125.0;
/// Frames of a system call, at least.
const LEAST: u32 = 1 << 12;
/// Shorter frames do not exist on Ethernet.
const SHORTEST: usize = 60;

/// Something to send, again and again.
pub(crate) struct Generator {
    ebpf: Ebpf,
    program: &'static str,
    frame: Vec<u8>,
    sent: Array<MapData, u64>,
    stop: Array<MapData, u64>,
    pace: Array<MapData, Pace>,
    /// Nanoseconds from frame to frame.
    each: f64,
}

impl Generator {
    /// SYNs to a port of the server, from random addresses and ports.
    pub(crate) fn random_sources(wire: &Wire, port: u16) -> Result<Self> {
        let server = wire.server();
        let (frame, sums) = syn([server.gateway_mac(), server.mac()], server.v4(), port)?;
        let mut ebpf = EbpfLoader::new().load(OBJECT).context("loading the flood")?;
        let mut map: Array<_, Sums> = ebpf.map_mut("SUMS").context("SUMS")?.try_into()?;
        map.set(0, sums, 0)?;
        Self::load(ebpf, "random_source", frame)
    }

    /// These frames in order, over and over.
    pub(crate) fn replaying(frames: &[Frame]) -> Result<Self> {
        let longest = frames.iter().map(|frame| frame.length).max().context("no frames")?;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FRAMES", u32::try_from(frames.len())?);
        let mut ebpf = loader.load(OBJECT).context("loading the flood")?;
        let mut map: Array<_, Frame> = ebpf.map_mut("FRAMES").context("FRAMES")?.try_into()?;
        for (index, frame) in (0..).zip(frames) {
            map.set(index, frame, 0)?;
        }
        let mut count: Array<_, u64> = ebpf.map_mut("COUNT").context("COUNT")?.try_into()?;
        count.set(0, frames.len() as u64, 0)?;
        Self::load(ebpf, "next_frame", vec![0; usize::try_from(longest)?])
    }

    fn load(mut ebpf: Ebpf, program: &'static str, frame: Vec<u8>) -> Result<Self> {
        let sent = ebpf.take_map("SENT").context("SENT")?.try_into()?;
        let stop = ebpf.take_map("STOP").context("STOP")?.try_into()?;
        let pace = ebpf.take_map("PACE").context("PACE")?.try_into()?;
        let mut generator = Self { ebpf, program, frame, sent, stop, pace, each: 0.0 };
        generator.program()?.load().context(program)?;
        Ok(generator)
    }

    /// Goes on a little faster than the receiver has been seen to follow. Much more would find the ring full, and to
    /// take back what it has no room for the sender holds a lock that the receiver needs for every frame; less would
    /// let the receiver sleep, and each frame bear a part of its waking up.
    pub(super) fn follow(&mut self, seen: &Window) {
        let faster = if seen.excess() < KEPT_UP { 0.82 } else { 0.9 };
        if seen.each.is_finite() {
            self.each = seen.each * faster;
        }
    }

    fn program(&mut self) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(self.program).context(self.program)?.try_into()?)
    }

    /// Frames given to the device so far, whether it took them or not.
    pub(crate) fn sent(&self) -> Result<u64> {
        Ok(self.sent.get(&0, 0)?)
    }

    /// Sends from the last processor while something else is done, for about so long. One system call is to do, since
    /// each begins and ends with a grace period; what is left of it behind the work is dropped by the program.
    pub(super) fn during<T>(
        &mut self,
        wire: &Wire,
        time: Duration,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let context = context(self.frame.len(), wire.sender()?)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive time"
        )]
        let (repeat, period) = (
            (1.2 * time.as_secs_f64() * 1e9 / self.each.max(FASTEST)) as u32 + LEAST,
            (self.each * BURST as f64) as u64,
        );
        self.pace.set(0, Pace { period, next: 0 }, 0)?;
        self.stop.set(0, 0, 0)?;
        let Self { ebpf, program, frame, stop, .. } = self;
        let program: &mut Xdp = ebpf.program_mut(program).context(*program)?.try_into()?;
        let over = AtomicBool::new(false);
        let send = || -> Result<()> {
            machine::on_last_processor()?;
            while !over.load(Relaxed) {
                let options = TestRunOptions {
                    data_in: Some(frame),
                    ctx_in: Some(&context),
                    repeat,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::new()
                };
                program.test_run(options).context("sending live frames")?;
            }
            Ok(())
        };
        let (done, sent) = thread::scope(|scope| {
            let sender = scope.spawn(|| wire.near().run(send));
            let done = work();
            over.store(true, Relaxed);
            let stopped = stop.set(0, 1, 0);
            let sent = sender.join().unwrap_or_else(|_panic| Err(anyhow!("the flood failed")));
            (done, sent.and(stopped.map_err(Into::into)))
        });
        sent.and(done)
    }
}

/// `struct xdp_md` of a frame that came in at a device.
fn context(length: usize, ifindex: u32) -> Result<[u8; 24]> {
    let mut context = [0; 24];
    // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    context[4..8].copy_from_slice(&u32::try_from(length)?.to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    Ok(context)
}

/// A SYN whose source address and port are zero, and what its checksums add up to: of those, nothing.
fn syn(link: [[u8; 6]; 2], to: Ipv4Addr, port: u16) -> Result<(Vec<u8>, Sums)> {
    let mut frame = syn_from(link, (Ipv4Addr::UNSPECIFIED, 0), (to, port))?;
    let sums = Sums { ip: !word(&frame, IP_SUM)? & 0xffff, tcp: !word(&frame, TCP_SUM)? & 0xffff };
    // The program's arithmetic against somebody else's: who checks sums would drop what is wrong, and count nothing.
    let example = (Ipv4Addr::new(198, 51, 100, 7), 0x1234);
    let other = syn_from(link, example, (to, port))?;
    let address = [word(&other, SOURCE)?, word(&other, SOURCE + 2)?];
    let ours = sums.with(address, word(&other, SOURCE_PORT)?);
    ensure!(ours == [word(&other, IP_SUM)?, word(&other, TCP_SUM)?], "checksums are {ours:x?}");
    frame.resize(SHORTEST, 0);
    Ok((frame, sums))
}

/// Places in it: Ethernet, IPv4 without options, TCP.
const IP_SUM: usize = 14 + 10;
const SOURCE: usize = 14 + 12;
const SOURCE_PORT: usize = 14 + 20;
const TCP_SUM: usize = 14 + 20 + 16;

fn syn_from(
    [from_mac, to_mac]: [[u8; 6]; 2],
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from_mac, to_mac)
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, 1, 1024)
        .syn();
    let mut frame = Vec::with_capacity(SHORTEST);
    builder.write(&mut frame, &[])?;
    Ok(frame)
}

/// A word as the program reads it.
fn word(frame: &[u8], at: usize) -> Result<u32> {
    let bytes = frame.get(at..at + 2).context("the frame is too short")?;
    Ok(u32::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_added_to_the_checksums() {
        let (frame, sums) = syn([[2; 6]; 2], Ipv4Addr::new(10, 0, 0, 1), 443).unwrap();
        assert_eq!((frame.len(), sums.with([0, 0], 0)[0]), (60, word(&frame, IP_SUM).unwrap()));
    }

    #[test]
    fn a_context_names_length_and_device() {
        let context = context(60, 7).unwrap().map(u32::from);
        assert_eq!(context[4] + context[7], 60);
        assert_eq!(context[12] + context[15], 7);
        assert_eq!(context.iter().sum::<u32>(), 67);
    }
}
