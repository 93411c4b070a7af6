//! The security group engine: what a packet is, which flow it belongs to, and whether it passes.
//!
//! One decision procedure ([`decide`]) serves the kernel and the host. It knows neither: packets come
//! through [`Packet`], tables through [`Tables`], time is an argument. `sg-ebpf` backs the traits with
//! packet pointers and BPF maps, `sg-userspace` with slices and hash maps, so that what `explain`, the
//! tests and the fuzzers run is what the kernel runs.
#![no_std]
#![deny(unsafe_code)]
// The only way to an instruction that Rust does not offer on this target; see abi/word.rs.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod abi;
mod address;
mod adoption;
mod conntrack;
mod decide;
mod forgetting;
mod infrastructure;
mod judging;
mod neighbour;
mod packet;
mod permit;
mod source_check;
mod tables;
mod verdict;
pub mod wire;
mod work;

pub use address::{Address, Be16, Family, V4, V6};
pub use adoption::adopt;
pub use conntrack::cut::rule_port;
pub use decide::{Context, decide};
pub use forgetting::forget;
pub use packet::{Bytes, LinkLayer, MAX_OFFSET, Packet};
pub use permit::permitted;
pub use tables::{AddressTables, Attachment, ClockHand, Side, TableError, Tables};
pub use verdict::{Decision, Direction, Reason, Verdict};
pub use wire::transport::Transport;
pub use work::{Scratch, Seen};
