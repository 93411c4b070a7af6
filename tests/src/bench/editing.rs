//! Many clients who edit one group at once: members come and go, rules come and go, one member's other groups change.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread::{self, Scope},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sg_common::Direction;
use sg_userspace::{
    kernel::{Paths, serve::Client},
    policy::edit::{Edit, Which},
};

use super::member::request;

/// Clients.
pub(super) const CLIENTS: usize = 192;
/// Those of them that edit rules, each with a pause, so that changes of members alone are among all changes.
const OF_RULES: usize = 2;
const PAUSE: Duration = Duration::from_millis(100);
/// Longest that an edit may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the clients share.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    over: AtomicBool,
    busy: AtomicUsize,
    answered: AtomicU64,
}

impl Gate {
    /// Starts the clients, who wait at the gate.
    pub(super) fn clients<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        paths: &'scope Paths,
    ) -> Vec<thread::ScopedJoinHandle<'scope, Result<()>>> {
        (0..CLIENTS).map(|number| scope.spawn(move || self.client(paths, number))).collect()
    }

    /// Lets them edit while something is done; returns how many edits were answered in how long.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, u64, Duration)> {
        let (before, started) = (self.answered.load(SeqCst), Instant::now());
        self.open.store(true, SeqCst);
        let done = work();
        self.open.store(false, SeqCst);
        let closed = Instant::now();
        while self.busy.load(SeqCst) > 0 {
            ensure!(closed.elapsed() < LIMIT, "an edit is not answered");
            thread::sleep(Duration::from_millis(1));
        }
        Ok((done?, self.answered.load(SeqCst) - before, started.elapsed()))
    }

    /// Sends them home.
    pub(super) fn finish(&self) {
        self.over.store(true, SeqCst);
    }

    fn client(&self, paths: &Paths, number: usize) -> Result<()> {
        let mut client = Client::connect(paths)?;
        let mut is_there = false;
        while !self.over.load(SeqCst) {
            self.busy.fetch_add(1, SeqCst);
            // Looked at only now: whoever closes it and finds nobody busy knows that nobody will be.
            if !self.open.load(SeqCst) {
                self.busy.fetch_sub(1, SeqCst);
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            let edit = edit(number, is_there);
            let answer = client.edit(&request(edit.clone()));
            self.busy.fetch_sub(1, SeqCst);
            answer.with_context(|| format!("{edit}"))?;
            self.answered.fetch_add(1, SeqCst);
            is_there = !is_there;
            if (1..=OF_RULES).contains(&number) {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

/// The next edit of a client, whose last one has put there what this one takes away, or the other way.
fn edit(number: usize, is_there: bool) -> Edit {
    match number {
        0 => {
            let also = (!is_there).then(|| "also".to_owned());
            let groups = std::iter::once("edited".to_owned()).chain(also).collect();
            Edit::InterfaceSetGroups { interface: "steady".to_owned(), groups }
        }
        1..=OF_RULES => {
            let rule =
                format!("{{protocol: udp, ports: {}, from: {{group: edited}}}}", 8000 + number);
            let (group, direction) = ("guarded".to_owned(), Direction::Ingress);
            if is_there {
                Edit::RuleRevoke { vpc: None, group, rules: Which::Exact { direction, rule } }
            } else {
                Edit::RuleAuthorize { vpc: None, group, direction, rule }
            }
        }
        _ => {
            let name = format!("c-{number}");
            if is_there {
                return Edit::InterfaceRemove { interface: name };
            }
            let interface =
                format!("{{name: {name}, addresses: [10.77.110.{number}], groups: [edited]}}");
            Edit::InterfaceAdd { vpc: None, interface }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_clients_edit_the_same() {
        let texts: BTreeSet<String> = (0..CLIENTS)
            .flat_map(|number| [false, true].map(|is_there| edit(number, is_there).to_string()))
            .collect();
        assert_eq!(texts.len(), 2 * CLIENTS);
    }

    #[test]
    fn only_what_is_answered_at_the_open_gate_counts() {
        let gate = Gate::default();
        gate.answered.store(5, SeqCst);
        let (value, answered, _) = gate
            .during(|| {
                gate.answered.fetch_add(3, SeqCst);
                Ok(7)
            })
            .expect("nothing fails");
        assert_eq!((value, answered), (7, 3));
        assert!(!gate.open.load(SeqCst));
    }
}
