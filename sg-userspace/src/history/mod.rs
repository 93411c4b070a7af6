//! Every policy that has been in force: when, who, what changed, and the policy itself.
//!
//! A segment is a file that begins with a whole policy and goes on with edits, one entry a line, each synced
//! before it counts. Whole policies begin a segment of their own; edits join one until they are half as long as
//! its policy, so that an edit of a large policy costs what the edit costs. Old segments go as a whole.
//!
//! An entry is written before the policy that it tells of is in force, so a command that is killed in between
//! leaves one too many. The state in force knows its number: what is behind it has never been.

mod segment;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use segment::Segment;

use crate::files;
use crate::policy::edit::{Edit, Editor};

/// How many entries are kept at least; beyond them, whole segments go.
pub const KEPT: usize = 100;

/// One policy that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; they rise.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Who.
    pub user: String,
    /// By which command.
    pub command: String,
    /// Why, in the words of who did it.
    pub message: Option<String>,
    /// What changed against the one before, a line each.
    pub diff: Vec<String>,
    /// The policy.
    pub content: Content,
    /// How it came about.
    #[serde(default)]
    pub cause: Cause,
}

/// How an entry came about, for whoever looks for the policy before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody changed the policy.
    #[default]
    Change,
    /// The time of rules was over.
    Expiry,
    /// A policy that waited for its confirmation was taken back: whatever came behind entry `again` counts no more.
    TakenBack {
        /// The entry whose policy is in force again.
        again: u64,
    },
}

/// What an entry holds of its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All of it.
    Policy {
        /// Path of the file.
        path: String,
        /// Its text.
        text: String,
        /// How many edits have made it of the file.
        #[serde(default)]
        edits: usize,
    },
    /// What has been edited since the entry before.
    Edits(Vec<Edit>),
}

/// A policy out of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Path of the file that it came from.
    pub path: String,
    /// Its text.
    pub text: String,
    /// How many edits have made it of the file.
    pub edits: usize,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file or directory of it.
    #[error("cannot {doing} {}; no change of policy is made without its history", path.display())]
    File {
        /// What failed.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("{} is damaged: {why}; move it away", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A number that is not kept.
    #[error("there is no policy {number} in the history (there are: {})", range(*first, *last))]
    NoEntry {
        /// The number asked for.
        number: u64,
        /// The oldest kept.
        first: u64,
        /// The newest.
        last: u64,
    },
}

impl HistoryError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}

/// Moves a history that cannot be read out of the way; tells where it is.
///
/// # Errors
/// When it cannot be moved.
pub fn set_aside(state: &Path) -> Result<PathBuf, HistoryError> {
    let directory = state.join("history");
    let free = |number: &u32| !state.join(format!("history.damaged.{number}")).exists();
    let number = (1..).find(free).unwrap_or(0);
    let aside = state.join(format!("history.damaged.{number}"));
    std::fs::rename(&directory, &aside).map_err(HistoryError::file("move away", &directory))?;
    Ok(aside)
}

fn range(first: u64, last: u64) -> String {
    if last == 0 { "none".to_owned() } else { format!("{first} to {last}") }
}

/// The history in a directory.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    segments: Vec<Segment>,
    /// Those of which nothing has ever been in force: whoever wrote them was killed.
    strays: Vec<Segment>,
    in_force: u64,
}

