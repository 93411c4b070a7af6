//! Differences that are known and to be mended in the engine. Each has a named case in `cases.rs`, which says `ignore`
//! for as long; a line here goes with its difference.

/// A SYN that finds a closed flow removes it, even where the SYN is then dropped.
pub(crate) const DROPPED_SYN_ENDS_CLOSED_FLOW: bool = false;
/// A reset without ACK ends an attempt, if its acknowledgement field happens to fit.
pub(crate) const RESET_WITHOUT_ACK_ENDS_ATTEMPT: bool = false;
/// What comes from loopback or multicast passes, if something was sent there before.
pub(crate) const LOOPBACK_AND_MULTICAST_ANSWER: bool = false;
/// A FIN in the segment that completes the handshake does not count.
pub(crate) const FIN_OF_HANDSHAKE_IS_LOST: bool = false;
/// A SYN that was sent again takes the answer back, so that the last ACK completes nothing.
pub(crate) const SYN_AGAIN_TAKES_ANSWER_BACK: bool = false;
/// An error that quotes a TCP segment of an end that has not spoken yet may pass.
pub(crate) const SILENT_END_IS_QUOTED: bool = false;
/// A datagram whose first fragment was denied, or that was poisoned, counts as complete once all its bytes were seen,
/// and another first may follow.
pub(crate) const DROPPED_BYTES_COMPLETE: bool = false;
/// A first fragment that an ICMPv6 error quotes must have a multiple of eight bytes, though it may be cut.
pub(crate) const QUOTED_FRAGMENT_OF_ODD_LENGTH: bool = false;
