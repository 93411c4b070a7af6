//! On which side a device is attached. The wrong one turns the firewall round without a word: what was meant for
//! arrivals is asked of departures. So nothing is guessed, and nothing is said once and forgotten.
//!
//! The policy's `side` counts for the devices that its interface names, and the command line may not say otherwise:
//! the next attach would not know. Of other devices the command line decides. Where it says nothing, the device must
//! not look like the opposite.

use ipnet::IpNet;

use super::live::{AttachedDevice, Live};
use super::session::Target;
use super::{Device, KernelError};
use crate::policy::Policy;
use crate::policy::model::{Interface, Side};

/// What a device looks like, seen from an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// It has an address of the interface: it is the protected host's own.
    Own,
    /// A veth or tap without one: it is the host's end of something else's.
    Foreign,
    /// A device without one, of a kind that both ends use.
    Either,
    /// The interface has whatever addresses the device has.
    Whatever,
}

/// The target with its side settled.
pub(super) fn settled(
    policy: &Policy,
    target: &Target,
    device: &Device,
) -> Result<Target, KernelError> {
    let Some(interface) = interface(policy, &target.interface) else { return Ok(target.clone()) };
    let is_named = interface.devices.contains(&device.name);
    let looks = looks(interface, device)?;
    let side = choose(interface, &device.name, target.side, is_named, looks)?;
    Ok(Target { side: Some(side), ..target.clone() })
}

/// Refuses a policy that names an attached device on the other side: it would count at the next attach.
pub(super) fn refuse_turned(live: &Live, policy: &Policy) -> Result<(), KernelError> {
    for AttachedDevice { device, interface: name, instance, .. } in &live.devices {
        let Some(interface) = interface(policy, name) else { continue };
        let attached = side_of(instance.workload);
        if interface.side != attached && interface.devices.contains(device) {
            return Err(KernelError::Request(format!(
                "{device} is attached as interface {name:?} on side {}, which the policy has on side {}; mend the policy, or `sgctl detach {device}` first",
                attached.name(),
                interface.side.name()
            )));
        }
    }
    Ok(())
}

/// The side of programs that were told so.
pub(super) const fn side_of(is_workload: bool) -> Side {
    if is_workload { Side::Workload } else { Side::Host }
}

fn interface<'p>(policy: &'p Policy, name: &str) -> Option<&'p Interface> {
    policy.vpcs.iter().flat_map(|vpc| &vpc.interfaces).find(|one| one.name == name)
}

fn choose(
    interface: &Interface,
    device: &str,
    asked: Option<Side>,
    is_named: bool,
    looks: Looks,
) -> Result<Side, KernelError> {
    let (name, side) = (&interface.name, interface.side);
    let refused = |why: String| Err(KernelError::Request(why));
    match (asked, looks) {
        (Some(asked), _) if is_named && asked != side => refused(format!(
            "the policy has {device}, interface {name:?}, on side {}, and the command line on side {}; what the command line says is forgotten with the next detach, so write `side: {}` beside `device: {device}` in the policy",
            side.name(),
            asked.name(),
            asked.name()
        )),
        (Some(asked), _) => Ok(asked),
        (None, Looks::Own) if side == Side::Workload => refused(format!(
            "{device} itself has an address of interface {name:?}, so it looks like the protected host's own device, and the policy has it on side workload, where everything is judged the other way round; {}",
            advice(device, side, is_named)
        )),
        (None, Looks::Foreign) if side == Side::Host => refused(format!(
            "{device} is a veth or tap without an address of interface {name:?}, so it looks like the host's end of a workload's, and the policy has it on side host, where everything is judged the other way round; {}",
            advice(device, side, is_named)
        )),
        (None, Looks::Either) if side == Side::Host && !is_named => refused(format!(
            "the policy does not name {device}, and {device} has no address of interface {name:?}: say which end of it is protected, --side host or --side workload"
        )),
        (None, _) => Ok(side),
    }
}

/// What mends it, and what insists.
fn advice(device: &str, side: Side, is_named: bool) -> String {
    let other = match side {
        Side::Host => Side::Workload,
        Side::Workload => Side::Host,
    };
    if is_named {
        format!(
            "write `side: {}` beside `device: {device}` in the policy, or insist with --side {}",
            other.name(),
            side.name()
        )
    } else {
        format!("say which it is: --side {}, or --side {}", other.name(), side.name())
    }
}

