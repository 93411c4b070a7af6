//! The value of the fragment tables: what is known of one datagram whose fragments pass.
//!
//! As with flows, [`Datagram`] is the plain form and [`DatagramCell`] the one in a map, where several
//! processors read and write at once.

use super::word::{Word32, Word64};

/// What may happen to the fragments of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DatagramVerdict {
    /// The first has not been seen; later ones pass, because a rule might allow it.
    Pending = 1,
    /// The first has passed.
    Allowed = 2,
    /// The first was dropped.
    Denied = 3,
    /// Two firsts that differ, or a later one in the place of the transport header.
    Poisoned = 4,
}

impl DatagramVerdict {
    /// The verdict with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Pending),
            2 => Some(Self::Allowed),
            3 => Some(Self::Denied),
            4 => Some(Self::Poisoned),
            _ => None,
        }
    }
}

/// One datagram in fragments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Datagram {
    /// When it is forgotten, in nanoseconds of the monotonic clock.
    pub deadline: u64,
    /// Hash of the key, to tell an element that was recycled under a reader.
    pub tag: u32,
    /// A [`DatagramVerdict`].
    pub verdict: u32,
    /// Hash of what the first fragment began with; 0: not seen.
    pub first: u32,
    /// Bytes that the headers of the first fragment take.
    pub headers: u32,
    /// The lowest offset of a later fragment; 0: none seen.
    pub lowest: u32,
    /// Bytes seen.
    pub seen: u32,
    /// Bytes of the whole datagram, as its last fragment says; 0: not seen.
    pub total: u32,
    /// The rule that allowed the first.
    pub rule: u32,
}

/// A [`Datagram`] as it stands in a map.
#[derive(Debug, Default)]
#[repr(C)]
pub struct DatagramCell {
    deadline: Word64,
    tag: Word32,
    verdict: Word32,
    first: Word32,
    headers: Word32,
    lowest: Word32,
    seen: Word32,
    total: Word32,
    rule: Word32,
}

const _: () = assert!(size_of::<Datagram>() == size_of::<DatagramCell>());

impl Datagram {
    /// Whether every byte has passed: the next fragment with the same identification is of another
    /// datagram, because senders reuse them.
    #[inline(always)]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let passed = self.verdict == DatagramVerdict::Allowed as u32;
        passed && self.first != 0 && self.total != 0 && self.seen >= self.total
    }
}

impl DatagramCell {
    /// A cell that holds `datagram`.
    #[must_use]
    pub fn new(datagram: &Datagram) -> Self {
        Self {
            deadline: Word64::new(datagram.deadline),
            tag: Word32::new(datagram.tag),
            verdict: Word32::new(datagram.verdict),
            first: Word32::new(datagram.first),
            headers: Word32::new(datagram.headers),
            lowest: Word32::new(datagram.lowest),
            seen: Word32::new(datagram.seen),
            total: Word32::new(datagram.total),
            rule: Word32::new(datagram.rule),
        }
    }

    /// A copy of every field.
    #[inline(always)]
    #[must_use]
    pub fn snapshot(&self) -> Datagram {
        Datagram {
            deadline: self.deadline.get(),
            tag: self.tag.get(),
            verdict: self.verdict.get(),
            first: self.first.get(),
            headers: self.headers.get(),
            lowest: self.lowest.get(),
            seen: self.seen.get(),
            total: self.total.get(),
            rule: self.rule.get(),
        }
    }

    /// Writes everything but the tag, if the element still has it.
    #[inline(always)]
    pub fn commit(&self, datagram: &Datagram) {
        if self.tag.get() != datagram.tag {
            return;
        }
        self.deadline.set(datagram.deadline);
        self.verdict.set(datagram.verdict);
        self.first.set(datagram.first);
        self.headers.set(datagram.headers);
        self.lowest.set(datagram.lowest);
        self.seen.set(datagram.seen);
        self.total.set(datagram.total);
        self.rule.set(datagram.rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_every_field() {
        let datagram = Datagram {
            deadline: 1,
            tag: 2,
            verdict: 3,
            first: 4,
            headers: 5,
            lowest: 6,
            seen: 7,
            total: 8,
            rule: 9,
        };
        assert_eq!(DatagramCell::new(&datagram).snapshot(), datagram);
        let cell = DatagramCell::new(&Datagram { tag: 2, ..Datagram::default() });
        cell.commit(&datagram);
        assert_eq!(cell.snapshot(), datagram);
    }
}
