//! The BPF object: loading it for one device, with its read-only globals and the sizes of its maps.

use std::path::Path;

use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use serde::{Deserialize, Serialize};
use sg_common::abi::REASON_SLOTS;
use sg_common::{Direction, LinkLayer, Side};

use super::KernelError;
use crate::compile::RuleSlots;

/// The programs, as the build script compiled them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sg-ebpf"));

/// Sizes of the maps, fixed when the first device is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Interfaces on this machine.
    pub interfaces: u32,
    /// Addresses, CIDRs and own addresses together.
    pub classes: u32,
    /// Permits.
    pub permits: u32,
    /// Rules, whose hits are counted; a power of two.
    pub rules: u32,
    /// Member addresses, per family.
    pub hosts: u32,
    /// CIDRs, per family.
    pub cidrs: u32,
    /// Own addresses, per family.
    pub own: u32,
    /// Established flows, per family; a power of two.
    pub flows: u32,
    /// Flows not yet established, per family and opening side.
    pub opening: u32,
    /// Datagrams in fragments, per family.
    pub fragments: u32,
    /// Bytes of the event ring; a power of two and a multiple of the page size.
    pub events: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            interfaces: 1024,
            classes: 1 << 20,
            permits: 1 << 20,
            rules: RuleSlots::default().number(),
            hosts: 1 << 20,
            cidrs: 1 << 18,
            own: 1 << 14,
            flows: 1 << 17,
            opening: 1 << 15,
            fragments: 1 << 14,
            events: 1 << 22,
        }
    }
}

/// What a program instance is told of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Slot of the interface.
    pub slot: u16,
    /// Number of its VPC.
    pub vpc: u32,
    /// Whether the device is a workload's.
    pub workload: bool,
    /// Whether packets begin with an IP header.
    pub link_is_ip: bool,
    /// Report drops, do not drop.
    pub audit: bool,
    /// Trace every packet through aya-log.
    pub trace: bool,
    /// Take time from a map and leave decisions in one.
    pub replay: bool,
    /// Drops reported per second and processor.
    pub drop_budget: u32,
    /// When the grace time ends in which flows are learnt, in nanoseconds of the monotonic clock; 0: none.
    #[serde(default)]
    pub grace_until: u64,
    /// Report nothing: benchmarks only, which want to know what reporting costs.
    #[serde(default)]
    pub silent: bool,
}

impl Instance {
    /// Of an interface's device.
    #[must_use]
    pub fn new(slot: u16, vpc: u32, side: Side, link: LinkLayer) -> Self {
        Self {
            slot,
            vpc,
            workload: matches!(side, Side::Workload),
            link_is_ip: matches!(link, LinkLayer::Ip),
            audit: false,
            trace: false,
            replay: false,
            drop_budget: DEFAULT_DROP_BUDGET,
            grace_until: 0,
            silent: false,
        }
    }
}

/// Drops reported per second and processor unless `--drop-events` says otherwise.
pub const DEFAULT_DROP_BUDGET: u32 = 1000;

/// Names of the programs in the object.
pub(super) mod program {
    pub(crate) const XDP_INGRESS: &str = "sg_xdp_ingress";
    pub(crate) const TC_INGRESS: &str = "sg_tc_ingress";
    pub(crate) const TC_EGRESS: &str = "sg_tc_egress";
    pub(crate) const ADOPT: &str = "sg_adopt";
    pub(crate) const FORGET: &str = "sg_forget";
}

