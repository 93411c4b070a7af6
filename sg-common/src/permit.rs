//! Whether a rule allows a new flow: up to three lookups, whatever the number of rules and members.

use crate::abi::{CLASS_NONE, InterfaceFlags, PermitKey};
use crate::judging::Judging;
use crate::{Address, AddressTables, Be16, Family, Tables};

impl<P: ?Sized, T: Tables, const EGRESS: bool> Judging<'_, P, T, EGRESS> {
    /// The rule that allows a new flow with `remote`: of the first peer class that allows it at all, in
    /// the order everybody, groups, CIDRs. `port` is the destination port; ICMP: type and code.
    #[inline(always)]
    pub(crate) fn permit<A: Address>(&self, remote: A, protocol: u8, port: Be16) -> Option<u32>
    where
        T: AddressTables<A>,
    {
        if let Some(rule) = self.anyone(remote).and_then(|class| self.allows(class, protocol, port))
        {
            return Some(rule);
        }
        let class = self.current(self.tables.host_class(remote));
        if let Some(rule) = class.and_then(|class| self.allows(class, protocol, port)) {
            return Some(rule);
        }
        let class = self.current(self.tables.cidr_class(remote));
        class.and_then(|class| self.allows(class, protocol, port))
    }

    #[inline(always)]
    fn allows(&self, class: u32, protocol: u8, port: Be16) -> Option<u32> {
        let policy = self.interface.policy;
        self.tables.permit(&PermitKey::new(policy, class, Self::DIRECTION, protocol, port))
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
