//! nf_conntrack as a second opinion: the same frames through the attached programs and through a ruleset
//! exported from the same policy, one namespace each, and every difference explained or an error.
//!
//! Random conversations go through programs attached to devices, for both sides, cases through the programs in a
//! test run, whose every verdict `cases` also sees on devices.
//!
//! What differs by intention is listed in `tests/oracle/differences.yaml`, class by class with its reason.
//! A difference that is in no class fails the test, and so does a class that nothing falls into.

mod bench;
mod differences;
mod packet;
mod random;
mod trial;
mod witness;

use sg_common::Direction;

pub use bench::Filter;
pub use differences::{Classes, Report};
pub use trial::{OurPrograms, Trial, of_cases, of_random};

/// A packet in the packet language, and which way it goes.
pub type Line = (Direction, String);
