//! Edits of the policy in force: what arrives together is one change, with one flip and one grace period.
//!
//! The controller holds state, policy and tables between changes, so that one that concerns members alone costs
//! what it changes. Whoever keeps one looks before each change whether somebody else has written since.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::commit::{Planned, Prepared};
use super::confirmation::refuse_unconfirmed;
use super::journal::{self, Change, Files, Stamp};
use super::live::{Live, Source};
use super::maps::PolicyMaps;
use super::recover::settle;
use super::request::{EditRequest, Edited, author, edited, failed, refused};
use super::session::open_live;
use super::transaction::{Review, Reviewer, commit, entry};
use super::wanted::tables_for;
use super::{KernelError, Lock, Paths, keeper, maps, overdue};
use crate::compile::{Members, Membership};
use crate::history::{Cause, Content, Entry, History, Past};
use crate::policy::Policy;
use crate::policy::edit::{Done, Edit, Editor, Touched};
use crate::policy::model::Interface;
use ipnet::IpNet;

/// What is in force, ready to be changed.
pub(super) struct Controller {
    live: Live,
    editor: Editor,
    members: Members,
    /// `None`: what is due goes without.
    history: Option<History>,
    stamp: Stamp,
    generation: u64,
    /// A change failed: what is kept here may not be what is in force.
    is_stale: bool,
}

impl Controller {
    /// Reads what is in force when what is overdue has gone. The caller holds the lock, for as long as it commits.
    pub(super) fn open(paths: &Paths, lock: &Lock) -> Result<Self, KernelError> {
        Self::with_history(paths, overdue::open_live(paths, lock)?)
    }

    fn with_history(paths: &Paths, live: Option<Live>) -> Result<Self, KernelError> {
        let live = live.ok_or(KernelError::NothingAttached)?;
        let history = History::open(&paths.state, Some(live.number))?;
        Self::of(paths, live, Some(history))
    }

