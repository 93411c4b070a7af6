//! A policy as other packet filters have it: pure text, no kernel, no clock.
//!
//! For hosts that cannot load BPF programs, and for comparing our judgements with those of an engine that
//! we did not write.

mod nft;

use crate::compile::CompileError;
use crate::policy::model::Side;

pub use nft::{TABLE as NFT_TABLE, ruleset as nft_ruleset};

/// An interface of the policy and the devices on which it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the file.
    pub interface: String,
    /// Names of devices, at least one.
    pub devices: Vec<String>,
    /// Which end of them is protected; `None`: what the file says.
    pub side: Option<Side>,
}

/// Why a policy cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// It does not compile for these interfaces.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// An interface would judge nothing.
    #[error("no device is named for the interface {0:?}")]
    NoDevice(String),
    /// nft would take it for something else, or for a pattern.
    #[error("a device named {0:?} cannot be named in a ruleset")]
    DeviceName(String),
    /// One device cannot be two interfaces.
    #[error("the device {device:?} is named for the interfaces {first:?} and {second:?}")]
    SharedDevice {
        /// Name of the device.
        device: String,
        /// The interface that has it.
        first: String,
        /// The interface that wants it too.
        second: String,
    },
}
