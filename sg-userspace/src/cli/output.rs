//! Writing data: text or JSON, colours, and a reader that has gone away.

use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use comfy_table::Table;
use serde::Serialize;

use crate::policy::Style;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: keys are stable, lists are arrays
    Json,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also into files and pipes
    Always,
    /// Not at all
    Never,
}

impl Color {
    pub(super) fn is_wanted(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            Self::Always => true,
            Self::Never => false,
        }
    }

    /// How diagnostics look on a stream: with arrows for people, one a line for other programs.
    pub(super) fn style(self, stream: &impl IsTerminal) -> Style {
        let color = self.is_wanted(stream);
        if !color && !stream.is_terminal() {
            return Style::OneLine;
        }
        Style::Graphical { color, width: terminal_width().unwrap_or(100) }
    }
}

/// How many columns standard output has; `None` where it is no terminal.
pub(super) fn terminal_width() -> Option<usize> {
    Table::new().width().map(usize::from).filter(|&width| width > 0)
}

/// Writes one line or several to standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// Writes a value as JSON that people can read too.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    Ok(print(&serde_json::to_string_pretty(value)?)?)
}

/// "1 packet", "2 packets".
pub(super) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Whether an error says that nobody reads standard output any more.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
