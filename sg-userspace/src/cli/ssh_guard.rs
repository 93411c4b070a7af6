//! Keeping whoever types a command from locking themselves out with it.

use ipnet::IpNet;

use crate::compile::{Surroundings, TableSpec, compile};
use crate::kernel::live::{AttachedDevice, Live};
use crate::kernel::session::AttachRequest;
use crate::kernel::transaction::Review;
use crate::kernel::{Device, Paths, read};
use crate::policy::model::Policy;
use crate::ssh::{Fate, Keeping, Session, Way};

/// Refuses a change of what is in force that would cut the ssh session of this process, or keep the next one
/// out; with `force` it only warns.
pub(super) fn reviewer(
    paths: &Paths,
    force: bool,
) -> impl Fn(&Review<'_>) -> Result<(), String> + use<'_> {
    let session = Session::from_environment();
    move |review| {
        let Some(session) = &session else { return Ok(()) };
        let fate = under(session, paths, review.live, review.new)?;
        judge(session, &fate, force)
    }
}

/// What becomes of a session under other tables.
pub(super) fn under(
    session: &Session,
    paths: &Paths,
    live: &Live,
    new: &TableSpec,
) -> Result<Fate, String> {
    let flows = read::flows(paths).map_err(|error| error.to_string())?;
    let ways: Vec<_> = live.devices.iter().map(way).collect();
    Ok(session.fate(Some(&live.tables), new, &ways, Keeping::Tracked(&flows)))
}

/// The same for devices that are about to be attached. Those that are attached already keep their flows, and
/// their policy.
pub(super) fn before_attach(
    paths: &Paths,
    request: &AttachRequest<'_>,
    force: bool,
) -> anyhow::Result<()> {
    let Some(session) = Session::from_environment() else { return Ok(()) };
    let live = Live::read(paths)?;
    let here = Device::namespace_here();
    let is_new = |device: &str| live.as_ref().is_none_or(|it| it.device(device, here).is_none());
    let mut policy: Policy = request.policy.clone();
    let mut surroundings = Surroundings::default();
    let mut ways = Vec::new();
    for target in request.targets.iter().filter(|target| is_new(&target.device)) {
        let addresses = Device::open(&target.device)?.addresses()?;
        let interfaces = policy.vpcs.iter_mut().flat_map(|vpc| &mut vpc.interfaces);
        for interface in interfaces.filter(|one| one.name == target.interface) {
            interface.side = target.side.unwrap_or(interface.side);
        }
        surroundings.local.insert(target.interface.clone());
        let known = surroundings.addresses.entry(target.interface.clone()).or_default();
        known.extend(&addresses);
        let interface = target.interface.clone();
        ways.push(Way { interface, addresses, audit: request.audit });
    }
    let tables = compile(&policy, &surroundings, None)?;
    let keeps = request.adopt || !request.grace.is_zero();
    let keeping = if keeps { Keeping::Adopted } else { Keeping::Nothing };
    let fate = session.fate(None, &tables, &ways, keeping);
    judge(&session, &fate, force).map_err(anyhow::Error::msg)
}

fn judge(session: &Session, fate: &Fate, force: bool) -> Result<(), String> {
    let Some(text) = fate.text(session) else { return Ok(()) };
    if fate.refuses() && !force {
        return Err(format!("{text}; nothing has changed; --force does it all the same"));
    }
    log::warn!("{text}");
    Ok(())
}

fn way(attached: &AttachedDevice) -> Way {
    let is_here = attached.namespace == Device::namespace_here();
    let device = is_here.then(|| Device::open(&attached.device).ok()).flatten();
    let device = device.filter(|device| device.index == attached.index);
    // What cannot be asked has the addresses that the tables say.
    let addresses: Vec<IpNet> =
        device.and_then(|device| device.addresses().ok()).unwrap_or_default();
    Way { interface: attached.interface.clone(), addresses, audit: attached.instance.audit }
}
