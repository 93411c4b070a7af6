//! The moment of attaching: what is open becomes flows, programs go to their hooks, and what opened between
//! the two becomes flows as well.

use super::adopt::Adopting;
use super::detach::detach_hooks;
use super::live::{AttachedDevice, Live};
use super::object::Object;
use super::refit::{Fitted, Refitting};
use super::session::{AttachRequest, Target};
use super::{Device, Instance, KernelError, Paths, hooks};

/// A device that is about to be attached.
pub(super) struct Joining<'a> {
    pub(super) target: &'a Target,
    pub(super) device: &'a Device,
    pub(super) instance: Instance,
    pub(super) object: Object,
    pub(super) adopting: Option<Adopting<'a>>,
}

impl Joining<'_> {
    /// Puts the flow tables back.
    pub(super) fn forget_flows(&mut self) {
        if let Some(adopting) = &self.adopting {
            adopting.undo(&mut self.object);
        }
    }
}

/// What an attach has to do at its hooks, with every program loaded.
pub(super) struct Work<'a> {
    /// New devices.
    pub(super) joining: Vec<Joining<'a>>,
    /// Those attached already, by their place in the state.
    pub(super) refitting: Vec<(usize, Refitting<'a>)>,
}

impl Work<'_> {
    /// Does it at all devices or at none, and writes what has become of them.
    pub(super) fn run(
        &mut self,
        paths: &Paths,
        request: &AttachRequest<'_>,
        live: &mut Live,
        generation: u64,
    ) -> Result<Vec<Fitted>, KernelError> {
        for Joining { device, instance, object, .. } in &mut self.joining {
            hooks::load(object, device, instance.workload, request.hooks)?;
        }
        let done = self.try_run(paths, request, live, generation);
        if done.is_err() {
            self.joining.iter_mut().for_each(Joining::forget_flows);
            // The last one first.
            self.refitting.iter_mut().rev().for_each(|(_, one)| one.undo(paths));
        }
        done
    }

    fn try_run(
        &mut self,
        paths: &Paths,
        request: &AttachRequest<'_>,
        live: &mut Live,
        generation: u64,
    ) -> Result<Vec<Fitted>, KernelError> {
        if !self.refitting.is_empty() {
            for (at, one) in &self.refitting {
                live.devices[*at] = one.meanwhile();
            }
            live.write(paths, generation)?;
        }
        let mut fitted = Vec::new();
        for (at, one) in &mut self.refitting {
            let one = one.run(paths)?;
            live.devices[*at] = one.device.clone();
            fitted.push(one);
        }
        let joined = join(paths, request, live, &mut self.joining)?;
        live.devices.extend(joined.iter().cloned());
        if let Err(error) = live.write(paths, generation) {
            for device in &joined {
                detach_hooks(paths, device)?;
            }
            return Err(error);
        }
        fitted.extend(joined.into_iter().map(|device| Fitted {
            fresh: device.attached.hooks.clone(),
            device,
            is_new: true,
        }));
        Ok(fitted)
    }
}

/// Adopts what is open and attaches the programs, at all devices or at none.
fn join(
    paths: &Paths,
    request: &AttachRequest<'_>,
    live: &Live,
    joining: &mut [Joining<'_>],
) -> Result<Vec<AttachedDevice>, KernelError> {
    let mut alive: Vec<_> = live.devices.iter().map(|one| one.interface.as_str()).collect();
    for Joining { target, device, object, adopting, .. } in joining.iter_mut() {
        if let Some(adopting) = adopting {
            let is_alive = alive.contains(&target.interface.as_str());
            adopting.before(object, device, live.sizes.flows, is_alive)?;
            alive.push(&target.interface);
        }
    }
    let mut attached: Vec<AttachedDevice> = Vec::new();
    for one in joining.iter_mut() {
        match join_one(paths, request, one) {
            Ok(done) => attached.push(done),
            Err(error) => {
                for done in &attached {
                    detach_hooks(paths, done)?;
                }
                return Err(error);
            }
        }
    }
    Ok(attached)
}

fn join_one(
    paths: &Paths,
    request: &AttachRequest<'_>,
    joining: &mut Joining<'_>,
) -> Result<AttachedDevice, KernelError> {
    let Joining { target, device, instance, object, adopting } = joining;
    let hooks = hooks::attach(object, paths, device, instance.workload, request.hooks)?;
    let mut attached = AttachedDevice::new(device, &target.interface, *instance, hooks);
    if let Some(adopting) = adopting {
        if let Err(error) = adopting.after(object, device) {
            detach_hooks(paths, &attached)?;
            return Err(error);
        }
        attached.adoption = Some(adopting.report());
    }
    Ok(attached)
}
