//! Security groups as XDP and TC programs.
//!
//! Nothing is decided here: [`sg_common::decide`] does, on the maps and packets that the other files
//! make visible to it. An entry point builds the context, asks, and turns the verdict into the hook's
//! action.
#![no_std]
#![no_main]
// The only way to the atomic instruction; see atomic.rs.
#![feature(asm_experimental_arch)]

mod atomic;
mod globals;
mod maps;
mod packet;
mod stream;
mod tables;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::info;
use sg_common::{
    Context, Decision, Direction, LinkLayer, Packet, Scratch, Seen, Verdict, adopt, decide, forget,
};

use crate::packet::{TcPacket, XdpPacket};
use crate::tables::KernelTables;

/// Ingress where a host's own device hands packets on before the stack has a buffer for them.
#[xdp(frags)]
fn sg_xdp_ingress(ctx: XdpContext) -> u32 {
    match judge(&ctx, &XdpPacket::new(&ctx), Direction::Ingress) {
        Verdict::Allow => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// Ingress at TC: what arrives on a host's device, what leaves through a workload's.
#[classifier]
fn sg_tc_ingress(ctx: TcContext) -> i32 {
    classify(&ctx, Direction::Ingress)
}

/// Egress at TC: what leaves through a host's device, what arrives on a workload's.
#[classifier]
fn sg_tc_egress(ctx: TcContext) -> i32 {
    classify(&ctx, Direction::Egress)
}

/// Run by the controller alone, never attached: enters one flow that was there before.
#[classifier]
fn sg_adopt(ctx: TcContext) -> i32 {
    let Some(scratch) = tables::scratch() else { return 0 };
    i32::from(adopt(&TcPacket::new(&ctx), &KernelTables, stream::now(), scratch) as u8)
}

/// Run by the controller alone, never attached: forgets one live flow.
#[classifier]
fn sg_forget(ctx: TcContext) -> i32 {
    let Some(scratch) = tables::scratch() else { return 0 };
    i32::from(forget(&TcPacket::new(&ctx), &KernelTables, stream::now(), scratch) as u8)
}

#[inline(always)]
fn classify(ctx: &TcContext, direction: Direction) -> i32 {
    match judge(ctx, &TcPacket::new(ctx), direction) {
        // Unspecified, not OK: programs behind this one still run.
        Verdict::Allow => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn judge<C: EbpfContext, P: Packet>(ctx: &C, packet: &P, direction: Direction) -> Verdict {
    let link = if globals::link_is_ip() { LinkLayer::Ip } else { LinkLayer::Ethernet };
    let context = Context { direction, link, now: stream::now() };
    let Some(scratch) = tables::scratch() else { return Verdict::Drop };
    if globals::trace() {
        scratch.forget();
    }
    let decision = decide(packet, &KernelTables, &context, scratch);
    if globals::replay() {
        stream::leave_decision(decision);
    }
    if globals::trace() {
        trace(ctx, direction, decision, scratch);
    }
    if globals::audit() { Verdict::Allow } else { decision.verdict() }
}

/// One line a packet. The branch to it hangs on a read-only global, so that the verifier removes it from
/// programs that are loaded without `--trace`.
#[inline(never)]
fn trace<C: EbpfContext>(ctx: &C, direction: Direction, decision: Decision, scratch: &Scratch) {
    let Seen { family, protocol, source: [s0, s1, s2, s3], destination: [d0, d1, d2, d3], .. } =
        scratch.seen();
    let Seen { source_port, destination_port, .. } = scratch.seen();
    // Words of addresses as they stand in memory; whoever reads the line knows.
    info!(
        ctx,
        "slot={} direction={} reason={} rule={} protocol={}/{} source={}/{}/{}/{}/{}/{} destination={}/{}/{}/{}/{}/{}",
        globals::slot(),
        direction as u8,
        decision.reason as u8,
        decision.rule,
        family,
        protocol,
        family,
        s0,
        s1,
        s2,
        s3,
        source_port,
        family,
        d0,
        d1,
        d2,
        d3,
        destination_port
    );
}

/// Never called: a panic that can be reached keeps the program from loading.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