/// The object with its maps made or found; no program is loaded yet.
pub(super) struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Makes or opens the maps pinned in `pins`, and sets the globals.
    pub(super) fn open(
        pins: &Path,
        sizes: &Sizes,
        instance: &Instance,
    ) -> Result<Self, KernelError> {
        let Sizes {
            interfaces,
            classes,
            permits,
            rules,
            hosts,
            cidrs,
            own,
            flows,
            opening,
            fragments,
            events,
        } = *sizes;
        let counters = interfaces * 2 * REASON_SLOTS;
        let globals = [
            ("SG_SLOT", u32::from(instance.slot)),
            ("SG_VPC", instance.vpc),
            ("SG_SIDE", u32::from(instance.workload)),
            ("SG_LINK_IP", u32::from(instance.link_is_ip)),
            ("SG_AUDIT", u32::from(instance.audit)),
            ("SG_TRACE", u32::from(instance.trace)),
            ("SG_REPLAY", u32::from(instance.replay)),
            ("SG_SILENT", u32::from(instance.silent)),
            ("SG_CLOCK_MASK", flows - 1),
            ("SG_RULE_MASK", rules - 1),
            ("SG_DROP_BUDGET", instance.drop_budget),
        ];
        let mut loader = EbpfLoader::new();
        let mut entries = Vec::new();
        loader.default_map_pin_directory(pins);
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        loader.override_global("SG_GRACE_UNTIL", &instance.grace_until, true);
        for (names, size) in [
            (&["INTERFACES"][..], interfaces),
            (&["CLASSES"], classes),
            (&["PERMITS"], permits),
            (&["RULE_HITS"], rules),
            (&["HOSTS_V4", "HOSTS_V6"], hosts),
            (&["CIDRS_V4", "CIDRS_V6"], cidrs),
            (&["OWN_V4", "OWN_V6"], own),
            (&["FLOWS_V4", "FLOWS_V6", "CLOCK_V4", "CLOCK_V6"], flows),
            (&["OPENED_IN_V4", "OPENED_IN_V6", "OPENED_OUT_V4", "OPENED_OUT_V6"], opening),
            (&["FRAGMENTS_V4", "FRAGMENTS_V6"], fragments),
            (&["HANDS"], interfaces * 2),
            (&["COUNTERS"], counters),
            (&["EVENTS"], events),
        ] {
            for name in names {
                loader.map_max_entries(name, size);
                entries.push((*name, size));
            }
        }
        super::compatible::check(pins, OBJECT, &entries)?;
        let ebpf = loader.load(OBJECT).map_err(|source| KernelError::Object(Box::new(source)))?;
        Ok(Self { ebpf })
    }

    /// Loads the TC program of a direction, unless it is.
    pub(super) fn tc(&mut self, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
        self.classifier(tc_name(direction))
    }

    /// Loads the program that enters flows, unless it is.
    pub(super) fn adopter(&mut self) -> Result<&mut SchedClassifier, KernelError> {
        self.classifier(program::ADOPT)
    }

    /// Loads the program that forgets flows, unless it is.
    pub(super) fn forgetter(&mut self) -> Result<&mut SchedClassifier, KernelError> {
        self.classifier(program::FORGET)
    }

    fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut(name)
            .ok_or(KernelError::ObjectLacks(name))?
            .try_into()
            .map_err(|source| KernelError::program(name, source))?;
        if program.fd().is_err() {
            program.load().map_err(|source| KernelError::program(name, source))?;
        }
        Ok(program)
    }

    /// Loads the XDP program, unless it is.
    pub(super) fn xdp(&mut self) -> Result<&mut Xdp, KernelError> {
        let name = program::XDP_INGRESS;
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .ok_or(KernelError::ObjectLacks(name))?
            .try_into()
            .map_err(|source| KernelError::program(name, source))?;
        if program.fd().is_err() {
            program.load().map_err(|source| KernelError::program(name, source))?;
        }
        Ok(program)
    }

    /// A map that is not pinned.
    pub(super) fn take_map(&mut self, name: &'static str) -> Result<aya::maps::Map, KernelError> {
        self.ebpf.take_map(name).ok_or(KernelError::ObjectLacks(name))
    }
}

pub(super) const fn tc_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => program::TC_INGRESS,
        Direction::Egress => program::TC_EGRESS,
    }
}
