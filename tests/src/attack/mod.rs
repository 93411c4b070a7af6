//! The attack suite: each attack is played against real programs on real devices, and a witness behind them
//! counts what got through. What our own counters say is evidence only of how packets were counted.
//!
//! An attack is a line of [`ATTACKS`] and a function that returns what it [`Measured`]. `cargo xtask attack`
//! plays them in that order and prints one table; a few that need neither tools nor much time are tests too.

mod blind;
mod captures;
mod errors;
mod evasion;
mod flood;
mod fragments;
pub(crate) mod frames;
mod full;
mod headers;
mod live;
mod machine;
mod range;
mod scans;
mod spoof;
mod tricks;
pub(crate) mod witness;

use std::path::PathBuf;

use anyhow::Result;

/// What an attack is given.
#[derive(Debug, Default)]
pub struct Options {
    /// A folder of captures to cut; without it only packets of our own are cut.
    pub captures: Option<PathBuf>,
}

/// What came of an attack.
#[derive(Debug)]
pub struct Measured {
    /// The numbers, for the table.
    pub numbers: String,
    /// Whether they are what they must be.
    pub passed: bool,
}

impl Measured {
    /// Adds a number and whether it is what it must be.
    fn add(&mut self, passed: bool, numbers: &str) {
        self.passed &= passed;
        self.numbers += if self.numbers.is_empty() { "" } else { ", " };
        self.numbers += numbers;
    }

    /// Nothing measured yet.
    const fn begin() -> Self {
        Self { numbers: String::new(), passed: true }
    }
}

/// An attack and what must come of it.
#[derive(Debug)]
pub struct Attack {
    /// What is done.
    pub name: &'static str,
    /// What must come of it.
    pub must: &'static str,
    /// Quick, and without any tool that the set-up does not install anyway.
    pub quick: bool,
    run: fn(&Options) -> Result<Measured>,
}

impl Attack {
    /// Plays it; an attack that cannot be played has not been withstood.
    #[must_use]
    pub fn play(&self, options: &Options) -> Measured {
        (self.run)(options).unwrap_or_else(|error| Measured {
            numbers: format!("could not be played: {error:#}"),
            passed: false,
        })
    }
}

const fn attack(
    name: &'static str,
    must: &'static str,
    run: fn(&Options) -> Result<Measured>,
) -> Attack {
    Attack { name, must, quick: false, run }
}

const fn quick(
    name: &'static str,
    must: &'static str,
    run: fn(&Options) -> Result<Measured>,
) -> Attack {
    Attack { name, must, quick: true, run }
}

/// 1000 established flows survive, and strangers connect soon after.
const LIVE: &str = "1000 of 1000 live on; new connections within 20 s of its end";
/// Nothing gets there.
const NOTHING: &str = "0 packets reach the target";

/// Every attack, in the order in which they are played: those that touch the whole machine come last.
pub const ATTACKS: &[Attack] = &[
    attack("SYN flood from random sources, IPv4, TC", LIVE, flood::syn_v4_tc),
    attack("SYN flood from random sources, IPv6, XDP", LIVE, flood::syn_v6_xdp),
    attack("SYN flood by hping3 --rand-source", LIVE, flood::hping3),
    attack("UDP spray with random tuples, answered", LIVE, flood::udp),
    attack("echo spray with random tuples, answered", LIVE, flood::echo),
    quick("10 000 blind RST per flow", "0 flows ended", blind::reset),
    quick("10 000 blind FIN per flow", "0 flows ended", blind::finish),
    quick("10 000 blind SYN and ACK per flow", "0 flows ended", blind::others),
    attack("nmap -sA -sF -sX -sN -sS -sU, closed policy", NOTHING, scans::closed),
    attack("nmap -sS -sA -sF of denied ports", NOTHING, scans::denied_ports),
    quick("1000 forged ICMP errors", "0 accepted", errors::forged),
    quick("1000 true packet-too-big", "1000 accepted", errors::true_ones),
    attack("path MTU discovery, both families", "bulk TCP goes through", errors::discovery),
    quick("fragments: tiny, overlapping, reversed, ...", fragments::NO_BYTES, fragments::crafted),
    quick("later fragments of a dropped first", "0 pass", fragments::orphans),
    attack("fragments of 100 000 ids", fragments::NO_BYTES, fragments::many_ids),
    quick("8 KB datagrams in either order", "100 % arrive", fragments::datagrams),
    quick("own packets cut at every byte", captures::NONE, captures::own),
    attack("captures cut at every byte", captures::NONE, captures::given),
    attack("cut captures by tcpreplay, real devices", captures::NONE, captures::replayed),
    quick("IHL 5-15 x every port position", "0 verdict changes", headers::lengths),
    quick("VLAN 0-3 tags x two ethertypes", "0 verdict changes; deeper: dropped", headers::tags),
    attack("thc-ipv6 firewall6", "0 bypasses", evasion::firewall6),
    attack("thc-ipv6 implementation6", "0 bypasses", evasion::implementation6),
    quick("land, own, loopback, multicast sources", "0 pass", spoof::sources),
    attack("spoofed workload: IP, ARP, ND (scapy, na6, ra6)", "0 pass", spoof::workload),
    attack("workload claims a link-local address", "0 pass", spoof::link_local),
    quick("full flow table", "0 live flows lost, every refused one counted", full::table),
    quick("one workload fills its share", "its neighbour does not notice", full::share),
    attack("CPU 1 off and on under load", "0 flows expire; counters exact", machine::processor),
    attack("clock stepped by an hour either way", "0 flows expire; counters exact", machine::clock),
];
