//! What the library has to say beside its results: warnings and errors, as lines on standard error.

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Talk;

impl Log for Talk {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        match record.level() {
            Level::Error => eprintln!("error: {}", record.args()),
            Level::Warn => eprintln!("warning: {}", record.args()),
            Level::Info | Level::Debug | Level::Trace => {}
        }
    }

    fn flush(&self) {}
}

/// From now on warnings are heard.
pub(super) fn start() {
    if log::set_logger(&Talk).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
