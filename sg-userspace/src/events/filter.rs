//! Which events a reader wants.

use ipnet::IpNet;
use sg_common::Direction;
use sg_common::abi::EventKind;

use super::Record;

/// Each field that is given must fit; an empty list and `None` fit everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Name of the interface.
    pub interface: Option<String>,
    /// One of these kinds.
    pub kinds: Vec<EventKind>,
    /// Which way.
    pub direction: Option<Direction>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Holds one of the two ends.
    pub address: Option<IpNet>,
    /// Port of one of the two ends.
    pub port: Option<u16>,
    /// Part of the rule in words, whatever the case.
    pub rule: Option<String>,
}

impl Filter {
    /// Whether a record is wanted.
    #[must_use]
    pub fn fits(&self, record: &Record) -> bool {
        self.interface.as_ref().is_none_or(|name| *name == record.interface)
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && self.direction.is_none_or(|way| way == record.way)
            && self.fits_ends(record)
            && self.rule.as_ref().is_none_or(|part| {
                let part = part.to_lowercase();
                record.rule.as_ref().is_some_and(|rule| rule.to_lowercase().contains(&part))
            })
    }

    fn fits_ends(&self, record: &Record) -> bool {
        let addresses = [record.source, record.destination];
        let ports = [record.source_port, record.destination_port];
        let has_protocol = |number| record.protocol.is_some() && record.number == number;
        self.protocol.is_none_or(has_protocol)
            && self
                .address
                .is_none_or(|net| addresses.iter().flatten().any(|one| net.contains(one)))
            && self.port.is_none_or(|port| ports.contains(&Some(port)))
    }
}
