//! What is overdue goes first, whoever has the lock: an unconfirmed policy, and rules whose time is over. In time that is
//! the keeper; where it was killed, stopped or kept from it, any command that changes something.

use super::confirmation::take_back;
use super::controller::Controller;
use super::live::Live;
use super::request::EditRequest;
use super::transaction::{Author, now};
use super::{KernelError, Lock, Paths, session};
use crate::history::History;
use crate::policy::Expired;
use crate::policy::edit::Edit;

/// What is in force when all that is overdue has gone. What cannot go stays, and is said: it may be what the command
/// is there to mend.
pub(super) fn open_live(paths: &Paths, lock: &Lock) -> Result<Option<Live>, KernelError> {
    let live = session::open_live(paths)?;
    if !live.as_ref().is_some_and(Live::is_due) {
        return Ok(live);
    }
    if let Err(error) = clear(paths, lock) {
        log::error!("what is overdue is still in force: {error}");
    }
    session::open_live(paths)
}

/// Does all that is overdue.
///
/// # Errors
/// Any [`KernelError`]; what failed has changed nothing.
pub(super) fn clear(paths: &Paths, lock: &Lock) -> Result<(), KernelError> {
    let Some(mut live) = session::open_live(paths)? else { return Ok(()) };
    let taken_back = if live.is_overdue() {
        let number = live.number;
        let taken_back = take_back(paths, lock, &mut live);
        if taken_back.is_ok() {
            log::warn!("policy {number} was not confirmed in time, and has been taken back");
        }
        taken_back
    } else {
        Ok(())
    };
    // Each for itself: one that cannot go does not keep the other.
    expire(paths, lock).and(taken_back)
}

/// Removes the rules whose time is over.
pub(super) fn expire(paths: &Paths, _lock: &Lock) -> Result<(), KernelError> {
    let Some(live) = session::open_live(paths)? else { return Ok(()) };
    if !live.has_expired() {
        return Ok(());
    }
    let at = now();
    // A rule must not outlive its time for want of a history.
    let history = History::open(&paths.state, Some(live.number));
    let history = history.inspect_err(|error| log::error!("rules go without an entry: {error}"));
    let mut controller = Controller::of(paths, live, history.ok())?;
    let (_policy, expired) = controller.policy().clone().without_expired(at);
    let author = Author {
        user: "sgctl".to_owned(),
        command: "rules whose time is over".to_owned(),
        message: Some(names(&expired)),
    };
    let request = EditRequest { edits: vec![Edit::Expire { at }], author };
    controller
        .commit(paths, std::slice::from_ref(&request), None)
        .into_iter()
        .try_for_each(|answer| answer.map(|_edited| ()))
}

/// Most rules that an entry's message names.
const NAMED: usize = 20;

/// The rules that go, with their groups and identifiers.
fn names(expired: &[Expired]) -> String {
    let mut names: Vec<_> = expired.iter().take(NAMED).map(ToString::to_string).collect();
    if expired.len() > NAMED {
        names.push(format!("and {} more", expired.len() - NAMED));
    }
    names.join("; ")
}
