//! The report as one page that needs nothing else.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::{bound, outcome};
use super::{Outcome, Point, Report, RowReport, Table, plot};
use crate::stats::Spread;

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ec; vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid #b9c2cc; } th:first-child, td:first-child { text-align: left; }
p.method, .quiet { color: #56616f; } .met { color: #2a7d4f; } .short { color: #8a5f0c; } .missed { color: #b32d2d; font-weight: 600; }
svg { max-width: 100%; height: auto; } .scroll { overflow-x: auto; }
";

/// The page.
///
/// # Errors
/// When a plot cannot be drawn.
pub(super) fn page(report: &Report) -> Result<String> {
    let mut rows = Vec::new();
    for row in &report.rows {
        rows.push(row_of(row)?);
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "What a packet costs" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "What a packet costs" }
                (machine(report))
                (summary(report))
                (how_to_read())
                @for row in &rows { (row) }
            }
        }
    };
    Ok(page.into_string())
}

fn machine(report: &Report) -> Markup {
    let machine = &report.machine;
    html! {
        p {
            (machine.processor) ", " (machine.processors) " processors"
            @if machine.is_virtual { ", a virtual machine" }
            "; Linux " (machine.kernel) "; " (machine.jit) "; load when it began " (machine.load) "; "
            (format!("{:.0} s", report.seconds))
            @if report.quick { "; a look only (--quick): few and short rounds" }
        }
        p.quiet { "Mitigations: " (machine.mitigations.join("; ")) }
    }
}

fn summary(report: &Report) -> Markup {
    html! {
        div.scroll { table {
            tr { th { "row" } th { "case" } th { "must be" } th { "median" } th { "outcome" } }
            @for row in &report.rows {
                @for point in &row.measured.points {
                    tr {
                        td { (row.number) ". " (row.title) }
                        td { (point.label) }
                        td { (bound(point.bound)) }
                        td { (format!("{:.2}", point.ratio.median)) }
                        (outcome_cell(point))
                    }
                }
                @for account in &row.measured.accounts {
                    tr {
                        td { (row.number) ". " (row.title) }
                        td { (account.label) }
                        td { "exact" }
                        td { (account.counted) " of " (account.truth) }
                        @if account.counted == account.truth { td.met { "met" } } @else { td.missed { "WRONG" } }
                    }
                }
                @if let Some(error) = &row.measured.error {
                    tr { td { (row.number) ". " (row.title) } td.missed colspan="4" { (error) } }
                }
            }
        } }
    }
}

fn how_to_read() -> Markup {
    html! {
        p.quiet {
            "Ratios are the result; nanoseconds are context and belong to this machine. Program cost is the processor \
             time of BPF_PROG_TEST_RUN by batches of distinct packets in random order, in interleaved rounds; a driver \
             program writes each packet and calls the program in question. A ratio is the median of the ratios of \
             rounds, without the driver in either side, which is the stricter form: (ours - driver) / (F - driver); \
             the form with the driver in both is told beside it. Every batch was held against counters: packets of \
             known flows, new flows, events. In plots a bar is half of the rounds, red is the limit, green the aim."
        }
        p.quiet {
            "F: an XDP program, written by hand, that parses and looks one flow up, by a key as long in a hash table of \
             the same type, size and fill, and reads one word of it. X: one that only parses."
        }
    }
}

fn outcome_cell(point: &Point) -> Markup {
    let said = outcome(point.outcome, point.bound, point.ratio.median);
    let class = match point.outcome {
        Outcome::Met => "met",
        Outcome::ShortOfAim => "short",
        Outcome::Missed => "missed",
        Outcome::Told => "quiet",
    };
    html! { td class=(class) { (said) } }
}

fn row_of(row: &RowReport) -> Result<Markup> {
    let measured = &row.measured;
    let plot = if measured.points.is_empty() {
        None
    } else {
        Some(PreEscaped(plot::svg(&measured.points)?))
    };
    Ok(html! {
        h2 { (row.number) ". " (row.title) }
        p.method { (row.method) " " (format!("({:.0} s)", row.seconds)) }
        @if let Some(plot) = plot { (plot) }
        @if !measured.points.is_empty() { (points(&measured.points)) }
        @for table in &measured.tables { (table_of(table)) }
        @if !measured.notes.is_empty() {
            ul { @for note in &measured.notes { li { (note) } } }
        }
    })
}

fn points(points: &[Point]) -> Markup {
    html! {
        div.scroll { table {
            tr {
                th { "case" } th { "ratio" } th { "half of the rounds" } th { "least, most" } th { "with driver" }
                th { "made of" }
            }
            @for point in points {
                tr {
                    td { (point.label) }
                    td { (format!("{:.3}", point.ratio.median)) }
                    td { (range(point.ratio.low, point.ratio.high)) }
                    td { (range(point.ratio.min, point.ratio.max)) }
                    td { @if let Some(Spread { median, .. }) = point.with_driver { (format!("{median:.3}")) } }
                    td {
                        @for (index, part) in point.parts.iter().enumerate() {
                            @if index > 0 { ", " }
                            (part.name) " " (format!("{:.1} {}", part.spread.median, part.unit))
                        }
                    }
                }
            }
        } }
    }
}

fn range(low: f64, high: f64) -> String {
    format!("{low:.2} to {high:.2}")
}

fn table_of(table: &Table) -> Markup {
    html! {
        p { (table.title) }
        div.scroll { table {
            tr { @for name in &table.header { th { (name) } } }
            @for line in &table.lines { tr { @for cell in line { td { (cell) } } } }
        } }
    }
}
