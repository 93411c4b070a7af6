//! The report for a terminal.

use ::tests::suite;

use super::{Bound, Measured, Outcome, Report, RowReport, Sense};

/// A table of ratios, and the others behind it.
pub(super) fn tables(report: &Report) -> String {
    let mut ratios =
        suite::table(&["row", "ratio", "must be", "median", "half of the rounds", "", "made of"]);
    let mut rest = String::new();
    for row in &report.rows {
        for point in &row.measured.points {
            let parts: Vec<_> = point
                .parts
                .iter()
                .map(|part| format!("{} {:.1} {}", part.name, part.spread.median, part.unit))
                .collect();
            ratios.add_row([
                row.number.to_string(),
                format!("{}: {}", row.title, point.label),
                bound(point.bound),
                format!("{:.2}", point.ratio.median),
                format!("{:.2} to {:.2}", point.ratio.low, point.ratio.high),
                outcome(point.outcome, point.bound, point.ratio.median),
                parts.join(", "),
            ]);
        }
        rest.push_str(&beside(row));
    }
    format!("{ratios}\n{rest}")
}

/// What a row has besides ratios.
fn beside(row: &RowReport) -> String {
    let RowReport { number, title, measured, .. } = row;
    let Measured { accounts, tables, notes, error, .. } = measured;
    let mut lines = Vec::new();
    if let Some(error) = error {
        lines.push(format!("could not be measured: {error}"));
    }
    for account in accounts {
        let said = if account.counted == account.truth { "exact" } else { "WRONG" };
        let (counted, truth) = (account.counted, account.truth);
        lines.push(format!("{}: {counted} of {truth}, {said}", account.label));
    }
    lines.extend(notes.iter().cloned());
    for table in tables {
        let mut shown = suite::table(&table.header);
        for line in &table.lines {
            shown.add_row(line);
        }
        lines.push(format!("{}\n{shown}", table.title));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("\nrow {number}, {title}\n{}\n", lines.join("\n"))
}

/// A bound in words.
pub(super) fn bound(bound: Bound) -> String {
    let aim = bound.aim.map_or_else(String::new, |aim| format!(", aim {aim:.2}"));
    match bound.sense {
        Sense::AtMost => format!("at most {:.2}{aim}", bound.limit),
        Sense::AtLeast => format!("at least {:.2}{aim}", bound.limit),
        Sense::Told => String::new(),
    }
}

/// An outcome in words.
pub(super) fn outcome(outcome: Outcome, bound: Bound, ratio: f64) -> String {
    match outcome {
        Outcome::Met => "met".to_owned(),
        Outcome::ShortOfAim => "met, short of the aim".to_owned(),
        Outcome::Missed => {
            format!("MISSED by {:.0} %", (ratio / bound.limit - 1.0).abs() * 100.0)
        }
        Outcome::Told => String::new(),
    }
}
