//! How a spec is written and read: foreign types by their fields, maps with keys that are no text as
//! lists of pairs.

use serde::{Deserialize, Serialize};
use sg_common::abi::InterfaceVersion;

use crate::policy::model::{Side, Traffic};

pub(crate) use crate::policy::edit::DirectionDef;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Side", rename_all = "lowercase")]
pub(crate) enum SideDef {
    Host,
    Workload,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Traffic", rename_all = "lowercase")]
pub(crate) enum TrafficDef {
    All,
    Ports { protocol: u8, first: u16, last: u16 },
    Icmp { protocol: u8, kind: Option<(u8, Option<u8>)> },
    Protocol(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "InterfaceVersion")]
pub(crate) struct VersionDef {
    policy: u32,
    flags: u32,
    tcp_established: u32,
    udp: u16,
    udp_stream: u16,
    mac: [u8; 6],
    epoch: u16,
    flow_limit: u32,
    flow_base: u32,
}

/// A map as a list of pairs.
pub(crate) mod pairs {
    use std::collections::BTreeMap;
    use std::fmt::{self, Formatter};
    use std::marker::PhantomData;

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_seq(Pairs(PhantomData))
    }

    struct Pairs<K, V>(PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of pairs")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = list.next_element()? {
                map.insert(key, value);
            }
            Ok(map)
        }
    }
}
