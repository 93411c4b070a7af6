//! Packet bytes. The only pointer arithmetic of the programs is [`direct`].

use core::arch::asm;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use sg_common::{Bytes, MAX_OFFSET, Packet};

use crate::maps::NUMBER;

/// `N` bytes at `offset` of the linear part `start..end`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a narrow load clears the high bits")]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument holds for all of them")]
fn direct<const N: usize>(start: usize, end: usize, offset: usize) -> Option<Bytes<N>> {
    // The offset is bounded by a constant before it is added, or the verifier loses the pointer.
    if offset > MAX_OFFSET {
        return None;
    }
    let from = start + offset;
    if behind::<N>(from) > end {
        return None;
    }
    let mut bytes = MaybeUninit::<Bytes<N>>::uninit();
    let to = bytes.as_mut_ptr().cast::<u8>();
    let mut at = 0;
    // SAFETY: the verifier has seen that all N bytes lie before the packet's end; `to` is aligned to 8,
    // and `at` keeps the alignment of each width, because the widths only fall.
    unsafe {
        while at + 8 <= N {
            to.add(at).cast::<u64>().write(load_u64(from + at));
            at += 8;
        }
        while at + 4 <= N {
            to.add(at).cast::<u32>().write(load_u32(from + at) as u32);
            at += 4;
        }
        while at + 2 <= N {
            to.add(at).cast::<u16>().write(load_u16(from + at) as u16);
            at += 2;
        }
        while at < N {
            to.add(at).write(*((from + at) as *const u8));
            at += 1;
        }
        Some(bytes.assume_init())
    }
}

/// `from + LENGTH`, opaque to the compiler: it would turn "from + 1 > end" into "from >= end", from which
/// the verifier concludes nothing.
#[inline(always)]
fn behind<const LENGTH: usize>(from: usize) -> usize {
    let mut sum = from;
    // SAFETY: adds a constant to a register.
    unsafe {
        asm!(
            "{sum} += {length}",
            sum = inout(reg) sum,
            length = const LENGTH,
            options(nostack, nomem, pure, preserves_flags),
        );
    }
    sum
}

/// See [`Packet::forget`]. Memory is what makes a number unknown: the verifier does not track what is
/// written to a map.
#[inline(always)]
fn forgotten(number: u64) -> u64 {
    let Some(place) = NUMBER.get_ptr_mut(0) else { return u64::MAX };
    // SAFETY: the element is this processor's own, and programs do not nest on it.
    unsafe { place.write_volatile(number) };
    // SAFETY: likewise.
    unsafe { place.read_volatile() }
}

/// A load that need not be aligned. The compiler would load such a word byte by byte; the kernel's own
/// packet programs rely on the machine for it, and the verifier refuses it on machines that cannot.
macro_rules! unaligned_load {
    ($name:ident, $instruction:literal) => {
        #[inline(always)]
        unsafe fn $name(address: usize) -> u64 {
            let value: u64;
            // SAFETY: the caller promises that the bytes are readable; the access reads only them.
            unsafe {
                asm!(
                    $instruction,
                    value = out(reg) value,
                    address = in(reg) address,
                    options(nostack, readonly, pure, preserves_flags),
                );
            }
            value
        }
    };
}

unaligned_load!(load_u64, "{value} = *(u64 *)({address} + 0)");
unaligned_load!(load_u32, "{value} = *(u32 *)({address} + 0)");
unaligned_load!(load_u16, "{value} = *(u16 *)({address} + 0)");

/// Bytes that lie beyond the linear part are copied by the kernel's own helper, which checks the length.
#[inline(always)]
fn copied<const N: usize>(
    offset: usize,
    copy: impl FnOnce(u32, *mut c_void, u32) -> i64,
) -> Option<Bytes<N>> {
    if offset > MAX_OFFSET {
        return None;
    }
    let mut bytes = MaybeUninit::<Bytes<N>>::uninit();
    let offset = u32::try_from(offset).ok()?;
    let length = u32::try_from(N).ok()?;
    if copy(offset, bytes.as_mut_ptr().cast(), length) != 0 {
        return None;
    }
    // SAFETY: the helper reports success only after it has written all N bytes.
    Some(unsafe { bytes.assume_init() })
}

/// A packet at XDP.
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
    length: usize,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        // SAFETY: the context is the one the kernel handed to the program.
        let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
        #[expect(clippy::cast_possible_truncation, reason = "a frame is shorter than 4 GiB")]
        Self { ctx, length: length as usize }
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<Bytes<N>> {
        direct(self.ctx.data(), self.ctx.data_end(), offset).or_else(|| {
            // SAFETY: the context is the kernel's, and the buffer is as long as the length says.
            copied(offset, |at, to, n| unsafe { bpf_xdp_load_bytes(self.ctx.ctx, at, to, n) })
        })
    }

    #[inline(always)]
    fn forget(number: u64) -> u64 {
        forgotten(number)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.length
    }
}

/// A packet at TC.
pub(crate) struct TcPacket<'a> {
    ctx: &'a TcContext,
}

impl<'a> TcPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }
}

impl Packet for TcPacket<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<Bytes<N>> {
        direct(self.ctx.data(), self.ctx.data_end(), offset).or_else(|| {
            let skb = self.ctx.as_ptr();
            // SAFETY: the context is the kernel's, and the buffer is as long as the length says.
            copied(offset, |at, to, n| unsafe { bpf_skb_load_bytes(skb, at, to, n) })
        })
    }

    #[inline(always)]
    fn forget(number: u64) -> u64 {
        forgotten(number)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (*self.ctx.skb.skb).gso_size != 0 }
    }

    #[inline(always)]
    fn stripped_vlan_tags(&self) -> u8 {
        // SAFETY: the context is the one the kernel handed to the program.
        u8::from(unsafe { (*self.ctx.skb.skb).vlan_present != 0 })
    }
}
