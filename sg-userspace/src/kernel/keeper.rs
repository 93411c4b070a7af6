//! Whoever keeps deadlines when every command has ended: a process of its own that takes an unconfirmed policy
//! back in time, and rules whose time is up.
//!
//! A command that sets a deadline starts it, unless it runs; it ends with the last deadline. It leaves the
//! session, the control group and the terminal of whoever started it, so it outlives all three. Should it be
//! killed or stopped all the same, the next command that changes something does its work, and `status` starts it
//! again. Whoever holds the lock and is stopped when a deadline is over is ended: a promise that somebody comes back
//! in time is worth more than a command that does not go on, and one that is killed leaves nothing half-done.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::live::Live;
use super::{KernelError, Lock, Paths, overdue, process, transaction};

/// The hidden verb that runs it.
pub const VERB: &str = "keep-deadlines";

/// Longest sleep: the clock of expiring rules may be set meanwhile. It goes on while the machine is suspended.
const LONGEST: Duration = Duration::from_secs(30);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts the keeper, unless it runs. The caller holds the lock, without which no keeper ends: one that runs
/// now will see what the caller is about to write. One that was told to stop would see nothing: another takes its
/// place.
///
/// # Errors
/// [`KernelError::Keeper`] when it does not start.
pub(super) fn ensure(paths: &Paths) -> Result<(), KernelError> {
    let lock = paths.keeper_lock();
    if Lock::is_held_by_the_living(&lock)? {
        match Lock::end_stopped(&lock) {
            Some(process) => log::warn!(
                "process {process}, which keeps deadlines, was stopped; another takes its place"
            ),
            None => return refuse_held(&lock),
        }
    }
    start(paths).map_err(KernelError::Keeper)
}

/// A debugger may have it: then it is not ours to end.
fn refuse_held(lock: &Path) -> Result<(), KernelError> {
    match Lock::holder(lock).filter(|&process| process::is_stopped(process)) {
        Some(process) => Err(KernelError::KeeperStopped { process }),
        None => Ok(()),
    }
}

/// Sees that somebody keeps the deadlines of what is to be in force. A change that does what is due is made also when
/// nobody does.
///
/// # Errors
/// As [`ensure`].
pub(super) fn ensure_for(paths: &Paths, before: &Live, after: &Live) -> Result<(), KernelError> {
    match ensure_if_needed(paths, after) {
        Err(error) if before.is_due() && !after.is_due() => {
            log::error!("what is due goes, but nobody sees to what comes later: {error}");
            Ok(())
        }
        other => other,
    }
}

/// Starts one where deadlines are to be kept and nobody does: it was killed.
///
/// # Errors
/// Any [`KernelError`].
pub fn ensure_if_needed(paths: &Paths, live: &Live) -> Result<(), KernelError> {
    if next_deadline(live).is_some() { ensure(paths) } else { Ok(()) }
}

/// What keeps it, and everybody else, from changing anything, if that can be seen.
#[must_use]
pub fn hindrance(paths: &Paths) -> Option<String> {
    let process = Lock::holder(&paths.lock()).filter(|&one| process::is_stopped(one))?;
    Some(format!(
        "another sgctl (process {process}) was stopped in the middle of a change, and nothing can be changed until it ends: `kill -CONT {process}` has it go on"
    ))
}

fn start(paths: &Paths) -> io::Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .arg(VERB)
        .env("SG_BPFFS", &paths.bpffs)
        .env("SG_RUN", &paths.run)
        .env("SG_STATE", &paths.state)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // It answers when it stands on its own.
    let mut answer = [0];
    let ready = child.stdout.take().map(|mut stdout| stdout.read_exact(&mut answer));
    match ready {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(error),
        None => Err(io::Error::other("no pipe")),
    }
}

/// Keeps deadlines until there are none. `ready` is called when nothing that happens to the starting command
/// can end it any more.
///
/// # Errors
/// When it cannot begin; what fails later is tried again.
pub fn run(paths: &Paths, ready: impl FnOnce()) -> Result<(), KernelError> {
    let Some(own_lock) = only_one(paths)? else {
        ready();
        return Ok(());
    };
    leave_everything();
    let watch = Watch::new(paths).map_err(KernelError::Keeper)?;
    ready();
    let mut own_lock = Some(own_lock);
    while own_lock.is_some() {
        let wait = match step(paths, &mut own_lock) {
            Ok(wait) => wait,
            Err(error) => {
                log::error!("{error}");
                PAUSE
            }
        };
        watch.wait(wait);
    }
    Ok(())
}

