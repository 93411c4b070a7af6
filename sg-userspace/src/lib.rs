//! Userspace half of the security groups: policy compiler, loader, events and the `sgctl` command.

pub mod adoption;
pub mod compile;
pub mod policy;

pub mod diff;
#[cfg(feature = "kernel")]
pub mod kernel;

pub mod engine;

#[cfg(feature = "kernel")]
pub mod cli;
#[cfg(feature = "kernel")]
pub mod events;
pub mod explain;
pub mod export;
#[cfg(feature = "kernel")]
mod files;
#[cfg(feature = "kernel")]
pub mod history;
pub mod moment;
pub mod plan;
#[cfg(feature = "kernel")]
pub mod replay;
#[cfg(feature = "kernel")]
pub mod ssh;
