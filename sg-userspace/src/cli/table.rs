//! Tables of plain columns. On a terminal that is too narrow for a table the last columns of each row go to lines of
//! their own below it: no cell is cut or broken inside a word, and what can be selected stays whole. Where nobody
//! looks at a terminal a row is a line, however long.

use std::borrow::Cow;
use std::ops::Range;

use comfy_table::{ContentArrangement, Table as Grid, presets};
use textwrap::{Options, WordSeparator, WordSplitter};

use super::output;

/// How far columns stand in that are below others.
const INDENT: usize = 4;
/// Between two columns.
const GAP: usize = 2;

/// Rows of cells under a header.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<'h>(header: impl IntoIterator<Item = &'h str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    pub(super) fn add_row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let cells = cells.into_iter().map(Into::into);
        self.rows.push(cells.map(|cell: String| cell.replace('\n', " ")).collect());
    }

    pub(super) fn add_rows<C: Into<String>, R: IntoIterator<Item = C>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
    ) {
        rows.into_iter().for_each(|row| self.add_row(row));
    }

    /// Its lines, as wide as the terminal is.
    pub(super) fn text(&self, indent: &str) -> String {
        self.text_within(indent, output::terminal_width())
    }

    fn text_within(&self, indent: &str, width: Option<usize>) -> String {
        let widths = self.widths();
        let room = width.map(|width| width.saturating_sub(indent.len()));
        let mut bands = Vec::new();
        let mut begin = 0;
        while begin < widths.len() {
            let left = if begin == 0 { 0 } else { INDENT };
            let room = room.map(|room| room.saturating_sub(left).max(1));
            let end = begin + fitting(&widths[begin..], room);
            bands.push((left, self.lines(begin..end, room)));
            begin = end;
        }
        let mut text = String::new();
        for row in 0..=self.rows.len() {
            for (left, rows) in &bands {
                // Nothing below a row says nothing; a row of nothing is still a row.
                for line in rows[row].iter().filter(|line| *left == 0 || !line.trim().is_empty()) {
                    text.push_str(format!("{indent}{:1$}{line}", "", left).trim_end());
                    text.push('\n');
                }
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let widths = self.grid(0..self.header.len()).column_max_content_widths();
        widths.into_iter().map(usize::from).collect()
    }

    /// The lines of each row of some columns, the header's first; several only where one cell is too wide.
    fn lines(&self, columns: Range<usize>, room: Option<usize>) -> Vec<Vec<String>> {
        if let (Some(room), 1) = (room, columns.len()) {
            let cell = |row: &Vec<String>| {
                let options = Options::new(room)
                    .break_words(false)
                    .word_separator(WordSeparator::AsciiSpace)
                    .word_splitter(WordSplitter::NoHyphenation);
                let lines = textwrap::wrap(&row[columns.start], options);
                lines.into_iter().map(Cow::into_owned).collect()
            };
            return std::iter::once(&self.header).chain(&self.rows).map(cell).collect();
        }
        self.grid(columns).lines().map(|line| vec![line]).collect()
    }

    /// Some columns, a line for each row.
    fn grid(&self, columns: Range<usize>) -> Grid {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(&self.header[columns.clone()]);
        grid.add_rows(self.rows.iter().map(|row| &row[columns.clone()]));
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        grid
    }
}

/// How many of the next columns stand beside one another: at least one.
fn fitting(widths: &[usize], room: Option<usize>) -> usize {
    let Some(room) = room else { return widths.len() };
    let mut end = 0;
    let fits = |width: &&usize| {
        end += *width;
        let does = end <= room;
        end += GAP;
        does
    };
    widths.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["GROUP", "ID", "DIRECTION", "TRAFFIC", "DESCRIPTION"]);
        table.add_row(["web", "sgr-0123456789abcdef0", "ingress", "tcp/80", ""]);
        table.add_row([
            "web tier",
            "sgr-4d376e8418bd0cfbe",
            "egress",
            "all",
            "where it all goes\nto",
        ]);
        table
    }

    #[test]
    fn without_a_terminal_a_row_is_a_line() {
        insta::assert_snapshot!(table().text_within("  ", None), @r"
          GROUP     ID                     DIRECTION  TRAFFIC  DESCRIPTION
          web       sgr-0123456789abcdef0  ingress    tcp/80
          web tier  sgr-4d376e8418bd0cfbe  egress     all      where it all goes to
        ");
        assert_eq!(table().text_within("", Some(80)), table().text_within("", None));
    }

    #[test]
    fn columns_that_do_not_fit_stand_below() {
        insta::assert_snapshot!(table().text_within("", Some(60)), @r"
        GROUP     ID                     DIRECTION  TRAFFIC
            DESCRIPTION
        web       sgr-0123456789abcdef0  ingress    tcp/80
        web tier  sgr-4d376e8418bd0cfbe  egress     all
            where it all goes to
        ");
    }

    #[test]
    fn words_stay_whole_where_nothing_fits() {
        insta::assert_snapshot!(table().text_within("", Some(14)), @r"
        GROUP
            ID
            DIRECTION
            TRAFFIC
            DESCRIPTION
        web
            sgr-0123456789abcdef0
            ingress
            tcp/80
        web tier
            sgr-4d376e8418bd0cfbe
            egress
            all
            where it
            all goes
            to
        ");
    }
}
