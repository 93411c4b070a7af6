//! The types of `sg_common::abi` as keys and values of aya's maps.

use sg_common::abi::{
    AddressKey, ClassWord, ClockEntry, Counter, Datagram, DecisionRecord, Flow, FlowKey, HostKey,
    Interface, PermitKey, RuleCounter, StreamCounters,
};
use sg_common::{V4, V6};

/// A type of the ABI, as it stands in a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Abi<T>(pub(crate) T);

macro_rules! plain_old_data {
    ($($kind:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)` without padding (the ABI's test asserts the sizes), and every bit pattern is
        // a value.
        unsafe impl aya::Pod for Abi<$kind> {}
    )+};
}

plain_old_data!(
    AddressKey<V4>,
    AddressKey<V6>,
    ClassWord,
    ClockEntry<V4>,
    ClockEntry<V6>,
    Counter,
    Datagram,
    DecisionRecord,
    Flow,
    FlowKey<V4>,
    FlowKey<V6>,
    HostKey<V4>,
    HostKey<V6>,
    Interface,
    PermitKey,
    RuleCounter,
    StreamCounters,
);
