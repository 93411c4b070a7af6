//! Userspace half of the security groups: policy compiler, loader, events and the `sgctl` command.

pub mod policy;
