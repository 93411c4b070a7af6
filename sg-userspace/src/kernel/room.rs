//! Room where the state lies, kept for what happens by itself: on a full file system a policy goes back, and rules whose
//! time is over go, all the same.
//!
//! There is one file for each, so that neither takes the other's. A state is written over the room, padded with spaces,
//! and renamed: nothing is given back to whoever fills the disk before the state counts. What it replaces, or was
//! never in force, becomes the next room.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::live::Live;
use super::{KernelError, Paths};
use crate::files;

/// What lines may join a small state before they are folded into it.
const LINES: u64 = 1 << 16;

/// Makes sure that an unconfirmed policy can be taken back though the file system is full then. What comes back has
/// the content of the states before and after the change, and no more free elements than both have entries.
pub(super) fn reserve(paths: &Paths, states: [&Live; 2]) -> Result<(), KernelError> {
    let path = paths.way_back();
    let mut size = 0;
    for state in states {
        let bytes = serde_json::to_vec(state).map_err(|error| no_room(&path, error.into()))?;
        size += bytes.len() as u64;
    }
    files::reserve(&path, size).map_err(|error| no_room(&path, error))
}

fn no_room(path: &Path, source: io::Error) -> KernelError {
    KernelError::NoRoomForTheWayBack { path: path.to_owned(), source }
}

/// Gives back what [`reserve`] took.
pub(super) fn give_back(paths: &Paths) {
    remove(&paths.way_back());
}

/// Gives all room back.
pub(super) fn release(paths: &Paths) {
    remove(&paths.way_back());
    remove(&paths.way_on());
}

fn remove(path: &Path) {
    // It is not there, as a rule.
    let _best_effort = std::fs::remove_file(path);
}

/// Writes a state into room that is kept for it, as a file of this name; whether there was any. What `is_due` may have
/// the room for rules; what ends the wait for a confirmation, that for the way back.
pub(super) fn fill(paths: &Paths, live: &Live, is_due: bool, bytes: &[u8], name: &Path) -> bool {
    let back = live.pending.is_none().then(|| paths.way_back());
    let on = is_due.then(|| paths.way_on());
    let filled = |room: PathBuf| {
        let filled =
            files::overwrite_synced(&room, bytes).and_then(|()| std::fs::rename(&room, name));
        match filled {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                log::warn!("the room kept in {} does not do: {error}", room.display());
                false
            }
            Ok(()) => true,
        }
    };
    back.into_iter().chain(on).any(filled)
}

/// Makes room, where some is to be kept and is not there, of files that are about to be removed.
pub(super) fn recycle(paths: &Paths, live: &Live, files: &mut Vec<PathBuf>) {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    files.sort_by_cached_key(size);
    let back = live.pending.is_some().then(|| paths.way_back());
    let on = live.next_expiry.is_some().then(|| paths.way_on());
    for room in back.into_iter().chain(on).filter(|room| !room.exists()) {
        if let Some(largest) = files.pop()
            && std::fs::rename(&largest, room).is_err()
        {
            files.push(largest);
        }
    }
}

/// Keeps as much room as the state in force may need, as far as there is some, and gives back what it does not.
pub(super) fn keep(paths: &Paths, live: &Live, generation: u64) {
    if live.pending.is_none() {
        remove(&paths.way_back());
    }
    let (state, room) = (paths.live(generation), paths.way_on());
    let kept = if live.next_expiry.is_some() {
        content(&state).and_then(|size| files::reserve(&room, room_for(size)))
    } else {
        remove(&room);
        Ok(())
    };
    // What a state has in excess is room for the next but one.
    match kept.and_then(|()| trim(&state)) {
        Err(error) if files::is_full(&error) => log::warn!(
            "too little room is kept in {} for when a rule's time is over: {error}",
            room.display()
        ),
        Err(error) => log::warn!("cannot look after the room in {}: {error}", room.display()),
        Ok(()) => {}
    }
}

/// Has the room grow with a state that lines have joined.
pub(super) fn grow(paths: &Paths, size: u64) {
    let room = paths.way_on();
    if room.exists()
        && let Err(error) = files::reserve(&room, room_for(size))
    {
        log::warn!("the room in {} does not grow with the policy: {error}", room.display());
    }
}

/// What is left without some rules is smaller, but tells which have gone and what is free.
const fn room_for(size: u64) -> u64 {
    2 * size + LINES
}

/// How long a state is without its padding.
fn content(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut chunk = [0; 4096];
    while end > 0 {
        let begin = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..usize::try_from(end - begin).map_err(io::Error::other)?];
        file.read_exact_at(part, begin)?;
        if let Some(last) = part.iter().rposition(|&byte| byte != files::PADDING) {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn trim(path: &Path) -> io::Result<()> {
    let size = content(path)?;
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() > size { file.set_len(size) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_is_filled_and_loses_its_padding() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("room");
        let length = || std::fs::metadata(&path).expect("there").len();
        files::reserve(&path, 100).expect("room");
        files::reserve(&path, 10_000).expect("room");
        files::reserve(&path, 10).expect("room");
        assert_eq!(length(), 10_000);
        files::overwrite_synced(&path, b"{}").expect("written");
        // Nothing has been given back, and what is read is what was written.
        assert_eq!((length(), content(&path).expect("read")), (10_000, 2));
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        assert_eq!(read, serde_json::json!({}));
        trim(&path).expect("trimmed");
        assert_eq!(length(), 2);
    }

    #[test]
    fn room_that_cannot_grow_stays_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("room");
        files::reserve(&path, 100).expect("room");
        files::reserve(&path, u64::MAX / 4).expect_err("more than there is");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 100);
        let other = directory.path().join("other");
        files::reserve(&other, u64::MAX / 4).expect_err("more than there is");
        assert!(!other.exists());
    }
}
