//! Conversations of real sockets over a wire, client on the last processor and server on the first, and what came of
//! them. Nothing is lost on the way: whoever sends waits before buffers are full, and every conversation is held to
//! its end.

mod bulk;
mod connections;
mod datagrams;
mod requests;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::time::{ClockId, clock_gettime};

pub(crate) use bulk::{bulk, sleeping_bulk};
pub(crate) use connections::connections;
pub(crate) use datagrams::datagrams;
pub(crate) use requests::requests;

use crate::machine;
use crate::stats::{self, number};
use crate::wire::Wire;

/// The port at which the server listens, of TCP and UDP.
pub(crate) const PORT: u16 = 5201;
/// Longest that one end waits for the other.
const STALLED: Duration = Duration::from_secs(5);

/// Between two turns.
const PAUSE: Duration = Duration::from_millis(10);

/// What came of one turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    /// Units a second: datagrams, requests, connections or bytes.
    pub(crate) rate: f64,
    /// Nanoseconds of processor time for a unit, what the kernel did in the threads' name included; not a number where
    /// they only waited awake.
    pub(crate) each: f64,
    /// Nanoseconds that half of the conversations took at most; not a number where they are not timed.
    pub(crate) half: f64,
    /// The same of 99 of a hundred.
    pub(crate) most: f64,
}

/// Whose processor time tells something: who waits awake uses all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    /// Both ends sleep when they wait.
    Both,
    /// The client has no time to wait.
    Client,
    /// Both wait awake.
    Nobody,
}

/// How long a turn lasts.
struct Turn {
    end: Instant,
    stop: AtomicBool,
}

impl Turn {
    /// Whether the client is to end.
    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Does something that would have to wait, again and again until it need not: an end that sleeps measures how
    /// the machine wakes up. None when the other end has ended.
    fn retried<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> Result<Option<T>> {
        loop {
            // Asking for the time and the flag costs, so it is done now and then.
            for _ in 0..1024 {
                match work() {
                    Ok(done) => return Ok(Some(done)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if self.stop.load(Relaxed) {
                return Ok(None);
            }
            if Instant::now() > self.end + STALLED {
                bail!("the other end says nothing");
            }
        }
    }

    /// The same for the client, whose server does not end before it.
    fn awaited<T>(&self, work: impl FnMut() -> io::Result<T>) -> Result<T> {
        self.retried(work)?.ok_or_else(|| anyhow!("the server has ended"))
    }
}

/// What a client has done.
struct Done {
    /// Units.
    units: f64,
    /// Nanoseconds of each conversation.
    times: Vec<f64>,
}

/// Runs client and server for so long, and ends the server behind the client.
fn talk(
    window: Duration,
    cpu: Cpu,
    client: impl FnOnce(&Turn) -> Result<Done> + Send,
    server: impl FnOnce(&Turn) -> Result<()> + Send,
) -> Result<Talk> {
    // What the turn before has left to timers and to the background is done, and not measured.
    thread::sleep(PAUSE);
    let processors = machine::processors()?;
    let (first, last) = (processors.first().copied(), processors.last().copied());
    let began = Instant::now();
    let turn = Turn { end: began + window, stop: AtomicBool::new(false) };
    let (client, took, server) = thread::scope(|scope| {
        let server = scope.spawn(|| timed(first, || server(&turn)));
        let client = scope.spawn(|| timed(last, || client(&turn)));
        let client = client.join().unwrap_or_else(|_panic| Err(anyhow!("the client failed")));
        let took = began.elapsed();
        turn.stop.store(true, Relaxed);
        let server = server.join().unwrap_or_else(|_panic| Err(anyhow!("the server failed")));
        (client, took, server)
    });
    let ((done, of_client), ((), of_server)) = (client?, server?);
    let mut times = done.times;
    times.sort_by(f64::total_cmp);
    Ok(Talk {
        rate: done.units / took.as_secs_f64(),
        each: match cpu {
            Cpu::Both => (of_client + of_server).as_secs_f64() * 1e9 / done.units,
            Cpu::Client => of_client.as_secs_f64() * 1e9 / done.units,
            Cpu::Nobody => f64::NAN,
        },
        half: stats::share(&times, 50),
        most: stats::share(&times, 99),
    })
}

/// Runs one end on its processor, and tells what it has used of it.
fn timed<T>(processor: Option<usize>, end: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    if let Some(processor) = processor {
        machine::on_processor(processor)?;
    }
    let done = end()?;
    Ok((done, clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into()))
}

/// Where the server listens.
fn address(wire: &Wire) -> SocketAddr {
    wire.server().socket_v4(PORT)
}

/// Nanoseconds since.
fn nanoseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e9
}

/// A count of units.
fn units(count: usize) -> f64 {
    number(count)
}
