//! What `/proc` tells of another process: whether it goes on, was stopped, or is about to be gone.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;

/// `PF_EXITING` of `linux/sched.h`.
const EXITING: u64 = 4;
/// `SIGKILL` in a mask of pending signals.
const KILLED: u64 = 1 << 8;

/// Whether a process was told to stop, or a debugger has it, and is not ended: it would answer when it goes on.
pub(super) fn is_stopped(process: u32) -> bool {
    matches!(state(process), Some(('T' | 't', _)))
}

/// Whether a process does nothing any more, though it may hold its locks for another moment.
pub(super) fn is_ending(process: u32) -> bool {
    let Some((state, flags)) = state(process) else { return true };
    matches!(state, 'Z' | 'X') || flags & EXITING != 0 || is_killed(process)
}

/// Whether a process is an sgctl that was told to stop and has this file open. One that a debugger has is somebody's work.
pub(super) fn is_stopped_sgctl(process: u32, file: &File) -> bool {
    matches!(state(process), Some(('T', _)))
        && is_sgctl(process)
        && file.metadata().is_ok_and(|file| has_open(process, &file))
}

/// The letter of its state, and its flags.
fn state(process: u32) -> Option<(char, u64)> {
    parse(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Of `PID (NAME) STATE PARENT GROUP SESSION TERMINAL FOREGROUND FLAGS ...`.
fn parse(stat: &str) -> Option<(char, u64)> {
    // Behind the name, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.nth(5)?.parse().ok()?))
}

/// Whether `SIGKILL` is on its way.
fn is_killed(process: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let masks = text.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        matches!(name, "SigPnd" | "ShdPnd").then(|| u64::from_str_radix(mask.trim(), 16).ok())?
    });
    masks.fold(0, |all, mask| all | mask) & KILLED != 0
}

/// By its program, also where that has been replaced by another version since.
fn is_sgctl(process: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with("sgctl")
}

fn has_open(process: u32, file: &Metadata) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let mut open = open.flatten().filter_map(|entry| std::fs::metadata(entry.path()).ok());
    open.any(|one| (one.dev(), one.ino()) == (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = "7 (a) T (b) S 1 7 7 0 -1 4194308 101 0";
        assert_eq!(parse(stat), Some(('S', 4_194_308)));
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn who_is_there_is_neither_stopped_nor_ending() {
        let us = std::process::id();
        assert!(!is_stopped(us) && !is_ending(us));
        // More than there can be.
        assert!(is_ending(u32::MAX) && !is_stopped(u32::MAX));
        let file = tempfile::tempfile().expect("a file").metadata().expect("its metadata");
        assert!(!has_open(us, &file));
    }

    #[test]
    fn who_was_killed_is_ending() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = child.id();
        assert!(!is_ending(process));
        child.kill().expect("it is ours");
        assert!(is_ending(process));
        child.wait().expect("it is ours");
    }
}
