//! One command at a time changes the tables; one at a time reads the event stream.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{KernelError, process};

/// A lock on a file, given up when dropped or when its holder dies.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Longest wait for another command: more than a change takes, less than a script's patience.
const WAIT: Duration = Duration::from_secs(10);
/// From when on a person would like to know what is going on.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest wait for the locks of a process that was killed.
const DYING: Duration = Duration::from_secs(2);
/// Between two looks. The lock has no queue: who looks often gets it soon.
const PAUSE: Duration = Duration::from_millis(5);

impl Lock {
    /// Takes the lock, and waits for whoever has it; after a second it says for whom.
    ///
    /// # Errors
    /// [`KernelError::Busy`] with the holder's process id when it does not come free in ten seconds.
    pub fn take(path: &Path) -> Result<Self, KernelError> {
        Self::take_within(path, WAIT)
    }

    /// Takes the lock for what is overdue. A holder that was told to stop could keep everyone from it for ever: it is
    /// ended, and what it has left half-done is levelled as after any command that was killed.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn take_in_time(path: &Path) -> Result<Self, KernelError> {
        match Self::take_within(path, SILENCE) {
            Err(KernelError::Busy { .. }) => {
                if let Some(process) = Self::end_stopped(path) {
                    log::warn!(
                        "process {process}, which was stopped, kept others from what is overdue: ended"
                    );
                }
                Self::take(path)
            }
            other => other,
        }
    }

    /// Ends the holder, if it is an sgctl that was told to stop, and tells who it was. By the kernel's word alone: a number
    /// in a file may be another process's by now.
    pub(super) fn end_stopped(path: &Path) -> Option<u32> {
        let file = File::open(path).ok()?;
        let mut holders = in_proc(&file).into_iter();
        let process = holders.find(|&one| process::is_stopped_sgctl(one, &file))?;
        kill(Pid::from_raw(process.try_into().ok()?), Signal::SIGKILL).ok()?;
        let started = Instant::now();
        while Self::is_held(path).ok()? && started.elapsed() < DYING {
            std::thread::sleep(PAUSE);
        }
        Some(process)
    }

    /// As [`Self::is_held`], but waits for a holder that is ending.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub(super) fn is_held_by_the_living(path: &Path) -> Result<bool, KernelError> {
        let started = Instant::now();
        while Self::is_held(path)? {
            let is_ending = Self::holder(path).is_some_and(process::is_ending);
            if !is_ending || started.elapsed() >= DYING {
                return Ok(true);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(false)
    }

    /// Takes the lock if nobody has it: for whoever only reads, and for what has one holder for long.
    ///
    /// # Errors
    /// [`KernelError::Busy`] with the holder's process id.
    pub fn try_take(path: &Path) -> Result<Self, KernelError> {
        Self::take_within(path, Duration::ZERO)
    }

    /// Whether somebody has the lock. Who asks shares it with whoever else asks, so that none takes another for its
    /// holder.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn is_held(path: &Path) -> Result<bool, KernelError> {
        let cannot = |source| KernelError::File { doing: "lock", path: path.into(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.map_err(cannot)?,
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_shared) => Ok(false),
            Err((_file, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_file, error)) => Err(cannot(error.into())),
        }
    }

    fn take_within(path: &Path, limit: Duration) -> Result<Self, KernelError> {
        let cannot = |source| KernelError::File { doing: "lock", path: path.into(), source };
        if let Some(directory) = path.parent() {
            crate::files::create_private(directory).map_err(cannot)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(cannot)?;
        let started = Instant::now();
        let mut is_told = false;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self::held(file)),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_file, error)) => return Err(cannot(error.into())),
            }
            if started.elapsed() >= limit {
                return Err(KernelError::Busy { holder: holder(&mut file) });
            }
            if !is_told && started.elapsed() >= SILENCE {
                log::warn!("waiting for another sgctl ({}) to end", holder(&mut file));
                is_told = true;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn held(mut file: Flock<File>) -> Self {
        let text = format!("{}\n", std::process::id());
        // Only for people. Written over what was there: on a full file system an emptied file stays empty.
        let _best_effort = file
            .rewind()
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.set_len(text.len() as u64));
        Self { _file: file }
    }

    /// Whose it is; `None` when nobody has it or nobody can tell.
    pub(super) fn holder(path: &Path) -> Option<u32> {
        if !Self::is_held(path).ok()? {
            return None;
        }
        holder(&mut File::open(path).ok()?).process
    }
}

/// Whoever has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    process: Option<u32>,
    is_stopped: bool,
}

impl Display for Holder {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) if self.is_stopped => write!(
                formatter,
                "process {process}, which is stopped: `kill -CONT {process}` has it go on"
            ),
            Some(process) => write!(formatter, "process {process}"),
            None => formatter.write_str("a process that cannot be seen from here"),
        }
    }
}

/// Who wrote into the file that it has the lock; else whom the kernel names.
fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let _best_effort = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let process = text.trim().parse().ok().or_else(|| in_proc(file).first().copied());
    Holder { process, is_stopped: process.is_some_and(process::is_stopped) }
}

/// The processes of locks on this file, as `/proc/locks` has it:
/// `1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF`.
fn in_proc(file: &File) -> Vec<u32> {
    let Ok(inode) = file.metadata().map(|file| file.ino().to_string()) else { return Vec::new() };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = |line: &str| {
        let [_, "FLOCK", _, "WRITE", process, place] =
            line.split_whitespace().take(6).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        // The device is not compared: some file systems tell another one to whoever asks for it.
        (place.rsplit(':').next() == Some(inode.as_str())).then(|| process.parse().ok())?
    };
    locks.lines().filter_map(process).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_comes_second_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Lock::take(&path).expect("free");
        thread::scope(|scope| {
            let second = scope.spawn(|| Lock::take(&path).map(drop));
            // It has no reason to end before the first gives up; if it does, it has not waited.
            thread::sleep(Duration::from_millis(50));
            assert!(!second.is_finished());
            drop(first);
            second.join().expect("no panic").expect("its turn");
        });
    }

    #[test]
    fn who_asks_is_no_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        assert!(!Lock::is_held(&path).expect("nobody"));
        let held = Lock::take(&path).expect("free");
        assert!(Lock::is_held(&path).expect("held"));
        drop(held);
        // Another that asks, and has not finished.
        let file = File::open(&path).expect("there");
        let _asking = Flock::lock(file, FlockArg::LockSharedNonblock).expect("shared");
        assert!(!Lock::is_held(&path).expect("only asked for"));
    }

    #[test]
    fn a_wait_has_an_end_and_names_the_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = Lock::take(&path).expect("free");
        let us = Holder { process: Some(std::process::id()), is_stopped: false };
        for limit in [Duration::ZERO, Duration::from_millis(20)] {
            let second = Lock::take_within(&path, limit);
            assert!(matches!(second, Err(KernelError::Busy { holder }) if holder == us));
        }
        // As where there was no room to write it.
        std::fs::write(&path, "").expect("emptied");
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        // Whoever goes on is neither ended nor taken for dead.
        assert_eq!(Lock::end_stopped(&path), None);
        assert!(Lock::is_held_by_the_living(&path).expect("held"));
        drop(first);
        assert_eq!(Lock::holder(&path), None);
        Lock::try_take(&path).expect("free again");
    }
}
