//! What a kernel made of the programs: the lines of the test program's report, and the table of all kernels.

use std::time::Duration;

use comfy_table::{Table, presets};

/// The report of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What it was asked for as.
    pub(crate) kernel: String,
    /// What it calls itself.
    release: String,
    programs: Vec<String>,
    refused: usize,
    levels: Vec<String>,
    failed: usize,
    failures: Vec<String>,
    /// Whether it came to its end.
    pub(crate) is_whole: bool,
    took: Duration,
}

impl Report {
    /// Reads what the test program wrote; its source says how.
    pub(crate) fn parse(kernel: &str, text: &str, took: Duration) -> Self {
        let mut report = Self { kernel: kernel.to_owned(), took, ..Self::default() };
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            report.add(&fields);
        }
        report
    }

    fn add(&mut self, fields: &[&str]) {
        match *fields {
            ["kernel", release] => release.clone_into(&mut self.release),
            ["program", device, name, plain, traced, _] => {
                self.programs.push(format!("{device} {name}: {plain} ({traced})"));
            }
            ["refused", device, error] => {
                // The others of that device are not tried.
                self.refused += 1;
                self.failures.push(format!("{device}: {}", lines(error)));
            }
            ["cases", level, passed, failed, left_out, milliseconds] => {
                let seconds = milliseconds.parse().map_or(0.0, |it: f64| it / 1000.0);
                self.failed += failed.parse::<usize>().unwrap_or(1);
                self.levels.push(format!(
                    "{level}: {passed} passed, {failed} failed, {left_out} left out, {seconds:.1} s"
                ));
            }
            ["failure", level, text] => self.failures.push(format!("{level}: {}", lines(text))),
            ["end"] => self.is_whole = true,
            _ => {}
        }
    }

    /// Every program loaded, every case passed, and nothing is missing.
    pub(crate) fn is_good(&self) -> bool {
        self.is_whole && self.refused == 0 && self.failed == 0 && self.failures.is_empty()
    }

    /// Says what was wrong.
    pub(crate) fn print_failures(&self) {
        for failure in &self.failures {
            eprintln!("{}: {failure}", self.kernel);
        }
        if !self.is_whole {
            eprintln!("{}: the report has no end", self.kernel);
        }
    }
}

/// A field's own lines.
fn lines(field: &str) -> String {
    field.replace("\\n", "\n")
}

/// A row for each kernel.
pub(crate) fn table(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "kernel",
        "programs",
        "verified instructions (with a trace)",
        "cases",
        "seconds",
        "verdict",
    ]);
    for report in reports {
        // A machine that never came so far has not said which it is.
        let name = if report.release.is_empty() { &report.kernel } else { &report.release };
        table.add_row([
            name.clone(),
            format!("{} loaded\n{} refused", report.programs.len(), report.refused),
            report.programs.join("\n"),
            report.levels.join("\n"),
            format!("{:.0}", report.took.as_secs_f64()),
            if report.is_good() { "good" } else { "FAILED" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Report;

    const GOOD: &str = "kernel\t6.1.0\nprogram\tip host\tsg_tc_egress\t10\t12\t500\n\
                        cases\ttest run, TC\t104\t0\t4\t11247\n";

    fn report(text: &str) -> Report {
        Report::parse("6.1", text, Duration::ZERO)
    }

    #[test]
    fn is_good_only_when_whole() {
        assert!(report(&format!("{GOOD}end\n")).is_good());
        assert!(!report(GOOD).is_good());
        assert!(!report("").is_good());
    }

    #[test]
    fn any_refusal_or_failure_is_bad() {
        assert!(!report(&format!("{GOOD}refused\tip host\tno\nend\n")).is_good());
        assert!(!report(&format!("{GOOD}cases\tdevices\t3\t1\t0\t9\nend\n")).is_good());
        assert!(!report(&format!("{GOOD}failure\tdevices\tone\\ntwo\nend\n")).is_good());
    }
}
