//! Reading what the data plane knows: counters, flows, table fill, programs.

use std::net::IpAddr;

use aya::maps::{MapData, PerCpuArray};
use serde::Serialize;
use sg_common::abi::{Counter, Flow, FlowFlags, FlowKey, FlowKind, FlowState, counter_index};
use sg_common::{Address, Direction, Reason, V4, V6, Verdict};

use super::hooks::{self, Hook};
use super::live::{AttachedDevice, Live};
use super::pod::Abi;
use super::{KernelError, Paths, bpf, maps};

pub use super::hits::{RuleHits, rule_hits};

/// Packets of one interface, direction and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// Which way.
    pub direction: &'static str,
    /// The reason's name.
    pub reason: &'static str,
    /// Its verdict.
    pub verdict: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// The reason itself.
    #[serde(skip)]
    pub key: (Direction, Reason),
}

/// Counters of the interface in a slot, without those that are zero.
///
/// # Errors
/// When the map cannot be read.
pub fn counters(paths: &Paths, slot: u16) -> Result<Vec<ReasonCount>, KernelError> {
    read_counters(&maps::counters(&paths.maps())?, slot)
}

pub(super) fn read_counters(
    map: &PerCpuArray<MapData, Abi<Counter>>,
    slot: u16,
) -> Result<Vec<ReasonCount>, KernelError> {
    let mut found = Vec::new();
    for direction in Direction::ALL {
        for &reason in Reason::ALL {
            let values = map
                .get(&counter_index(slot, direction, reason), 0)
                .map_err(|e| KernelError::map("read", "COUNTERS", e))?;
            let packets = values.iter().map(|one| one.0.packets).sum();
            if packets > 0 {
                found.push(ReasonCount {
                    direction: direction.name(),
                    reason: reason.name(),
                    verdict: reason.verdict().name(),
                    packets,
                    bytes: values.iter().map(|one| one.0.bytes).sum(),
                    key: (direction, reason),
                });
            }
        }
    }
    Ok(found)
}

/// Packets dropped in both directions.
#[must_use]
pub fn dropped(counters: &[ReasonCount]) -> u64 {
    counters.iter().filter(|one| one.key.1.verdict() == Verdict::Drop).map(|one| one.packets).sum()
}

/// One tracked flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowRecord {
    /// Slot of its interface.
    pub slot: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The protected end.
    pub local: IpAddr,
    /// Its port; ICMP: identifier or type.
    pub local_port: u16,
    /// The other end.
    pub remote: IpAddr,
    /// Its port; ICMP: type or code.
    pub remote_port: u16,
    /// Who opened it: `ingress` for the remote end.
    pub opened: &'static str,
    /// Where it stands.
    pub state: &'static str,
    /// Whether it is in the protected table.
    pub established: bool,
    /// The rule that let it in.
    pub rule: u32,
    /// Packets of ingress and egress.
    pub packets: [u32; 2],
    /// Bytes of ingress and egress.
    pub bytes: [u64; 2],
    /// Seconds until it dies of idleness.
    pub expires_in: u64,
    /// Whether it was there before the programs.
    pub adopted: bool,
    /// Whether AWS would leave it untracked: it ends as soon as its rule goes.
    pub untracked: bool,
    /// The epoch of its interface when it was last judged.
    #[serde(skip)]
    pub epoch: u16,
    /// What the rules of the direction that opened it look at: destination port, or type and code.
    #[serde(skip)]
    pub rule_port: u16,
    /// What the two ports are: a [`FlowKind`].
    #[serde(skip)]
    pub kind: u8,
}

impl FlowRecord {
    /// Whether the two ports are ports.
    #[must_use]
    pub const fn has_ports(&self) -> bool {
        self.kind == FlowKind::Ports as u8
    }
}

#[cfg(test)]
impl FlowRecord {
    /// An established TCP flow that the remote end opened, for tests to say what matters to them.
    pub(crate) fn sample(slot: u16, local: (IpAddr, u16), remote: (IpAddr, u16)) -> Self {
        Self {
            slot,
            protocol: sg_common::wire::ip::TCP,
            local: local.0,
            local_port: local.1,
            remote: remote.0,
            remote_port: remote.1,
            opened: "ingress",
            state: "established",
            established: true,
            rule: 1,
            packets: [1, 1],
            bytes: [60, 60],
            expires_in: 30,
            adopted: false,
            untracked: false,
            epoch: 0,
            rule_port: local.1,
            kind: FlowKind::Ports as u8,
        }
    }
}

/// Every live flow.
///
/// # Errors
/// When a map cannot be read.
pub fn flows(paths: &Paths) -> Result<Vec<FlowRecord>, KernelError> {
    let now = monotonic();
    let mut found = Vec::new();
    let v4 = |address: V4| IpAddr::from(address.octets());
    let v6 = |address: V6| IpAddr::from(address.octets());
    // Opening tables first: a flow that is promoted meanwhile is found twice rather than not at all.
    collect(paths, ["OPENED_IN_V4", "OPENED_OUT_V4", "FLOWS_V4"], now, v4, &mut found)?;
    collect(paths, ["OPENED_IN_V6", "OPENED_OUT_V6", "FLOWS_V6"], now, v6, &mut found)?;
    Ok(found)
}

