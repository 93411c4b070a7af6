//! The maps, pinned by name and shared by the programs of all devices. Sizes here are the smallest that
//! load; the loader sets the real ones.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use sg_common::abi::{
    AddressKey, ClassWord, ClockEntry, Counter, Datagram, DecisionRecord, Flow, FlowKey, HostKey,
    Interface, Permit, PermitKey, RuleCounter, StreamCounters,
};
use sg_common::{Scratch, V4, V6};

use crate::atomic::Counter64;

#[map]
pub(crate) static GENERATION: Array<u64> = Array::pinned(1, 0);
#[map]
pub(crate) static INTERFACES: Array<Interface> = Array::pinned(1, 0);
#[map]
pub(crate) static CLASSES: Array<ClassWord> = Array::pinned(1, BPF_F_MMAPABLE);
#[map]
pub(crate) static PERMITS: LpmTrie<PermitKey, Permit> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static HOSTS_V4: HashMap<HostKey<V4>, u32> = HashMap::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static HOSTS_V6: HashMap<HostKey<V6>, u32> = HashMap::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static CIDRS_V4: LpmTrie<AddressKey<V4>, u32> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static CIDRS_V6: LpmTrie<AddressKey<V6>, u32> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static OWN_V4: LpmTrie<AddressKey<V4>, u32> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static OWN_V6: LpmTrie<AddressKey<V6>, u32> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static FLOWS_V4: HashMap<FlowKey<V4>, Flow> = HashMap::pinned(1, 0);
#[map]
pub(crate) static FLOWS_V6: HashMap<FlowKey<V6>, Flow> = HashMap::pinned(1, 0);
#[map]
pub(crate) static OPENED_IN_V4: LruHashMap<FlowKey<V4>, Flow> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static OPENED_IN_V6: LruHashMap<FlowKey<V6>, Flow> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static OPENED_OUT_V4: LruHashMap<FlowKey<V4>, Flow> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static OPENED_OUT_V6: LruHashMap<FlowKey<V6>, Flow> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static FRAGMENTS_V4: LruHashMap<FlowKey<V4>, Datagram> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static FRAGMENTS_V6: LruHashMap<FlowKey<V6>, Datagram> = LruHashMap::pinned(1, 0);
#[map]
pub(crate) static CLOCK_V4: Array<ClockEntry<V4>> = Array::pinned(1, 0);
#[map]
pub(crate) static CLOCK_V6: Array<ClockEntry<V6>> = Array::pinned(1, 0);
/// Where the hands of each interface stand: IPv4, IPv6 in turn.
#[map]
pub(crate) static HANDS: Array<Counter64> = Array::pinned(2, 0);
/// Established flows of other protocols than TCP: IPv4, IPv6.
#[map]
pub(crate) static OTHERS: Array<Counter64> = Array::pinned(2, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counter> = PerCpuArray::pinned(1, 0);
/// Indexed by the low bits of a rule's number.
#[map]
pub(crate) static RULE_HITS: PerCpuArray<RuleCounter> = PerCpuArray::pinned(1, 0);
#[map]
pub(crate) static STREAM: PerCpuArray<StreamCounters> = PerCpuArray::pinned(1, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::pinned(4096, 0);

/// Working memory of the packet at hand.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// A number that the verifier is to forget; see `packet.rs`.
#[map]
pub(crate) static NUMBER: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Test runs only: the time to judge by, and the decision taken.
#[map]
pub(crate) static REPLAY_TIME: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static REPLAY_DECISION: PerCpuArray<DecisionRecord> =
    PerCpuArray::with_max_entries(1, 0);
