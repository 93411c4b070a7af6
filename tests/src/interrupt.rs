//! Signals that end a demonstration or a suite at its next breath, so that its guards can clean up.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends nothing at once, but is remembered. To be called before any thread is made.
/// Children inherit that they do not hear of it: a half-done `sgctl attach` would be no tidy end.
///
/// # Errors
/// When signals cannot be blocked.
pub fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            REQUESTED.store(true, Ordering::SeqCst);
        }
    });
    Ok(())
}

/// Whether somebody wants this process to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
