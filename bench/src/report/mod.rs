//! What was measured, as data: `report.json` is this, and text and HTML are made of it.

mod html;
mod plot;
mod text;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::floor::DRIVER;
use crate::machine::Machine;
use crate::rounds::Rounds;
use crate::stats::Spread;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where.
    pub(crate) machine: Machine,
    /// Whether it was only a look: fewer and shorter rounds.
    pub(crate) quick: bool,
    /// What it took, in seconds.
    pub(crate) seconds: f64,
    /// What was measured.
    pub(crate) rows: Vec<RowReport>,
}

/// A row of it.
#[derive(Debug, Serialize)]
pub(crate) struct RowReport {
    /// Its number in the table of targets.
    pub(crate) number: u8,
    /// What is compared.
    pub(crate) title: &'static str,
    /// How.
    pub(crate) method: &'static str,
    /// What it took, in seconds.
    pub(crate) seconds: f64,
    /// What came of it.
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

/// What came of a row.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Ratios and their bounds.
    pub(crate) points: Vec<Point>,
    /// Numbers that must be equal.
    pub(crate) accounts: Vec<Account>,
    /// What is printed for itself.
    pub(crate) tables: Vec<Table>,
    /// What is to be known beside.
    pub(crate) notes: Vec<String>,
    /// Why it could not be measured, or not to the end.
    pub(crate) error: Option<String>,
}

/// One ratio.
#[derive(Debug, Serialize)]
pub(crate) struct Point {
    /// Which of the row's.
    pub(crate) label: String,
    /// The ratio that the bound is about. For program cost: without the driver in either.
    pub(crate) ratio: Spread,
    /// The same with the driver in both, where there is one.
    pub(crate) with_driver: Option<Spread>,
    /// What it must be.
    pub(crate) bound: Bound,
    /// Whether it is: by the median.
    pub(crate) outcome: Outcome,
    /// What it is made of.
    pub(crate) parts: Vec<Part>,
}

/// Something measured, for context.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    /// What.
    pub(crate) name: String,
    /// In what: nanoseconds a packet, for program cost.
    pub(crate) unit: &'static str,
    /// How much.
    pub(crate) spread: Spread,
}

/// What a ratio must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Bound {
    /// Which side of it is good.
    pub(crate) sense: Sense,
    /// What is demanded.
    pub(crate) limit: f64,
    /// What is hoped for.
    pub(crate) aim: Option<f64>,
}

/// Which side of a bound is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sense {
    /// Below.
    AtMost,
    /// Above.
    AtLeast,
    /// Neither: it is only told.
    Told,
}

/// How a ratio stands to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// As good as hoped for, or nothing more was.
    Met,
    /// Good enough, but not what was hoped for.
    ShortOfAim,
    /// Not good enough.
    Missed,
    /// Nothing was demanded.
    Told,
}

/// Two numbers that must be equal.
#[derive(Debug, Serialize)]
pub(crate) struct Account {
    /// Of what.
    pub(crate) label: String,
    /// What was counted.
    pub(crate) counted: u64,
    /// What is true.
    pub(crate) truth: u64,
}

/// A table of text.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// What it shows.
    pub(crate) title: &'static str,
    /// Its columns.
    pub(crate) header: Vec<&'static str>,
    /// Its lines.
    pub(crate) lines: Vec<Vec<String>>,
}

impl Bound {
    /// So much at most.
    pub(crate) const fn at_most(limit: f64) -> Self {
        Self { sense: Sense::AtMost, limit, aim: None }
    }

    /// So much at least.
    pub(crate) const fn at_least(limit: f64) -> Self {
        Self { sense: Sense::AtLeast, limit, aim: None }
    }

    /// And this, if it can be had.
    pub(crate) const fn aiming(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }

    /// None.
    pub(crate) const fn none() -> Self {
        Self { sense: Sense::Told, limit: f64::NAN, aim: None }
    }

