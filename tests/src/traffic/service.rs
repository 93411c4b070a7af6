//! The thread behind every server: it ends when its guard is dropped, and by itself after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long one wait for a packet or a connection may take: the delay of a drop.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// No test needs a server for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(120);

/// What a server's thread shares with its guard.
#[derive(Debug, Default)]
pub(super) struct Shared {
    stop: AtomicBool,
    served: AtomicUsize,
}

impl Shared {
    /// Counts one connection or request.
    pub(super) fn count(&self) {
        self.served.fetch_add(1, Ordering::SeqCst);
    }

    /// Has the guard gone?
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Service {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Repeats `step`, which must return within about a [`TICK`].
    pub(super) fn spawn(mut step: impl FnMut(&Arc<Shared>) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let started = Instant::now();
        let thread = thread::spawn(move || {
            while !seen.stopped() && started.elapsed() < LONGEST_LIFE {
                step(&seen);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many connections or requests there were.
    pub(super) fn served(&self) -> usize {
        self.shared.served.load(Ordering::SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already.
            _ = thread.join();
        }
    }
}
