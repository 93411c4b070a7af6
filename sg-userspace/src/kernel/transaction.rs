//! Changing the policy in force: one transaction over all attached interfaces.
//!
//! ```text
//! lock -> what is in force -> compile for what is attached -> does it fit? -> review
//!      -> history -> idle versions -> state file -> flip -> level
//! ```
//!
//! Whatever fails before the flip leaves the old policy, whole; a process killed anywhere leaves the old or the
//! new one, and the state file of the kernel's generation says which.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use super::author::Author;
use super::commit::{Planned, Prepared};
pub use super::confirmation::confirm;
use super::confirmation::refuse_unconfirmed;
use super::controller::Controller;
use super::live::{Live, Pending, Source};
use super::maps::PolicyMaps;
use super::recover::settle;
pub use super::request::{EditRequest, Edited};
use super::session::open_live;
use super::wanted::tables_for;
use super::{KernelError, Lock, Paths, journal, keeper, maps, overdue, require_root, room, serve};
use crate::compile::TableSpec;
use crate::history::{Cause, Content, Entry, History, Past};
use crate::policy::Policy;

/// What a change does, shown to who may refuse it before anything is written.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// What is in force.
    pub live: &'a Live,
    /// Its tables.
    pub old: &'a TableSpec,
    /// The tables to come.
    pub new: &'a TableSpec,
    /// The policy to come.
    pub policy: &'a Policy,
}

/// Refuses a change, with the reason.
pub type Reviewer<'a> = &'a dyn Fn(&Review<'_>) -> Result<(), String>;

/// Refuses nothing.
///
/// # Errors
/// Never.
pub fn accept(_review: &Review<'_>) -> Result<(), String> {
    Ok(())
}

/// A change that has been made, or needed none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Number in the history of what is in force now.
    pub number: u64,
    /// Whether anything has changed; otherwise this policy was in force already.
    pub changed: bool,
    /// What changed, a line each, as the history has it.
    pub diff: Vec<String>,
    /// Which policy of the history is in force again, if it is one.
    pub again: Option<Again>,
}

/// A policy that is in force again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Again {
    /// The number that it had.
    pub number: u64,
    /// What the history tells of it; null: it is not kept any more.
    #[serde(flatten)]
    pub origin: Option<Origin>,
}

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// When it first came into force, in seconds since 1970.
    #[serde(serialize_with = "crate::moment::serialize")]
    pub time: u64,
    /// By which command.
    pub command: String,
}

/// Another policy to put in force.
pub struct Request<'a> {
    /// The file.
    pub source: Source,
    /// What it says.
    pub policy: &'a Policy,
    /// Who wants it.
    pub author: &'a Author,
    /// Who may refuse it.
    pub review: Reviewer<'a>,
    /// The old policy comes back unless the new one is confirmed in this time.
    pub confirm_within: Option<Duration>,
    /// How it comes about, for the history.
    pub cause: Cause,
}

/// Puts another policy in force on all attached interfaces at once.
///
/// # Errors
/// Any [`KernelError`]; then the old policy is in force, whole.
pub fn apply(paths: &Paths, request: &Request<'_>) -> Result<Applied, KernelError> {
    require_root("change the policy")?;
    let lock = Lock::take(&paths.lock())?;
    let mut live = overdue::open_live(paths, &lock)?.ok_or(KernelError::NothingAttached)?;
    refuse_unconfirmed(paths, &live)?;
    let history = History::open(&paths.state, Some(live.number))?;
    replace(paths, &lock, &mut live, Some(history), request)
}

/// Puts a policy of the history in force again, as a new entry; without a number, the one before, which also
/// ends the wait for a confirmation.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn rollback(
    paths: &Paths,
    number: Option<u64>,
    author: &Author,
    review: Reviewer<'_>,
) -> Result<Applied, KernelError> {
    require_root("change the policy")?;
    let lock = Lock::take(&paths.lock())?;
    let mut live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
    let history = History::open(&paths.state, Some(live.number))?;
    let (number, past) = match (number, &live.pending) {
        (Some(number), _) => (number, history.policy(number)?),
        (None, Some(pending)) => (pending.number, pending.previous.clone().into()),
        (None, None) => {
            let number = history.before(live.number).ok_or_else(|| {
                KernelError::Request("there is no policy before the one in force".to_owned())
            })?;
            (number, history.policy(number)?)
        }
    };
    let origin = history
        .entry(number)
        .map(|entry| Origin { time: entry.time, command: entry.command.clone() });
    // What has not been confirmed is not to be gone back to.
    let cause = live
        .pending
        .as_ref()
        .map_or(Cause::Change, |pending| Cause::TakenBack { again: number.min(pending.number) });
    let back = Back { past, cause };
    let applied = back_to(paths, &lock, &mut live, Some(history), back, author, review)?;
    Ok(Applied { again: Some(Again { number, origin }), ..applied })
}

/// A policy of the past that is to be in force again.
#[derive(Clone)]
pub(super) struct Back {
    pub(super) past: Past,
    pub(super) cause: Cause,
}