    fn outcome(self, ratio: f64) -> Outcome {
        let keeps = |bound: f64| match self.sense {
            Sense::AtMost => ratio <= bound,
            Sense::AtLeast => ratio >= bound,
            Sense::Told => true,
        };
        if self.sense == Sense::Told {
            Outcome::Told
        } else if !keeps(self.limit) {
            Outcome::Missed
        } else if self.aim.is_none_or(keeps) {
            Outcome::Met
        } else {
            Outcome::ShortOfAim
        }
    }
}

impl Point {
    /// A ratio of anything.
    pub(crate) fn new(label: &str, ratio: Spread, bound: Bound) -> Self {
        Self {
            label: label.to_owned(),
            ratio,
            with_driver: None,
            bound,
            outcome: bound.outcome(ratio.median),
            parts: Vec::new(),
        }
    }

    /// A column against another, without the driver in either; both are told.
    pub(crate) fn against_floor(
        label: &str,
        rounds: &Rounds,
        one: &str,
        other: &str,
        bound: Bound,
    ) -> Result<Self> {
        let ratio = rounds.net_ratio(one, other, DRIVER)?;
        let with_driver = Some(rounds.ratio(one, other)?);
        Self { with_driver, ..Self::new(label, ratio, bound) }.also(rounds, &[one, other])
    }

    /// Tells columns, all but the driver's own without the driver.
    pub(crate) fn also(mut self, rounds: &Rounds, names: &[&str]) -> Result<Self> {
        for &name in names {
            let is_driver = name == DRIVER;
            let spread = if is_driver { rounds.spread(name)? } else { rounds.net(name, DRIVER)? };
            self = self.with(name, spread);
        }
        Ok(self)
    }

    /// Tells something in nanoseconds a packet.
    pub(crate) fn with(self, name: &str, spread: Spread) -> Self {
        self.with_unit(name, "ns", spread)
    }

    /// Tells something in another unit.
    pub(crate) fn with_unit(mut self, name: &str, unit: &'static str, spread: Spread) -> Self {
        self.parts.push(Part { name: name.to_owned(), unit, spread });
        self
    }
}

impl Table {
    /// An empty one.
    pub(crate) fn new(title: &'static str, header: &[&'static str]) -> Self {
        Self { title, header: header.to_vec(), lines: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }
}

impl Measured {
    /// A row that could not be measured.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self { error: Some(format!("{error:#}")), ..Self::default() }
    }

    /// Adds a ratio.
    pub(crate) fn point(&mut self, point: Point) {
        self.points.push(point);
    }

    /// Adds numbers that must be equal.
    pub(crate) fn exact(&mut self, label: &str, counted: u64, truth: u64) {
        self.accounts.push(Account { label: label.to_owned(), counted, truth });
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether everything is as it must be.
    pub(crate) fn passed(&self) -> bool {
        self.error.is_none()
            && self.points.iter().all(|point| point.outcome != Outcome::Missed)
            && self.accounts.iter().all(|account| account.counted == account.truth)
    }
}

impl Report {
    /// Writes both forms into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let json = serde_json::to_string_pretty(self)?;
        for (name, text) in [("report.json", json), ("report.html", html::page(self)?)] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        text::tables(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_limit_and_aim() {
        let bound = Bound::at_most(1.25).aiming(1.1);
        assert_eq!(bound.outcome(1.1), Outcome::Met);
        assert_eq!(bound.outcome(1.2), Outcome::ShortOfAim);
        assert_eq!(bound.outcome(1.3), Outcome::Missed);
        assert_eq!(bound.outcome(f64::NAN), Outcome::Missed);
        assert_eq!(Bound::none().outcome(9.0), Outcome::Told);
    }

    #[test]
    fn one_miss_is_the_rows() {
        let point = |ratio| Point::new("", Spread::of([ratio]), Bound::at_most(2.0));
        let mut measured = Measured::default();
        measured.point(point(1.0));
        assert!(measured.passed());
        measured.exact("", 3, 3);
        assert!(measured.passed());
        measured.exact("", 2, 3);
        assert!(!measured.passed());
        let mut measured = Measured::default();
        measured.point(point(3.0));
        assert!(!measured.passed());
    }
}
