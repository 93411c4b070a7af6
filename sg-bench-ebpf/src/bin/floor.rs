//! The floors that program cost is held against, XDP programs by hand that share nothing with the packet path: what
//! that path does better or worse must not move them. X reads a packet's headers: Ethernet, IPv4 with its real header
//! length or IPv6, lengths compared, no fragments, TCP or UDP ports. F looks one flow up besides, by a key as long as
//! the packet path's in a hash table of the same type whose values are as large, and reads one word of what it finds.
//! Neither counts what goes well, which would cost something: misses are counted.
#![no_std]
#![no_main]
// Loads that need not be aligned.
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use sg_common::abi::{Flow, FlowKey};
use sg_common::{V4, V6};

#[path = "../bytes.rs"]
mod bytes;
#[path = "../object.rs"]
mod object;

use bytes::{behind, unaligned_load};

type KeyV4 = [u64; 2];
type KeyV6 = [u64; 5];

const _: () = assert!(size_of::<KeyV4>() == size_of::<FlowKey<V4>>());
const _: () = assert!(size_of::<KeyV6>() == size_of::<FlowKey<V6>>());

#[map]
static FLOOR_V4: HashMap<KeyV4, Flow> = HashMap::with_max_entries(1, 0);
#[map]
static FLOOR_V6: HashMap<KeyV6, Flow> = HashMap::with_max_entries(1, 0);
/// A value to insert, which is not on the stack.
#[map]
static VALUE: PerCpuArray<Flow> = PerCpuArray::with_max_entries(1, 0);
/// Packets that were not what they should be.
#[map]
static MISSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Packets that a filter has read.
#[map]
static READ: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where the network header begins.
const NETWORK: usize = 14;
/// Ethertypes as they stand in memory.
const IPV4: u64 = 0x0800_u16.to_be() as u64;
const IPV6: u64 = 0x86dd_u16.to_be() as u64;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const PORTS: usize = 8;

/// What is done with a key; whether it came out well.
trait Task {
    /// IPv4.
    fn v4(key: &KeyV4) -> bool;
    /// IPv6.
    fn v6(key: &KeyV6) -> bool;
}

/// X.
struct Parse;

impl Task for Parse {
    #[inline(always)]
    fn v4(key: &KeyV4) -> bool {
        key[1] != 0
    }

    #[inline(always)]
    fn v6(key: &KeyV6) -> bool {
        key[4] != 0
    }
}

/// F.
struct Lookup;

impl Task for Lookup {
    #[inline(always)]
    fn v4(key: &KeyV4) -> bool {
        FLOOR_V4.get_ptr(key).is_some_and(is_live)
    }

    #[inline(always)]
    fn v6(key: &KeyV6) -> bool {
        FLOOR_V6.get_ptr(key).is_some_and(is_live)
    }
}

/// Reads the word that tells whether a flow lives.
#[inline(always)]
fn is_live(flow: *const Flow) -> bool {
    // SAFETY: an element of a preallocated map stays mapped.
    let deadline = unsafe { &raw const (*flow).deadline };
    // SAFETY: likewise; volatile, or nothing would be read.
    unsafe { deadline.read_volatile() != 0 }
}

/// Fills the table of F.
struct Fill;

impl Task for Fill {
    #[inline(always)]
    fn v4(key: &KeyV4) -> bool {
        live().is_some_and(|flow| FLOOR_V4.insert(key, flow, 0).is_ok())
    }

    #[inline(always)]
    fn v6(key: &KeyV6) -> bool {
        live().is_some_and(|flow| FLOOR_V6.insert(key, flow, 0).is_ok())
    }
}

/// A value that lives.
#[inline(always)]
fn live() -> Option<&'static Flow> {
    let flow = VALUE.get_ptr_mut(0)?;
    // SAFETY: the element is this processor's own, and programs do not nest on it.
    let flow = unsafe { &mut *flow };
    flow.deadline = u64::MAX;
    Some(flow)
}

#[xdp(frags)]
fn parse_xdp(ctx: XdpContext) -> u32 {
    at_xdp::<Parse>(&ctx)
}

#[xdp(frags)]
fn lookup_xdp(ctx: XdpContext) -> u32 {
    at_xdp::<Lookup>(&ctx)
}

