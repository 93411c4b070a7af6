//! The state in files: all of it as of one generation, and small changes since, a line each.
//!
//! `live.N.json` is the state of generation N. Beside it `live.N.log` holds what single changes of members have
//! made of it, so that such a change writes what it changes and not a million members. A line is written and
//! synced before the generation word is flipped to its generation, and another one when the change has been
//! levelled. The word in the kernel says how many lines count; what is behind them was interrupted.
//!
//! `live.begun` is there from before the first write into a map until the change is levelled and its files are all
//! there is: a command that is killed in between is known by it, whatever else it has written. What it left in the
//! maps under fresh numbers would be the next change's, which gives the same numbers to something else.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::live::Live;
use super::{KernelError, Paths, room};
use crate::compile::Patch;
use crate::files;
use crate::policy::edit::{Edit, Editor};

/// A change of members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    /// The generation that it brings.
    pub(super) generation: u64,
    /// Number in the history.
    pub(super) number: u64,
    /// Of the policy.
    pub(super) edits: Vec<Edit>,
    /// Of the tables.
    pub(super) patch: Patch,
    /// How many elements of `classes` it takes.
    pub(super) taken: usize,
    /// Which it gives back.
    pub(super) freed: Vec<u32>,
}

/// A change that may write into the maps.
#[derive(Debug)]
#[must_use]
pub(super) struct Begun(());

impl Begun {
    /// In maps that no state tells of.
    pub(super) const fn unrecorded() -> Self {
        Self(())
    }

    /// The change is levelled, and its files are all there is.
    pub(super) fn end(self, paths: &Paths) -> Result<(), KernelError> {
        let path = begun(paths);
        std::fs::remove_file(&path).map_err(KernelError::file("remove", &path))
    }
}

/// Says that maps are about to be written.
pub(super) fn begin(paths: &Paths) -> Result<Begun, KernelError> {
    files::create_private(&paths.run).map_err(KernelError::file("make", &paths.run))?;
    let path = begun(paths);
    // Empty, it takes no room; and maps do not outlive a crash that would need it on a disk.
    std::fs::File::create(&path).map_err(KernelError::file("make", &path))?;
    Ok(Begun(()))
}

fn begun(paths: &Paths) -> PathBuf {
    paths.run.join("live.begun")
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Change(Box<Change>),
    /// Both versions say what this generation's says.
    Levelled(u64),
}

/// What lies in the directory for a generation.
#[derive(Debug)]
pub(super) struct Files {
    /// The generation that is there as a whole.
    base: u64,
    /// What came since and counts.
    changes: Vec<Change>,
    /// Where the last line ends that counts.
    pub(super) end: u64,
    /// Whether a command was interrupted: there is more than counts, or the last change was not levelled.
    pub(super) is_interrupted: bool,
}

impl Files {
    /// Finds what leads to a generation; `None` when nothing does.
    pub(super) fn find(paths: &Paths, generation: u64) -> Result<Option<Self>, KernelError> {
        let all = all(paths).map_err(KernelError::file("read", &paths.run))?;
        let mut bases = bases(&all, generation);
        while let Some(base) = bases.pop() {
            let log = log(paths, base);
            let (changes, end, is_whole) = read_log(&log, generation)?;
            let reached = changes.last().map_or(base, |change| change.generation);
            if reached == generation {
                let is_ours = |path: &PathBuf| *path == paths.live(base) || *path == log;
                let is_interrupted = !is_whole || !all.iter().all(is_ours);
                return Ok(Some(Self { base, changes, end, is_interrupted }));
            }
        }
        Ok(None)
    }

    /// Reads the state that they say.
    pub(super) fn read(self, paths: &Paths) -> Result<Live, KernelError> {
        let path = paths.live(self.base);
        let unusable = |why: String| KernelError::State { path: path.clone(), why };
        let bytes = std::fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        let mut live: Live =
            serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        if self.changes.is_empty() {
            return Ok(live);
        }
        let loaded = crate::policy::load(&live.source.path, &live.source.text);
        let mut editor = Editor::new(loaded.map_err(|error| unusable(error.to_string()))?.policy);
        for change in self.changes {
            editor
                .apply_all(&change.edits)
                .map_err(|(_position, error)| unusable(error.to_string()))?;
            change.patch.apply(&mut live.tables);
            live.slots.follow(change.taken, &change.freed);
            live.number = change.number;
            live.source.edits += change.edits.len();
        }
        live.source.text = crate::policy::write(editor.policy());
        Ok(live)
    }

    /// Which files these are, to tell whether somebody else has written since.
    pub(super) fn stamp(&self, paths: &Paths) -> io::Result<Stamp> {
        let base = std::fs::metadata(paths.live(self.base))?;
        Ok(Stamp { base: self.base, file: Identity::of(&base), size: base.len(), log: self.end })
    }
}

/// The files of a state, and how far they reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    base: u64,
    file: Identity,
    size: u64,
    log: u64,
}

/// Which file it is: a number of an inode alone comes back after two replacements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) }
    }
}

impl Stamp {
    /// Whether another line may join: reading the log must not cost much more than reading the state.
    pub(super) fn has_room(&self) -> bool {
        self.log < (self.size / 2).max(1 << 16)
    }

    /// Whether the files are still the same, and nobody has begun what they do not tell of.
    pub(super) fn is_current(&self, paths: &Paths) -> bool {
        if begun(paths).exists() {
            return false;
        }
        let base = std::fs::metadata(paths.live(self.base));
        let end = std::fs::metadata(log(paths, self.base)).map_or(0, |log| log.len());
        base.is_ok_and(|base| Identity::of(&base) == self.file) && end == self.log
    }