fn collect<A: Address>(
    paths: &Paths,
    [opened_in, opened_out, established]: [&'static str; 3],
    now: u64,
    address: fn(A) -> IpAddr,
    found: &mut Vec<FlowRecord>,
) -> Result<(), KernelError>
where
    Abi<FlowKey<A>>: aya::Pod,
{
    for table in [opened_in, opened_out, established] {
        let failed = |source| KernelError::Syscall { call: "read a flow table", source };
        let entries: Vec<(Abi<FlowKey<A>>, Abi<Flow>)> =
            bpf::entries(&paths.maps().join(table)).map_err(failed)?;
        let live = entries.into_iter().filter(|(_, Abi(flow))| flow.deadline > now);
        found.extend(
            live.map(|(Abi(key), Abi(flow))| {
                record(&key, &flow, table == established, now, address)
            }),
        );
    }
    Ok(())
}

/// A flow's entry as a record, whatever table it was in.
pub fn record<A: Address>(
    key: &FlowKey<A>,
    flow: &Flow,
    established: bool,
    now: u64,
    address: fn(A) -> IpAddr,
) -> FlowRecord {
    FlowRecord {
        slot: key.slot.get(),
        protocol: key.protocol,
        local: address(key.local),
        local_port: key.local_port.get(),
        remote: address(key.remote),
        remote_port: key.remote_port.get(),
        opened: flow.opening_direction().name(),
        state: state_name(flow),
        established,
        rule: flow.rule,
        packets: flow.packets,
        bytes: flow.bytes,
        expires_in: flow.deadline.saturating_sub(now) / 1_000_000_000,
        adopted: flow.flags & FlowFlags::ADOPTED != 0,
        untracked: flow.flags & FlowFlags::UNTRACKED != 0,
        epoch: flow.epoch,
        rule_port: sg_common::rule_port(key, flow.opening_direction()).get(),
        kind: key.kind,
    }
}

fn state_name(flow: &Flow) -> &'static str {
    let half_closed = FlowFlags::FIN_FROM_LOCAL | FlowFlags::FIN_FROM_REMOTE;
    match FlowState::from_number(flow.state) {
        Some(FlowState::Established | FlowState::Adopted) if flow.flags & half_closed != 0 => {
            "half-closed"
        }
        Some(state) => state.name(),
        None => "unknown",
    }
}

/// Which state's names are in force: another one may have other rules.
#[must_use]
pub fn names_version(paths: &Paths) -> Option<u64> {
    let generation = maps::generation(&paths.maps()).ok()?;
    super::journal::base(paths, generation)
}

/// The clock that flows and events use.
#[must_use]
pub fn monotonic() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| std::time::Duration::from(now).as_nanos())
        .try_into()
        .unwrap_or(u64::MAX)
}

/// One hook of a device, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookStatus {
    /// Its name.
    pub hook: &'static str,
    /// Identity of the program in it; not told of a clsact filter in another network namespace.
    pub program: Option<u32>,
}

/// The hooks of a device.
#[must_use]
pub fn hook_status(paths: &Paths, device: &AttachedDevice) -> Vec<HookStatus> {
    let status = |hook: &Hook| HookStatus {
        hook: hook.name(),
        program: hooks::program_id(paths, device, *hook),
    };
    device.attached.hooks.iter().map(status).collect()
}

/// How full a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableFill {
    /// Its name.
    pub table: &'static str,
    /// Entries in it.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u32,
}

/// Fill of the tables. Dead flows count until their place is reused.
///
/// # Errors
/// When a map cannot be read.
pub fn table_fill(paths: &Paths, live: &Live) -> Result<Vec<TableFill>, KernelError> {
    let sizes = live.sizes;
    let fill =
        |table, entries: usize, capacity| TableFill { table, entries: entries as u64, capacity };
    let capacities = live.tables.capacities();
    let flows = flows(paths)?;
    let count = |established: bool, v4: bool| {
        flows
            .iter()
            .filter(|one| one.established == established && one.local.is_ipv4() == v4)
            .count()
    };
    Ok(vec![
        fill("flows IPv4", count(true, true), sizes.flows),
        fill("flows IPv6", count(true, false), sizes.flows),
        fill("opening IPv4", count(false, true), sizes.opening.saturating_mul(2)),
        fill("opening IPv6", count(false, false), sizes.opening.saturating_mul(2)),
        fill("permits", capacities.permits, sizes.permits),
        fill("members IPv4", capacities.hosts_v4, sizes.hosts),
        fill("members IPv6", capacities.hosts_v6, sizes.hosts),
        fill("CIDRs IPv4", capacities.cidrs_v4, sizes.cidrs),
        fill("CIDRs IPv6", capacities.cidrs_v6, sizes.cidrs),
    ])
}
