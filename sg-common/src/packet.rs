//! How the engine reads a packet: by offset, checked, a fixed number of bytes at a time.

/// No header the engine reads lies further into the packet than this many bytes. The constant bounds
/// every offset before it is added to a packet pointer, which is what lets the verifier follow it.
pub const MAX_OFFSET: usize = 0x3fff;

/// What the first byte of a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// An IP header: tun, WireGuard and other devices without a link layer.
    Ip,
}

/// Bytes read from a packet, aligned so that fields of theirs are moved by the word and not by the byte:
/// BPF has neither unaligned accesses that a compiler would dare to use nor registers to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> core::ops::Deref for Bytes<N> {
    type Target = [u8; N];

    #[inline(always)]
    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

/// A packet as it stands in the kernel or in a buffer.
pub trait Packet {
    /// `N` bytes at `offset`, or `None` where the packet ends before their end.
    fn load<const N: usize>(&self, offset: usize) -> Option<Bytes<N>>;

    /// The number, as it is. A kernel backend lets the verifier forget how it came about: in a loop over
    /// headers every round then begins in the same state, and the sums of all rounds need not be followed
    /// apart.
    #[inline(always)]
    fn forget(number: u64) -> u64 {
        number
    }

    /// An offset that the caller knows not to exceed [`MAX_OFFSET`], and nothing else about it.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask has 14 bits")]
    fn confine(offset: usize) -> usize {
        Self::forget(offset as u64) as usize & MAX_OFFSET
    }

    /// Length of the whole packet in bytes, link layer included.
    fn len(&self) -> usize;

    /// Whether the packet has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A batch of segments that the stack hands on as one packet (GSO). Its IP length field is zero
    /// where the batch exceeds 65535 bytes.
    fn is_gso(&self) -> bool {
        false
    }

    /// VLAN tags that the device has already moved out of the packet's bytes.
    fn stripped_vlan_tags(&self) -> u8 {
        0
    }
}

impl Packet for [u8] {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<Bytes<N>> {
        if offset > MAX_OFFSET {
            return None;
        }
        self.get(offset..)?.first_chunk::<N>().copied().map(Bytes)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}
