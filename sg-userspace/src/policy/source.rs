//! The text of a policy file with an index of its lines.
//!
//! The checks speak of byte ranges ([`Span`]), people of lines and columns. The index makes the step
//! from one to the other cheap however large the file is.

use std::borrow::Cow;

/// A range of bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    /// The first byte.
    pub(crate) start: u32,
    /// The byte after the last.
    pub(crate) end: u32,
}

impl Span {
    /// Offsets beyond 4 GiB cannot occur: [`super::MAX_BYTES`] is refused before parsing.
    pub(crate) fn new(start: usize, length: usize) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(start.saturating_add(length)) }
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn length(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// A named text and where its lines begin.
#[derive(Debug, Clone)]
pub(crate) struct Source<'t> {
    pub(crate) name: Cow<'t, str>,
    pub(crate) text: Cow<'t, str>,
    starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(name: &'t str, text: &'t str) -> Self {
        let after_newline = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let starts = std::iter::once(0).chain(after_newline.map(|(at, _)| at + 1)).collect();
        Self { name: Cow::Borrowed(name), text: Cow::Borrowed(text), starts }
    }

    /// The same source, independent of the caller's text; costs a copy.
    pub(crate) fn into_owned(self) -> Source<'static> {
        Source {
            name: Cow::Owned(self.name.into_owned()),
            text: Cow::Owned(self.text.into_owned()),
            starts: self.starts,
        }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub(crate) fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let end = offset.min(self.text.len());
        let before = self.text.as_bytes().get(start..end).unwrap_or_default();
        // A byte order mark is not a column.
        let before = before.strip_prefix("\u{feff}".as_bytes()).unwrap_or(before);
        (line, before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1)
    }

    /// Byte offset of a line and column, both from 1; the nearest there is.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.line_start(line);
        let rest = self.text.get(start..).unwrap_or_default();
        let in_line = rest.char_indices().nth(column.saturating_sub(1));
        start + in_line.map_or(rest.len(), |(at, _)| at)
    }

    /// Where a line begins, from 1; beyond the last line, the end of the text.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// How many lines there are, at least one.
    pub(crate) fn lines(&self) -> usize {
        self.starts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new("f", "é: x\nß: [ü]\n");
        for (offset, place) in [(0, (1, 1)), (2, (1, 2)), (4, (1, 4)), (6, (2, 1)), (10, (2, 4))] {
            assert_eq!(source.line_column(offset), place, "offset {offset}");
            assert_eq!(source.offset(place.0, place.1), offset, "{place:?}");
        }
        assert_eq!(source.line_column(4000), (3, 1));
        assert_eq!(source.offset(99, 1), source.text.len());
    }

    #[test]
    fn a_byte_order_mark_is_not_a_column() {
        assert_eq!(Source::new("f", "\u{feff}a: 1").line_column(3), (1, 1));
    }
}
