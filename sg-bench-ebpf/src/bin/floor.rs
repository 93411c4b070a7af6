//! The floors that program cost is held against. X reads a packet's headers with the parser of the packet path and
//! does no more; F looks one flow up besides, by the same key in a hash table of the same type, and reads one word of
//! what it finds. Neither counts what goes well, which would cost it something: misses are counted.
#![no_std]
#![no_main]
// The packet reader's loads; see sg-ebpf/src/packet.rs.
#![feature(asm_experimental_arch)]

#[path = "../../../sg-ebpf/src/packet.rs"]
mod packet;

mod maps {
    //! What the packet reader needs of the programs around it.

    use aya_ebpf::macros::map;
    use aya_ebpf::maps::PerCpuArray;

    #[map]
    pub(crate) static NUMBER: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
}

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use sg_common::abi::{Flow, FlowKey, FlowKind};
use sg_common::wire::ethernet::{self, Network};
use sg_common::wire::ip::{IpHeader, IpVersion};
use sg_common::wire::transport::{self, Transport};
use sg_common::{Be16, LinkLayer, Packet, V4, V6};

use crate::packet::{TcPacket, XdpPacket};

#[map]
static FLOOR_V4: HashMap<FlowKey<V4>, Flow> = HashMap::with_max_entries(1, 0);
#[map]
static FLOOR_V6: HashMap<FlowKey<V6>, Flow> = HashMap::with_max_entries(1, 0);
/// A value to insert, which is not on the stack.
#[map]
static VALUE: PerCpuArray<Flow> = PerCpuArray::with_max_entries(1, 0);
/// Packets that were not what they should be.
#[map]
static MISSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What is done with a key.
trait Task {
    /// Whether it was there; IPv4.
    fn v4(key: &FlowKey<V4>) -> bool;
    /// The same of IPv6.
    fn v6(key: &FlowKey<V6>) -> bool;
}

/// X.
struct Parse;

impl Task for Parse {
    #[inline(always)]
    fn v4(_: &FlowKey<V4>) -> bool {
        true
    }

    #[inline(always)]
    fn v6(_: &FlowKey<V6>) -> bool {
        true
    }
}

/// F.
struct Lookup;

impl Task for Lookup {
    #[inline(always)]
    fn v4(key: &FlowKey<V4>) -> bool {
        FLOOR_V4.get_ptr(key).is_some_and(is_live)
    }

    #[inline(always)]
    fn v6(key: &FlowKey<V6>) -> bool {
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
    fn v4(key: &FlowKey<V4>) -> bool {
        live().is_some_and(|flow| FLOOR_V4.insert(key, flow, 0).is_ok())
    }

    #[inline(always)]
    fn v6(key: &FlowKey<V6>) -> bool {
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

#[classifier]
fn parse_tc(ctx: TcContext) -> i32 {
    at_tc::<Parse>(&ctx)
}

#[classifier]
fn lookup_tc(ctx: TcContext) -> i32 {
    at_tc::<Lookup>(&ctx)
}

/// Nothing at all: what is left of a run is what leads to it.
#[xdp(frags)]
fn nothing_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The same at TC.
#[classifier]
fn nothing_tc(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[inline(always)]
fn at_xdp<T: Task>(ctx: &XdpContext) -> u32 {
    if read::<T, _>(&XdpPacket::new(ctx)) {
        return xdp_action::XDP_PASS;
    }
    missed();
    xdp_action::XDP_DROP
}

#[inline(always)]
fn at_tc<T: Task>(ctx: &TcContext) -> i32 {
    if read::<T, _>(&TcPacket::new(ctx)) {
        return TC_ACT_UNSPEC;
    }
    missed();
    TC_ACT_SHOT
}

fn missed() {
    if let Some(misses) = MISSES.get_ptr_mut(0) {
        // SAFETY: as in `live`.
        unsafe { *misses += 1 };
    }
}

#[inline(always)]
fn read<T: Task, P: Packet>(packet: &P) -> bool {
    match ethernet::locate(packet, LinkLayer::Ethernet) {
        Ok(Network { ethertype: ethernet::IPV4, offset, .. }) => {
            key::<V4, P>(packet, offset).is_some_and(|key| T::v4(&key))
        }
        Ok(Network { ethertype: ethernet::IPV6, offset, .. }) => {
            key::<V6, P>(packet, offset).is_some_and(|key| T::v6(&key))
        }
        Ok(_) | Err(_) => false,
    }
}

/// The key of the flow of a packet that arrives.
#[inline(always)]
fn key<A: IpVersion + Default, P: Packet>(packet: &P, offset: usize) -> Option<FlowKey<A>> {
    let mut header = IpHeader::<A>::default();
    A::parse(packet, offset, &mut header).ok()?;
    let mut transport = Transport::Other;
    transport::parse(packet, &header, &mut transport).ok()?;
    let (source, destination) = match transport {
        Transport::Tcp(segment) => (segment.source, segment.destination),
        Transport::Udp(source, destination) => (source, destination),
        Transport::Icmp(_) | Transport::Sctp(_) | Transport::Other => return None,
    };
    Some(FlowKey {
        local: header.destination,
        remote: header.source,
        local_port: destination,
        remote_port: source,
        slot: Be16::new(0),
        protocol: header.protocol,
        kind: FlowKind::Ports as u8,
    })
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
