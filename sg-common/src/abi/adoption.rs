//! What the controller hands to the adopting program: one conversation that was there before.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Be16;

/// What to do with the entry of [`Adoption`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AdoptionRequest {
    /// Enter the flow unless it is known.
    Add = 1,
    /// Enter the flow; what is known of it is out of date.
    Replace = 2,
    /// Forget it.
    Remove = 3,
}

/// One conversation, as bytes of a packet that a test run hands to the program.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Adoption {
    /// What the kernel takes for an Ethernet header. Zero: a length field, behind which it reads nothing.
    pub link: [u8; 14],
    /// 4 or 6.
    pub family: u8,
    /// An [`AdoptionRequest`].
    pub request: u8,
    /// The protected end, as [`crate::Address::widen`] has it.
    pub local: [u32; 4],
    /// The other end.
    pub remote: [u32; 4],
    /// Port of the protected end.
    pub local_port: Be16,
    /// Port of the other end.
    pub remote_port: Be16,
    /// IP protocol number, of one with ports.
    pub protocol: u8,
    /// A [`super::FlowState`].
    pub state: u8,
    /// [`super::FlowFlags`].
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 1],
}

/// What became of it; the number is the program's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Adopted {
    /// Entered, and a rule allows it.
    Allowed = 1,
    /// Entered, though no rule allows it (`live_flows: keep`).
    Kept = 2,
    /// Not entered, because no rule allows it (`live_flows: cut`).
    Cut = 3,
    /// The flow was known already.
    Known = 4,
    /// Forgotten, as requested.
    Removed = 5,
    /// There is no room.
    Full = 6,
    /// The interface has as many flows as it may have.
    Limit = 7,
    /// It is no adoption, or the interface has no policy.
    Refused = 8,
}

impl Adopted {
    /// Every result.
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::Kept,
        Self::Cut,
        Self::Known,
        Self::Removed,
        Self::Full,
        Self::Limit,
        Self::Refused,
    ];

    /// The result with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u32 == number)
    }
}
