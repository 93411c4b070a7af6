//! What a plan says of live flows is what becomes of them at their next packet.
#![cfg(feature = "kernel")]

#[expect(dead_code, reason = "the rules read aloud are for the compiler's tests")]
mod compile_support;

use std::net::IpAddr;

use compile_support::{edit, local, packets, policy, probe};
use proptest::prelude::*;
use sg_common::{Decision, Direction, LinkLayer, Reason, V4, V6};
use sg_userspace::compile::{Surroundings, TableSpec, compile};
use sg_userspace::engine::{HostTables, Limits, Probe, packet};
use sg_userspace::kernel::read::{FlowRecord, record};
use sg_userspace::plan::flows::LiveFlows;
use sg_userspace::policy::model::{LiveFlows as Setting, Traffic};

const LIMITS: Limits = Limits { clock: 32, flows: 32, opening: 32, fragments: 32 };

fn judge(tables: &HostTables<'_>, mac: Option<[u8; 6]>, probe: &Probe) -> Decision {
    let frame = packet(probe, mac).expect("a frame");
    tables.judge(&frame, probe.direction, LinkLayer::Ethernet, 1)
}

/// The flows that the interface has now.
fn flows(tables: &HostTables<'_>) -> Vec<FlowRecord> {
    let v4 = |address: V4| IpAddr::from(address.octets());
    let v6 = |address: V6| IpAddr::from(address.octets());
    let mut found = Vec::new();
    for opened in Direction::ALL {
        let half_open = tables.half_open::<V4>(opened);
        found.extend(half_open.iter().map(|(key, flow)| record(key, flow, false, 1, v4)));
        let half_open = tables.half_open::<V6>(opened);
        found.extend(half_open.iter().map(|(key, flow)| record(key, flow, false, 1, v6)));
    }
    found
}

/// What a plan says of one flow: goes on by a rule, goes on without, is cut.
fn foretold(flow: &FlowRecord, old: &TableSpec, new: &TableSpec) -> (usize, usize) {
    let LiveFlows { cut, kept_without_rule, .. } =
        LiveFlows::under(std::slice::from_ref(flow), old, new);
    (cut, kept_without_rule)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_is_cut_exactly_where_the_plan_says_so(
        policies in [policy(), policy()],
        edit in edit(),
        bits: u8,
        packets in packets(),
        cuts: bool,
    ) {
        let [old, other] = &policies;
        let mut new = edit.apply(old, other);
        new.live_flows = if cuts { Setting::Cut } else { Setting::Keep };
        let surroundings = Surroundings::of(local(old, bits));
        let before = compile(old, &surroundings, None).expect("a spec");
        let after = compile(&new, &surroundings, Some(&before)).expect("a spec");
        for name in &surroundings.local {
            let interfaces = old.vpcs.iter().flat_map(|vpc| &vpc.interfaces);
            let own = interfaces.clone().find(|it| it.name == *name).expect("an interface");
            let slot = before.slot(name).expect("a slot");
            for &packet in &packets {
                let probe = probe(own, packet);
                let tables = HostTables::new(&before, slot, LIMITS).expect("a slot");
                judge(&tables, own.mac, &probe);
                let entries = flows(&tables);
                let [flow] = entries.as_slice() else { continue };
                let told = foretold(flow, &before, &after);
                let changed = tables.with(&after, slot).expect("a slot");
                let seen = judge(&changed, own.mac, &probe).reason;
                // Of a source that is no longer legal there is nothing to tell.
                if seen != Reason::SourceCheck {
                    let is_cut = seen == Reason::FlowCut;
                    prop_assert_eq!(told.0 == 1, is_cut, "{} {:?}: {:?}", name, probe, seen);
                    let goes_on = seen == Reason::Flow;
                    prop_assert!(is_cut || goes_on, "{} {:?}: {:?}", name, probe, seen);
                }
                let fresh = HostTables::new(&after, slot, LIMITS).expect("a slot");
                let anew = judge(&fresh, own.mac, &probe).reason;
                // A query's entry does not hold its code; it is judged again as code 0.
                let has_code = matches!(probe.traffic, Traffic::Icmp { kind: Some((_, Some(1..))), .. });
                if matches!(anew, Reason::Rule | Reason::NoRule) && !has_code {
                    let without = told.0 + told.1 == 1;
                    prop_assert_eq!(without, anew == Reason::NoRule, "{} {:?}", name, probe);
                }
            }
        }
    }
}
