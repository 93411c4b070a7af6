//! `sgctl attach --max-...`: sizes of the kernel's tables.

use clap::builder::RangedU64ValueParser;

use crate::kernel::Sizes;

/// Sizes of the kernel's tables.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sizes of the kernel's tables (fixed by the first attach)")]
pub(super) struct SizeArguments {
    /// Established flows per address family, rounded up to a power of two
    #[arg(long, value_name = "N", value_parser = up_to(1 << 27))]
    max_flows: Option<u32>,
    /// Addresses of group members per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_members: Option<u32>,
    /// CIDRs and prefix list entries per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_cidrs: Option<u32>,
    /// Permits: rules times the classes of peers that they name
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_permits: Option<u32>,
    /// Rules of all attached interfaces, rounded up to a power of two
    #[arg(long, value_name = "N", value_parser = up_to(1 << 24))]
    max_rules: Option<u32>,
    /// Members, CIDRs and own addresses together, both families
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_addresses: Option<u32>,
    /// Interfaces on this machine
    #[arg(long, value_name = "N", value_parser = up_to(1 << 16))]
    max_interfaces: Option<u32>,
    /// Addresses of the interfaces themselves, per address family
    #[arg(long, value_name = "N", value_parser = up_to(1 << 30))]
    max_own_addresses: Option<u32>,
}

fn up_to(most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=most)
}

impl SizeArguments {
    fn all(&self) -> [Option<u32>; 8] {
        [
            self.max_flows,
            self.max_members,
            self.max_cidrs,
            self.max_permits,
            self.max_rules,
            self.max_addresses,
            self.max_interfaces,
            self.max_own_addresses,
        ]
    }

    /// Whether any was named.
    pub(super) fn is_given(&self) -> bool {
        self.all().iter().any(Option::is_some)
    }

    /// Those named, and the usual ones.
    pub(super) fn sizes(&self) -> Sizes {
        let usual = Sizes::default();
        Sizes {
            flows: self.max_flows.map_or(usual.flows, u32::next_power_of_two),
            hosts: self.max_members.unwrap_or(usual.hosts),
            cidrs: self.max_cidrs.unwrap_or(usual.cidrs),
            permits: self.max_permits.unwrap_or(usual.permits),
            rules: self.max_rules.map_or(usual.rules, u32::next_power_of_two),
            classes: self.max_addresses.unwrap_or(usual.classes),
            interfaces: self.max_interfaces.unwrap_or(usual.interfaces),
            own: self.max_own_addresses.unwrap_or(usual.own),
            ..usual
        }
    }
}