#[xdp(frags)]
fn fill_xdp(ctx: XdpContext) -> u32 {
    at_xdp::<Fill>(&ctx)
}

/// X as a filter that drops: what it has read is counted.
#[xdp]
fn drop_xdp(ctx: XdpContext) -> u32 {
    filtered(&ctx);
    xdp_action::XDP_DROP
}

/// X as a filter that lets everything pass.
#[xdp]
fn pass_xdp(ctx: XdpContext) -> u32 {
    filtered(&ctx);
    xdp_action::XDP_PASS
}

#[inline(always)]
fn filtered(ctx: &XdpContext) {
    let is_read = read::<Parse>(ctx.data(), ctx.data_end()).unwrap_or(false);
    counted(if is_read { &READ } else { &MISSES });
}

/// Nothing at all: what is left of a run is what leads to it.
#[xdp(frags)]
fn nothing_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[inline(always)]
fn at_xdp<T: Task>(ctx: &XdpContext) -> u32 {
    if read::<T>(ctx.data(), ctx.data_end()).unwrap_or(false) {
        return xdp_action::XDP_PASS;
    }
    counted(&MISSES);
    xdp_action::XDP_DROP
}

#[inline(always)]
fn counted(of: &PerCpuArray<u64>) {
    if let Some(count) = of.get_ptr_mut(0) {
        // SAFETY: as in `live`.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
fn read<T: Task>(data: usize, end: usize) -> Option<bool> {
    if behind(data, NETWORK + IPV4_HEADER) > end {
        return None;
    }
    // SAFETY: so many bytes lie before the end.
    match unsafe { load_u16(data + 12) } {
        IPV4 => v4(data, end).map(|key| T::v4(&key)),
        IPV6 => v6(data, end).map(|key| T::v6(&key)),
        _ => None,
    }
}

/// An IPv4 packet, whose fixed header is there.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "fields of a word")]
fn v4(data: usize, end: usize) -> Option<KeyV4> {
    let at = data + NETWORK;
    // SAFETY: the caller has seen that the header lies before the end.
    let first = unsafe { load_u64(at) };
    // SAFETY: likewise.
    let second = unsafe { load_u64(at + 8) };
    // SAFETY: likewise.
    let destination = unsafe { load_u32(at + 16) };
    let length = (first & 0xf) as usize * 4;
    let total = usize::from(((first >> 16) as u16).to_be());
    let fragment = ((first >> 48) as u16).to_be() & 0x3fff;
    if first >> 4 & 0xf != 4
        || length < IPV4_HEADER
        || total < length
        || total > end - at
        || fragment != 0
    {
        return None;
    }
    let ports = ports(at + length, end, (second >> 8) as u8)?;
    Some([second >> 32 | destination << 32, ports])
}

/// An IPv6 packet without extension headers.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "fields of a word")]
fn v6(data: usize, end: usize) -> Option<KeyV6> {
    let at = data + NETWORK;
    if behind(at, IPV6_HEADER) > end {
        return None;
    }
    let mut words = [0; 5];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: the header lies before the end.
        *word = unsafe { load_u64(at + index * 8) };
    }
    let [first, source, source_too, destination, destination_too] = words;
    let payload = usize::from(((first >> 32) as u16).to_be());
    if first >> 4 & 0xf != 6 || payload > end - at - IPV6_HEADER {
        return None;
    }
    let ports = ports(at + IPV6_HEADER, end, (first >> 48) as u8)?;
    Some([source, source_too, destination, destination_too, ports])
}

/// Ports and protocol in one word.
#[inline(always)]
fn ports(at: usize, end: usize, protocol: u8) -> Option<u64> {
    if !matches!(protocol, 6 | 17) || behind(at, PORTS) > end {
        return None;
    }
    // SAFETY: so many bytes lie before the end.
    let ports = unsafe { load_u64(at) };
    Some(ports & 0xffff_ffff | u64::from(protocol) << 32)
}

unaligned_load!(load_u64, "{value} = *(u64 *)({address} + 0)");
unaligned_load!(load_u32, "{value} = *(u32 *)({address} + 0)");
unaligned_load!(load_u16, "{value} = *(u16 *)({address} + 0)");
