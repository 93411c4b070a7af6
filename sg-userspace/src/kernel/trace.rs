//! What programs that are attached with `--trace` log, packet by packet.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::live::AttachedDevice;
use super::{KernelError, Paths, read};

/// The reading end of one device's trace. Its programs share a ring, and each line is read once.
pub struct TraceStream {
    device: String,
    lines: Lines,
    logger: EbpfLogger<Lines>,
}

/// Where aya-log leaves what it has decoded.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}

impl TraceStream {
    /// Opens the trace of a device; `None` for one with clsact filters in another namespace,
    /// which do not tell their programs.
    ///
    /// # Errors
    /// [`KernelError::Trace`], also when the device is not attached with `--trace`.
    pub fn open(paths: &Paths, device: &AttachedDevice) -> Result<Option<Self>, KernelError> {
        let hooks = read::hook_status(paths, device);
        let Some(program) = hooks.iter().find_map(|hook| hook.program) else { return Ok(None) };
        let lines = Lines::default();
        let logger =
            EbpfLogger::init_from_id_with_logger(program, lines.clone()).map_err(|source| {
                KernelError::Trace { device: device.device.clone(), source: Box::new(source) }
            })?;
        Ok(Some(Self { device: device.device.clone(), lines, logger }))
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The lines since the last call.
    pub fn take(&mut self) -> Vec<String> {
        self.logger.flush();
        std::mem::take(&mut self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsRawFd for TraceStream {
    fn as_raw_fd(&self) -> RawFd {
        self.logger.as_raw_fd()
    }
}
