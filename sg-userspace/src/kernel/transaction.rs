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

use serde::{Deserialize, Serialize};

use super::commit::{Planned, Prepared};
use super::controller::Controller;
use super::live::{Live, Pending, Source};
use super::maps::PolicyMaps;
use super::recover::settle;
pub use super::request::{EditRequest, Edited};
use super::session::open_live;
use super::wanted::tables_for;
use super::{KernelError, Lock, Paths, journal, keeper, maps, require_root, serve};
use crate::compile::TableSpec;
use crate::history::{Content, Entry, History, Past};
use crate::policy::Policy;
use crate::policy::edit::Edit;

/// Who changes a policy, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Who.
    pub user: String,
    /// By which command.
    pub command: String,
    /// Why, in their own words.
    pub message: Option<String>,
}

impl Author {
    /// Whoever runs this process: through sudo, who asked it to.
    #[must_use]
    pub fn of_process(message: Option<String>) -> Self {
        let name = std::env::args_os().next().map(std::path::PathBuf::from);
        let name = name.as_deref().and_then(|path| path.file_name());
        let arguments = std::env::args_os().skip(1);
        let words = name.map(std::ffi::OsStr::to_owned).into_iter().chain(arguments);
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Self { user: user(), command: words.join(" "), message }
    }
}

fn user() -> String {
    use nix::unistd::{Uid, User, geteuid};
    if let Ok(user) = std::env::var("SUDO_USER") {
        return user;
    }
    let name = |uid: Uid| User::from_uid(uid).ok().flatten().map(|user| user.name);
    // Who logged in, whatever they have become since; unset where nobody did.
    let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let login = login.trim().parse().ok().filter(|&uid| uid != u32::MAX).map(Uid::from_raw);
    login.and_then(name).or_else(|| name(geteuid())).unwrap_or_else(|| geteuid().to_string())
}

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
}

/// Puts another policy in force on all attached interfaces at once.
///
/// # Errors
/// Any [`KernelError`]; then the old policy is in force, whole.
pub fn apply(paths: &Paths, request: &Request<'_>) -> Result<Applied, KernelError> {
    require_root("change the policy")?;
    let lock = Lock::take(&paths.lock())?;
    let mut live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
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
    let past = match (number, &live.pending) {
        (Some(number), _) => history.policy(number)?,
        (None, Some(pending)) => pending.previous.clone().into(),
        (None, None) => history.policy(before(&history, live.number)?)?,
    };
    back_to(paths, &lock, &mut live, Some(history), past, author, review)
}

/// The entry before the one in force.
fn before(history: &History, number: u64) -> Result<u64, KernelError> {
    let older = history.entries().rev().map(|entry| entry.number).find(|&older| older < number);
    older.ok_or_else(|| KernelError::Request("there is no policy before the one in force".into()))
}

/// Takes back an unconfirmed policy whose time is up; tells whether there was one.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn take_back_overdue(paths: &Paths) -> Result<bool, KernelError> {
    let lock = Lock::take(&paths.lock())?;
    let Some(mut live) = open_live(paths)? else { return Ok(false) };
    let Some(pending) = live.pending.as_ref().filter(|pending| pending.is_overdue()) else {
        return Ok(false);
    };
    let past: Past = pending.previous.clone().into();
    let author = Author {
        user: "sgctl".to_owned(),
        command: "confirmation timed out".to_owned(),
        message: Some(format!("policy {} was not confirmed in time", live.number)),
    };
    let history = History::open(&paths.state, Some(live.number)).map_err(KernelError::from);
    let taken_back = history.and_then(|history| {
        back_to(paths, &lock, &mut live, Some(history), past.clone(), &author, &accept)
    });
    match taken_back {
        // Whoever has locked themselves out waits for this, and cannot make room on the disk.
        Err(KernelError::History(error)) => {
            log::error!("the policy before comes back without an entry of the history: {error}");
            back_to(paths, &lock, &mut live, None, past, &author, &accept)?;
        }
        other => _ = other?,
    }
    Ok(true)
}