/// The keeper's lock, unless another keeper has it: whoever only asks whether one runs has it for a moment.
fn only_one(paths: &Paths) -> Result<Option<Lock>, KernelError> {
    for _ in 0..10 {
        match Lock::try_take(&paths.keeper_lock()) {
            Err(KernelError::Busy { .. }) => std::thread::sleep(Duration::from_millis(20)),
            other => return other.map(Some),
        }
    }
    Ok(None)
}

/// Does what is due, and tells how long nothing will be. With nothing left to wait for, gives up its lock, so
/// that whoever sets the next deadline starts another.
fn step(paths: &Paths, own_lock: &mut Option<Lock>) -> Result<Duration, KernelError> {
    let next = Live::read(paths)?.as_ref().and_then(next_deadline);
    match next {
        Some(wait) if wait.is_zero() => {
            let lock = Lock::take_in_time(&paths.lock())?;
            overdue::clear(paths, &lock)?;
            Ok(Duration::ZERO)
        }
        Some(wait) => Ok(wait.min(LONGEST)),
        None if !paths.run.exists() => {
            *own_lock = None;
            Ok(Duration::ZERO)
        }
        None => {
            // Nobody sets one while we look.
            let _lock = Lock::take(&paths.lock())?;
            if Live::read(paths)?.as_ref().and_then(next_deadline).is_none() {
                *own_lock = None;
            }
            Ok(Duration::ZERO)
        }
    }
}

/// How long until something is due.
fn next_deadline(live: &Live) -> Option<Duration> {
    let pending = live.pending.as_ref().map(|pending| pending.left());
    let expiry = live
        .next_expiry
        .map(|at| Duration::from_secs(at).saturating_sub(Duration::from_secs(transaction::now())));
    pending.into_iter().chain(expiry).min()
}

/// Steps out of session and control group, and out of the way of the out-of-memory killer. Each is tried for
/// itself: a container may forbid one.
fn leave_everything() {
    let _already_leader = nix::unistd::setsid();
    let pid = std::process::id().to_string();
    for root in control_groups() {
        let _forbidden = std::fs::write(root.join("cgroup.procs"), &pid);
    }
    let _forbidden = std::fs::write("/proc/self/oom_score_adj", "-900");
}

/// The roots of version 2, and of the hierarchy of version 1 by which a session's processes are found.
fn control_groups() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let root = |line: &str| {
        let [_, path, kind, options] = line.split(' ').take(4).collect::<Vec<_>>()[..] else {
            return None;
        };
        let is_one = kind == "cgroup2" || kind == "cgroup" && options.contains("name=systemd");
        is_one.then(|| PathBuf::from(path))
    };
    mounts.lines().filter_map(root).collect()
}

/// Notices when the state changes, and when a time is over, by a clock that counts what the machine sleeps: the
/// deadline of a confirmation does too.
struct Watch {
    inotify: Inotify,
    timer: TimerFd,
}

impl Watch {
    fn new(paths: &Paths) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(&paths.run, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Self { inotify, timer })
    }

    /// Until something changes, or the time is over.
    fn wait(&self, longest: Duration) {
        if longest.is_zero() {
            return;
        }
        let time = Expiration::OneShot(TimeSpec::from_duration(longest));
        let is_set = self.timer.set(time, TimerSetTimeFlags::empty()).is_ok();
        let milliseconds = u16::try_from(longest.as_millis()).unwrap_or(u16::MAX);
        // Without the timer, what is left is a clock that sleeps with the machine.
        let limit = if is_set { PollTimeout::NONE } else { PollTimeout::from(milliseconds.max(1)) };
        let mut fds = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        // Woken too early, it looks once more.
        let _woken = poll(&mut fds, limit);
        let _over = self.timer.unset();
        let _events = self.inotify.read_events();
    }
}

/// Says to the starting command that it may end.
pub fn say_ready() {
    use std::io::Write as _;
    let _gone = io::stdout().write_all(b"+").and_then(|()| io::stdout().flush());
}
