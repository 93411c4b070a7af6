//! The tables of a policy for what is attached.

use super::commit::Planned;
use super::live::{AttachedDevice, Live};
use super::side::{refuse_turned, side_of};
use super::{KernelError, addresses};
use crate::compile::{Surroundings, TableSpec, compile};
use crate::policy::Policy;
use crate::policy::model::Interface;

/// Compiles a policy for the attached devices: their interfaces, on the sides that they are attached as, with
/// the numbers that are in force.
///
/// # Errors
/// When an attached interface is not in the policy, or is in another VPC there: the programs hold on to both.
pub fn tables_for(live: &Live, policy: &Policy) -> Result<TableSpec, KernelError> {
    tables_with(live, policy, &surroundings(live)?)
}

/// What the compiler is told of what is attached.
///
/// # Errors
/// When a device cannot be asked for its addresses.
pub fn surroundings(live: &Live) -> Result<Surroundings, KernelError> {
    let mut surroundings = Surroundings::default();
    addresses::of_attached(live, &mut surroundings)?;
    Ok(surroundings)
}

/// Whether a change from what is in force to these tables fits the maps.
///
/// # Errors
/// [`KernelError::Capacity`] when it does not.
pub fn fits(live: &Live, tables: &TableSpec) -> Result<(), KernelError> {
    Planned::between(&live.tables, tables, &live.slots, &live.sizes).map(|_planned| ())
}

/// As [`tables_for`], with more that is about to be attached.
pub(super) fn tables_with(
    live: &Live,
    policy: &Policy,
    surroundings: &Surroundings,
) -> Result<TableSpec, KernelError> {
    refuse_misfits(live, policy)?;
    refuse_turned(live, policy)?;
    let policy = as_attached(live, policy);
    let mut tables = compile(&policy, surroundings, Some(&live.tables))?;
    tables.share_flows(live.sizes.flows);
    Ok(tables)
}

fn refuse_misfits(live: &Live, policy: &Policy) -> Result<(), KernelError> {
    for AttachedDevice { device, interface, instance, .. } in &live.devices {
        let request = |why: &str| {
            KernelError::Request(format!(
                "{device} is attached as interface {interface:?}, which {why}; `sgctl detach {device}` first"
            ))
        };
        let vpc = policy
            .vpcs
            .iter()
            .find(|vpc| vpc.interfaces.iter().any(|one| one.name == *interface))
            .ok_or_else(|| request("the policy does not have"))?;
        if live.tables.vpcs.get(&instance.vpc) != Some(&vpc.name) {
            return Err(request(&format!("the policy has in another VPC, {:?}", vpc.name)));
        }
    }
    Ok(())
}

/// The policy, with the sides that devices are attached as, whatever it says.
pub(super) fn as_attached(live: &Live, policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    for interface in policy.vpcs.iter_mut().flat_map(|vpc| &mut vpc.interfaces) {
        if let Some(attached) = attached_as(live, interface) {
            interface.side = side_of(attached.instance.workload);
        }
    }
    policy
}

fn attached_as<'l>(live: &'l Live, interface: &Interface) -> Option<&'l AttachedDevice> {
    live.devices.iter().find(|one| one.interface == interface.name)
}
