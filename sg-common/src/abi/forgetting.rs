//! What the controller hands to the forgetting program: the key of one flow.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Be16;

/// One flow, as bytes of a packet that a test run hands to the program.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Forgetting {
    /// What the kernel takes for an Ethernet header. Zero: a length field, behind which it reads nothing.
    pub link: [u8; 14],
    /// 4 or 6.
    pub family: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// The protected end, as [`crate::Address::widen`] has it.
    pub local: [u32; 4],
    /// The other end.
    pub remote: [u32; 4],
    /// See [`super::FlowKind`].
    pub local_port: Be16,
    /// See [`super::FlowKind`].
    pub remote_port: Be16,
    /// Slot of the interface.
    pub slot: Be16,
    /// A [`super::FlowKind`].
    pub kind: u8,
    /// Zero.
    pub padding: u8,
}

/// What became of it; the number is the program's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Forgotten {
    /// It was there and is no more.
    Gone = 1,
    /// It was not there, or had ended already.
    Unknown = 2,
    /// It is no flow's key.
    Refused = 3,
}

impl Forgotten {
    /// The result with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Gone, Self::Unknown, Self::Refused].into_iter().find(|one| *one as u32 == number)
    }
}
