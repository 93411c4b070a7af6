//! `examples/private-vpc.yaml` with real sockets: hosts without a way in, databases for the VPN.

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
    let example = Example::read("private-vpc")?;
    let net = example.net(&[
        ("manager", &["198.51.100.7", "2001:db8:51::7"]),
        ("vpn", &["10.8.3.200", "fd00:8::5"]),
        // The first network behind the range of the VPN's clients.
        ("beside", &["10.8.4.5", "fd00:8:0:1::5"]),
    ])?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    for host in ["web-1", "web-2", "manager"] {
        scenario.serve(host, &[Tcp(443), Tcp(80), Tcp(22)])?;
    }
    for host in ["db-1", "db-2"] {
        scenario.serve(host, &[Tcp(3306), Tcp(22)])?;
    }
    scenario.expect(&[
        // Managed from outside without a rule that lets anything in.
        ("web-1", "manager", Tcp(443), Connected),
        ("web-2", "manager", Tcp(443), Connected),
        ("web-1", "manager", Tcp(80), TimedOut),
        ("web-1", "manager", Ping, TimedOut),
        ("manager", "web-1", Tcp(443), TimedOut),
        ("manager", "web-1", Tcp(22), TimedOut),
        ("manager", "web-2", Ping, TimedOut),
        ("vpn", "web-1", Tcp(22), TimedOut),
        // web-1 may go out on 443, but not into web-2.
        ("web-1", "web-2", Tcp(443), TimedOut),
        ("vpn", "db-1", Tcp(3306), Connected),
        ("vpn", "db-2", Tcp(3306), Connected),
        ("vpn", "db-1", Tcp(22), TimedOut),
        ("beside", "db-1", Tcp(3306), TimedOut),
        ("manager", "db-2", Tcp(3306), TimedOut),
        ("web-1", "db-1", Tcp(3306), TimedOut),
        ("db-1", "db-2", Tcp(3306), TimedOut),
        ("db-1", "manager", Tcp(443), TimedOut),
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
