//! Programs kept ready for devices that may lose them: to attach one that is loaded takes no verifier, so a device that
//! is made anew is open for as short a time as can be.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::programs::tc::qdisc_add_clsact;
use sg_common::LinkLayer;

use super::bpf::{create_link, program_by_id};
use super::hooks::{Hook, chain, program_id, refuse_ingress_qdisc};
use super::live::AttachedDevice;
use super::netlink::Filter;
use super::object::tc_name;
use super::replace::direction;
use super::{Device, Instance, KernelError, Paths};

/// Attach types of `linux/bpf.h`.
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of `linux/if_link.h`.
const XDP_SKB_MODE: u32 = 1 << 1;
const XDP_DRV_MODE: u32 = 1 << 2;
/// `BPF_F_BEFORE`: before nothing in particular is first of all.
const BEFORE: u32 = 1 << 3;

/// The programs of a device, by hook.
#[derive(Debug)]
pub struct Kept {
    instance: Instance,
    programs: Vec<(Hook, OwnedFd)>,
}

impl Kept {
    /// Those that an attached device has now. To be called in its namespace; `None` when one is missing.
    #[must_use]
    pub(super) fn of(paths: &Paths, device: &AttachedDevice) -> Option<Self> {
        let program = |hook: &Hook| {
            let id = program_id(paths, device, *hook)?;
            Some((*hook, program_by_id(id).ok()?))
        };
        let programs = device.attached.hooks.iter().map(program).collect::<Option<_>>()?;
        Some(Self { instance: device.instance, programs })
    }

    /// Whether these are the programs for a device.
    pub(super) fn fits(&self, instance: &Instance, device: &Device) -> bool {
        self.instance == *instance && instance.link_is_ip == matches!(device.link, LinkLayer::Ip)
    }

    /// The program of a hook.
    pub(super) fn program(&self, hook: Hook) -> Option<BorrowedFd<'_>> {
        self.programs.iter().find(|(one, _)| *one == hook).map(|(_, program)| program.as_fd())
    }

    /// Attaches the program of a hook that has none; whether a qdisc was made for it.
    pub(super) fn attach(
        &self,
        paths: &Paths,
        device: &Device,
        hook: Hook,
    ) -> Result<bool, KernelError> {
        let failed = |why: String| KernelError::Attach {
            device: device.name.clone(),
            hook: hook.name(),
            why,
        };
        let program = self.program(hook).ok_or_else(|| failed("no program is kept".to_owned()))?;
        let (attach_type, flags) = match hook {
            Hook::XdpNative => (BPF_XDP, XDP_DRV_MODE),
            Hook::XdpGeneric => (BPF_XDP, XDP_SKB_MODE),
            Hook::TcxIngress => (BPF_TCX_INGRESS, BEFORE),
            Hook::TcxEgress => (BPF_TCX_EGRESS, BEFORE),
            Hook::ClsactIngress | Hook::ClsactEgress => {
                // An error means that there is one already, which then stays.
                let made = qdisc_add_clsact(&device.name).is_ok();
                refuse_ingress_qdisc(device, hook)?;
                let name = tc_name(direction(hook, self.instance.workload));
                return Filter::add(device.index, hook.is_inward(), name, program)
                    .map(|()| made)
                    .map_err(|error| failed(chain(&*error)));
            }
        };
        let pin = paths.link(device.namespace, &device.name, hook.name());
        create_link(program, device.index, attach_type, flags, &pin)
            .map(|()| false)
            .map_err(|error| failed(chain(&error)))
    }
}
