//! `examples/group-reference.yaml` with real sockets: groups as peers, no address in any rule.

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
    let example = Example::read("group-reference")?;
    // Same subnet, no member of anything.
    let net = example.net(&[("stranger", &["172.20.1.99", "fd00:20:0:1::99"])])?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    for host in ["one-a", "one-b", "two-a", "three-a"] {
        scenario.serve(host, &[Tcp(123), Udp(123)])?;
    }
    scenario.expect(&[
        ("one-a", "one-b", Tcp(123), Connected),
        ("one-b", "one-a", Tcp(123), Connected),
        ("two-a", "one-a", Tcp(123), Connected),
        ("two-a", "one-b", Tcp(123), Connected),
        ("three-a", "one-a", Tcp(123), TimedOut),
        ("three-a", "one-b", Tcp(123), TimedOut),
        ("stranger", "one-a", Tcp(123), TimedOut),
        // Membership opens what the rules say and nothing beside it.
        ("one-a", "one-b", Tcp(124), TimedOut),
        ("two-a", "one-a", Udp(123), TimedOut),
        ("one-b", "one-a", Ping, TimedOut),
        // A reference has one direction.
        ("one-a", "three-a", Tcp(123), TimedOut),
        // Elsewhere nobody judges; outwards three-a may go anywhere.
        ("one-a", "two-a", Tcp(123), Connected),
        ("three-a", "two-a", Tcp(123), Connected),
        ("three-a", "stranger", Tcp(123), Refused),
    ])?;

    let moved = example.without_tests()?.edited("groups: [group-3]", "groups: [group-2]")?;
    scenario.replace(&moved)?;
    scenario.expect(&[
        ("three-a", "one-a", Tcp(123), Connected),
        ("three-a", "one-b", Tcp(123), Connected),
        ("two-a", "one-a", Tcp(123), Connected),
        ("stranger", "one-a", Tcp(123), TimedOut),
        ("one-a", "three-a", Tcp(123), TimedOut),
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
