//! Everything that talks to the kernel: the only files that import aya.
//!
//! A command opens the state of what is attached ([`live`]), works out what should be ([`crate::compile`]),
//! writes the difference into the maps ([`commit`]) and moves links ([`hooks`]). Enforcement lives in pinned
//! links and maps alone; no process of ours has to.

mod address_tables;
pub mod addresses;
pub mod adopt;
mod author;
mod batch;
pub mod bench;
mod bpf;
pub mod commit;
mod compatible;
mod confirmation;
mod conntrack;
mod controller;
mod detach;
mod device;
mod ears;
mod error;
mod exchange;
mod fit;
pub mod flush;
mod gone;
mod hits;
mod hook;
mod hooks;
mod join;
mod journal;
pub mod keeper;
pub mod kept;
pub mod live;
mod lock;
mod maps;
pub mod measure;
mod namespace;
mod netlink;
mod object;
mod overdue;
mod paths;
mod pod;
mod policy_tests;
mod process;
pub mod read;
mod recover;
pub mod refit;
mod replace;
pub mod replay;
mod request;
mod room;
pub mod run;
pub mod serve;
pub mod session;
mod side;
pub mod sight;
mod sock_diag;
pub mod stream;
pub mod trace;
pub mod transaction;
mod unattached;
pub mod versions;
pub mod wanted;
pub mod watch;
mod words;

pub use device::Device;
pub use error::KernelError;
use error::message;
pub use hook::{Hook, TcMode, Wanted, XdpMode};
pub use lock::Lock;
pub use object::{DEFAULT_DROP_BUDGET, Instance, Sizes};
pub use paths::Paths;
pub use wanted::tables_for;

/// Refuses early, in one sentence, what the kernel would refuse later in many.
///
/// # Errors
/// [`KernelError::Privilege`] for whoever is not root.
pub fn require_root(doing: &'static str) -> Result<(), KernelError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(KernelError::Privilege { doing }) }
}
