//! A file of the history: a policy, and the edits since, an entry a line.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::{Content, Entry, HistoryError, Past, edited};
use crate::files;

/// Edits shorter than this together always join the segment.
const SMALLEST_ROOM: usize = 1 << 16;

/// One file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// Where each entry's line ends; behind the last, what counts no more.
    ends: Vec<u64>,
}

/// The segments of a directory, oldest first.
pub(super) fn all(directory: &Path) -> Result<Vec<Segment>, HistoryError> {
    let segments: Result<Vec<_>, _> = paths(directory)?.into_iter().map(Segment::read).collect();
    Ok(segments?.into_iter().filter(|segment| !segment.entries.is_empty()).collect())
}

/// Whether a directory has the entry with a number.
pub(super) fn holds(directory: &Path, number: u64) -> Result<bool, HistoryError> {
    let mut paths = paths(directory)?;
    let name = name(number);
    paths.retain(|path| path.file_name().is_some_and(|found| *found <= *OsStr::new(&name)));
    let Some(path) = paths.pop() else { return Ok(false) };
    Ok(Segment::read(path)?.entries.iter().any(|entry| entry.number == number))
}

/// The file of a segment that begins with this number; leading zeros, so that names are sorted as numbers are.
fn name(number: u64) -> String {
    format!("{number:020}.jsonl")
}

/// The files of a directory's segments, oldest first.
fn paths(directory: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let failed = |source| HistoryError::File { doing: "read", path: directory.into(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

impl Segment {
    fn read(path: PathBuf) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::File { doing: "read", path: path.clone(), source };
        let text = std::fs::read(&path).map_err(failed)?;
        let (mut entries, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            // The last line may be half of one, whose policy has never been in force.
            if !line.ends_with(b"\n") {
                break;
            }
            let entry = serde_json::from_slice(line).map_err(|error| HistoryError::Damaged {
                path: path.clone(),
                why: error.to_string(),
            })?;
            end += line.len() as u64;
            entries.push(entry);
            ends.push(end);
        }
        Ok(Self { path, entries, ends })
    }

    /// A new file with one entry, whole or not there.
    pub(super) fn create(directory: &Path, entry: Entry) -> Result<Self, HistoryError> {
        let path = directory.join(name(entry.number));
        let failed = |source| HistoryError::File { doing: "write", path: path.clone(), source };
        let temporary = path.with_extension("tmp");
        let line = line(&entry).map_err(failed)?;
        files::write_synced(&temporary, &line).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)?;
        let end = line.len() as u64;
        Ok(Self { path, entries: vec![entry], ends: vec![end] })
    }

    /// Whether the edits of this number may join: they must follow the last entry, and reading them must not
    /// cost much more than reading the policy.
    pub(super) fn has_room_for(&self, number: u64) -> bool {
        if self.entries.last().is_none_or(|last| last.number + 1 != number) {
            return false;
        }
        let whole = self.ends.first().copied().unwrap_or(0);
        let edits = self.ends.last().map_or(0, |end| end - whole);
        edits < (whole / 2).max(SMALLEST_ROOM as u64)
    }

    /// Adds an entry behind the last that counts.
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), HistoryError> {
        let failed =
            |source| HistoryError::File { doing: "write", path: self.path.clone(), source };
        let line = line(&entry).map_err(failed)?;
        let end = self.ends.last().copied().unwrap_or(0);
        let mut file = OpenOptions::new().append(true).open(&self.path).map_err(failed)?;
        // An earlier write of ours may have found the disk full: the file knows, we do not.
        if file.metadata().map_err(failed)?.len() != end {
            file.set_len(end).map_err(failed)?;
        }
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)?;
        self.entries.push(entry);
        self.ends.push(end + line.len() as u64);
        Ok(())
    }

    /// Takes from the file what is behind the last entry that counts.
    pub(super) fn cut(&self) -> Result<(), HistoryError> {
        let failed =
            |source| HistoryError::File { doing: "write", path: self.path.clone(), source };
        let end = self.ends.last().copied().unwrap_or(0);
        let file = OpenOptions::new().write(true).open(&self.path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == end {
            return Ok(());
        }
        file.set_len(end).and_then(|()| file.sync_data()).map_err(failed)
    }

    /// Drops the entries behind a number; the file loses them at the next append.
    pub(super) fn forget_after(&mut self, number: u64) {
        let kept = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.truncate(kept);
        self.ends.truncate(kept);
    }

    /// The policy of one of its entries.
    pub(super) fn policy(&self, number: u64) -> Result<Past, HistoryError> {
        let damaged =
            |why: &str| HistoryError::Damaged { path: self.path.clone(), why: why.to_owned() };
        let Some(Entry { content: Content::Policy { path, text, edits }, .. }) =
            self.entries.first()
        else {
            return Err(damaged("it does not begin with a policy"));
        };
        let past = Past { path: path.clone(), text: text.clone(), edits: *edits };
        let mut edits = Vec::new();
        for entry in self.entries.iter().skip(1).take_while(|entry| entry.number <= number) {
            match &entry.content {
                Content::Edits(of_entry) => edits.extend(of_entry),
                Content::Policy { .. } => return Err(damaged("it holds two policies")),
            }
        }
        if edits.is_empty() {
            return Ok(past);
        }
        let number = past.edits + edits.len();
        let text = edited(&past, edits.into_iter(), &self.path)?;
        Ok(Past { text, edits: number, ..past })
    }

    /// Removes the file.
    pub(super) fn remove(self) -> Result<(), HistoryError> {
        std::fs::remove_file(&self.path).map_err(|source| HistoryError::File {
            doing: "remove",
            path: self.path,
            source,
        })
    }
}

fn line(entry: &Entry) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}
