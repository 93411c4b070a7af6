//! Attached devices kept under their policy, whatever becomes of them: re-created, renamed, moved to another network
//! namespace, rid of a program. And `addresses: auto` followed as soon as an address comes or goes.
//!
//! Nothing here is needed for what is attached to be enforced. The watcher looks when the kernel tells something, and
//! four times a second besides, because the loss of a link is told to nobody. It keeps no state but what it has told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ears::{Departure, Ears, Heard};
use super::kept::Kept;
use super::live::{AttachedDevice, Live};
use super::refit::{Fitted, repair};
use super::sight::{Place, Sight, look, look_at};
use super::{Device, KernelError, Lock, Paths, addresses, journal, maps, namespace};

/// Between two looks when nothing is told.
const TICK: Duration = Duration::from_millis(250);
/// What is told together is looked at together.
const SETTLE: Duration = Duration::from_millis(5);
/// The state is read again after at least this many times the time that reading it took.
const PATIENCE: u32 = 10;

/// What has happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its name as it was attached.
    pub device: String,
    /// Its interface.
    pub interface: String,
    /// Inode of the network namespace that it was attached in.
    pub namespace: u64,
    /// What.
    pub event: Kind,
    /// In words.
    pub detail: String,
    /// Whether every packet meets a program now.
    pub protected: bool,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is looked after from now on.
    Watching,
    /// It is not as it was attached.
    Changed,
    /// It has its programs again.
    Attached,
    /// It could not be given its programs; it is tried again.
    Failed,
    /// The policy has followed its addresses.
    Addresses,
}

/// What is looked after.
pub struct Watcher<'p> {
    paths: &'p Paths,
    ears: Ears,
    state: State,
    /// What was told last of devices that are not as they were attached, by namespace and name.
    told: BTreeMap<(u64, String), Told>,
    /// Devices that have left their namespace, and perhaps their programs.
    departed: Departures,
    /// Devices, by namespace and index, that are known to be looked after.
    watched: BTreeSet<(u64, u32)>,
    /// The programs of devices that have them all.
    kept: BTreeMap<(u64, u32), Kept>,
    /// Namespaces whose addresses are to be followed.
    to_follow: Vec<u64>,
}

/// What was told of a device; the same again is told once.
#[derive(Default)]
struct Told {
    change: Option<String>,
    failure: Option<String>,
}

/// Namespace and index of a device, and where it has gone.
type Departures = BTreeMap<(u64, u32), Place>;

/// The state in force, as far as it was read.
#[derive(Default)]
struct State {
    devices: Vec<AttachedDevice>,
    stamp: Option<(u64, u64, i64, i64)>,
    not_before: Option<Instant>,
}

impl<'p> Watcher<'p> {
    /// Begins to look after everything that is attached, now or later.
    #[must_use]
    pub fn new(paths: &'p Paths) -> Self {
        let state = State::default();
        let (told, departed, watched) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (kept, to_follow) = (BTreeMap::new(), Vec::new());
        Self { paths, ears: Ears::default(), state, told, departed, watched, kept, to_follow }
    }

    /// Waits for something to happen, does what is to be done, and says what that was.
    ///
    /// # Errors
    /// When the kernel cannot be listened to. What goes wrong with a device is an event.
    pub fn wait(&mut self) -> Result<Vec<Event>, KernelError> {
        let listening = |source| KernelError::Syscall { call: "rtnetlink", source };
        let mut heard = self.ears.wait(TICK).map_err(listening)?;
        if heard.any {
            std::thread::sleep(SETTLE);
            let more = self.ears.wait(Duration::ZERO).map_err(listening)?;
            heard.addresses.extend(more.addresses);
            heard.departures.extend(more.departures);
        }
        match self.state.refresh(self.paths) {
            Ok(true) => self.keep_programs(),
            Ok(false) => {}
            Err(error) => log::debug!("the state: {error}"),
        }
        self.remember(heard);
        let mut events = self.welcome();
        events.extend(self.look_after()?);
        events.extend(self.follow());
        Ok(events)
    }

