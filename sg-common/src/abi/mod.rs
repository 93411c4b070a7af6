//! The contract between the programs in the kernel and the controller: keys, values and records of the
//! maps, byte for byte. Nothing has padding that is not written; no enum crosses the border. A change of any size or meaning here raises [`ABI_VERSION`]; the test at the end
//! holds the sizes against it.

mod adoption;
mod datagram;
mod event;
mod flow;
mod forgetting;
mod keys;
mod values;
mod word;

pub use adoption::{Adopted, Adoption, AdoptionRequest};
pub use datagram::{Datagram, DatagramCell, DatagramVerdict};
pub use event::{Event, EventKind};
pub use flow::{Flow, FlowCell, FlowFlags, FlowState};
pub use forgetting::{Forgetting, Forgotten};
pub use keys::{AddressKey, FlowKey, FlowKind, HostKey, PermitKey, VPC_BITS};
pub use values::{
    CLASS_ANYONE_V4, CLASS_ANYONE_V6, CLASS_FIRST_FREE, CLASS_NONE, ClassWord, ClockEntry, Counter,
    DecisionRecord, INTERFACE_FLAGS, Interface, InterfaceFlags, InterfaceVersion, Permit,
    REASON_SLOTS, RuleCounter, StreamCounters, counter_index,
};

/// Version of everything in this module; part of the pin path, so that programs and controllers of
/// different versions never share a map.
pub const ABI_VERSION: u32 = 3;

#[cfg(test)]
mod tests {
    use core::mem::size_of;

    use super::*;
    use crate::{V4, V6};

    #[test]
    fn sizes_belong_to_the_version() {
        let sizes = [
            size_of::<FlowKey<V4>>(),
            size_of::<FlowKey<V6>>(),
            size_of::<HostKey<V4>>(),
            size_of::<HostKey<V6>>(),
            size_of::<AddressKey<V4>>(),
            size_of::<AddressKey<V6>>(),
            size_of::<PermitKey>(),
            size_of::<Flow>(),
            size_of::<FlowCell>(),
            size_of::<Datagram>(),
            size_of::<ClockEntry<V4>>(),
            size_of::<ClockEntry<V6>>(),
            size_of::<Interface>(),
            size_of::<Event>(),
            size_of::<Counter>(),
            size_of::<StreamCounters>(),
            size_of::<DecisionRecord>(),
            size_of::<Adoption>(),
            size_of::<RuleCounter>(),
            size_of::<Forgetting>(),
        ];
        assert_eq!(
            (ABI_VERSION, sizes),
            (3, [16, 40, 8, 20, 8, 20, 12, 64, 64, 40, 24, 48, 64, 88, 16, 40, 8, 56, 32, 56])
        );
    }
}
