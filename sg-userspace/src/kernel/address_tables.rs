//! The tables that lead from addresses to elements of `classes`, all by one trait: written by the batch, read one
//! by one.

use aya::maps::lpm_trie::Key;
use sg_common::abi::{AddressKey, HostKey};
use sg_common::{V4, V6};

use super::KernelError;
use super::batch::Batch;
use super::maps::{Hash, Lpm, PolicyMaps};
use super::pod::Abi;
use crate::compile::{IpAddress, Prefix};

/// A table that leads from addresses to elements of `classes`.
pub(super) trait ClassTable<K> {
    /// Adds keys that are not there.
    fn add(&self, keys: &[K], slots: &[u32]) -> Result<(), KernelError>;
    /// Where a key leads.
    fn slot(&self, key: &K) -> Result<u32, KernelError>;
    /// Removes keys that are there.
    fn remove(&self, keys: &[K]) -> Result<(), KernelError>;
}

/// The prefixes of one family.
pub(super) struct PrefixTable<W: 'static>
where
    Abi<AddressKey<W>>: aya::Pod,
{
    pub(super) map: Lpm<AddressKey<W>>,
    pub(super) batch: Batch<Key<Abi<AddressKey<W>>>, u32>,
}

/// The members of one family.
pub(super) struct HostTable<W: 'static>
where
    Abi<HostKey<W>>: aya::Pod,
{
    pub(super) map: Hash<HostKey<W>, u32>,
    pub(super) batch: Batch<Abi<HostKey<W>>, u32>,
}

impl<A: IpAddress> ClassTable<Prefix<A>> for PrefixTable<A::Wire>
where
    Abi<AddressKey<A::Wire>>: aya::Pod,
{
    fn add(&self, keys: &[Prefix<A>], slots: &[u32]) -> Result<(), KernelError> {
        self.batch.update(&keys.iter().map(prefix_key).collect::<Vec<_>>(), slots)
    }

    fn slot(&self, key: &Prefix<A>) -> Result<u32, KernelError> {
        let found = self.map.get(&prefix_key(key), 0);
        found.map_err(|e| KernelError::map("read", "an address table", e))
    }

    fn remove(&self, keys: &[Prefix<A>]) -> Result<(), KernelError> {
        self.batch.remove(&keys.iter().map(prefix_key).collect::<Vec<_>>())
    }
}

fn prefix_key<A: IpAddress>(prefix: &Prefix<A>) -> Key<Abi<AddressKey<A::Wire>>>
where
    Abi<AddressKey<A::Wire>>: aya::Pod,
{
    let (bits, data) = prefix.key();
    Key::new(bits, Abi(data))
}

impl<A: IpAddress> ClassTable<(u32, A)> for HostTable<A::Wire>
where
    Abi<HostKey<A::Wire>>: aya::Pod,
{
    fn add(&self, keys: &[(u32, A)], slots: &[u32]) -> Result<(), KernelError> {
        self.batch.update_beside(&keys.iter().map(host_key).collect::<Vec<_>>(), slots)
    }

    fn slot(&self, key: &(u32, A)) -> Result<u32, KernelError> {
        let found = self.map.get(&host_key(key), 0);
        found.map_err(|e| KernelError::map("read", "a host table", e))
    }

    fn remove(&self, keys: &[(u32, A)]) -> Result<(), KernelError> {
        self.batch.remove(&keys.iter().map(host_key).collect::<Vec<_>>())
    }
}

fn host_key<A: IpAddress>(&(vpc, address): &(u32, A)) -> Abi<HostKey<A::Wire>> {
    Abi(HostKey { vpc, address: address.wire() })
}

/// The tables of an address family.
pub(super) trait Family: IpAddress {
    type Hosts: ClassTable<(u32, Self)>;
    type Prefixes: ClassTable<Prefix<Self>>;

    fn hosts(maps: &PolicyMaps) -> &Self::Hosts;
    fn cidrs(maps: &PolicyMaps) -> &Self::Prefixes;
    fn own(maps: &PolicyMaps) -> &Self::Prefixes;
}

macro_rules! family {
    ($address:ty, $wire:ty, $hosts:ident, $cidrs:ident, $own:ident) => {
        impl Family for $address {
            type Hosts = HostTable<$wire>;
            type Prefixes = PrefixTable<$wire>;

            fn hosts(maps: &PolicyMaps) -> &Self::Hosts {
                &maps.$hosts
            }

            fn cidrs(maps: &PolicyMaps) -> &Self::Prefixes {
                &maps.$cidrs
            }

            fn own(maps: &PolicyMaps) -> &Self::Prefixes {
                &maps.$own
            }
        }
    };
}

family!(std::net::Ipv4Addr, V4, hosts_v4, cidrs_v4, own_v4);
family!(std::net::Ipv6Addr, V6, hosts_v6, cidrs_v6, own_v6);