    fn remember(&mut self, heard: Heard) {
        let mut namespaces: Vec<_> =
            self.state.devices.iter().map(|device| device.namespace).collect();
        namespaces.push(Device::namespace_here());
        namespaces.sort_unstable();
        namespaces.dedup();
        self.ears.attend(&namespaces);
        self.to_follow.extend(heard.addresses);
        for one in heard.departures {
            let is_ours =
                |device: &AttachedDevice| device.namespace == one.from && device.index == one.index;
            if let Some(device) = self.state.devices.iter().find(|device| is_ours(device)) {
                self.departed.extend(place_of(&one, device).map(|place| (index_of(device), place)));
            }
        }
    }

    /// Holds on to the programs of every device of the state that has them, and to no others.
    fn keep_programs(&mut self) {
        let devices = &self.state.devices;
        self.kept.retain(|key, _| devices.iter().any(|device| index_of(device) == *key));
        for device in devices {
            let kept = within(device.namespace, || Ok(Kept::of(self.paths, device)));
            if let Ok(Some(kept)) = kept {
                self.kept.insert(index_of(device), kept);
            }
        }
    }

    /// Devices that were not looked after before.
    fn welcome(&mut self) -> Vec<Event> {
        let devices = &self.state.devices;
        self.watched.retain(|key| devices.iter().any(|device| index_of(device) == *key));
        let new = devices.iter().filter(|device| self.watched.insert(index_of(device)));
        let to_event = |device| {
            let sight = look(self.paths, device);
            let protected = sight.is_protected() && !device.instance.audit;
            event(device, Kind::Watching, "looked after".to_owned(), protected)
        };
        new.map(to_event).collect()
    }

