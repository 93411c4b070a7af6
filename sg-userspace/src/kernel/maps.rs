//! Typed handles of the pinned maps.

use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use sg_common::abi::{
    AddressKey, ClassWord, ClockEntry, Counter, Datagram, Flow, FlowKey, HostKey, Interface,
    PermitKey, StreamCounters,
};
use sg_common::{V4, V6};

use super::KernelError;
use super::address_tables::{HostTable, PrefixTable};
use super::batch::Batch;
use super::hits::RuleTable;
use super::pod::Abi;
use super::words::Words;

pub(super) type Lpm<K> = LpmTrie<MapData, Abi<K>, u32>;
pub(super) type Hash<K, V> = HashMap<MapData, Abi<K>, V>;

/// The maps that hold the policy.
pub(super) struct PolicyMaps {
    pub(super) generation: Array<MapData, u64>,
    pub(super) interfaces: Array<MapData, Abi<Interface>>,
    pub(super) classes: Words,
    pub(super) permits: Lpm<PermitKey>,
    pub(super) rules: RuleTable,
    pub(super) hosts_v4: HostTable<V4>,
    pub(super) hosts_v6: HostTable<V6>,
    pub(super) cidrs_v4: PrefixTable<V4>,
    pub(super) cidrs_v6: PrefixTable<V6>,
    pub(super) own_v4: PrefixTable<V4>,
    pub(super) own_v6: PrefixTable<V6>,
    pub(super) batches: Batches,
}

/// Those that are written by the batch besides.
pub(super) struct Batches {
    pub(super) permits: Batch<Key<Abi<PermitKey>>, u32>,
}

/// The generation in force, for whoever wants nothing else of the maps.
pub(super) fn generation(pins: &Path) -> Result<u64, KernelError> {
    read_generation(&generation_word(pins)?)
}

/// Where the generation in force stands, for whoever looks more than once.
pub(super) fn generation_word(pins: &Path) -> Result<Array<MapData, u64>, KernelError> {
    open(pins, "GENERATION")
}

pub(super) fn read_generation(map: &Array<MapData, u64>) -> Result<u64, KernelError> {
    map.get(&0, 0).map_err(|e| KernelError::map("read", "GENERATION", e))
}

/// Opens one pinned map as the type it must have.
pub(super) fn open<M>(pins: &Path, name: &'static str) -> Result<M, KernelError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let failed = |source| KernelError::map("open", name, source);
    let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
    Map::from_map_data(data).and_then(M::try_from).map_err(failed)
}

fn hosts<W: 'static>(pins: &Path, name: &'static str) -> Result<HostTable<W>, KernelError>
where
    Abi<HostKey<W>>: aya::Pod,
{
    Ok(HostTable { map: open(pins, name)?, batch: Batch::open(pins, name)? })
}

fn prefixes<W: 'static>(pins: &Path, name: &'static str) -> Result<PrefixTable<W>, KernelError>
where
    Abi<AddressKey<W>>: aya::Pod,
{
    Ok(PrefixTable { map: open(pins, name)?, batch: Batch::open(pins, name)? })
}

impl PolicyMaps {
    pub(super) fn open(pins: &Path) -> Result<Self, KernelError> {
        // Its type is compared here, and its size is told.
        let classes: Array<MapData, Abi<ClassWord>> = open(pins, "CLASSES")?;
        Ok(Self {
            generation: generation_word(pins)?,
            interfaces: open(pins, "INTERFACES")?,
            classes: Words::open(pins, "CLASSES", classes.len())?,
            permits: open(pins, "PERMITS")?,
            rules: RuleTable::open(pins)?,
            hosts_v4: hosts(pins, "HOSTS_V4")?,
            hosts_v6: hosts(pins, "HOSTS_V6")?,
            cidrs_v4: prefixes(pins, "CIDRS_V4")?,
            cidrs_v6: prefixes(pins, "CIDRS_V6")?,
            own_v4: prefixes(pins, "OWN_V4")?,
            own_v6: prefixes(pins, "OWN_V6")?,
            batches: Batches { permits: Batch::open(pins, "PERMITS")? },
        })
    }

    pub(super) fn generation(&self) -> Result<u64, KernelError> {
        read_generation(&self.generation)
    }
}

/// The flow tables of one family.
pub(super) struct FlowMaps<A: 'static>
where
    Abi<FlowKey<A>>: aya::Pod,
    Abi<ClockEntry<A>>: aya::Pod,
{
    pub(super) established: Hash<FlowKey<A>, Abi<Flow>>,
    pub(super) opened_in: Hash<FlowKey<A>, Abi<Flow>>,
    pub(super) opened_out: Hash<FlowKey<A>, Abi<Flow>>,
    pub(super) fragments: Hash<FlowKey<A>, Abi<Datagram>>,
    pub(super) clock: Array<MapData, Abi<ClockEntry<A>>>,
}

pub(super) fn flows_v4(pins: &Path) -> Result<FlowMaps<V4>, KernelError> {
    Ok(FlowMaps {
        established: open(pins, "FLOWS_V4")?,
        opened_in: open(pins, "OPENED_IN_V4")?,
        opened_out: open(pins, "OPENED_OUT_V4")?,
        fragments: open(pins, "FRAGMENTS_V4")?,
        clock: open(pins, "CLOCK_V4")?,
    })
}

pub(super) fn flows_v6(pins: &Path) -> Result<FlowMaps<V6>, KernelError> {
    Ok(FlowMaps {
        established: open(pins, "FLOWS_V6")?,
        opened_in: open(pins, "OPENED_IN_V6")?,
        opened_out: open(pins, "OPENED_OUT_V6")?,
        fragments: open(pins, "FRAGMENTS_V6")?,
        clock: open(pins, "CLOCK_V6")?,
    })
}

pub(super) fn counters(pins: &Path) -> Result<PerCpuArray<MapData, Abi<Counter>>, KernelError> {
    open(pins, "COUNTERS")
}

pub(super) fn stream(
    pins: &Path,
) -> Result<PerCpuArray<MapData, Abi<StreamCounters>>, KernelError> {
    open(pins, "STREAM")
}

pub(super) fn events(pins: &Path) -> Result<RingBuf<MapData>, KernelError> {
    open(pins, "EVENTS")
}
