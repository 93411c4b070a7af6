//! Programs on devices: which hook for which side, made as pinned links.

use std::path::Path;

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
use sg_common::Direction;

use super::bpf::detach_link;
pub(super) use super::hook::{Attached, Hook, TcMode, Wanted, XdpMode};
use super::live::AttachedDevice;
use super::netlink::{Filter, has_qdisc};
use super::object::{Object, program, tc_name};
use super::replace::direction;
use super::{Device, KernelError, Paths};

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
    let hook = xdp_hook(device, workload, wanted.xdp)?;
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

/// The XDP hook that a device is to have, if any.
fn xdp_hook(device: &Device, workload: bool, mode: XdpMode) -> Result<Option<Hook>, KernelError> {
    Ok(match (workload, mode) {
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
    })
}

/// Loads the programs that [`attach`] will attach, so that what the verifier refuses is refused before anything is
/// touched.
pub(super) fn load(
    object: &mut Object,
    device: &Device,
    workload: bool,
    wanted: Wanted,
) -> Result<(), KernelError> {
    object.tc(if workload { Direction::Ingress } else { Direction::Egress })?;
    if xdp_hook(device, workload, wanted.xdp)?.is_some() {
        object.xdp()?;
    } else {
        object.tc(if workload { Direction::Egress } else { Direction::Ingress })?;
    }
    Ok(())
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
        refuse_ingress_qdisc(device, hook)?;
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

/// In the place of clsact, and with the same number, an `ingress` qdisc takes filters for what leaves, and runs them on
/// what arrives.
pub(super) fn refuse_ingress_qdisc(device: &Device, hook: Hook) -> Result<(), KernelError> {
    let failed =
        |why: String| KernelError::Attach { device: device.name.clone(), hook: hook.name(), why };
    if has_qdisc(device.index, "clsact").map_err(|error| failed(chain(&*error)))? {
        return Ok(());
    }
    Err(failed(format!(
        "an ingress qdisc has the place of clsact, which does all it does; `tc qdisc del dev {} ingress` makes room",
        device.name
    )))
}

/// Attaches the program of one hook, which has none; whether a qdisc was made for it.
pub(super) fn attach_one(
    object: &mut Object,
    paths: &Paths,
    device: &Device,
    workload: bool,
    hook: Hook,
) -> Result<bool, KernelError> {
    if matches!(hook, Hook::XdpNative | Hook::XdpGeneric) {
        return attach_xdp(object, paths, device, hook).map(|()| false);
    }
    let mode = if hook.is_clsact() { TcMode::Clsact } else { TcMode::Tcx };
    let mut done = Attached { hooks: Vec::new(), made_qdisc: false };
    let direction = direction(hook, workload);
    attach_tc(object, paths, device, direction, hook.is_inward(), mode, &mut done)?;
    Ok(done.made_qdisc)
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
        detach_one(paths, namespace, device, *hook)?;
    }
    if attached.made_qdisc {
        remove_qdisc(device);
    }
    Ok(())
}

/// Takes the program of one hook off, if it is there.
pub(super) fn detach_one(
    paths: &Paths,
    namespace: u64,
    device: &str,
    hook: Hook,
) -> Result<(), KernelError> {
    if hook.is_clsact() {
        // Which of the two stands there depends on the side.
        for name in [program::TC_INGRESS, program::TC_EGRESS] {
            // Not found: the device is gone, or this is the other side's program.
            let _gone = qdisc_detach_program(device, hook.attach_type(), name);
        }
        return Ok(());
    }
    let path = paths.link(namespace, device, hook.name());
    // An error means that the pin is gone, or the device with its hook.
    let _gone = detach_link(&path);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(KernelError::file("unpin", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the clsact qdisc that [`attach`] made. aya adds one but removes none; `tc` is not everywhere.
pub(super) fn remove_qdisc(device: &str) {
    if let Err(error) = super::netlink::remove_clsact(device) {
        log::warn!("the clsact qdisc of {device} stays: {error}");
    }
}

/// Whether the program of a hook is still there, on the device that has this index now. Filters are looked for in the
/// calling thread's namespace.
pub(super) fn is_alive(paths: &Paths, device: &AttachedDevice, index: u32, hook: Hook) -> bool {
    if hook.is_clsact() {
        return our_filter(device, index, hook).is_some();
    }
    let pin = paths.link(device.namespace, &device.device, hook.name());
    super::bpf::linked_device(&pin).is_ok_and(|linked| linked == index)
}

/// Our clsact filter on the device that has this index now, in this namespace. By its name: an `ingress` qdisc shows
/// what arrives as what leaves too.
pub(super) fn our_filter(device: &AttachedDevice, index: u32, hook: Hook) -> Option<Filter> {
    let name = tc_name(direction(hook, device.instance.workload));
    Filter::find(index, hook.is_inward(), name)
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
        let find = || our_filter(device, device.index, hook);
        return is_here.then(find).flatten().map(|filter| filter.program);
    }
    let pin = paths.link(device.namespace, &device.device, hook.name());
    let link = PinnedLink::from_pin(pin).ok()?;
    let fd: FdLink = link.into();
    let info = fd.info().ok()?;
    Some(info.program_id())
}
