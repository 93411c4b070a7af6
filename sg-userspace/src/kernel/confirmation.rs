//! A policy that waits for its confirmation: kept, or taken back when its time is up.

use super::live::{Live, TakenBack};
use super::session::open_live;
use super::transaction::{Author, Back, accept, back_to, now};
use super::{KernelError, Lock, Paths, keeper, maps, overdue, require_root};
use crate::history::{Cause, History};
use crate::moment;

/// Keeps a policy that waits for its confirmation.
///
/// # Errors
/// When none waits, or its time is up; then it has been taken back when this returns.
pub fn confirm(paths: &Paths) -> Result<u64, KernelError> {
    require_root("confirm the policy")?;
    let lock = Lock::take(&paths.lock())?;
    let mut live = open_live(paths)?.ok_or(KernelError::NothingAttached)?;
    match &live.pending {
        None => return Err(none_waits(&live)),
        Some(pending) if pending.is_overdue() => {
            take_back(paths, &lock, &mut live)?;
            return Err(none_waits(&live));
        }
        Some(_) => live.pending = None,
    }
    let generation = maps::generation(&paths.maps())?;
    live.write(paths, generation)?;
    if let Err(error) = overdue::expire(paths, &lock) {
        log::error!("rules whose time is over are still in force: {error}");
    }
    Ok(live.number)
}

/// What became of the policy that somebody would like to confirm.
fn none_waits(live: &Live) -> KernelError {
    match live.taken_back {
        Some(TakenBack { number, at, restored, entry }) if live.number == entry => {
            let in_force = format!("policy {restored} is in force again, as entry {entry}");
            KernelError::TakenBack { number, at: moment::rfc3339(at), in_force }
        }
        // What became of an older one is not what is asked for.
        Some(_) | None => KernelError::Request(format!(
            "no policy waits for a confirmation; policy {} is in force",
            live.number
        )),
    }
}

/// Takes back the unconfirmed policy.
pub(super) fn take_back(paths: &Paths, lock: &Lock, live: &mut Live) -> Result<(), KernelError> {
    let Some(pending) = live.pending.clone() else { return Ok(()) };
    let cause = Cause::TakenBack { again: pending.number };
    let back = Back { past: pending.previous.into(), cause };
    let author = Author {
        user: "sgctl".to_owned(),
        command: "confirmation timed out".to_owned(),
        message: Some(format!("policy {} was not confirmed in time", live.number)),
    };
    let (number, restored) = (live.number, pending.number);
    let taken_back = |entry| Some(TakenBack { number, at: now(), restored, entry });
    let history = History::open(&paths.state, Some(number)).map_err(KernelError::from);
    let done = history.and_then(|history| {
        live.taken_back = taken_back(history.next_number());
        back_to(paths, lock, live, Some(history), back.clone(), &author, &accept)
    });
    match done {
        // Whoever has locked themselves out waits for this, and cannot make room on the disk.
        Err(KernelError::History(error)) => {
            log::error!("the policy before comes back without an entry of the history: {error}");
            live.taken_back = taken_back(number + 1);
            back_to(paths, lock, live, None, back, &author, &accept)?;
        }
        other => _ = other?,
    }
    Ok(())
}

/// A change on top of an unconfirmed one would be confirmed, or taken back, with it.
/// It goes by itself: whoever sees to that is started again, should it have been killed.
pub(super) fn refuse_unconfirmed(paths: &Paths, live: &Live) -> Result<(), KernelError> {
    let Some(pending) = &live.pending else { return Ok(()) };
    keeper::ensure(paths)?;
    Err(KernelError::Unconfirmed { number: live.number, seconds: pending.left().as_secs() })
}