    /// Writes a change behind the others, before its flip.
    pub(super) fn append(&mut self, paths: &Paths, change: Change) -> Result<(), KernelError> {
        self.write(paths, &Line::Change(Box::new(change)))
    }

    /// Says that a change is levelled.
    pub(super) fn levelled(&mut self, paths: &Paths, generation: u64) -> Result<(), KernelError> {
        self.write(paths, &Line::Levelled(generation))
    }

    fn write(&mut self, paths: &Paths, line: &Line) -> Result<(), KernelError> {
        let path = log(paths, self.base);
        let failed = |error| KernelError::file("write", &path)(error);
        let mut bytes = serde_json::to_vec(line).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        self.log += bytes.len() as u64;
        room::grow(paths, self.size + self.log);
        Ok(())
    }
}

/// The lines of a log that count in a generation, where they end, and whether they are all there is.
fn read_log(path: &Path, generation: u64) -> Result<(Vec<Change>, u64, bool), KernelError> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0, true)),
        other => other.map_err(KernelError::file("read", path))?,
    };
    let (mut changes, mut end, mut is_level) = (Vec::new(), 0, true);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        // Half a line is what a killed command has left.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let length = line.len() as u64 + 1;
        match serde_json::from_slice(line) {
            Ok(Line::Change(change)) if change.generation > generation => break,
            Ok(Line::Change(change)) => {
                changes.push(*change);
                is_level = false;
            }
            Ok(Line::Levelled(_)) => is_level = true,
            Err(error) => {
                let (path, why) = (path.to_owned(), error.to_string());
                return Err(KernelError::State { path, why });
            }
        }
        end += length;
    }
    Ok((changes, end, is_level && end == bytes.len() as u64))
}

/// Writes a state as a whole, or not at all. On a full file system what `is_due` has the room that is kept for it.
pub(super) fn write(
    paths: &Paths,
    live: &Live,
    generation: u64,
    is_due: bool,
) -> Result<(), KernelError> {
    let path = paths.live(generation);
    let temporary = path.with_extension("tmp");
    let failed = |error| KernelError::file("write", &path)(error);
    files::create_private(&paths.run).map_err(KernelError::file("make", &paths.run))?;
    let bytes = serde_json::to_vec(live).map_err(|error| failed(error.into()))?;
    if let Err(error) = files::write_synced(&temporary, &bytes) {
        // Half of it would look as if a command had been killed.
        let _best_effort = std::fs::remove_file(&temporary);
        if !files::is_full(&error) || !room::fill(paths, live, is_due, &bytes, &temporary) {
            return Err(failed(error));
        }
    }
    // A log that an interrupted command left to this generation is not this state's.
    match std::fs::remove_file(log(paths, generation)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    std::fs::rename(&temporary, &path).map_err(failed)?;
    files::sync_directory(&paths.run).map_err(failed)
}

/// Removes the files of every state but that of a generation as a whole, and sees to the room that it is to have.
pub(super) fn forget_others(paths: &Paths, kept: Option<(&Live, u64)>) -> Result<(), KernelError> {
    let Some((live, generation)) = kept else { return clear(paths, None, &[]) };
    clear(paths, Some(live), &[paths.live(generation)])?;
    room::keep(paths, live, generation);
    Ok(())
}

/// Removes what does not lead to a generation: it has never counted, or does no more. The maps say already what the
/// generation says, or nobody would know that they do not.
pub(super) fn forget_strays(
    paths: &Paths,
    live: &Live,
    generation: u64,
) -> Result<(), KernelError> {
    let Some(files) = Files::find(paths, generation)? else { return Ok(()) };
    clear(paths, Some(live), &[paths.live(files.base), log(paths, files.base)])
}

fn clear(paths: &Paths, live: Option<&Live>, kept: &[PathBuf]) -> Result<(), KernelError> {
    let begun = begun(paths);
    let mut others = all(paths).map_err(KernelError::file("read", &paths.run))?;
    let has_begun = others.contains(&begun);
    others.retain(|path| !kept.contains(path) && *path != begun);
    if let Some(live) = live {
        room::recycle(paths, live, &mut others);
    }
    // While it is there, the others are known to be what was interrupted.
    others.extend(has_begun.then_some(begun));
    let remove =
        |path: PathBuf| std::fs::remove_file(&path).map_err(KernelError::file("remove", path));
    others.into_iter().try_for_each(remove)
}

/// Whether there is a file of any state.
pub(super) fn has_any(paths: &Paths) -> bool {
    all(paths).is_ok_and(|files| !files.is_empty())
}

/// The files of all generations, whole or not.
fn all(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(&paths.run) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("live."))
        .map(|entry| entry.path())
        .collect())
}

/// The newest that may lead to a generation.
pub(super) fn base(paths: &Paths, generation: u64) -> Option<u64> {
    bases(&all(paths).ok()?, generation).pop()
}

/// The generations up to one that are there as a whole, the newest last.
fn bases(all: &[PathBuf], generation: u64) -> Vec<u64> {
    let mut bases: Vec<u64> = all
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| generation_of(path))
        .filter(|&base| base <= generation)
        .collect();
    bases.sort_unstable();
    bases
}

fn log(paths: &Paths, generation: u64) -> PathBuf {
    paths.live(generation).with_extension("log")
}

/// Of `live.N.json`.
fn generation_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("live.")?.parse().ok()
}
