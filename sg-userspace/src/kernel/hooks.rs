//! Programs on devices: which hook for which side, made as pinned links.

use std::path::Path;

use aya::programs::TcAttachType;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
use serde::{Deserialize, Serialize};
use sg_common::Direction;

use super::bpf::detach_link;
use super::live::AttachedDevice;
use super::object::{Object, program};
use super::{Device, KernelError, Paths};

/// Where ingress of a host's device is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver where that pays, else at TC.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver, for devices without support: works everywhere, gains nothing.
    Generic,
    /// At TC.
    Off,
}

/// How programs are attached at TC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// TCX links where the kernel has them (6.6), else clsact filters.
    #[default]
    Auto,
    /// TCX links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// One program on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP behind the driver.
    XdpGeneric,
    /// TCX link on what arrives.
    TcxIngress,
    /// TCX link on what leaves.
    TcxEgress,
    /// clsact filter on what arrives.
    ClsactIngress,
    /// clsact filter on what leaves.
    ClsactEgress,
}

impl Hook {
    /// The word for it in text, in JSON and in the names of pins.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
            Self::ClsactIngress => "clsact-ingress",
            Self::ClsactEgress => "clsact-egress",
        }
    }

    const fn attach_type(self) -> TcAttachType {
        match self {
            Self::TcxIngress | Self::ClsactIngress | Self::XdpNative | Self::XdpGeneric => {
                TcAttachType::Ingress
            }
            Self::TcxEgress | Self::ClsactEgress => TcAttachType::Egress,
        }
    }

    pub(super) const fn is_clsact(self) -> bool {
        matches!(self, Self::ClsactIngress | Self::ClsactEgress)
    }
}

/// What a device got, for status and for detaching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The hooks in use.
    pub hooks: Vec<Hook>,
    /// The clsact qdisc is ours and goes with the filters.
    pub made_qdisc: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// See [`XdpMode`].
    pub xdp: XdpMode,
    /// See [`TcMode`].
    pub tc: TcMode,
}

/// Attaches both directions of a device, or neither.
pub(super) fn attach(
    object: &mut Object,
    paths: &Paths,
    device: &Device,
    workload: bool,
    wanted: Wanted,
) -> Result<Attached, KernelError> {
    let mut done = Attached { hooks: Vec::new(), made_qdisc: false };
    let result = attach_inward(object, paths, device, workload, wanted, &mut done).and_then(|()| {
        // A workload's ingress is what leaves through the host's end of its device.
        let outward = if workload { Direction::Ingress } else { Direction::Egress };
        attach_tc(object, paths, device, outward, false, wanted.tc, &mut done)
    });
    match result {
        Ok(()) => Ok(done),
        Err(error) => {
            detach(paths, device.namespace, &device.name, &done)?;
            Err(error)
        }
    }
}

/// The hook on what arrives on the device.
fn attach_inward(
    object: &mut Object,
    paths: &Paths,
    device: &Device,
    workload: bool,
    wanted: Wanted,
    done: &mut Attached,
) -> Result<(), KernelError> {
    let hook = match (workload, wanted.xdp) {
        (true, XdpMode::Native | XdpMode::Generic) => {
            return Err(KernelError::Request(format!(
                "XDP judges only what arrives, and a workload's ingress leaves through {}: use --xdp off or leave it out",
                device.name
            )));
        }
        (true, XdpMode::Auto | XdpMode::Off) | (false, XdpMode::Off) => None,
        (false, XdpMode::Native) => Some(Hook::XdpNative),
        (false, XdpMode::Generic) => Some(Hook::XdpGeneric),
        (false, XdpMode::Auto) => device.prefers_xdp().then_some(Hook::XdpNative),
    };
    if let Some(hook) = hook {
        match attach_xdp(object, paths, device, hook) {
            Ok(()) => {
                done.hooks.push(hook);
                return Ok(());
            }
            // What was not asked for by name may fall back.
            Err(KernelError::Attach { .. }) if wanted.xdp == XdpMode::Auto => {}
            Err(error) => return Err(error),
        }
    }
    let inward = if workload { Direction::Egress } else { Direction::Ingress };
    attach_tc(object, paths, device, inward, true, wanted.tc, done)
}

fn attach_xdp(
    object: &mut Object,
    paths: &Paths,
    device: &Device,
    hook: Hook,
) -> Result<(), KernelError> {
    let failed = |why: String| KernelError::Attach {
        device: device.name.clone(),
        hook: hook.name(),
        why: format!("{why}; try --xdp generic or --xdp off"),
    };
    let mode = match hook {
        Hook::XdpGeneric => aya::programs::XdpMode::Skb,
        Hook::XdpNative
        | Hook::TcxIngress
        | Hook::TcxEgress
        | Hook::ClsactIngress
        | Hook::ClsactEgress => aya::programs::XdpMode::Driver,
    };
    let xdp = object.xdp()?;
    let link = xdp
        .attach_to_if_index(device.index, mode)
        .and_then(|id| xdp.take_link(id))
        .map_err(|error| failed(chain(&error)))?;
    let link: FdLink = link
        .try_into()
        .map_err(|_netlink| failed("the kernel makes no link that could be pinned".to_owned()))?;
    pin(link, &paths.link(device.namespace, &device.name, hook.name()))
}

