//! Userspace half of the security groups: policy compiler, loader, events and the `sgctl` command.

pub mod adoption;
pub mod compile;
pub mod policy;

pub mod diff;
pub mod kernel;

pub mod engine;

pub mod cli;
pub mod events;
pub mod explain;
pub mod export;
pub mod replay;
