//! What the flood of `cargo xtask bench` reads, as its loader writes it: part of both programs.

/// Sums of the sixteen-bit words that checksums are made of, without source address and port, in the machine's order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    /// Of the IPv4 header.
    pub(crate) ip: u32,
    /// Of pseudo header and TCP.
    pub(crate) tcp: u32,
}

impl Sums {
    /// The checksums of IPv4 and TCP with this source address, in two words, and port.
    #[inline(always)]
    pub(crate) const fn with(&self, address: [u32; 2], port: u32) -> [u32; 2] {
        let address = address[0] + address[1];
        [folded(self.ip + address), folded(self.tcp + address + port)]
    }
}

/// The checksum of what adds up to this (RFC 1071): the same in whatever order the octets of all words stand.
#[inline(always)]
const fn folded(sum: u32) -> u32 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) & 0xffff
}

/// Frames that are sent without a pause: what a device is handed at a time.
pub(crate) const BURST: u64 = 16;

/// When bursts begin.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Nanoseconds from one to the next, at least.
    pub(crate) period: u64,
    /// When the next may begin.
    pub(crate) next: u64,
}

/// Room for the longest frame that is replayed: a power of two, by which the verifier learns what a length may be.
pub(crate) const LONGEST: usize = 1 << 11;

/// A frame of a capture.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// How long it is.
    pub(crate) length: u32,
    /// It, and what is behind it.
    pub(crate) bytes: [u8; LONGEST],
}
