//! `examples/ec2-basic.yaml` with real sockets: a web server, its administrator, everybody else.

use anyhow::Result;
use tests::{
    example::{Example, Side},
    scenario::{
        Probe::{Ping, Tcp, Udp},
        Scenario,
    },
    traffic::Outcome::{Connected, Refused, TimedOut},
};

fn check(side: Side) -> Result<()> {
    let example = Example::read("ec2-basic")?;
    let net = example.net(&[
        ("client", &["198.51.100.7", "2001:db8:51::7"]),
        ("admin", &["203.0.113.10", "2001:db8:113::10"]),
        ("neighbour", &["203.0.113.11", "2001:db8:113::11"]),
    ])?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    scenario.serve("web-1", &[Tcp(80), Tcp(22), Tcp(443), Udp(53)])?;
    scenario.serve("client", &[Tcp(443), Udp(53), Tcp(80)])?;
    scenario.expect(&[
        ("client", "web-1", Tcp(80), Connected),
        ("admin", "web-1", Tcp(80), Connected),
        ("admin", "web-1", Tcp(22), Connected),
        // From any other address, the next one included.
        ("neighbour", "web-1", Tcp(22), TimedOut),
        ("client", "web-1", Tcp(22), TimedOut),
        // With and without a listener a blocked port says the same: nothing.
        ("client", "web-1", Tcp(443), TimedOut),
        ("client", "web-1", Tcp(444), TimedOut),
        ("client", "web-1", Udp(53), TimedOut),
        ("client", "web-1", Ping, Connected),
        // Outwards everything, and the answers come back without an ingress rule.
        ("web-1", "client", Tcp(443), Connected),
        ("web-1", "client", Tcp(444), Refused),
        ("web-1", "client", Udp(53), Connected),
        ("web-1", "client", Ping, Connected),
    ])
}

#[test]
fn from_the_host_itself() -> Result<()> {
    check(Side::Host)
}

#[test]
fn from_below_the_workload() -> Result<()> {
    check(Side::Workload)
}

/// A port that rules allow and nobody listens on answers for itself.
fn closed(side: Side) -> Result<()> {
    let example = Example::read("ec2-basic")?;
    let net = example.net(&[("admin", &["203.0.113.10", "2001:db8:113::10"])])?;
    let scenario = Scenario::attach(&net, &example, side)?;
    scenario.expect(&[
        ("admin", "web-1", Tcp(80), Refused),
        ("admin", "web-1", Tcp(22), Refused),
        ("admin", "web-1", Tcp(443), TimedOut),
    ])
}

#[test]
fn allowed_and_closed_refuses_from_the_host_itself() -> Result<()> {
    closed(Side::Host)
}

#[test]
fn allowed_and_closed_refuses_from_below_the_workload() -> Result<()> {
    closed(Side::Workload)
}
