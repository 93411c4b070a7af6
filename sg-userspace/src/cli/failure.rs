//! Errors for people: what failed, then each cause on a line of its own.

use std::fmt::Write as _;

/// The end of a verifier's log says what it did not like; the rest is how it got there.
const LINES_KEPT: usize = 20;

/// Writes an error and its causes to standard error.
pub(super) fn tell(error: &anyhow::Error) {
    eprint!("{}", text(error));
}

fn text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {}\n", shortened(&error.to_string()));
    let mut told = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some errors repeat their cause in their own words.
        if !told.contains(&cause) {
            // Writing to a `String` does not fail.
            let _ = writeln!(text, "  because: {}", shortened(&cause));
            told = cause;
        }
    }
    text
}

/// The first line and the last ones of what is too long to read.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(LINES_KEPT + 1);
    if skipped == 0 {
        return lines.join("\n    ");
    }
    let kept = &lines[lines.len() - LINES_KEPT..];
    format!("{}\n    ... {skipped} lines ...\n    {}", lines[0], kept.join("\n    "))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn causes_follow_and_repetitions_do_not() {
        let cause = std::io::Error::other("no such thing");
        let error = anyhow::Error::from(cause).context("cannot open: no such thing").context("top");
        assert_eq!(text(&error), "error: top\n  because: cannot open: no such thing\n");
        let error = anyhow::anyhow!("deep").context("high");
        assert_eq!(text(&error), "error: high\n  because: deep\n");
    }

    #[test]
    fn long_logs_keep_their_end() {
        let mut log = "refused; log:".to_owned();
        for line in 1..=100 {
            let _ = write!(log, "\n{line}");
        }
        let short = shortened(&log);
        let lines: Vec<_> = short.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 22);
        assert_eq!((lines[0], lines[1]), ("refused; log:", "... 80 lines ..."));
        assert_eq!((lines[2], lines[21]), ("81", "100"));
        assert_eq!(shortened("one\ntwo\n"), "one\n    two");
    }
}
