//! What is in force: the policy, its tables with their numbers, and the attached devices.
//!
//! The generation word in the kernel says which state counts; [`journal`] keeps it in files. A change writes
//! the next generation's state before it flips the word, so that a process killed anywhere leaves files that
//! describe exactly what the kernel does.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::adopt::Adoption;
use super::commit::Slots;
use super::gone::GoneRules;
use super::hooks::Attached;
use super::{Device, Instance, KernelError, Paths, Sizes, journal, maps, transaction};
use crate::compile::TableSpec;
use crate::events::Names;
use crate::history::Past;

/// How often a reader, who has no lock, looks for a state whose files may just be written anew.
const LOOKS: u32 = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

impl From<Source> for Past {
    fn from(Source { path, text, edits }: Source) -> Self {
        Self { path, text, edits }
    }
}

impl From<Past> for Source {
    fn from(Past { path, text, edits }: Past) -> Self {
        Self { path, text, edits }
    }
}

/// The policy file in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its path, as it was given.
    pub path: String,
    /// The text in force.
    pub text: String,
    /// How many edits have made it of the file.
    #[serde(default)]
    pub edits: usize,
}

impl Source {
    /// As the file has it.
    #[must_use]
    pub fn file(path: String, text: String) -> Self {
        Self { path, text, edits: 0 }
    }
}

/// A device that has programs of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedDevice {
    /// Its name.
    pub device: String,
    /// Its index.
    pub index: u32,
    /// Inode of its network namespace: names and indices are unique only there.
    pub namespace: u64,
    /// The interface that it is attached as.
    pub interface: String,
    /// What its programs were told.
    pub instance: Instance,
    /// Its hooks.
    pub attached: Attached,
    /// When, in seconds since 1970.
    pub since: u64,
    /// What was adopted then; `None`: nothing was to be.
    #[serde(default)]
    pub adoption: Option<Adoption>,
}

impl AttachedDevice {
    pub(super) fn new(
        device: &Device,
        interface: &str,
        instance: Instance,
        attached: Attached,
    ) -> Self {
        Self {
            device: device.name.clone(),
            index: device.index,
            namespace: device.namespace,
            interface: interface.to_owned(),
            instance,
            attached,
            since: transaction::now(),
            adoption: None,
        }
    }
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The policy.
    pub source: Source,
    /// Its tables.
    pub tables: TableSpec,
    /// Where in `classes` each address's word stands.
    pub slots: Slots,
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// The attached devices.
    pub devices: Vec<AttachedDevice>,
    /// Rules that went lately.
    #[serde(default)]
    pub gone: GoneRules,
    /// Number of the policy in the history.
    pub number: u64,
    /// The policy waits for a confirmation.
    pub pending: Option<Pending>,
    /// When the next rule goes by itself, in seconds since 1970.
    pub next_expiry: Option<u64>,
    /// The last policy that nobody confirmed in time.
    #[serde(default)]
    pub taken_back: Option<TakenBack>,
}

/// A policy that was taken back because nobody had confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Its number in the history.
    pub number: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Number of the policy that has come back.
    pub restored: u64,
    /// As which entry.
    pub entry: u64,
}

/// A policy that goes unless it is confirmed in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// When its time is up, in nanoseconds since the machine was started: a clock that nobody sets, and that
    /// runs while the machine sleeps.
    deadline: u64,
    /// What comes back then.
    pub previous: Source,
    /// Its number in the history.
    pub number: u64,
}

impl Pending {
    pub(super) fn new(within: Duration, previous: Source, number: u64) -> Self {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        Self { deadline: since_start().saturating_add(within), previous, number }
    }

    /// Whether its time is up.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.left().is_zero()
    }

    /// How long it may still be confirmed.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.deadline.saturating_sub(since_start()))
    }
}

/// Nanoseconds since the machine was started.
fn since_start() -> u64 {
    // The clock is there on every kernel that loads the programs; without it, everything is overdue.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl Live {
    /// Reads what is in force; `None` when nothing is attached.
    ///
    /// # Errors
    /// When maps are there and their state is not.
    pub fn read(paths: &Paths) -> Result<Option<Self>, KernelError> {
        if !paths.maps().join("GENERATION").exists() {
            Self::refuse_hidden(paths)?;
            return Ok(None);
        }
        let word = maps::generation_word(&paths.maps())?;
        let mut generation = maps::read_generation(&word)?;
        let mut looks = 0;
        loop {
            looks += 1;
            let read = journal::Files::find(paths, generation)
                .and_then(|files| files.map(|files| files.read(paths)).transpose());
            let now = maps::read_generation(&word)?;
            match read {
                Ok(Some(live)) => return Ok(Some(live)),
                // Another policy came into force while we looked for the files of the one before.
                Ok(None) | Err(_) if now != generation => generation = now,
                // Or its files were written anew, as when a policy is confirmed.
                Ok(None) | Err(_) if looks < LOOKS => std::thread::sleep(PAUSE),
                // A first attach that was killed before its flip: nothing has ever been in force.
                Ok(None) if generation == 0 => return Ok(None),
                Ok(None) => {
                    let (path, why) = (paths.live(generation), "it is not there".to_owned());
                    return Err(KernelError::State { path, why });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses to say that nothing is attached where state says otherwise and pins cannot be seen: `ip netns
    /// exec` hides them behind a /sys of its own.
    pub(super) fn refuse_hidden(paths: &Paths) -> Result<(), KernelError> {
        let has_state = journal::has_any(paths);
        if has_state && !paths.is_on_bpffs() {
            return Err(KernelError::NoBpffs { path: paths.bpffs.clone() });
        }
        Ok(())
    }

    /// Reads what is in force, where there must be something.
    ///
    /// # Errors
    /// As [`Self::read`], and [`KernelError::NothingAttached`].
    pub fn require(paths: &Paths) -> Result<Self, KernelError> {
        Self::read(paths)?.ok_or(KernelError::NothingAttached)
    }

    /// Writes the state of the generation in force anew.
    pub(super) fn write(&self, paths: &Paths, generation: u64) -> Result<(), KernelError> {
        journal::write(paths, self, generation, false)?;
        journal::forget_others(paths, Some((self, generation)))
    }

    /// Whether the policy was not confirmed in time.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.pending.as_ref().is_some_and(Pending::is_overdue)
    }

    /// Whether there are rules whose time is over.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.next_expiry.is_some_and(|at| at <= transaction::now())
    }

    /// Whether something should have gone by itself.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_overdue() || self.has_expired()
    }

    /// What the numbers in events and flows stand for.
    #[must_use]
    pub fn names(&self) -> Names {
        Names::of(&self.tables).with_gone(self.gone.iter())
    }

    /// The attached device of this name in this namespace.
    #[must_use]
    pub fn device(&self, name: &str, namespace: u64) -> Option<&AttachedDevice> {
        self.devices.iter().find(|one| one.device == name && one.namespace == namespace)
    }
}
