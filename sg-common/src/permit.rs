//! Whether a rule allows a new flow: up to three lookups, whatever the number of rules and members.

use crate::abi::{CLASS_NONE, InterfaceFlags, Permit, PermitKey};
use crate::judging::Judging;
use crate::{Address, AddressTables, Be16, Direction, Family, LinkLayer, Tables};

/// What is asked of the rules.
#[derive(Clone, Copy)]
pub(crate) struct Question<A> {
    /// The other end.
    pub(crate) remote: A,
    /// Which way the flow opens.
    pub(crate) direction: Direction,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// Destination port; ICMP: type and code. `None`: does some port, type or code do?
    pub(crate) port: Option<Be16>,
}

/// The rule that allows a new flow, by the tables alone: no packet is judged, no flow looked up.
/// `port` is the destination port, or ICMP's type and code.
pub fn permitted<A: Address, T: Tables + AddressTables<A>>(
    tables: &T,
    remote: A,
    direction: Direction,
    protocol: u8,
    port: Be16,
) -> Option<Permit> {
    let generation = tables.generation();
    let interface = tables.interface(generation)?;
    // A question names its own direction, and neither link nor time decides it.
    let link = LinkLayer::Ethernet;
    let judging =
        Judging::<[u8], T, false> { packet: &[], tables, link, interface, generation, now: 0 };
    judging.permit(Question { remote, direction, protocol, port: Some(port) })
}

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// The rule that allows a new flow: of the first peer class that allows it at all, in the order
    /// everybody, groups, CIDRs.
    #[inline(always)]
    pub(crate) fn permit<A: Address>(&self, question: Question<A>) -> Option<Permit>
    where
        T: AddressTables<A>,
    {
        let Question { remote, .. } = question;
        let class = self.anyone(remote);
        if let Some(permit) = class.and_then(|class| self.allows(class, &question)) {
            return Some(permit);
        }
        let class = self.current(self.tables.host_class(remote));
        if let Some(permit) = class.and_then(|class| self.allows(class, &question)) {
            return Some(permit);
        }
        let class = self.current(self.tables.cidr_class(remote));
        class.and_then(|class| self.allows(class, &question))
    }

    #[inline(always)]
    fn allows<A: Address>(&self, class: u32, question: &Question<A>) -> Option<Permit> {
        let policy = self.interface.policy;
        let Question { direction, protocol, port, .. } = *question;
        let mut key = PermitKey::new(policy, class, direction, protocol, port.unwrap_or_default());
        let found = self.tables.permit(&key);
        if found.is_some() || port.is_some() {
            return found;
        }
        // No permit leaves the port open. Is there one for some port?
        key.direction |= PermitKey::SOME_PORT;
        self.tables.permit(&key)
    }

    /// The class in a class slot, in the version that counts now.
    #[inline(always)]
    fn current(&self, class_slot: Option<u32>) -> Option<u32> {
        match self.tables.class(class_slot?).version(self.generation) {
            CLASS_NONE => None,
            class => Some(class),
        }
    }

    /// The class of everybody, unless the dialect takes link-local addresses out of it.
    #[inline(always)]
    fn anyone<A: Address>(&self, remote: A) -> Option<u32> {
        let narrowed = matches!(A::FAMILY, Family::V4)
            && self.has(InterfaceFlags::ANYONE_WITHOUT_LINK_LOCAL)
            && remote.is_link_local();
        if narrowed { None } else { Some(A::ANYONE) }
    }
}
