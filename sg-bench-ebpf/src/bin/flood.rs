//! Makes frames of a test run into other frames, and sends them out of the device that the run names, so that they
//! arrive at the other end of its veth: a flood from random sources, or the frames of a capture in order.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{
    bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

#[path = "../flood.rs"]
mod flood;
#[path = "../object.rs"]
mod object;

use flood::{BURST, Frame, LONGEST, Pace, Sums};

/// The bits of a frame's length.
const LENGTH: u32 = 0x7ff;
const _: () = assert!(LONGEST == 0x7ff + 1);

/// What the checksums come to without what is drawn; written by whoever floods.
#[map]
static SUMS: Array<Sums> = Array::with_max_entries(1, 0);
/// Frames handed to the device, whether it took them or not.
#[map]
static SENT: Array<u64> = Array::with_max_entries(1, 0);
/// Not zero: nothing more is sent. A system call that sends cannot be ended otherwise.
#[map]
static STOP: Array<u64> = Array::with_max_entries(1, 0);
/// How fast it goes.
#[map]
static PACE: Array<Pace> = Array::with_max_entries(1, 0);
/// Frames of a capture, and which comes next.
#[map]
static FRAMES: Array<Frame> = Array::with_max_entries(1, 0);
#[map]
static NEXT: Array<u64> = Array::with_max_entries(1, 0);
/// How many of them there are.
#[map]
static COUNT: Array<u64> = Array::with_max_entries(1, 0);

/// Places in a frame: Ethernet, IPv4 without options, TCP.
const IP_SUM: usize = 14 + 10;
const SOURCE: usize = 14 + 12;
const PORT: usize = 14 + 20;
const TCP_SUM: usize = 14 + 20 + 16;
const HEADERS: usize = 14 + 20 + 20;
/// How often the clock is looked at while waiting: some ten microseconds.
const LOOKS: u32 = 2048;
/// First octet of a source, and how many more there are: addresses of the Internet that are nobody's in particular.
const FIRST: u32 = 20;
const FIRSTS: u32 = 64;

/// Draws source address and port.
#[xdp]
fn random_source(ctx: XdpContext) -> u32 {
    if is_over() {
        return xdp_action::XDP_DROP;
    }
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + HEADERS > end {
        return xdp_action::XDP_ABORTED;
    }
    let Some(sums) = SUMS.get(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: no memory is involved.
    let address = unsafe { bpf_get_prandom_u32() };
    // SAFETY: likewise.
    let port = unsafe { bpf_get_prandom_u32() };
    let first = FIRST + (address >> 24) % FIRSTS;
    // As they stand in the frame: the first octet is the low one.
    let (low, high) = (first | address & 0xff00, address >> 8 & 0xffff);
    // Above those that are privileged.
    let port = port & 0xffff | 0x04;
    let [ip_sum, tcp_sum] = sums.with([low, high], port);
    let words =
        [(SOURCE, low), (SOURCE + 2, high), (PORT, port), (IP_SUM, ip_sum), (TCP_SUM, tcp_sum)];
    for (at, word) in words {
        // SAFETY: the headers lie before the end, and a frame begins at an even address.
        unsafe { store(data + at, word) };
    }
    sent();
    xdp_action::XDP_TX
}

/// # Safety
/// The two bytes must lie in the packet, at an even address.
#[inline(always)]
unsafe fn store(address: usize, word: u32) {
    #[expect(clippy::cast_possible_truncation, reason = "words of sixteen bits")]
    let word = word as u16;
    // SAFETY: as the caller promises.
    unsafe { (address as *mut u16).write(word) };
}

#[inline(always)]
fn is_over() -> bool {
    // SAFETY: an element of an array is always there, and a word is read whole.
    STOP.get_ptr(0).is_none_or(|stop| unsafe { stop.read_volatile() } != 0)
}

/// Counts a frame, and waits between bursts.
#[inline(always)]
fn sent() {
    let Some(sent) = SENT.get_ptr_mut(0) else { return };
    // SAFETY: one thread runs the flood.
    let sent = unsafe { &mut *sent };
    *sent += 1;
    if *sent % BURST == 0
        && let Some(pace) = PACE.get_ptr_mut(0)
    {
        // SAFETY: likewise.
        wait(unsafe { &mut *pace });
    }
}

#[inline(always)]
fn wait(pace: &mut Pace) {
    let mut now = 0;
    for _ in 0..LOOKS {
        // SAFETY: no memory is involved.
        now = unsafe { bpf_ktime_get_ns() };
        if now >= pace.next {
            break;
        }
    }
    // What is late is not caught up with: that would be a longer burst.
    pace.next = now + pace.period;
}

/// The next frame of the capture, which is cut out of one as long as the longest.
#[xdp]
fn next_frame(ctx: XdpContext) -> u32 {
    if is_over() {
        return xdp_action::XDP_DROP;
    }
    if send_next(&ctx).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    sent();
    xdp_action::XDP_TX
}

#[inline(always)]
fn send_next(ctx: &XdpContext) -> Option<()> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: as in `sent`.
    let next = unsafe { &mut *next };
    let at = *next;
    let behind = at + 1;
    *next = if behind >= *COUNT.get(0)? { 0 } else { behind };
    let frame = FRAMES.get(u32::try_from(at).ok()?)?;
    let length = frame.length & LENGTH;
    if length == 0 {
        return None;
    }
    let whole = i32::try_from(ctx.data_end() - ctx.data()).ok()?;
    // SAFETY: the frame's bytes are as many, and the kernel looks where they go.
    let stored = unsafe {
        let bytes = (&raw const frame.bytes).cast_mut().cast();
        bpf_xdp_store_bytes(ctx.ctx, 0, bytes, length)
    };
    #[expect(clippy::cast_possible_wrap, reason = "a frame is shorter than a page")]
    // SAFETY: no memory of ours is involved.
    let cut = unsafe { bpf_xdp_adjust_tail(ctx.ctx, length as i32 - whole) };
    (stored == 0 && cut == 0).then_some(())
}
