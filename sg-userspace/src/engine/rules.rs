//! What the rules of a spec allow, asked without a packet: of flows that exist, whose packets would be judged
//! by what they are, not by what opens a flow.

use std::collections::HashMap;
use std::net::IpAddr;

use sg_common::abi::Permit;
use sg_common::{Be16, Direction, V4, V6, permitted};

use super::state::Limits;
use super::tables::HostTables;
use crate::compile::TableSpec;

/// The rules of every local interface of a spec.
pub struct Rules<'s> {
    tables: HashMap<u16, HostTables<'s>>,
}

/// No flow is entered.
const LIMITS: Limits = Limits { clock: 1, flows: 1, opening: 1, fragments: 1 };

impl<'s> Rules<'s> {
    /// The rules of this spec.
    #[must_use]
    pub fn of(spec: &'s TableSpec) -> Self {
        let slots = spec.interfaces.keys();
        let tables =
            slots.filter_map(|&slot| Some((slot, HostTables::new(spec, slot, LIMITS).ok()?)));
        Self { tables: tables.collect() }
    }

    /// The rule by which the interface in a slot allows a flow that opens in this direction; `port` is the
    /// destination port, or ICMP's type and code.
    #[must_use]
    pub fn permit(
        &self,
        slot: u16,
        direction: Direction,
        remote: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<Permit> {
        let (tables, port) = (self.tables.get(&slot)?, Be16::new(port));
        match remote {
            IpAddr::V4(remote) => {
                permitted(tables, V4::new(remote.octets()), direction, protocol, port)
            }
            IpAddr::V6(remote) => {
                permitted(tables, V6::new(remote.octets()), direction, protocol, port)
            }
        }
    }
}
