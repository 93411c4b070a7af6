//! Rows 7 to 9: what real sockets notice of the packet filter before them.

use std::time::Duration;

use anyhow::Result;

use super::{Lab, Row};
use crate::guarded::{Guard, Guarded};
use crate::paired::{self, Contender, Paired};
use crate::report::{Bound, Measured, Point, Table};
use crate::rivals::Rival;
use crate::sockets::{self, Talk};
use crate::wire::Wire;

/// Talks for so long.
type Kind = fn(&Wire, Duration) -> Result<Talk>;

/// A row of these.
pub(super) struct Sockets {
    number: u8,
    title: &'static str,
    method: &'static str,
    /// What is talked.
    talk: Kind,
    /// The same in another form, whose rates are only told.
    beside: Option<(&'static str, Kind)>,
    /// What a unit is, for people.
    unit: &'static str,
    guards: &'static [(&'static str, Guard)],
    /// Who is held against whom.
    bounds: &'static [(&'static str, &'static str, Bound)],
}

const NOBODY: &str = "no firewall";
const OURS: &str = "ours";
const WORKLOAD: &str = "ours, side workload";
const XDP: &str = "ours, native XDP";
const NFT: &str = "nftables";
const IPTABLES: &str = "iptables";

/// Ours, and what is held against it.
const USUAL: &[(&str, Guard)] = &[
    (NOBODY, Guard::Nobody),
    (OURS, Guard::OursOnHost),
    (NFT, Guard::Rival(Rival::NftInput)),
    (IPTABLES, Guard::Rival(Rival::Iptables)),
];
const USUAL_BOUNDS: &[(&str, &str, Bound)] = &[
    (OURS, NFT, Bound::at_least(1.05)),
    (OURS, NOBODY, Bound::at_least(0.95)),
    (OURS, IPTABLES, Bound::none()),
];

pub(super) const DATAGRAMS: Sockets = Sockets {
    number: 7,
    title: "accepted UDP to a socket",
    method: "Datagrams of 64 bytes of 16 flows, one way from client to server over one veth, at most 4096 on their \
             way; every one arrives. Each end on a processor of its own; the client's also carries what the kernel \
             does up to the server's socket. Beside it: one request at a time and its answer, both ends awake.",
    talk: sockets::datagrams,
    beside: Some(("request and answer", sockets::requests)),
    unit: "k/s",
    guards: USUAL,
    bounds: USUAL_BOUNDS,
};

pub(super) const CONNECTIONS: Sockets = Sockets {
    number: 8,
    title: "TCP connect, request, response, close",
    method: "One connection at a time, both ends awake; the server closes first. Each end on a processor of its own, \
             over one veth; every connection comes to its end.",
    talk: sockets::connections,
    beside: None,
    unit: "k/s",
    guards: USUAL,
    bounds: USUAL_BOUNDS,
};

pub(super) const BULK: Sockets = Sockets {
    number: 9,
    title: "bulk TCP",
    method: "One connection over one veth, writes of 256 KiB, each end on a processor of its own and awake; every byte \
             arrives. Beside it: the same by ends that sleep when they wait, and their processor time.",
    talk: sockets::bulk,
    beside: Some(("ends that sleep", sockets::sleeping_bulk)),
    unit: "GB/s",
    guards: &[
        (NOBODY, Guard::Nobody),
        (OURS, Guard::OursOnHost),
        (WORKLOAD, Guard::OursOnWorkload),
        (XDP, Guard::OursAtXdp),
        (NFT, Guard::Rival(Rival::NftInput)),
        (IPTABLES, Guard::Rival(Rival::Iptables)),
    ],
    bounds: &[
        (OURS, NOBODY, Bound::at_least(0.97)),
        (WORKLOAD, NOBODY, Bound::at_least(0.97)),
        (XDP, NOBODY, Bound::none()),
        (OURS, NFT, Bound::none()),
        (OURS, IPTABLES, Bound::none()),
    ],
};

impl Row for Sockets {
    fn number(&self) -> u8 {
        self.number
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn method(&self) -> &'static str {
        self.method
    }

    fn measure(&self, lab: Lab) -> Result<Measured> {
        let mut scenes = Vec::new();
        for &(name, guard) in self.guards {
            let wire = Wire::new()?;
            prepare(&wire)?;
            scenes.push((name, guard, wire));
        }
        let mut guarded = Vec::new();
        for (name, guard, wire) in &scenes {
            guarded.push((*name, Guarded::new(wire, *guard)?, wire));
        }
        let mut measured = Measured::default();
        let talks = rounds(lab, &guarded, self.talk)?;
        for &(one, other, bound) in self.bounds {
            let ratio = talks.ratio(one, other, |talk| talk.rate)?;
            let mut point = Point::new(&format!("{one} / {other}"), ratio, bound);
            for name in [one, other] {
                point =
                    point.with_unit(name, self.unit, talks.spread(name, |talk| self.scaled(talk))?);
            }
            measured.point(point);
        }
        measured.table(self.table("what the ratios are made of (medians)", &talks)?);
        if let Some((title, talk)) = self.beside {
            measured.table(self.table(title, &rounds(lab, &guarded, talk)?)?);
        }
        for (name, guarded, _) in &guarded {
            guarded.verify().map_err(|error| error.context((*name).to_owned()))?;
        }
        Ok(measured)
    }
}

impl Sockets {
    /// A rate in the row's unit.
    fn scaled(&self, talk: &Talk) -> f64 {
        talk.rate / if self.unit == "GB/s" { 1e9 } else { 1e3 }
    }

    fn table(&self, title: &'static str, talks: &Paired<Talk>) -> Result<Table> {
        let mut table = Table::new(title, &["who", "rate", "of no firewall", "CPU", "p50", "p99"]);
        for &(name, _) in self.guards {
            let text = |of: fn(&Talk) -> f64| -> Result<String> {
                let median = talks.spread(name, of)?.median;
                Ok(if median.is_nan() { String::new() } else { format!("{:.1} us", median / 1e3) })
            };
            let each = talks.spread(name, |talk| talk.each)?.median;
            let each = if each.is_nan() {
                String::new()
            } else if self.unit == "GB/s" {
                format!("{each:.3} ns/B")
            } else {
                format!("{each:.0} ns")
            };
            let rate = talks.spread(name, |talk| self.scaled(talk))?.median;
            let share = talks.ratio(name, NOBODY, |talk| talk.rate)?.median;
            table.row([
                name.to_owned(),
                format!("{rate:.1} {}", self.unit),
                format!("{share:.3}"),
                each,
                text(|talk| talk.half)?,
                text(|talk| talk.most)?,
            ]);
        }
        Ok(table)
    }
}

/// Everybody's turns.
fn rounds(
    lab: Lab,
    guarded: &[(&'static str, Guarded<'_>, &Wire)],
    talk: Kind,
) -> Result<Paired<Talk>> {
    let mut contenders = Vec::new();
    for (name, _, wire) in guarded {
        contenders.push(Contender::new(name, || talk(wire, lab.window())));
    }
    paired::run(lab.rounds(), contenders)
}

/// Ports and tracked connections of short ones do not run out.
fn prepare(wire: &Wire) -> Result<()> {
    wire.near().set_parameters(&[("ipv4/ip_local_port_range", "1024 65535")])
}
