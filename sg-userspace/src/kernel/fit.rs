//! What an attach makes of each device that it is given: a new one, or another set of programs for one that has some.

use super::hooks::{Hook, TcMode, Wanted, XdpMode};
use super::live::{AttachedDevice, Live};
use super::refit::here;
use super::session::{AttachRequest, Target};
use super::side::{settled, side_of};
use super::sight::look;
use super::{Device, KernelError, Paths};

/// One device of a request.
pub(super) struct Fit<'r> {
    pub(super) target: Target,
    pub(super) device: &'r Device,
    /// Which of the attached devices it is.
    pub(super) entry: Option<usize>,
}

/// Finds each device among those attached, wherever it has been in between, and refuses what cannot become of it
/// without a gap.
pub(super) fn fits<'r>(
    paths: &Paths,
    live: Option<&Live>,
    request: &AttachRequest<'_>,
    devices: &'r [Device],
) -> Result<Vec<Fit<'r>>, KernelError> {
    let attached = live.map_or(&[][..], |live| &live.devices);
    let sights: Vec<_> = attached.iter().map(|one| look(paths, one)).collect();
    let fit = |(target, device): (&Target, &'r Device)| {
        let entry = sights
            .iter()
            .position(|sight| here(sight).is_some_and(|place| place.index == device.index));
        let target = match entry {
            Some(at) => as_attached(target, device, &attached[at], request.hooks)?,
            None => settled(request.policy, target, device)?,
        };
        if entry.is_none() {
            refuse_other_side(attached, &target)?;
        }
        Ok(Fit { target, device, entry })
    };
    request.targets.iter().zip(devices).map(fit).collect()
}

/// An interface has one side: what it may say as a source, and which way is in, hang on it.
fn refuse_other_side(attached: &[AttachedDevice], target: &Target) -> Result<(), KernelError> {
    let Some(side) = target.side else { return Ok(()) };
    let is_other = |one: &&AttachedDevice| {
        one.interface == target.interface && side_of(one.instance.workload) != side
    };
    let Some(other) = attached.iter().find(is_other) else { return Ok(()) };
    Err(KernelError::Request(format!(
        "{} is attached as interface {:?} on side {}, and {} is to be the same on side {}; one interface has one side: give one of them another interface, or `sgctl detach {}` first",
        other.device,
        target.interface,
        side_of(other.instance.workload).name(),
        target.device,
        side.name(),
        other.device
    )))
}

/// The target as what it is attached as, if that is what is wanted.
fn as_attached(
    target: &Target,
    device: &Device,
    attached: &AttachedDevice,
    wanted: Wanted,
) -> Result<Target, KernelError> {
    let refused = |has: String, wanted: String| KernelError::AttachedAlready {
        device: device.name.clone(),
        has,
        wanted,
    };
    if target.interface != attached.interface {
        let words = |name: &str| format!("as interface {name:?}");
        return Err(refused(words(&attached.interface), words(&target.interface)));
    }
    let is_workload = attached.instance.workload;
    let side = side_of(is_workload);
    if target.side.is_some_and(|wanted| wanted != side) {
        let words = |workload| format!("on side {}", if workload { "workload" } else { "host" });
        return Err(refused(words(is_workload), words(!is_workload)));
    }
    let hooks = &attached.attached.hooks;
    if let Some(other) = hooks.iter().find_map(|hook| other_mode(*hook, wanted)) {
        let names: Vec<_> = hooks.iter().map(|hook| hook.name()).collect();
        return Err(refused(format!("by {}", names.join(", ")), format!("by {other}")));
    }
    Ok(Target { side: Some(side), ..target.clone() })
}

/// What was asked for by name, if a hook is something else.
fn other_mode(hook: Hook, wanted: Wanted) -> Option<&'static str> {
    let inward = hook.is_inward();
    let is_xdp = matches!(hook, Hook::XdpNative | Hook::XdpGeneric);
    match (wanted.xdp, wanted.tc) {
        (XdpMode::Native, _) if inward && hook != Hook::XdpNative => Some("--xdp native"),
        (XdpMode::Generic, _) if inward && hook != Hook::XdpGeneric => Some("--xdp generic"),
        (XdpMode::Off, _) if is_xdp => Some("--xdp off"),
        (_, TcMode::Tcx) if !is_xdp && hook.is_clsact() => Some("--tc tcx"),
        (_, TcMode::Clsact) if !is_xdp && !hook.is_clsact() => Some("--tc clsact"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_by_name_can_differ() {
        let wanted = |xdp, tc| Wanted { xdp, tc };
        let auto = wanted(XdpMode::Auto, TcMode::Auto);
        for hook in [Hook::XdpNative, Hook::XdpGeneric, Hook::TcxIngress, Hook::ClsactEgress] {
            assert_eq!(other_mode(hook, auto), None);
        }
        let native = wanted(XdpMode::Native, TcMode::Auto);
        assert_eq!(other_mode(Hook::XdpNative, native), None);
        assert_eq!(other_mode(Hook::TcxEgress, native), None);
        assert_eq!(other_mode(Hook::TcxIngress, native), Some("--xdp native"));
        assert_eq!(other_mode(Hook::XdpGeneric, native), Some("--xdp native"));
        let off = wanted(XdpMode::Off, TcMode::Clsact);
        assert_eq!(other_mode(Hook::XdpNative, off), Some("--xdp off"));
        assert_eq!(other_mode(Hook::TcxIngress, off), Some("--tc clsact"));
        assert_eq!(other_mode(Hook::ClsactIngress, off), None);
    }
}
