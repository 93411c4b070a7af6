//! Edits that somebody wants, and what they are answered.

use serde::{Deserialize, Serialize};

use super::transaction::Author;
use super::{KernelError, message};
use crate::policy::edit::{Done, Edit};

/// Edits that belong together: all are made, or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EditRequest {
    /// In this order.
    pub edits: Vec<Edit>,
    /// Who wants them. `sgctl serve` looks itself, and takes the message alone from whoever asks.
    #[serde(default)]
    pub author: Author,
}

/// Edits that have been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Number in the history of what is in force now.
    pub number: u64,
    /// What was found and did not stop them.
    pub warnings: Vec<String>,
    /// Identifiers of the rules that came or went.
    pub rules: Vec<String>,
    /// How many elements of the kernel's tables came, changed or went by the change that they were part of.
    #[serde(default)]
    pub writes: usize,
}

/// Those of a request that are made, as far as they are known before the change.
pub(super) fn edited(done: &[Done]) -> Edited {
    Edited {
        number: 0,
        warnings: done.iter().flat_map(|one| one.warnings.iter().cloned()).collect(),
        rules: done.iter().flat_map(|one| &one.rules).map(ToString::to_string).collect(),
        writes: 0,
    }
}

/// Every edit that seemed to be made has failed.
pub(super) fn failed(
    answers: Vec<Result<Edited, KernelError>>,
    error: &KernelError,
) -> Vec<Result<Edited, KernelError>> {
    let message = message(error);
    let fail = |answer: Result<Edited, KernelError>| {
        answer.and_then(|_edited| Err(KernelError::Request(message.clone())))
    };
    answers.into_iter().map(fail).collect()
}

/// No edit of any has been made.
pub(super) fn refused(
    requests: &[EditRequest],
    error: &KernelError,
) -> Vec<Result<Edited, KernelError>> {
    let message = message(error);
    requests.iter().map(|_| Err(KernelError::Request(message.clone()))).collect()
}

/// One request's author; of several, everyone and how many.
pub(super) fn author(made: &[(&EditRequest, Vec<Done>)]) -> Author {
    if let [(only, _)] = made {
        return only.author.clone();
    }
    let mut users: Vec<&str> =
        made.iter().map(|(request, _)| request.author.user.as_str()).collect();
    users.sort_unstable();
    users.dedup();
    let messages: Vec<&str> =
        made.iter().filter_map(|(request, _)| request.author.message.as_deref()).collect();
    Author {
        user: users.join(", "),
        command: format!("{} changes at once", made.len()),
        message: (!messages.is_empty()).then(|| messages.join("; ")),
    }
}
