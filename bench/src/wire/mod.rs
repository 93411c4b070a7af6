//! A veth between two namespaces: `near` sends, `server` receives, each on a processor of its own as far as that goes.
//!
//! A veth hands a frame over on the processor that sends it. So the server's end is served by a kernel thread
//! (threaded NAPI), and that thread is held to the first processor, the generator to the last.

mod attach;
mod flood;
mod offload;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use ::tests::net::{DEVICE, Host, Net};
use ::tests::netns::Namespace;
use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

pub(crate) use attach::Attached;
pub(crate) use flood::{Frame, Generator, KEPT_UP, LONGEST};

use crate::frames::LOCAL_V4;

/// How the server takes frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// A program at native XDP will be attached.
    Xdp,
    /// The network stack, by the same thread: for a veth that is GRO.
    Stack,
}

/// Before a window begins: caches fill, and threads get to their processors.
const WARM: Duration = Duration::from_millis(30);
/// Longest that frames may be on their way.
const SETTLED: Duration = Duration::from_secs(5);

/// Two namespaces and a veth.
pub(crate) struct Wire {
    net: Net,
    /// /proc/net/dev of the server.
    statistics: File,
    /// The kernel's thread that serves the server's device.
    thread: Option<Pid>,
}

/// What came of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Frames a second that the receiver took.
    pub(crate) rate: f64,
    /// Nanoseconds of the receiver's processor time for each.
    pub(crate) each: f64,
    /// Share of the window in which the receiver ran.
    pub(crate) busy: f64,
    /// Frames that arrived, those before and behind the window included.
    pub(crate) arrived: u64,
    /// Frames that were sent.
    pub(crate) sent: u64,
}

impl Window {
    /// Frames a second that the receiver takes when it does nothing else: what the rate is on a machine without other
    /// work, if more is sent than arrives.
    pub(crate) fn capacity(&self) -> f64 {
        1e9 / self.each
    }

    /// Frames sent for each that arrived: more than one where the receiver could not keep up.
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more")]
    pub(crate) fn excess(&self) -> f64 {
        self.sent as f64 / self.arrived as f64
    }
}

impl Wire {
    /// Makes it. The server has the address of the policies.
    pub(crate) fn new() -> Result<Self> {
        let [a, b, c, d] = LOCAL_V4;
        let (address, gateway) = (format!("{a}.{b}.{c}.{d}"), format!("{a}.{b}.{c}.1/24"));
        let builder = Net::builder().link_local(false);
        let net = builder.routed("server", &[&gateway], &[&address]).build()?;
        for namespace in [net.wire(), net.host("server").ns()] {
            // Its reports of multicast listeners would be counted with what is sent.
            namespace.set_parameters(&[("ipv6/conf/all/disable_ipv6", "1")])?;
        }
        let open = || File::open("/proc/thread-self/net/dev");
        let statistics = net.host("server").ns().run(open).context("/proc/net/dev")?;
        Ok(Self { net, statistics, thread: None })
    }

    /// The receiving host.
    pub(crate) fn server(&self) -> &Host {
        self.net.host("server")
    }

    /// The namespace at the other end.
    pub(crate) fn near(&self) -> &Namespace {
        self.net.wire()
    }

    /// The device there.
    fn sender(&self) -> Result<u32> {
        self.near().device_index(self.server().port())
    }

    /// Frames that the server's device has taken so far.
    pub(crate) fn arrived(&self) -> Result<u64> {
        let mut text = [0; 4096];
        let length = self.statistics.read_at(&mut text, 0)?;
        received(std::str::from_utf8(&text[..length])?, DEVICE).context("no such device")
    }

    /// Has a thread on the first processor take the server's frames; `prepare` attaches what judges them.
    pub(crate) fn receive<T>(
        &mut self,
        how: Receive,
        prepare: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let before = offload::napi_threads(DEVICE)?;
        if how == Receive::Stack {
            offload::gro(self.server().ns(), DEVICE)?;
        }
        let prepared = prepare(self)?;
        // Refused while there is nothing to poll.
        offload::thread(self.server().ns(), DEVICE)?;
        let threads = offload::napi_threads(DEVICE)?;
        let new: Vec<_> = threads.into_iter().filter(|thread| !before.contains(thread)).collect();
        ensure!(new.len() == 1, "{} threads took over the server's device", new.len());
        offload::on_first_processor(new[0])?;
        self.thread = Some(new[0]);
        Ok(prepared)
    }

    /// Floods the server, and looks at a window of it.
    pub(crate) fn flood(&self, generator: &mut Generator, window: Duration) -> Result<Window> {
        let (sent, arrived) = (generator.sent()?, self.arrived()?);
        let measured = generator.during(self, WARM + window, || self.window(window))?;
        self.settle()?;
        let (sent, arrived) = (generator.sent()? - sent, self.arrived()? - arrived);
        let seen = Window { sent, arrived, ..measured };
        generator.follow(&seen);
        Ok(seen)
    }

    fn window(&self, window: Duration) -> Result<Window> {
        thread::sleep(WARM);
        let (began, busy, arrived) = (Instant::now(), self.busy()?, self.arrived()?);
        thread::sleep(window);
        let frames = (self.arrived()? - arrived) as f64;
        let (busy, took) = (self.busy()?.saturating_sub(busy), began.elapsed());
        Ok(Window {
            rate: frames / took.as_secs_f64(),
            each: busy.as_secs_f64() * 1e9 / frames,
            busy: busy.as_secs_f64() / took.as_secs_f64(),
            arrived: 0,
            sent: 0,
        })
    }

    /// Processor time of the receiver so far.
    fn busy(&self) -> Result<Duration> {
        let thread = self.thread.context("nobody takes the server's frames")?;
        Ok(clock_gettime(clock_getcpuclockid(thread)?)?.into())
    }

    /// Waits until nothing arrives any more.
    pub(crate) fn settle(&self) -> Result<()> {
        let began = Instant::now();
        let mut before = self.arrived()?;
        while began.elapsed() < SETTLED {
            thread::sleep(Duration::from_millis(5));
            let now = self.arrived()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(anyhow!("frames still arrive {SETTLED:?} after the last was sent"))
    }
}

/// Packets received by a device, of the text of /proc/net/dev.
fn received(text: &str, device: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_the_second_number_of_the_device() {
        let text = "Inter-|   Receive\n face |bytes packets errs\n    lo: 1 2 0\n  eth0: 640 10 0 0\n eth01: 1 1 0\n";
        assert_eq!(received(text, "eth0"), Some(10));
        assert_eq!(received(text, "eth1"), None);
    }
}