/// The TC hook on what arrives (`inward`) or leaves, with the program of `direction`.
fn attach_tc(
    object: &mut Object,
    paths: &Paths,
    device: &Device,
    direction: Direction,
    inward: bool,
    mode: TcMode,
    done: &mut Attached,
) -> Result<(), KernelError> {
    let tcx = match mode {
        TcMode::Tcx => true,
        TcMode::Clsact => false,
        TcMode::Auto => kernel_has_tcx(),
    };
    let hook = match (tcx, inward) {
        (true, true) => Hook::TcxIngress,
        (true, false) => Hook::TcxEgress,
        (false, true) => Hook::ClsactIngress,
        (false, false) => Hook::ClsactEgress,
    };
    let failed =
        |why: String| KernelError::Attach { device: device.name.clone(), hook: hook.name(), why };
    if hook.is_clsact() {
        // An error means that there is one already, which then stays.
        done.made_qdisc |= qdisc_add_clsact(&device.name).is_ok();
    }
    let program = object.tc(direction)?;
    let options = if tcx {
        // First in line: what is dropped here is dropped whatever stands behind.
        TcAttachOptions::TcxOrder(LinkOrder::first())
    } else {
        TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() })
    };
    let id = program
        .attach_with_options(&device.name, hook.attach_type(), options)
        .map_err(|error| failed(chain(&error)))?;
    let link = program.take_link(id).map_err(|error| failed(chain(&error)))?;
    done.hooks.push(hook);
    if tcx {
        let link: FdLink = link.try_into().map_err(|error| failed(chain(&error)))?;
        pin(link, &paths.link(device.namespace, &device.name, hook.name()))
    } else {
        // The filter belongs to the qdisc, not to this process.
        std::mem::forget(link);
        Ok(())
    }
}

/// TCX came with Linux 6.6.
fn kernel_has_tcx() -> bool {
    aya::util::KernelVersion::current()
        .is_ok_and(|version| version >= aya::util::KernelVersion::new(6, 6, 0))
}

fn pin(link: FdLink, path: &Path) -> Result<(), KernelError> {
    link.pin(path).map(|_pinned: PinnedLink| ()).map_err(|error| KernelError::File {
        doing: "pin a link at",
        path: path.into(),
        source: std::io::Error::other(error),
    })
}

/// Takes a device's programs off. Hooks that are gone already are no error.
pub(super) fn detach(
    paths: &Paths,
    namespace: u64,
    device: &str,
    attached: &Attached,
) -> Result<(), KernelError> {
    for hook in &attached.hooks {
        if hook.is_clsact() {
            // Which of the two stands there depends on the side.
            for name in [program::TC_INGRESS, program::TC_EGRESS] {
                // Not found: the device is gone, or this is the other side's program.
                let _gone = qdisc_detach_program(device, hook.attach_type(), name);
            }
        } else {
            let path = paths.link(namespace, device, hook.name());
            // An error means that the pin is gone, or the device with its hook.
            let _gone = detach_link(&path);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(KernelError::file("unpin", path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    if attached.made_qdisc {
        remove_qdisc(device);
    }
    Ok(())
}

/// Removes the clsact qdisc that [`attach`] made. aya adds one but removes none; `tc` is not everywhere.
fn remove_qdisc(device: &str) {
    if let Err(error) = super::netlink::remove_clsact(device) {
        log::warn!("the clsact qdisc of {device} stays: {error}");
    }
}

/// Whether a device's links still hold on to it, which a pin outlives, and its filters are still there. Those of
/// another namespace cannot be seen from here.
pub(super) fn is_whole(paths: &Paths, device: &AttachedDevice) -> bool {
    device.attached.hooks.iter().all(|hook| {
        if hook.is_clsact() {
            device.namespace != Device::namespace_here() || filter_program(device, *hook).is_some()
        } else {
            let pin = paths.link(device.namespace, &device.device, hook.name());
            super::bpf::linked_device(&pin).is_ok_and(|linked| linked == device.index)
        }
    })
}

/// The program of our clsact filter on a device of this namespace.
fn filter_program(device: &AttachedDevice, hook: Hook) -> Option<u32> {
    let inward = matches!(hook, Hook::ClsactIngress);
    // Which of the two stands there depends on the side.
    let names = [program::TC_INGRESS, program::TC_EGRESS];
    super::netlink::filter_program(device.index, inward, &names)
        .inspect_err(|error| log::debug!("filters of {}: {error}", device.device))
        .ok()
        .flatten()
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The identity of the program in a hook; `None` for a filter in another namespace.
pub(super) fn program_id(paths: &Paths, device: &AttachedDevice, hook: Hook) -> Option<u32> {
    if hook.is_clsact() {
        let is_here = device.namespace == Device::namespace_here();
        return is_here.then(|| filter_program(device, hook)).flatten();
    }
    let pin = paths.link(device.namespace, &device.device, hook.name());
    let link = PinnedLink::from_pin(pin).ok()?;
    let fd: FdLink = link.into();
    let info = fd.info().ok()?;
    Some(info.program_id())
}
