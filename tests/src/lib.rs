//! The harness of the end-to-end tests: a small network of namespaces, real sockets in them,
//! captures on any device, raw frames into any device, and `sgctl` run inside.
//!
//! Everything made here is a guard: dropping it, by a panic too, takes it away again. What a killed
//! run leaves behind is swept by the next one ([`stale`]). Nothing outside the namespaces is ever
//! touched: links are created in them and never pass through the machine's own.
//!
//! ```no_run
//! use std::time::Duration;
//! use tests::{net::Net, traffic::{Outcome, tcp}};
//!
//! # fn main() -> anyhow::Result<()> {
//! let net = Net::pair()?;
//! let (client, server) = (net.host("client"), net.host("server"));
//! let _web = tcp::Server::start(server.ns(), server.socket_v4(80))?;
//! let outcome =
//!     tcp::connect(client.ns(), None, server.socket_v4(80), Duration::from_millis(800))?;
//! assert_eq!(outcome, Outcome::Connected);
//! # Ok(())
//! # }
//! ```

pub mod attack;
pub mod bench;
pub mod big_tcp;
pub mod capture;
pub mod case;
pub mod corpus;
pub mod disk;
pub mod example;
pub mod frame;
pub mod inject;
pub mod interrupt;
pub mod lab;
pub mod net;
pub mod netns;
pub mod nft;
pub mod oracle;
mod packet_socket;
pub mod process;
pub mod scenario;
pub mod sgctl;
pub mod soak;
pub mod stale;
pub mod suite;
pub mod traffic;
pub mod tun;
