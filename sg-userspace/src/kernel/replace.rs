//! A program in its hook replaced by another, without a moment in which neither or both judge.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use sg_common::Direction;

use super::bpf::{linked_device, linked_program, program_by_id, update_link};
use super::hooks::{Hook, chain, our_filter};
use super::live::AttachedDevice;
use super::netlink::Filter;
use super::object::Object;
use super::{KernelError, Paths};

/// A hook that has a program of ours, which stays loaded for as long as this is kept.
#[derive(Debug)]
pub(super) struct Occupied {
    device: String,
    hook: Hook,
    place: Place,
    old: OwnedFd,
}

/// Where the program hangs.
#[derive(Debug)]
enum Place {
    Link(PathBuf),
    Filter(Filter),
}

impl Occupied {
    /// What an attached device, which has this index now, has in a hook; `None` when that is lost.
    pub(super) fn find(
        paths: &Paths,
        device: &AttachedDevice,
        index: u32,
        hook: Hook,
    ) -> Result<Option<Self>, KernelError> {
        let (place, program) = if hook.is_clsact() {
            let Some(filter) = our_filter(device, index, hook) else { return Ok(None) };
            let program = filter.program;
            (Place::Filter(filter), program)
        } else {
            let pin = paths.link(device.namespace, &device.device, hook.name());
            let holds_on = linked_device(&pin).is_ok_and(|linked| linked == index);
            let Some(program) = holds_on.then(|| linked_program(&pin).ok()).flatten() else {
                return Ok(None);
            };
            (Place::Link(pin), program)
        };
        let failed = |source| KernelError::Syscall { call: "program by id", source };
        let old = program_by_id(program).map_err(failed)?;
        Ok(Some(Self { device: device.device.clone(), hook, place, old }))
    }

    /// Puts the new program in.
    pub(super) fn replace(&self, new: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.exchange(new, self.old.as_fd())
    }

    /// Puts the old program back.
    pub(super) fn put_back(&self, new: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.exchange(self.old.as_fd(), new)
    }

    fn exchange(&self, new: BorrowedFd<'_>, old: BorrowedFd<'_>) -> Result<(), KernelError> {
        let failed = |why: String| KernelError::Attach {
            device: self.device.clone(),
            hook: self.hook.name(),
            why: format!("its program cannot be replaced: {why}"),
        };
        match &self.place {
            Place::Link(pin) => update_link(pin, new, old).map_err(|error| failed(chain(&error))),
            Place::Filter(filter) => filter.change(new).map_err(|error| failed(chain(&*error))),
        }
    }
}

/// Loads the program that belongs into a hook, unless it is.
pub(super) fn load<'o>(
    object: &'o mut Object,
    hook: Hook,
    workload: bool,
) -> Result<BorrowedFd<'o>, KernelError> {
    let fd = match hook {
        Hook::XdpNative | Hook::XdpGeneric => object.xdp()?.fd(),
        Hook::TcxIngress | Hook::TcxEgress | Hook::ClsactIngress | Hook::ClsactEgress => {
            object.tc(direction(hook, workload))?.fd()
        }
    };
    fd.map(|fd| fd.as_fd()).map_err(|source| KernelError::program(hook.name(), source))
}

/// Which direction of the interface a hook judges: what arrives on a workload's device is its egress.
pub(super) const fn direction(hook: Hook, workload: bool) -> Direction {
    if hook.is_inward() == workload { Direction::Egress } else { Direction::Ingress }
}
