//! What the driver of `cargo xtask bench` reads, as its loader writes it: part of both programs, so that neither
//! has a definition of its own.

/// One packet of the ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Step {
    /// The remote end's address, its bytes in memory order; IPv4: the first four.
    pub(crate) address: [u64; 2],
    /// Its port.
    pub(crate) remote_port: u16,
    /// The local end's port.
    pub(crate) local_port: u16,
    /// Added to the remote port in every further round: 1 makes each packet a flow that was not there before.
    pub(crate) fresh: u16,
    /// TCP's flags in which the packet differs from the others.
    pub(crate) flags: u16,
}

/// How the ring is walked, and what the packets have in common.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drive {
    /// Packets so far.
    pub(crate) cursor: u64,
    /// Length of the ring, as a power of two.
    pub(crate) bits: u32,
    /// 1: IPv6.
    pub(crate) v6: u32,
    /// 1: the remote end is the destination.
    pub(crate) egress: u32,
    /// TCP's sequence number in the first round.
    pub(crate) sequence: u32,
    /// Added to it in every further round.
    pub(crate) advance: u32,
    /// TCP's acknowledgement number.
    pub(crate) acknowledgement: u32,
    /// TCP's flags.
    pub(crate) flags: u16,
    /// Keeps the size a multiple of eight.
    pub(crate) padding: [u16; 3],
}
