//! Devices that are attached get new programs: all of them or none, and no packet notices.
//!
//! Where a hook has a program, the new one takes its place in one step; where it has lost it, or the device was made
//! anew, the new one is attached. Flows, counters and pins stay. Every program is loaded before the first hook is
//! touched, and the old ones are held until the last has been.

use std::fs;

use super::hooks::{Attached, Hook, attach_one, detach_one, remove_qdisc};
use super::kept::Kept;
use super::live::{AttachedDevice, Live};
use super::object::Object;
use super::replace::{Occupied, load};
use super::sight::{Place, Sight, look_at};
use super::{Device, Instance, KernelError, Lock, Paths, require_root, session};

/// What came of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// The device, as it is attached now.
    pub device: AttachedDevice,
    /// Hooks that were attached; in the others a program was replaced.
    pub fresh: Vec<Hook>,
    /// It was not attached before.
    pub is_new: bool,
}

/// A device about to get new programs.
pub(super) struct Refitting<'a> {
    /// As it was attached.
    pub(super) before: AttachedDevice,
    /// The device now.
    pub(super) device: &'a Device,
    pub(super) instance: Instance,
    programs: Programs<'a>,
    done: Vec<Done>,
    made_qdisc: bool,
}

/// Where the programs come from.
enum Programs<'a> {
    /// Loaded for it: they replace those that are there.
    New(Object),
    /// Those that it had: they go where one is missing.
    Kept(&'a Kept),
}

/// A hook that has its new program.
enum Done {
    Replaced(Hook, Occupied),
    Fresh(Hook),
}

impl<'a> Refitting<'a> {
    /// Loads the programs.
    pub(super) fn prepare(
        before: AttachedDevice,
        device: &'a Device,
        instance: Instance,
        mut object: Object,
    ) -> Result<Self, KernelError> {
        for hook in &before.attached.hooks {
            load(&mut object, *hook, instance.workload)?;
        }
        Ok(Self::with(before, device, instance, Programs::New(object)))
    }

    fn with(
        before: AttachedDevice,
        device: &'a Device,
        instance: Instance,
        programs: Programs<'a>,
    ) -> Self {
        Self { before, device, instance, programs, done: Vec::new(), made_qdisc: false }
    }

    /// What the state says while hooks have the old program or the new one: of the two the one that protects less.
    pub(super) fn meanwhile(&self) -> AttachedDevice {
        let mut device = self.before.clone();
        device.instance.audit |= self.instance.audit;
        device
    }

    /// Fits every hook; [`Self::undo`] takes back what was done when one fails.
    pub(super) fn run(&mut self, paths: &Paths) -> Result<Fitted, KernelError> {
        for hook in self.before.attached.hooks.clone() {
            self.fit(paths, hook)?;
        }
        let fresh = self.done.iter().filter_map(|done| match done {
            Done::Fresh(hook) => Some(*hook),
            Done::Replaced(..) => None,
        });
        Ok(Fitted { fresh: fresh.collect(), device: self.after(), is_new: false })
    }

    fn fit(&mut self, paths: &Paths, hook: Hook) -> Result<(), KernelError> {
        let workload = self.instance.workload;
        if let Some(occupied) = Occupied::find(paths, &self.before, self.device.index, hook)? {
            if let Programs::New(object) = &mut self.programs {
                occupied.replace(load(object, hook, workload)?)?;
            }
            self.done.push(Done::Replaced(hook, occupied));
            return self.move_pin(paths, hook, false);
        }
        // The pin of a link that has lost its device or its hook.
        detach_one(paths, self.before.namespace, &self.before.device, hook)?;
        self.made_qdisc |= match &mut self.programs {
            Programs::New(object) => attach_one(object, paths, self.device, workload, hook)?,
            Programs::Kept(kept) => kept.attach(paths, self.device, hook)?,
        };
        self.done.push(Done::Fresh(hook));
        Ok(())
    }