impl History {
    /// Reads what is there; `in_force` is the number of the policy in force, behind which nothing counts.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(state: &Path, in_force: Option<u64>) -> Result<Self, HistoryError> {
        let directory = state.join("history");
        let mut segments = segment::all(&directory)?;
        if let Some(number) = in_force {
            segments.iter_mut().for_each(|segment| segment.forget_after(number));
        }
        let (segments, strays) =
            segments.into_iter().partition(|segment| !segment.entries.is_empty());
        Ok(Self { directory, segments, strays, in_force: in_force.unwrap_or(0) })
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.segments.iter().flat_map(|segment| &segment.entries)
    }

    /// The entry with a number.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries().find(|entry| entry.number == number)
    }

    /// Whether an entry is kept. Reads no more than the segment that it would be in.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn holds(state: &Path, number: u64) -> Result<bool, HistoryError> {
        segment::holds(&state.join("history"), number)
    }

    /// The entry to go back to from entry `number`: the one before it. What went by itself, as rules do whose time is
    /// over and policies that nobody confirmed, is nobody's change to undo.
    #[must_use]
    pub fn before(&self, number: u64) -> Option<u64> {
        let older = |number: u64| {
            let mut numbers = self.entries().rev().map(|entry| entry.number);
            numbers.find(|&older| older < number)
        };
        let mut at = number;
        while let Some(entry) = self.entry(at) {
            at = match entry.cause {
                Cause::Expiry => older(at)?,
                Cause::TakenBack { again } if again < at => again,
                Cause::TakenBack { .. } | Cause::Change => break,
            };
        }
        older(at)
    }

    /// The number that the next entry gets.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        let newest = self.entries().next_back().map_or(0, |entry| entry.number);
        newest.max(self.in_force) + 1
    }

    /// The policy of an entry.
    ///
    /// # Errors
    /// [`HistoryError::NoEntry`] when it is not kept.
    pub fn policy(&self, number: u64) -> Result<Past, HistoryError> {
        let holds = |segment: &&Segment| segment.entries.iter().any(|one| one.number == number);
        let Some(segment) = self.segments.iter().find(holds) else {
            let numbers = || self.entries().map(|entry| entry.number);
            let (first, last) = (numbers().next(), numbers().next_back());
            let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
            return Err(HistoryError::NoEntry { number, first, last });
        };
        segment.policy(number)
    }

    /// Writes an entry, so that it outlives a crash, and drops what is too old. `policy` is asked for where
    /// edits cannot join what they follow.
    ///
    /// # Errors
    /// When it cannot be written; then it counts no more than what a killed command leaves, and the history must
    /// be opened anew.
    pub fn append(
        &mut self,
        entry: Entry,
        policy: impl FnOnce() -> Past,
    ) -> Result<(), HistoryError> {
        let directory = self.directory.clone();
        files::create_private(&directory).map_err(HistoryError::file("make", &directory))?;
        // Their numbers are about to be given again, and would then seem to have been in force.
        self.remove_strays()?;
        let (number, segments) = (entry.number, &mut self.segments);
        match (&entry.content, segments.last_mut()) {
            (Content::Edits(_), Some(last)) if last.has_room_for(number) => last.append(entry)?,
            (Content::Policy { .. } | Content::Edits(_), _) => {
                let content = match entry.content {
                    Content::Edits(_) => policy().into(),
                    whole @ Content::Policy { .. } => whole,
                };
                let entry = Entry { content, ..entry };
                segments.push(Segment::create(&self.directory, entry)?);
                self.prune()?;
            }
        }
        files::sync_directory(&directory).map_err(HistoryError::file("sync", &directory))
    }

    /// Removes what has never been in force, for as long as the number that is, is known: with the last device it goes.
    ///
    /// # Errors
    /// When a file cannot be written or removed.
    pub fn forget_strays(&mut self) -> Result<(), HistoryError> {
        self.remove_strays()?;
        self.segments.last().map_or(Ok(()), Segment::cut)?;
        match files::sync_directory(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HistoryError::file("sync", &self.directory)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn remove_strays(&mut self) -> Result<(), HistoryError> {
        while let Some(stray) = self.strays.pop() {
            stray.remove()?;
        }
        Ok(())
    }

    fn prune(&mut self) -> Result<(), HistoryError> {
        let mut total: usize = self.segments.iter().map(|segment| segment.entries.len()).sum();
        while let [oldest, _, ..] = &self.segments[..]
            && total - oldest.entries.len() >= KEPT
        {
            total -= oldest.entries.len();
            self.segments.remove(0).remove()?;
        }
        Ok(())
    }
}

impl From<Past> for Content {
    fn from(Past { path, text, edits }: Past) -> Self {
        Self::Policy { path, text, edits }
    }
}

/// The text of a policy with edits made.
fn edited<'e>(
    past: &Past,
    mut edits: impl Iterator<Item = &'e Edit>,
    file: &Path,
) -> Result<String, HistoryError> {
    let damaged = |why: String| HistoryError::Damaged { path: file.to_owned(), why };
    let loaded =
        crate::policy::load(&past.path, &past.text).map_err(|error| damaged(error.to_string()))?;
    let mut editor = Editor::new(loaded.policy);
    edits
        .try_for_each(|edit| editor.apply(edit).map(|_done| ()))
        .map_err(|error| damaged(error.to_string()))?;
    Ok(crate::policy::write(editor.policy()))
}