fn looks(interface: &Interface, device: &Device) -> Result<Looks, KernelError> {
    if interface.auto_addresses {
        return Ok(Looks::Whatever);
    }
    Ok(appearance(&interface.addresses, &device.addresses()?, device.is_a_pair_or_tap()))
}

/// A prefix of the interface proves nothing: a workload's gateway may have its address out of it.
fn appearance(own: &[IpNet], on_device: &[IpNet], is_pair_or_tap: bool) -> Looks {
    let is_in = |own: &IpNet| on_device.iter().any(|found| own.contains(&found.addr()));
    let found: Vec<_> = own.iter().filter(|own| is_in(own)).collect();
    if found.iter().any(|net| net.prefix_len() == net.max_prefix_len()) {
        Looks::Own
    } else if found.is_empty() && is_pair_or_tap {
        Looks::Foreign
    } else {
        Looks::Either
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(side: &str) -> Policy {
        let text = format!(
            "vpcs: [{{name: v, cidrs: [10.0.0.0/8], interfaces: [{{name: web, addresses: [10.0.0.1], device: eth0{side}}}]}}]\n"
        );
        crate::policy::load("policy.yaml", &text).expect("a policy").policy
    }

    /// Which side comes of it; `None`: refused.
    fn chosen(side: &str, asked: Option<Side>, is_named: bool, looks: Looks) -> Option<Side> {
        let policy = policy(side);
        let interface = interface(&policy, "web").expect("the interface");
        choose(interface, "eth0", asked, is_named, looks).ok()
    }

    #[test]
    fn a_device_is_known_by_the_addresses_of_its_own() {
        let nets = |nets: &[&str]| -> Vec<IpNet> {
            nets.iter().map(|net| net.parse().expect("a block")).collect()
        };
        for (own, on_device, is_pair_or_tap, expected) in [
            (&["10.0.0.1/32"][..], &["10.0.0.1/32"][..], true, Looks::Own),
            (&["10.0.0.1/32"], &["10.0.0.2/32"], true, Looks::Foreign),
            (&["10.0.0.1/32"], &[], true, Looks::Foreign),
            (&["10.0.0.1/32"], &[], false, Looks::Either),
            (&["10.0.0.0/24"], &["10.0.0.1/32"], true, Looks::Either),
            (&["10.0.0.0/24", "10.0.0.1/32"], &["10.0.0.1/32"], true, Looks::Own),
        ] {
            let got = appearance(&nets(own), &nets(on_device), is_pair_or_tap);
            assert_eq!(got, expected, "{own:?} {on_device:?}");
        }
    }

    #[test]
    fn nothing_is_turned_round_in_silence() {
        use Looks::{Either, Foreign, Own, Whatever};
        use Side::{Host, Workload};
        let (silent, workload) = ("", ", side: workload");
        for (side, asked, is_named, looks, expected) in [
            (silent, None, true, Own, Some(Host)),
            (silent, None, true, Either, Some(Host)),
            (silent, None, true, Whatever, Some(Host)),
            (silent, None, true, Foreign, None),
            (silent, Some(Host), true, Foreign, Some(Host)),
            // It would be forgotten.
            (silent, Some(Workload), true, Foreign, None),
            (silent, Some(Workload), true, Either, None),
            (workload, Some(Host), true, Own, None),
            (workload, None, true, Foreign, Some(Workload)),
            (workload, None, true, Either, Some(Workload)),
            (workload, None, true, Own, None),
            (workload, Some(Workload), true, Own, Some(Workload)),
            // A device that the policy does not name.
            (silent, None, false, Own, Some(Host)),
            (silent, None, false, Either, None),
            (silent, None, false, Foreign, None),
            (silent, Some(Workload), false, Foreign, Some(Workload)),
            (silent, Some(Host), false, Either, Some(Host)),
            (workload, Some(Host), false, Own, Some(Host)),
            (workload, None, false, Own, None),
        ] {
            let got = chosen(side, asked, is_named, looks);
            assert_eq!(got, expected, "{side:?} {asked:?} {is_named} {looks:?}");
        }
    }
}