    /// The pin is called after namespace and name of the device, which may have others now.
    fn move_pin(&self, paths: &Paths, hook: Hook, back: bool) -> Result<(), KernelError> {
        let old = paths.link(self.before.namespace, &self.before.device, hook.name());
        let new = paths.link(self.device.namespace, &self.device.name, hook.name());
        let (from, to) = if back { (new, old) } else { (old, new) };
        if hook.is_clsact() || from == to || !from.exists() {
            return Ok(());
        }
        fs::rename(&from, to).map_err(KernelError::file("rename the pin", from))
    }

    fn after(&self) -> AttachedDevice {
        let (before, device) = (&self.before, self.device);
        let is_same = before.index == device.index && before.namespace == device.namespace;
        AttachedDevice {
            device: device.name.clone(),
            index: device.index,
            namespace: device.namespace,
            instance: self.instance,
            attached: Attached {
                hooks: before.attached.hooks.clone(),
                made_qdisc: self.made_qdisc || (is_same && before.attached.made_qdisc),
            },
            ..before.clone()
        }
    }

    /// Puts the programs that it had back.
    pub(super) fn undo(&mut self, paths: &Paths) {
        while let Some(done) = self.done.pop() {
            let undone = match &done {
                Done::Fresh(hook) => {
                    detach_one(paths, self.device.namespace, &self.device.name, *hook)
                }
                Done::Replaced(hook, occupied) => {
                    self.move_pin(paths, *hook, true).and_then(|()| match &mut self.programs {
                        Programs::New(object) => {
                            occupied.put_back(load(object, *hook, self.instance.workload)?)
                        }
                        Programs::Kept(_) => Ok(()),
                    })
                }
            };
            if let Err(error) = undone {
                log::error!("and then, while putting things back: {error}");
            }
        }
        if std::mem::take(&mut self.made_qdisc) {
            remove_qdisc(&self.device.name);
        }
    }
}

/// Gives an attached device what it had, wherever it is now: programs, options, hooks. To be called in the namespace
/// that it is in. `None` when there is nothing to do, any more.
///
/// `told` is where the kernel said it has gone, for a device that has left its programs behind: one does not tell by
/// itself who it was.
///
/// `kept` are its programs, if somebody has kept them; without, they are loaded again.
///
/// What is open is not adopted, and nothing is learnt: it may have been opened while no program looked.
///
/// # Errors
/// Any [`KernelError`]; then nothing has changed.
pub fn repair(
    paths: &Paths,
    known: &AttachedDevice,
    told: Option<&Place>,
    kept: Option<&Kept>,
) -> Result<Option<Fitted>, KernelError> {
    require_root("attach programs")?;
    let _lock = Lock::take(&paths.lock())?;
    let Some(mut live) = session::open_live(paths)? else { return Ok(None) };
    let at = live.devices.iter().position(|one| {
        one.device == known.device && one.namespace == known.namespace && one.index == known.index
    });
    let Some(at) = at else { return Ok(None) };
    let before = live.devices[at].clone();
    let sight = look_at(paths, &before, told);
    let Some(place) = here(&sight).filter(|_| !sight.is_as_attached(&before)) else {
        return Ok(None);
    };
    let device = Device::open(&place.name)?;
    let instance =
        Instance { link_is_ip: matches!(device.link, sg_common::LinkLayer::Ip), ..before.instance };
    let kept = kept.filter(|kept| kept.fits(&instance, &device));
    let mut one = if let Some(kept) = kept {
        Refitting::with(before, &device, instance, Programs::Kept(kept))
    } else {
        let object = Object::open(&paths.maps(), &live.sizes, &instance)?;
        Refitting::prepare(before, &device, instance, object)?
    };
    let fitted = one.run(paths).and_then(|fitted| {
        live.devices[at] = fitted.device.clone();
        rewrite(paths, &live)?;
        Ok(fitted)
    });
    if fitted.is_err() {
        one.undo(paths);
    }
    fitted.map(Some)
}

/// Where a device is, if that is the calling thread's namespace.
pub(super) fn here(sight: &Sight) -> Option<&Place> {
    sight.place.as_ref().filter(|place| place.namespace == Device::namespace_here())
}

/// The state of the generation in force, with other devices.
fn rewrite(paths: &Paths, live: &Live) -> Result<(), KernelError> {
    live.write(paths, super::maps::generation(&paths.maps())?)
}
