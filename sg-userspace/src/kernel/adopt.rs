//! Adopting what is open already: the sockets behind a device become flows before its programs judge, and
//! those that opened meanwhile right after.
//!
//! Each flow is entered by `sg_adopt`, a program run by BPF_PROG_TEST_RUN: the packet path's own code claims
//! the element of the reclaiming clock, whether programs of other devices run or not.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};

use aya::programs::{TestRun as _, TestRunOptions};
use serde::{Deserialize, Serialize};
use sg_common::abi::{Adopted, AdoptionRequest};
use sg_common::wire::ip;
use zerocopy::IntoBytes as _;

use super::object::{Object, program};
use super::{Device, Instance, KernelError, conntrack, namespace, sock_diag};
use crate::adoption::{Conversation, check_room, conversations, merge, tracked};
use crate::compile::{IpAddress, Prefix, TableSpec};

/// What was adopted with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// Whether the sockets behind the device could be asked; not those behind a tap.
    pub asked: bool,
    /// TCP connections.
    pub tcp: usize,
    /// Connected UDP sockets.
    pub udp: usize,
    /// How many of these no rule allows (`live_flows: keep`).
    pub denied: usize,
    /// How many were not adopted, because no rule allows them (`live_flows: cut`).
    pub cut: usize,
}

/// One device's adoption.
pub(super) struct Adopting<'s> {
    spec: &'s TableSpec,
    slot: u16,
    place: Place,
    /// Those looked at already, entered or not.
    seen: HashSet<(u8, SocketAddr, SocketAddr)>,
    entered: Vec<Conversation>,
    report: Adoption,
}

/// Where the sockets behind a device are.
enum Place {
    Here,
    Namespace(File),
    Unknown,
}

impl<'s> Adopting<'s> {
    /// Finds out where the sockets are.
    pub(super) fn new(spec: &'s TableSpec, instance: &Instance, device: &Device) -> Self {
        let place = if instance.workload {
            // A namespace that cannot be found is as good as none: its flows are learnt in the grace time.
            match namespace::behind(device) {
                Ok(found) => found.map_or(Place::Unknown, Place::Namespace),
                Err(error) => {
                    log::debug!("namespace behind {}: {error}", device.name);
                    Place::Unknown
                }
            }
        } else {
            Place::Here
        };
        let report = Adoption { asked: !matches!(place, Place::Unknown), ..Adoption::default() };
        let slot = instance.slot;
        Self { spec, slot, place, seen: HashSet::new(), entered: Vec::new(), report }
    }

    /// Enters every conversation, before the programs are attached. What an earlier attachment left in the
    /// tables is out of date, unless another device of the interface has kept it going.
    pub(super) fn before(
        &mut self,
        object: &mut Object,
        device: &Device,
        flows: u32,
        interface_is_alive: bool,
    ) -> Result<(), KernelError> {
        let found = self.conversations(device)?;
        let limit =
            self.spec.interfaces.get(&self.slot).map_or(flows, |one| one.version.flow_limit);
        check_room(&found, flows, limit)
            .map_err(|overflow| KernelError::Adoption { device: device.name.clone(), overflow })?;
        let request =
            if interface_is_alive { AdoptionRequest::Add } else { AdoptionRequest::Replace };
        for conversation in found {
            self.enter(object, device, request, conversation)?;
        }
        Ok(())
    }

    /// Enters the connections that were made between the first look and the attachment. From now on
    /// another one needs a rule and has its entry, so one without is older. A UDP socket connects without a
    /// packet, which tells nothing of its age.
    pub(super) fn after(
        &mut self,
        object: &mut Object,
        device: &Device,
    ) -> Result<(), KernelError> {
        for conversation in self.conversations(device)? {
            if conversation.protocol == ip::TCP && !self.seen.contains(&conversation.key()) {
                self.enter(object, device, AdoptionRequest::Add, conversation)?;
            }
        }
        Ok(())
    }

    /// Forgets what was entered.
    pub(super) fn undo(&self, object: &mut Object) {
        for conversation in &self.entered {
            if let Err(error) = run(object, conversation, AdoptionRequest::Remove) {
                log::error!("and then, while forgetting adopted flows: {error}");
                return;
            }
        }
    }

    /// What was adopted.
    pub(super) fn report(&self) -> Adoption {
        self.report
    }

    fn conversations(&self, device: &Device) -> Result<Vec<Conversation>, KernelError> {
        let sockets = match &self.place {
            Place::Here => sock_diag::sockets(),
            Place::Namespace(file) => namespace::inside(file, sock_diag::sockets),
            Place::Unknown => Ok(Vec::new()),
        };
        // What this host forwards has no socket here. Where nobody tracks connections there is no more to know.
        let forwarded = conntrack::tracked().unwrap_or_else(|error| {
            log::debug!("conntrack: {error}");
            Vec::new()
        });
        let failed =
            |source: io::Error| KernelError::Sockets { device: device.name.clone(), source };
        let is_own = |address| is_own(self.spec, self.slot, address);
        Ok(merge(conversations(&sockets.map_err(failed)?, is_own), tracked(&forwarded, is_own)))
    }

    fn enter(
        &mut self,
        object: &mut Object,
        device: &Device,
        request: AdoptionRequest,
        conversation: Conversation,
    ) -> Result<(), KernelError> {
        self.seen.insert(conversation.key());
        match run(object, &conversation, request)? {
            Adopted::Allowed => {}
            Adopted::Kept => self.report.denied += 1,
            Adopted::Cut => {
                self.report.cut += 1;
                return Ok(());
            }
            Adopted::Known | Adopted::Removed => return Ok(()),
            Adopted::Refused => {
                return Err(KernelError::Request(format!("{} takes no flow", program::ADOPT)));
            }
            Adopted::Full | Adopted::Limit => {
                return Err(KernelError::AdoptionRefused {
                    device: device.name.clone(),
                    remote: conversation.remote,
                });
            }
        }
        match conversation.protocol {
            ip::TCP => self.report.tcp += 1,
            _ => self.report.udp += 1,
        }
        self.entered.push(conversation);
        Ok(())
    }
}

/// A try moves the clock's hand over 32 elements at most, and gives up where another processor holds the
/// bucket: one that finds no room does not mean that there is none.
const TRIES: usize = 64;

/// Lets the program do what an adoption asks for.
fn run(
    object: &mut Object,
    conversation: &Conversation,
    request: AdoptionRequest,
) -> Result<Adopted, KernelError> {
    let record = conversation.record(request);
    let program = object.adopter()?;
    let mut last = Adopted::Full;
    for _ in 0..TRIES {
        let options = TestRunOptions { data_in: Some(record.as_bytes()), ..TestRunOptions::new() };
        let result = program
            .test_run(options)
            .map_err(|source| KernelError::program(program::ADOPT, source))?;
        let odd = || KernelError::Request(format!("{} left no result", program::ADOPT));
        last = Adopted::from_number(result.return_value).ok_or_else(odd)?;
        if last != Adopted::Full {
            break;
        }
    }
    Ok(last)
}

/// Whether an interface has the address.
fn is_own(spec: &TableSpec, slot: u16, address: IpAddr) -> bool {
    fn holds<A: IpAddress>(prefix: &Prefix<A>, slot: u16, address: A) -> bool {
        prefix.space == u32::from(slot) && address.masked(prefix.length) == prefix.address
    }
    match address {
        IpAddr::V4(address) => spec.v4.own.iter().any(|prefix| holds(prefix, slot, address)),
        IpAddr::V6(address) => spec.v6.own.iter().any(|prefix| holds(prefix, slot, address)),
    }
}