    /// The same of what has been read, with a history or, for what is due, without.
    pub(super) fn of(
        paths: &Paths,
        live: Live,
        history: Option<History>,
    ) -> Result<Self, KernelError> {
        let loaded = crate::policy::load(&live.source.path, &live.source.text);
        let loaded = loaded.map_err(|error| KernelError::Request(error.to_string()))?;
        let (generation, stamp) = stamp(paths)?;
        Ok(Self {
            editor: Editor::new(loaded.policy),
            members: Members::of(&live.tables),
            history,
            live,
            stamp,
            generation,
            is_stale: false,
        })
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> &Policy {
        self.editor.policy()
    }

    /// Whether nobody else has changed anything, and nothing is overdue.
    pub(super) fn is_current(&self, paths: &Paths) -> bool {
        let generation = maps::generation(&paths.maps());
        !self.is_stale
            && !self.live.is_due()
            && generation.is_ok_and(|now| now == self.generation)
            && self.stamp.is_current(paths)
    }

    /// Makes the edits of all requests in one change. One that cannot be made does not keep the others from it.
    pub(super) fn commit(
        &mut self,
        paths: &Paths,
        requests: &[EditRequest],
        review: Option<Reviewer<'_>>,
    ) -> Vec<Result<Edited, KernelError>> {
        if self.is_stale {
            // One of several that are tried one by one has failed half-way.
            match open_live(paths).and_then(|live| Self::with_history(paths, live)) {
                Ok(anew) => *self = anew,
                Err(error) => return refused(requests, &error),
            }
        }
        let mut answers: Vec<Result<Edited, KernelError>> = Vec::with_capacity(requests.len());
        let mut made: Vec<(&EditRequest, Vec<Done>)> = Vec::with_capacity(requests.len());
        for request in requests {
            let refused =
                Self::refuse_empty(request).and_then(|()| self.refuse_unconfirmed(paths, request));
            let done = refused.and_then(|()| {
                let done = self.editor.apply_all(&request.edits);
                done.map_err(|(_position, error)| KernelError::Edit(Box::new(error)))
            });
            answers.push(match done {
                Ok(done) => {
                    let answer = edited(&done);
                    made.push((request, done));
                    Ok(answer)
                }
                Err(error) => Err(error),
            });
        }
        if made.is_empty() {
            return answers;
        }
        match self.put_in_force(paths, &made, review) {
            Ok((number, writes)) => {
                for answer in answers.iter_mut().flatten() {
                    (answer.number, answer.writes) = (number, writes);
                }
                answers
            }
            Err(error) => {
                // What others were refused for may have been this one's.
                let alone = requests.len() == 1;
                let dones = made.into_iter().flat_map(|(_request, done)| done);
                let dones: Vec<_> = dones.collect();
                dones.into_iter().rev().for_each(|done| self.editor.undo(done));
                if alone || self.is_stale {
                    return failed(answers, &error);
                }
                // The fault may be one's alone.
                requests
                    .iter()
                    .flat_map(|request| self.commit(paths, std::slice::from_ref(request), review))
                    .collect()
            }
        }
    }

    /// A change without an edit would be an entry of the history that says nothing.
    fn refuse_empty(request: &EditRequest) -> Result<(), KernelError> {
        if request.edits.is_empty() {
            let why = "a request holds at least one edit, and this one's `edits` is empty";
            return Err(KernelError::Request(why.to_owned()));
        }
        Ok(())
    }

    /// Rules go when their time is over, whatever else waits: that opens nothing, and what comes back without a
    /// confirmation comes without them too.
    fn refuse_unconfirmed(&self, paths: &Paths, request: &EditRequest) -> Result<(), KernelError> {
        if request.edits.iter().all(is_expiry) {
            return Ok(());
        }
        refuse_unconfirmed(paths, &self.live)
    }

    fn put_in_force(
        &mut self,
        paths: &Paths,
        made: &[(&EditRequest, Vec<Done>)],
        review: Option<Reviewer<'_>>,
    ) -> Result<(u64, usize), KernelError> {
        let next = self.live.number + 1;
        let number = self.history.as_ref().map_or(next, History::next_number);
        let memberships = self.memberships(made).filter(|_| self.stamp.has_room());
        let writes = match memberships {
            Some(memberships) => self.patch(paths, number, made, &memberships, review)?,
            None => self.compile(paths, number, made, review)?,
        };
        self.live.number = number;
        Ok((number, writes))
    }

    /// The changed memberships, if members of groups elsewhere are all that has changed.
    fn memberships(&self, made: &[(&EditRequest, Vec<Done>)]) -> Option<Vec<Membership>> {
        let mut groups: BTreeMap<(usize, IpAddr), Vec<String>> = BTreeMap::new();
        for done in made.iter().flat_map(|(_request, done)| done) {
            match &done.touched {
                Touched::Nothing => {}
                Touched::Rules { .. } => return None,
                Touched::Interface { vpc, before, after } => {
                    for interface in before.iter().chain(after) {
                        if !self.is_plain(interface) {
                            return None;
                        }
                    }
                    for net in before.iter().flat_map(|interface| &interface.addresses) {
                        groups.insert((*vpc, net.addr()), Vec::new());
                    }
                    let Some(after) = after else { continue };
                    let of = &self.editor.policy().vpcs[*vpc].groups;
                    let names: Vec<_> =
                        after.groups.iter().map(|&group| of[group].name.clone()).collect();
                    for net in &after.addresses {
                        groups.insert((*vpc, net.addr()), names.clone());
                    }
                }
            }
        }
        let vpcs = &self.editor.policy().vpcs;
        let membership = |((vpc, address), groups): ((usize, IpAddr), Vec<String>)| Membership {
            vpc: vpcs[vpc].name.clone(),
            address,
            groups,
        };
        Some(groups.into_iter().map(membership).collect())
    }

    /// Whether an interface is a member by single addresses and nothing else.
    fn is_plain(&self, interface: &Interface) -> bool {
        let is_single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        !interface.auto_addresses
            && interface.addresses.iter().all(is_single)
            && !self.live.devices.iter().any(|device| device.interface == interface.name)
    }

    /// A change of members; returns how many elements it wrote.
    fn patch(
        &mut self,
        paths: &Paths,
        number: u64,
        made: &[(&EditRequest, Vec<Done>)],
        memberships: &[Membership],
        review: Option<Reviewer<'_>>,
    ) -> Result<usize, KernelError> {
        let tables = &self.live.tables;
        let patch = self.members.patch(tables, memberships);
        if let Some(review) = review {
            let mut new = tables.clone();
            patch.apply(&mut new);
            self.review(&new, review)?;
        }
        let changes = patch.changes(tables);
        let (slots, sizes) = (&self.live.slots, &self.live.sizes);
        let planned = Planned::of(changes, &tables.capacities(), tables, slots, sizes)?;
        let (taken, writes) = (planned.taken(), planned.changes().writes());
        self.is_stale = true;
        self.record(number, made)?;
        let edits = edits(made);
        let number_of_edits = edits.len();
        let written = write_patch(paths, &mut self.stamp, planned, &self.live, |prepared| Change {
            generation: prepared.next_generation(),
            number,
            edits,
            patch: patch.clone(),
            taken,
            freed: prepared.freed.clone(),
        });
        match written {
            Ok((slots, generation)) => {
                self.members.follow(&self.live.tables, &patch);
                patch.apply(&mut self.live.tables);
                self.live.source.edits += number_of_edits;
                (self.live.slots, self.generation) = (slots, generation);
                self.is_stale = false;
                Ok(writes)
            }
            Err(error) => {
                settle(paths, self.generation, error)?;
                Ok(writes)
            }
        }
    }

    /// Any other change.
    fn compile(
        &mut self,
        paths: &Paths,
        number: u64,
        made: &[(&EditRequest, Vec<Done>)],
        review: Option<Reviewer<'_>>,
    ) -> Result<usize, KernelError> {
        let policy = self.editor.policy();
        let tables = tables_for(&self.live, policy)?;
        if let Some(review) = review {
            self.review(&tables, review)?;
        }
        let Live { slots, sizes, .. } = &self.live;
        let planned = Planned::between(&self.live.tables, &tables, slots, sizes)?;
        let writes = planned.changes().writes();
        let text = crate::policy::write(policy);
        let next_expiry = policy.next_expiry();
        let after = Live {
            source: Source { text, ..self.source_to_come(made) },
            tables,
            number,
            next_expiry,
            ..self.live.clone()
        };
        keeper::ensure_for(paths, &self.live, &after)?;
        self.is_stale = true;
        self.record(number, made)?;
        if commit(paths, &mut self.live, planned, after)?
            && let Ok(now) = stamp(paths)
        {
            (self.generation, self.stamp) = now;
            self.members = Members::of(&self.live.tables);
            self.is_stale = false;
        }
        Ok(writes)
    }

    /// What is in force after the edits, its text apart.
    fn source_to_come(&self, made: &[(&EditRequest, Vec<Done>)]) -> Source {
        let Source { path, edits, .. } = &self.live.source;
        let more: usize = made.iter().map(|(request, _)| request.edits.len()).sum();
        Source { path: path.clone(), text: String::new(), edits: edits + more }
    }

    fn review(
        &self,
        new: &crate::compile::TableSpec,
        review: Reviewer<'_>,
    ) -> Result<(), KernelError> {
        let Self { live, editor, .. } = self;
        let review_of = Review { live, old: &live.tables, new, policy: editor.policy() };
        review(&review_of).map_err(KernelError::Refused)
    }

    /// Writes the entry of the history.
    fn record(
        &mut self,
        number: u64,
        made: &[(&EditRequest, Vec<Done>)],
    ) -> Result<(), KernelError> {
        let source = self.source_to_come(made);
        let Some(history) = &mut self.history else { return Ok(()) };
        let edits = edits(made);
        let dones = made.iter().flat_map(|(_request, done)| done);
        let diff = edits.iter().zip(dones).map(|(edit, done)| line(edit, done)).collect();
        let author = author(made);
        let policy = self.editor.policy();
        let narrows = edits.iter().all(is_expiry);
        let cause = if narrows { Cause::Expiry } else { Cause::Change };
        let entry = Entry { cause, ..entry(number, &author, diff, Content::Edits(edits)) };
        let past = || Past { text: crate::policy::write(policy), ..source.into() };
        let written = history.append(entry, past);
        match written {
            // A rule must not outlive its time for want of room on the disk.
            Err(error) if narrows => log::error!("rules go without an entry: {error}"),
            other => other?,
        }
        Ok(())
    }
}

fn write_patch(
    paths: &Paths,
    stamp: &mut Stamp,
    planned: Planned,
    live: &Live,
    change: impl FnOnce(&Prepared) -> Change,
) -> Result<(super::commit::Slots, u64), KernelError> {
    let begun = journal::begin(paths)?;
    let maps = PolicyMaps::open(&paths.maps())?;
    let prepared = Prepared::write(&begun, maps, planned, &live.slots)?;
    let generation = prepared.next_generation();
    stamp.append(paths, change(&prepared))?;
    let slots = prepared.slots.clone();
    prepared.flip()?;
    stamp.levelled(paths, generation)?;
    begun.end(paths)?;
    Ok((slots, generation))
}

/// All that is edited, in order.
fn edits(made: &[(&EditRequest, Vec<Done>)]) -> Vec<Edit> {
    made.iter().flat_map(|(request, _)| &request.edits).cloned().collect()
}

/// An edit as the history tells it: of rules that go by themselves, which.
fn line(edit: &Edit, done: &Done) -> String {
    if !is_expiry(edit) || done.rules.is_empty() {
        return edit.to_string();
    }
    let rules: Vec<_> = done.rules.iter().map(ToString::to_string).collect();
    format!("{edit}: {}", rules.join(", "))
}

/// Where the state lies.
fn stamp(paths: &Paths) -> Result<(u64, Stamp), KernelError> {
    let generation = maps::generation(&paths.maps())?;
    let failed = KernelError::file("read", paths.live(generation));
    let files = Files::find(paths, generation)?.ok_or(KernelError::NothingAttached)?;
    Ok((generation, files.stamp(paths).map_err(failed)?))
}

const fn is_expiry(edit: &Edit) -> bool {
    matches!(edit, Edit::Expire { .. })
}
