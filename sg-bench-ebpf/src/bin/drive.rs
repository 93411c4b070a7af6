//! Makes every run of a test run another packet: takes the next step of a ring, writes addresses, ports and numbers
//! into the frame, and calls the program in question, which cannot tell that it is not attached. What this costs is
//! measured by a program that does nothing.
//!
//! Words are written as the packet reader reads them, since a load that spans two fresh stores waits for both.
#![no_std]
#![no_main]
// Stores that need not be aligned.
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};

#[path = "../bytes.rs"]
mod bytes;
#[path = "../object.rs"]
mod object;
#[path = "../step.rs"]
mod step;

use bytes::{behind, unaligned_load};
use step::{Drive, Step};

#[map]
static RING: Array<Step> = Array::with_max_entries(1, 0);
#[map]
static DRIVE: Array<Drive> = Array::with_max_entries(1, 0);
/// What is called, by hook: a table of programs holds those of one kind.
#[map]
static NEXT_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static NEXT_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Packets of which nothing was called.
#[map]
static FAILED: Array<u64> = Array::with_max_entries(1, 0);

/// Where the network header begins.
const NETWORK: usize = 14;
const TCP_HEADER: usize = 20;

#[xdp(frags)]
fn drive_xdp(ctx: XdpContext) -> u32 {
    drive(&ctx, ctx.data(), ctx.data_end(), &NEXT_XDP);
    xdp_action::XDP_ABORTED
}

#[classifier]
fn drive_tc(ctx: TcContext) -> i32 {
    drive(&ctx, ctx.data(), ctx.data_end(), &NEXT_TC);
    TC_ACT_SHOT
}

/// Returns only where nothing was called.
#[inline(always)]
fn drive<C: EbpfContext>(ctx: &C, data: usize, end: usize, next: &ProgramArray) {
    if write_next(data, end).is_some() {
        // SAFETY: the context is the kernel's, and nothing here has to be dropped.
        unsafe { next.tail_call(ctx, 0) };
    }
    if let Some(failed) = FAILED.get_ptr_mut(0) {
        // SAFETY: the loader gives every driver maps of its own, and runs it on one processor at a time.
        unsafe { *failed += 1 };
    }
}

#[inline(always)]
fn write_next(data: usize, end: usize) -> Option<()> {
    let drive = DRIVE.get_ptr_mut(0)?;
    // SAFETY: as in `drive`.
    let drive = unsafe { &mut *drive };
    let at = drive.cursor;
    drive.cursor = at + 1;
    #[expect(clippy::cast_possible_truncation, reason = "numbers of packets and ports go round")]
    let (round, place) = ((at >> drive.bits) as u32, at as u32 & ((1 << drive.bits) - 1));
    let step = RING.get_ptr(place)?;
    // SAFETY: an element of an array is always there, and nobody writes it while packets run.
    let step = unsafe { &*step };
    let transport = if drive.v6 != 0 { NETWORK + 40 } else { NETWORK + 20 };
    if behind(data, transport + TCP_HEADER) > end {
        return None;
    }
    // SAFETY: the verifier has seen that both headers lie before the end.
    unsafe { write_address(data, drive, step) };
    #[expect(clippy::cast_possible_truncation, reason = "numbers of packets and ports go round")]
    let remote = step.remote_port.wrapping_add((round as u16).wrapping_mul(step.fresh));
    let (remote, local) = (u64::from(remote.to_be()), u64::from(step.local_port.to_be()));
    let ports = if drive.egress != 0 { local | remote << 16 } else { remote | local << 16 };
    let sequence = drive.sequence.wrapping_add(round.wrapping_mul(drive.advance));
    // SAFETY: as above.
    unsafe { store_u64(data + transport, ports | u64::from(sequence.to_be()) << 32) };
    // Five words long, and a window that is not closed.
    let flags = 0x5000 | drive.flags ^ step.flags;
    let rest =
        u64::from(drive.acknowledgement.to_be()) | u64::from(flags.to_be()) << 32 | 0xff << 48;
    // SAFETY: as above.
    unsafe { store_u64(data + transport + 8, rest) };
    Some(())
}

/// # Safety
/// The network header must lie before the packet's end.
#[inline(always)]
unsafe fn write_address(data: usize, drive: &Drive, step: &Step) {
    let [first, second] = step.address;
    if drive.v6 != 0 {
        let to = data + NETWORK + if drive.egress != 0 { 24 } else { 8 };
        // SAFETY: as the caller promises.
        unsafe { store_u64(to, first) };
        // SAFETY: likewise.
        unsafe { store_u64(to + 8, second) };
    } else if drive.egress != 0 {
        // SAFETY: likewise.
        unsafe { store_u32(data + NETWORK + 16, first) };
    } else {
        let to = data + NETWORK + 8;
        // SAFETY: likewise.
        let before = unsafe { load_u64(to) } & 0xffff_ffff;
        // SAFETY: likewise.
        unsafe { store_u64(to, before | first << 32) };
    }
}

macro_rules! unaligned_store {
    ($name:ident, $instruction:literal) => {
        /// Stores a word.
        ///
        /// # Safety
        /// The bytes must be writable, and nobody else's.
        #[inline(always)]
        unsafe fn $name(address: usize, value: u64) {
            // SAFETY: the caller promises that the bytes may be written.
            unsafe {
                asm!(
                    $instruction,
                    value = in(reg) value,
                    address = in(reg) address,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

unaligned_load!(load_u64, "{value} = *(u64 *)({address} + 0)");
unaligned_store!(store_u64, "*(u64 *)({address} + 0) = {value}");
unaligned_store!(store_u32, "*(u32 *)({address} + 0) = {value}");