    /// Every device that is not as it was attached.
    fn look_after(&mut self) -> Result<Vec<Event>, KernelError> {
        let is_odd = |device: &AttachedDevice| !look(self.paths, device).is_as_attached(device);
        if !self.state.devices.iter().any(is_odd) {
            self.told.clear();
            self.departed.clear();
            return Ok(Vec::new());
        }
        // Another command may be about to attach or detach it: only between commands the state says what is.
        let odd = match Lock::try_take(&self.paths.lock()) {
            Ok(_lock) => {
                self.state.not_before = None;
                if self.state.refresh(self.paths)? {
                    self.keep_programs();
                }
                let devices = self.state.devices.iter().cloned();
                let look = |device: &AttachedDevice| {
                    look_at(self.paths, device, self.departed.get(&index_of(device)))
                };
                let seen = devices.map(|device| (look(&device), device));
                seen.filter(|(sight, device)| !sight.is_as_attached(device)).collect::<Vec<_>>()
            }
            Err(KernelError::Busy { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        self.told.retain(|key, _| odd.iter().any(|(_, device)| *key == key_of(device)));
        let mut events = Vec::new();
        for (sight, device) in odd {
            self.mend(&sight, &device, &mut events);
        }
        Ok(events)
    }

    fn mend(&mut self, sight: &Sight, device: &AttachedDevice, events: &mut Vec<Event>) {
        let is_protected = sight.is_protected() && !device.instance.audit;
        let told = self.told.entry(key_of(device)).or_default();
        let change = sight.change(device);
        if change != told.change {
            let detail = change.clone().unwrap_or_default();
            events.push(event(device, Kind::Changed, detail, is_protected));
            told.change = change;
        }
        let Some(place) = &sight.place else { return };
        // Before it is attached there: it may be moved on at once.
        self.ears.attend_also(place.namespace);
        let departed = self.departed.get(&index_of(device));
        let kept = self.kept.get(&index_of(device));
        match within(place.namespace, || repair(self.paths, device, departed, kept)) {
            Ok(Some(fitted)) => {
                self.told.remove(&key_of(device));
                events.push(attached_again(device, &fitted));
                self.state.not_before = None;
                self.watched.insert(index_of(&fitted.device));
                self.to_follow.push(fitted.device.namespace);
            }
            Ok(None) => {}
            Err(error) => {
                let failure = super::hooks::chain(&error);
                if told.failure.as_ref() != Some(&failure) {
                    events.push(event(device, Kind::Failed, failure.clone(), is_protected));
                    told.failure = Some(failure);
                }
            }
        }
    }

    /// Has the policy follow the addresses where some may have changed. Who is busy now is asked again.
    fn follow(&mut self) -> Vec<Event> {
        let mut namespaces = std::mem::take(&mut self.to_follow);
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut events = Vec::new();
        for namespace in namespaces {
            let moved = match within(namespace, || addresses::follow(self.paths)) {
                Ok(moved) => moved,
                Err(KernelError::Busy { .. }) => {
                    self.to_follow.push(namespace);
                    continue;
                }
                Err(error) => {
                    log::warn!("the policy has not followed the devices' addresses: {error}");
                    continue;
                }
            };
            for name in moved {
                let found = self.state.devices.iter().find(|device| device.interface == name);
                let detail = || "has other addresses; the policy has followed".to_owned();
                let to_event = |device| event(device, Kind::Addresses, detail(), true);
                events.extend(found.map(to_event));
            }
        }
        events
    }
}

fn index_of(device: &AttachedDevice) -> (u64, u32) {
    (device.namespace, device.index)
}

/// Where a device has gone, by the numbers that its old namespace knows.
fn place_of(departure: &Departure, device: &AttachedDevice) -> Option<Place> {
    let known = within(departure.from, || Ok(namespace::known_as(departure.to))).ok().flatten()?;
    let (namespace, _file) = known;
    Some(Place { namespace, name: device.device.clone(), index: departure.new_index })
}

fn key_of(device: &AttachedDevice) -> (u64, String) {
    (device.namespace, device.device.clone())
}

fn event(device: &AttachedDevice, event: Kind, detail: String, protected: bool) -> Event {
    Event {
        device: device.device.clone(),
        interface: device.interface.clone(),
        namespace: device.namespace,
        event,
        detail,
        protected,
    }
}

fn attached_again(before: &AttachedDevice, fitted: &Fitted) -> Event {
    let hooks: Vec<_> = fitted.device.attached.hooks.iter().map(|hook| hook.name()).collect();
    let detail = if fitted.fresh.is_empty() {
        format!("still has its programs: {}", hooks.join(", "))
    } else {
        let fresh: Vec<_> = fitted.fresh.iter().map(|hook| hook.name()).collect();
        format!("attached again: {}", fresh.join(", "))
    };
    event(before, Kind::Attached, detail, !fitted.device.instance.audit)
}

/// Runs something in a namespace.
fn within<T: Send>(
    inode: u64,
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    if inode == Device::namespace_here() {
        return work();
    }
    let entering = |source| KernelError::Syscall { call: "entering a network namespace", source };
    let gone = || entering(std::io::ErrorKind::NotFound.into());
    let file = namespace::find(inode).ok_or_else(gone)?;
    namespace::inside(&file, || Ok(work())).map_err(entering)?
}

impl State {
    /// Reads the state again, if it is another; whether it was.
    fn refresh(&mut self, paths: &Paths) -> Result<bool, KernelError> {
        let now = Instant::now();
        if self.not_before.is_some_and(|time| now < time) {
            return Ok(false);
        }
        let stamp = stamp(paths);
        if stamp == self.stamp && (stamp.is_some() || self.devices.is_empty()) {
            return Ok(false);
        }
        self.devices = Live::read(paths)?.map_or_else(Vec::new, |live| live.devices);
        self.stamp = stamp;
        self.not_before = Some(now + now.elapsed() * PATIENCE);
        Ok(true)
    }
}

/// What tells one state's devices from another's without reading it; `None`: there is none. Changes of members, which
/// join the state in a log, leave them alone.
fn stamp(paths: &Paths) -> Option<(u64, u64, i64, i64)> {
    let base = journal::base(paths, maps::generation(&paths.maps()).ok()?)?;
    let file: Metadata = std::fs::metadata(paths.live(base)).ok()?;
    Some((base, file.ino(), file.mtime(), file.mtime_nsec()))
}