/// Puts a policy of the past in force again.
pub(super) fn back_to(
    paths: &Paths,
    lock: &Lock,
    live: &mut Live,
    history: Option<History>,
    Back { past, cause }: Back,
    author: &Author,
    review: Reviewer<'_>,
) -> Result<Applied, KernelError> {
    let loaded = crate::policy::load(&past.path, &past.text);
    let loaded = loaded.map_err(|error| KernelError::Request(error.to_string()))?;
    let request = Request {
        source: past.into(),
        policy: &loaded.policy,
        author,
        review,
        confirm_within: None,
        cause,
    };
    replace(paths, lock, live, history, &request)
}

/// Edits the policy in force: all edits, or none.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn edit(
    paths: &Paths,
    request: &EditRequest,
    review: Option<Reviewer<'_>>,
) -> Result<Edited, KernelError> {
    require_root("change the policy")?;
    // Whoever wants to look at the change first must hold the tables.
    if review.is_none()
        && let Some(answer) = serve::ask(paths, request)
    {
        return answer;
    }
    let lock = Lock::take(&paths.lock())?;
    let mut controller = Controller::open(paths, &lock)?;
    let answers = controller.commit(paths, std::slice::from_ref(request), review);
    let only = answers.into_iter().next();
    only.unwrap_or_else(|| Err(KernelError::Request("no answer".to_owned())))
}

fn replace(
    paths: &Paths,
    _lock: &Lock,
    live: &mut Live,
    history: Option<History>,
    request: &Request<'_>,
) -> Result<Applied, KernelError> {
    let (policy, expired) = request.policy.clone().without_expired(now());
    let mut source = request.source.clone();
    for rule in expired {
        log::warn!("left out, its time is over: {rule}");
        // What is kept holds what is in force: no later edit may bring back what is over.
        source.text = crate::policy::write(&policy);
    }
    let tables = tables_for(live, &policy)?;
    let planned = Planned::between(&live.tables, &tables, &live.slots, &live.sizes)?;
    let review = Review { live, old: &live.tables, new: &tables, policy: request.policy };
    (request.review)(&review).map_err(KernelError::Refused)?;
    if source.text == live.source.text && planned.changes().is_empty() && live.pending.is_none() {
        let number = live.number;
        return Ok(Applied { number, changed: false, diff: Vec::new(), again: None });
    }
    let diff = difference(&live.source.text, &source.text);
    let number = history.as_ref().map_or(live.number + 1, History::next_number);
    let past: Past = source.clone().into();
    let entry = entry(number, request.author, diff.clone(), past.clone().into());
    let entry = Entry { cause: request.cause, ..entry };
    let after = Live {
        source,
        tables,
        number,
        next_expiry: policy.next_expiry(),
        pending: request
            .confirm_within
            .map(|within| Pending::new(within, live.source.clone(), live.number)),
        ..live.clone()
    };
    keeper::ensure_for(paths, live, &after)?;
    let is_reserved = after.pending.is_some();
    if is_reserved {
        room::reserve(paths, [&*live, &after])?;
    }
    let written = history.map_or(Ok(()), |mut history| history.append(entry, || past));
    let made =
        written.map_err(KernelError::from).and_then(|()| commit(paths, live, planned, after));
    if made.is_err() && is_reserved {
        // What was kept before is for what waits already, and stays.
        room::give_back(paths);
    }
    made?;
    Ok(Applied { number, changed: true, diff, again: None })
}

pub(super) fn entry(number: u64, author: &Author, diff: Vec<String>, content: Content) -> Entry {
    let Author { user, command, message } = author.clone();
    Entry { number, time: now(), user, command, message, diff, content, cause: Cause::Change }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes and flips; where that fails, the old policy stays. Tells whether all went well: otherwise the policy is in
/// force, and files and elements of the maps are not where `live` says.
pub(super) fn commit(
    paths: &Paths,
    live: &mut Live,
    planned: Planned,
    mut after: Live,
) -> Result<bool, KernelError> {
    let before = maps::generation(&paths.maps())?;
    after.gone = live.gone.after(&live.tables, &after.tables);
    let is_due = live.is_due() && !after.is_due();
    match try_commit(paths, planned, after.clone(), is_due) {
        Ok(after) => {
            *live = after;
            Ok(true)
        }
        Err(error) => {
            settle(paths, before, error)?;
            *live = after;
            Ok(false)
        }
    }
}

/// What `is_due` may have the room that is kept for it.
fn try_commit(
    paths: &Paths,
    planned: Planned,
    mut after: Live,
    is_due: bool,
) -> Result<Live, KernelError> {
    let maps = PolicyMaps::open(&paths.maps())?;
    // The last of the files that go.
    let begun = journal::begin(paths)?;
    let prepared = Prepared::write(&begun, maps, planned, &after.slots)?;
    after.slots = prepared.slots.clone();
    let generation = prepared.next_generation();
    journal::write(paths, &after, generation, is_due)?;
    prepared.flip()?;
    journal::forget_others(paths, Some((&after, generation)))?;
    Ok(after)
}

/// Longest difference that is kept.
const LINES: usize = 200;

/// What changed between two policy texts, as `diff` writes it.
pub(super) fn difference(old: &str, new: &str) -> Vec<String> {
    let diff = similar::TextDiff::configure()
        .timeout(Duration::from_millis(500))
        .diff_lines(old, new)
        .unified_diff()
        .context_radius(2)
        .to_string();
    let mut lines: Vec<String> = diff.lines().map(str::to_owned).collect();
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("... {more} more lines"));
    }
    lines
}