fn back_to(
    paths: &Paths,
    lock: &Lock,
    live: &mut Live,
    history: Option<History>,
    past: Past,
    author: &Author,
    review: Reviewer<'_>,
) -> Result<Applied, KernelError> {
    let loaded = crate::policy::load(&past.path, &past.text);
    let loaded = loaded.map_err(|error| KernelError::Request(error.to_string()))?;
    let request = Request {
        source: Source { path: past.path, text: past.text },
        policy: &loaded.policy,
        author,
        review,
        confirm_within: None,
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
    let _lock = Lock::take(&paths.lock())?;
    let mut controller = Controller::open(paths)?;
    let answers = controller.commit(paths, std::slice::from_ref(request), review);
    let only = answers.into_iter().next();
    only.unwrap_or_else(|| Err(KernelError::Request("no answer".to_owned())))
}

/// Removes the rules whose time is over; tells whether there were any.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub(super) fn remove_expired(paths: &Paths) -> Result<bool, KernelError> {
    let _lock = Lock::take(&paths.lock())?;
    let is_due = |live: &Live| live.next_expiry.is_some_and(|at| at <= now());
    if !open_live(paths)?.as_ref().is_some_and(is_due) {
        return Ok(false);
    }
    let author = Author {
        user: "sgctl".to_owned(),
        command: "rules whose time is over".to_owned(),
        message: None,
    };
    let request = EditRequest { edits: vec![Edit::Expire { at: now() }], author };
    let mut controller = Controller::open(paths)?;
    controller
        .commit(paths, std::slice::from_ref(&request), None)
        .into_iter()
        .try_for_each(|answer| answer.map(|_edited| ()))?;
    Ok(true)
}

/// Keeps a policy that waits for its confirmation.
///
/// # Errors
/// When none waits, or its time is up.
pub fn confirm(paths: &Paths) -> Result<u64, KernelError> {
    require_root("confirm the policy")?;
    let _lock = Lock::take(&paths.lock())?;
    let mut live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
    match &live.pending {
        None => {
            return Err(KernelError::Request("no policy waits for a confirmation".to_owned()));
        }
        Some(pending) if pending.is_overdue() => return Err(KernelError::ConfirmedTooLate),
        Some(_) => live.pending = None,
    }
    let generation = maps::generation(&paths.maps())?;
    live.write(paths, generation)?;
    Ok(live.number)
}

/// A change on top of an unconfirmed one would be confirmed, or taken back, with it.
/// It goes by itself: whoever sees to that is started again, should it have been killed.
pub(super) fn refuse_unconfirmed(paths: &Paths, live: &Live) -> Result<(), KernelError> {
    let Some(pending) = &live.pending else { return Ok(()) };
    keeper::ensure(paths)?;
    Err(KernelError::Unconfirmed { number: live.number, seconds: pending.left().as_secs() })
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
        return Ok(Applied { number, changed: false, diff: Vec::new() });
    }
    let diff = difference(&live.source.text, &source.text);
    let number = history.as_ref().map_or(live.number + 1, History::next_number);
    let past = Past { path: source.path.clone(), text: source.text.clone() };
    let entry = entry(number, request.author, diff.clone(), past.clone().into());
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
    if after.pending.is_some() || after.next_expiry.is_some() {
        keeper::ensure(paths)?;
    }
    if let Some(mut history) = history {
        history.append(entry, || past)?;
    }
    commit(paths, live, planned, after)?;
    Ok(Applied { number, changed: true, diff })
}

pub(super) fn entry(number: u64, author: &Author, diff: Vec<String>, content: Content) -> Entry {
    let Author { user, command, message } = author.clone();
    Entry { number, time: now(), user, command, message, diff, content }
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
    match try_commit(paths, planned, after.clone()) {
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

fn try_commit(paths: &Paths, planned: Planned, mut after: Live) -> Result<Live, KernelError> {
    let maps = PolicyMaps::open(&paths.maps())?;
    let prepared = Prepared::write(maps, planned, &after.slots)?;
    after.slots = prepared.slots.clone();
    let generation = prepared.next_generation();
    journal::write(paths, &after, generation)?;
    prepared.flip()?;
    journal::forget_others(paths, Some(generation))?;
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
