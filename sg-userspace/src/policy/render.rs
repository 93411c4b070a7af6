//! Diagnostics for people: with the source around them, as prose, or one per line.

use std::fmt::{self, Write as _};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    NarratableReportHandler, SourceCode, SourceSpan, SpanContents,
};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::source::Source;

/// How to write diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With the source and arrows, for a terminal that is `width` columns wide.
    Graphical {
        /// With ANSI colours.
        color: bool,
        /// Columns of the terminal.
        width: usize,
    },
    /// The same in words, for screen readers and logs.
    Narrated,
    /// `file:line:column: error[Code]: message`, and the hint behind it.
    OneLine,
}

/// Lines longer than this are not shown: they would fill the screen.
const LONGEST_LINE: usize = 400;

impl Diagnostics {
    /// Writes all of them, each ending in a newline.
    pub fn render(&self, style: Style) -> String {
        let mut text = String::new();
        for item in self.iter() {
            // Writing to a `String` does not fail, and miette has no failures of its own here.
            let _ = self.render_one(&mut text, item, style);
        }
        if self.suppressed() > 0 {
            let _ = writeln!(text, "... and {} more errors", self.suppressed());
        }
        text
    }

    fn render_one(&self, text: &mut String, item: &Diagnostic, style: Style) -> fmt::Result {
        let shown = Shown { item, source: &self.source };
        match style {
            Style::Graphical { color, width } => {
                let theme = if color {
                    GraphicalTheme::unicode()
                } else {
                    GraphicalTheme::unicode_nocolor()
                };
                GraphicalReportHandler::new_themed(theme)
                    .with_width(width)
                    .with_links(false)
                    .render_report(text, &shown)
            }
            Style::Narrated => NarratableReportHandler::new().render_report(text, &shown),
            Style::OneLine => writeln!(text, "{}", shown.one_line()),
        }
    }
}

/// A diagnostic together with its source, as miette wants them.
#[derive(Debug)]
struct Shown<'d> {
    item: &'d Diagnostic,
    source: &'d Source<'static>,
}

impl Shown<'_> {
    fn one_line(&self) -> String {
        let item = self.item;
        let severity = match item.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let code = item.code.map(|code| format!("[{code}]")).unwrap_or_default();
        let (line, column) = (item.place.line, item.place.column);
        let mut text =
            format!("{}:{line}:{column}: {severity}{code}: {}", self.source.name, item.message);
        let lead = |label: &String| format!(" ({label})");
        text.push_str(&item.label.as_ref().map(lead).unwrap_or_default());
        for other in &item.related {
            let _ = write!(text, "; {} at line {}", other.label, other.place.line);
        }
        if let Some(hint) = &item.hint {
            let _ = write!(text, "; hint: {hint}");
        }
        text
    }

    fn is_showable(&self) -> bool {
        let line = self.item.place.line;
        self.source.line_start(line + 1) - self.source.line_start(line) <= LONGEST_LINE
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.item.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.item.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.item.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.item.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.is_showable().then_some(self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.item.place;
        let here = self.item.label.clone().unwrap_or_else(|| "here".to_owned());
        let primary = LabeledSpan::new_primary_with_span(Some(here), (place.offset, place.length));
        let related = self.item.related.iter().map(|other| {
            let span = (other.place.offset, other.place.length);
            LabeledSpan::new_with_span(Some(other.label.clone()), span)
        });
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

impl SourceCode for Shown<'_> {
    /// As miette's own for `str`, which reads the text from its start for every span; with a
    /// thousand errors in fifty megabytes that takes minutes.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let source = self.source;
        let (line, column) = source.line_column(span.offset());
        let (last, _) = source.line_column(span.offset() + span.len().saturating_sub(1));
        let first = line.saturating_sub(before).max(1);
        let until = (last + after).min(source.lines());
        // Without context before it, miette wants the span itself: it takes the place from there.
        let (start, column) = match before {
            0 => (span.offset(), column - 1),
            _ => (source.line_start(first), 0),
        };
        let end = source.line_start(until + 1).max(start);
        let data = source.text.as_bytes().get(start..end).ok_or(MietteError::OutOfBounds)?;
        let whole = SourceSpan::from((start, end - start));
        Ok(Box::new(MietteSpanContents::new_named(
            source.name.to_string(),
            data,
            whole,
            first - 1,
            column,
            until + 1 - first,
        )))
    }
}
