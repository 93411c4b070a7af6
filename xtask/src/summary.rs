//! Adds up what the test runner said, so that a run of many binaries closes on one line.

use std::fmt;

/// Tests by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Ended well.
    pub(crate) passed: u32,
    /// Ended badly.
    pub(crate) failed: u32,
    /// Marked `#[ignore]`.
    pub(crate) skipped: u32,
}

impl Summary {
    /// Counts a line of the runner's output in; lines that are not a result change nothing.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s"
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }

    /// How many tests ran.
    pub(crate) fn ran(self) -> u32 {
        self.passed + self.failed
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    fn sum(lines: &[&str]) -> Summary {
        let mut summary = Summary::default();
        lines.iter().for_each(|line| summary.add_line(line));
        summary
    }

    #[test]
    fn adds_binaries_up() {
        let summary = sum(&[
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.5s",
        ]);
        assert_eq!(summary, Summary { passed: 7, failed: 2, skipped: 1 });
        assert_eq!(summary.to_string(), "7 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn ignores_everything_else() {
        let summary = sum(&["test a::b ... ok", "", "99 passed; by a test that prints"]);
        assert_eq!(summary, Summary::default());
        assert_eq!(summary.to_string(), "0 passed, 0 failed");
    }
}
