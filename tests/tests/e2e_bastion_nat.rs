//! `examples/bastion-nat.yaml` with real sockets: out through a NAT host, in through the bastion.

use std::net::IpAddr;

use anyhow::Result;
use tests::{
    capture::Capture,
    example::{Example, Side},
    net::{DEVICE, Net},
    scenario::{
        Probe::{Ping, Tcp, Udp},
        Scenario,
    },
    traffic::Outcome::{Connected, TimedOut},
};

/// What the comment at the head of the example tells the operator to do on nat-1, and the VPC's
/// route table: the private subnets reach the internet by way of nat-1.
fn set_nat_up(net: &Net) -> Result<()> {
    let nat = net.host("nat-1");
    nat.ns().set_parameters(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    let ruleset = "table inet nat { chain post { type nat hook postrouting priority srcnat; oif eth0 masquerade; }; }";
    let translate = nat.ns().command("nft").arg(ruleset).output()?;
    assert!(translate.status.success(), "{}", String::from_utf8_lossy(&translate.stderr));
    for (family, private, internet, via) in [
        ("-4", "172.16.32.0/20", "198.51.100.0/24", nat.v4().to_string()),
        ("-6", "fd00:16:0:32::/64", "2001:db8:51::/64", nat.v6().to_string()),
    ] {
        for words in [
            vec!["route", "add", "default", "via", &via, "table", "100"],
            vec!["rule", "add", "from", private, "to", internet, "lookup", "100"],
        ] {
            let ip = net.wire().command("ip").arg(family).args(words).output()?;
            assert!(ip.status.success(), "{}", String::from_utf8_lossy(&ip.stderr));
        }
    }
    Ok(())
}

fn check(side: Side) -> Result<()> {
    let example = Example::read("bastion-nat")?;
    let net = example.net(&[
        ("page", &["198.51.100.7", "2001:db8:51::7"]),
        ("office", &["203.0.113.10", "2001:db8:113::10"]),
    ])?;
    set_nat_up(&net)?;
    let mut scenario = Scenario::attach(&net, &example, side)?;
    scenario.serve("page", &[Tcp(80), Tcp(443), Tcp(25), Udp(53)])?;
    for host in ["private-1", "private-2", "bastion-1", "nat-1"] {
        scenario.serve(host, &[Tcp(22), Tcp(443)])?;
    }
    let page = net.host("page");
    let mut outside = Capture::start(page.ns(), DEVICE)?;
    scenario.expect(&[
        ("private-1", "page", Tcp(443), Connected),
        ("private-2", "page", Tcp(80), Connected),
        // nat-1 takes pages only.
        ("private-1", "page", Tcp(25), TimedOut),
        ("private-1", "page", Udp(53), TimedOut),
        ("private-1", "page", Ping, TimedOut),
        // nat-1 itself goes out without restraint, and nobody comes in.
        ("nat-1", "page", Tcp(25), Connected),
        ("page", "nat-1", Tcp(443), TimedOut),
        ("page", "private-1", Tcp(443), TimedOut),
        ("page", "private-2", Tcp(22), TimedOut),
        ("page", "bastion-1", Tcp(22), TimedOut),
        ("office", "bastion-1", Tcp(22), Connected),
        ("office", "private-1", Tcp(22), TimedOut),
        ("bastion-1", "private-1", Tcp(22), Connected),
        ("bastion-1", "private-1", Tcp(443), TimedOut),
        ("nat-1", "private-1", Tcp(22), TimedOut),
    ])?;
    // The page has never seen a private address, and has seen the NAT host's: translation happened.
    for (private, nat) in
        net.host("private-1").addresses().iter().zip(net.host("nat-1").addresses())
    {
        let from = |source: IpAddr, port| {
            move |frame: &tests::frame::Frame| {
                frame.addresses().is_some_and(|(from, _)| from == source)
                    && frame.ports().is_some_and(|(_, to)| to == port)
            }
        };
        assert_eq!(outside.count(from(*private, 443))?, 0);
        assert!(outside.count(from(*nat, 443))? > 0);
    }

    // With the source check on, a workload does not get its neighbours' packets out.
    if side == Side::Workload {
        scenario.replace(&example.edited(", source_dest_check: false}", "}")?)?;
        scenario.expect(&[
            ("private-1", "page", Tcp(443), TimedOut),
            ("nat-1", "page", Tcp(443), Connected),
        ])?;
    }
    Ok(())
}

#[test]
fn from_the_host_itself() -> Result<()> {
    check(Side::Host)
}

#[test]
fn from_below_the_workload() -> Result<()> {
    check(Side::Workload)
}
