//! `examples/kakao-web.yaml` with real sockets: the dialect's default group and its metadata.

use anyhow::Result;
use tests::{
    example::{Example, Side},
    scenario::{
        Probe::{Ping, Tcp, Udp},
        Scenario,
    },
    traffic::Outcome::{Connected, TimedOut},
};

fn check(side: Side) -> Result<()> {
    let example = Example::read("kakao-web")?;
    let net = example.net(&[
        ("client", &["198.51.100.7", "2001:db8:51::7"]),
        ("operator", &["203.0.113.5", "2001:db8:113::5"]),
        // The first addresses behind the operator's ranges.
        ("neighbour", &["203.0.113.16", "2001:db8:113::100"]),
        ("database", &["10.0.2.10", "fd00:a:0:2::10"]),
        ("no-database", &["10.0.2.200", "fd00:a:0:2::200"]),
        ("metadata", &["169.254.169.254"]),
    ])?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    scenario.serve("web-1", &[Tcp(80), Tcp(443), Tcp(22), Tcp(3389)])?;
    for host in ["database", "no-database"] {
        scenario.serve(host, &[Tcp(1433), Tcp(3306), Tcp(5432)])?;
    }
    scenario.serve("plain-1", &[Tcp(5000)])?;
    scenario.serve("plain-2", &[Tcp(5000), Udp(5000)])?;
    scenario.serve("metadata", &[Tcp(80), Tcp(81)])?;
    scenario.serve("client", &[Tcp(443)])?;
    scenario.expect(&[
        ("client", "web-1", Tcp(80), Connected),
        ("client", "web-1", Tcp(443), Connected),
        ("client", "web-1", Tcp(22), TimedOut),
        ("client", "web-1", Tcp(3389), TimedOut),
        ("operator", "web-1", Tcp(22), Connected),
        ("operator", "web-1", Tcp(3389), Connected),
        ("neighbour", "web-1", Tcp(22), TimedOut),
        ("neighbour", "web-1", Tcp(3389), TimedOut),
        ("web-1", "database", Tcp(1433), Connected),
        ("web-1", "database", Tcp(3306), Connected),
        ("web-1", "database", Tcp(5432), TimedOut),
        ("web-1", "no-database", Tcp(3306), TimedOut),
        ("web-1", "client", Tcp(443), TimedOut),
        // The group `default`: TCP from itself.
        ("plain-1", "plain-2", Tcp(5000), Connected),
        ("plain-1", "plain-2", Udp(5000), TimedOut),
        ("plain-1", "plain-2", Ping, TimedOut),
        ("batch-1", "plain-1", Tcp(5000), TimedOut),
        // Everywhere is not everywhere: metadata is in it for `default` alone.
        ("batch-1", "client", Tcp(443), Connected),
        ("batch-1", "metadata", Tcp(80), TimedOut),
        ("web-1", "metadata", Tcp(80), TimedOut),
        ("plain-1", "metadata", Tcp(80), Connected),
    ])?;

    scenario.replace(&example.edited("# - {type: http, to: 169", "- {type: http, to: 169")?)?;
    scenario.expect(&[
        ("web-1", "metadata", Tcp(80), Connected),
        ("web-1", "metadata", Tcp(81), TimedOut),
        ("batch-1", "metadata", Tcp(80), TimedOut),
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
