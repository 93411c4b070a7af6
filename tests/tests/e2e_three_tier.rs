//! `examples/three-tier.yaml` with real sockets: balancer, bastion, backend, database.

use anyhow::Result;
use tests::{
    example::{Example, Side},
    scenario::{
        Probe::{Ping, Tcp},
        Scenario,
    },
    traffic::Outcome::{Connected, TimedOut},
};

fn check(side: Side) -> Result<()> {
    let example = Example::read("three-tier")?;
    let net = example.net(&[
        ("client", &["198.51.100.7", "2001:db8:51::7"]),
        ("office", &["203.0.113.10", "2001:db8:113::10"]),
    ])?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    for (host, ports) in [
        ("balancer-1", &[80, 22][..]),
        ("bastion-1", &[22, 80]),
        ("backend-1", &[80, 22]),
        ("database-1", &[3306, 22]),
        ("client", &[443]),
    ] {
        let probes: Vec<_> = ports.iter().map(|port| Tcp(*port)).collect();
        scenario.serve(host, &probes)?;
    }
    scenario.expect(&[
        ("client", "balancer-1", Tcp(80), Connected),
        ("office", "balancer-1", Tcp(80), Connected),
        ("client", "balancer-1", Tcp(22), TimedOut),
        ("client", "balancer-1", Ping, TimedOut),
        ("office", "bastion-1", Tcp(22), Connected),
        ("client", "bastion-1", Tcp(22), TimedOut),
        ("office", "bastion-1", Tcp(80), TimedOut),
        ("balancer-1", "backend-1", Tcp(80), Connected),
        ("bastion-1", "backend-1", Tcp(22), Connected),
        ("balancer-1", "backend-1", Tcp(22), TimedOut),
        ("bastion-1", "backend-1", Tcp(80), TimedOut),
        ("client", "backend-1", Tcp(80), TimedOut),
        ("office", "backend-1", Tcp(22), TimedOut),
        ("backend-1", "database-1", Tcp(3306), Connected),
        ("balancer-1", "database-1", Tcp(3306), TimedOut),
        ("bastion-1", "database-1", Tcp(3306), TimedOut),
        ("client", "database-1", Tcp(3306), TimedOut),
        ("backend-1", "database-1", Tcp(22), TimedOut),
        // The database asks nobody; the others may.
        ("database-1", "client", Tcp(443), TimedOut),
        ("database-1", "backend-1", Tcp(80), TimedOut),
        ("backend-1", "client", Tcp(443), Connected),
    ])?;

    // The rules gone, customers hang, and nobody else notices.
    let closed = example.without_tests()?.edited(
        "ingress:\n          - {type: http, from: [0.0.0.0/0, \"::/0\"], description: customers}",
        "ingress: []",
    )?;
    scenario.replace(&closed)?;
    scenario.expect(&[
        ("client", "balancer-1", Tcp(80), TimedOut),
        ("office", "balancer-1", Tcp(80), TimedOut),
        ("office", "bastion-1", Tcp(22), Connected),
        ("balancer-1", "backend-1", Tcp(80), Connected),
        ("backend-1", "database-1", Tcp(3306), Connected),
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
