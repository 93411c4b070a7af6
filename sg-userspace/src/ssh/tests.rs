use super::*;
use crate::compile::{Surroundings, compile};
use crate::policy::load;

const SESSION: Session = Session {
    client: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)),
    client_port: 50000,
    server: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)),
    server_port: 22,
};

#[test]
fn the_variable() {
    assert_eq!(Session::parse("198.51.100.7 50000 10.0.0.5 22"), Some(SESSION));
    let zone = Session::parse("fe80::1%eth0 50000 fe80::2%eth0 22").expect("a session");
    assert_eq!(
        (zone.client, zone.server),
        ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap())
    );
    let mapped = Session::parse("::ffff:198.51.100.7 50000 ::ffff:10.0.0.5 22");
    assert_eq!(mapped, Some(SESSION));
    for text in [
        "",
        "198.51.100.7 50000 10.0.0.5",
        "a b c d",
        "1.2.3.4 1 1.2.3.4 70000",
        "1.2.3.4 1 1.2.3.4 22 9",
    ] {
        assert_eq!(Session::parse(text), None, "{text:?}");
    }
}

#[test]
fn the_environment_of_another_process() {
    let bytes = b"HOME=/root\0SSH_CONNECTION=198.51.100.7 50000 10.0.0.5 22\0TERM=xterm\0";
    assert_eq!(in_environment(bytes), Some(SESSION));
    assert_eq!(in_environment(b"NOT_SSH_CONNECTION=198.51.100.7 50000 10.0.0.5 22\0"), None);
    assert_eq!(parent("4711 (a ) b (c) S 42 4711 4711 0"), Some(42));
    assert_eq!(parent("nonsense"), None);
}

fn tables(live_flows: &str, ingress: &str, previous: Option<&TableSpec>) -> TableSpec {
    let text = format!(
        "live_flows: {live_flows}\nvpcs: [{{name: prod, cidrs: [10.0.0.0/16], security_groups: [{{name: web, ingress: [{ingress}], egress: []}}], \
         interfaces: [{{name: host, addresses: [10.0.0.5], groups: [web], device: eth0, side: host}}]}}]"
    );
    let policy = load("test", &text).expect("a policy").policy;
    compile(&policy, &Surroundings::with_devices(&policy), previous).expect("tables")
}

fn ways() -> Vec<Way> {
    vec![Way { interface: "host".to_owned(), ..Way::default() }]
}

/// The session as the flow tables have it.
fn flow(spec: &TableSpec) -> FlowRecord {
    let slot = spec.slot("host").expect("a slot");
    let (packets, bytes, expires_in) = ([9, 9], [900, 900], 400_000);
    let epoch = spec.interfaces[&slot].version.epoch;
    let sample = FlowRecord::sample(slot, (SESSION.server, 22), (SESSION.client, 50000));
    FlowRecord { packets, bytes, expires_in, epoch, ..sample }
}

const SSH: &str = "{type: ssh, from: 198.51.100.0/24}";
const HTTP: &str = "{type: http, from: 0.0.0.0/0}";

fn told(fate: &Fate) -> &'static str {
    match fate {
        Fate::NotOurs => "not ours",
        Fate::Unaffected => "unaffected",
        Fate::WouldBeCut { .. } => "cut",
        Fate::CouldNotReturn { already: false, .. } => "no return",
        Fate::CouldNotReturn { already: true, .. } => "no return as before",
    }
}

#[test]
fn a_change_of_rules() {
    for (live_flows, before, after, expected) in [
        ("keep", SSH, SSH, "unaffected"),
        ("cut", SSH, SSH, "unaffected"),
        ("keep", SSH, HTTP, "no return"),
        ("cut", SSH, HTTP, "cut"),
        ("keep", HTTP, HTTP, "no return as before"),
        ("keep", HTTP, SSH, "unaffected"),
    ] {
        let old = tables(live_flows, before, None);
        let new = tables(live_flows, after, Some(&old));
        let flows = [flow(&old)];
        let fate = SESSION.fate(Some(&old), &new, &ways(), Keeping::Tracked(&flows));
        assert_eq!(told(&fate), expected, "{live_flows}: {before} to {after}");
        let audit = [Way { audit: true, ..ways().remove(0) }];
        let fate = SESSION.fate(Some(&old), &new, &audit, Keeping::Tracked(&flows));
        assert_eq!(fate, Fate::Unaffected);
        let untracked = [FlowRecord { untracked: true, ..flow(&old) }];
        let fate = SESSION.fate(Some(&old), &new, &ways(), Keeping::Tracked(&untracked));
        let ends = if expected == "no return" { "cut" } else { expected };
        assert_eq!(told(&fate), ends, "untracked, {live_flows}: {before} to {after}");
        let fate = SESSION.fate(Some(&old), &new, &ways(), Keeping::Tracked(&[]));
        // What was dropped before is not cut.
        let goes_on = ["unaffected", "no return as before"].contains(&expected);
        let ends = if goes_on { expected } else { "cut" };
        assert_eq!(told(&fate), ends, "no entry, {live_flows}: {before} to {after}");
    }
}

#[test]
fn a_first_attach() {
    for (live_flows, rules, keeping, expected) in [
        ("keep", SSH, Keeping::Nothing, "unaffected"),
        ("keep", HTTP, Keeping::Adopted, "no return"),
        ("cut", HTTP, Keeping::Adopted, "cut"),
        ("keep", HTTP, Keeping::Nothing, "cut"),
    ] {
        let new = tables(live_flows, rules, None);
        assert_eq!(
            told(&SESSION.fate(None, &new, &ways(), keeping)),
            expected,
            "{live_flows} {rules}"
        );
    }
}

#[test]
fn whose_session_it_is() {
    let new = tables("cut", HTTP, None);
    let elsewhere = Session { server: "10.0.0.6".parse().unwrap(), ..SESSION };
    assert_eq!(elsewhere.fate(None, &new, &ways(), Keeping::Adopted), Fate::NotOurs);
    // An address of the device that the policy does not know is judged at the device all the same.
    let device = [Way { addresses: vec!["10.0.0.6/24".parse().unwrap()], ..ways().remove(0) }];
    assert_eq!(told(&elsewhere.fate(None, &new, &device, Keeping::Adopted)), "cut");
    assert_eq!(SESSION.fate(None, &new, &[], Keeping::Adopted), Fate::NotOurs);
    let fate = SESSION.fate(None, &new, &ways(), Keeping::Adopted);
    assert!(fate.refuses());
    let text = fate.text(&SESSION).expect("words");
    assert!(text.contains("no rule allows ingress tcp/22 from 198.51.100.7"), "{text}");
}

#[test]
fn rules_do_not_save_a_session_whose_neighbours_may_not_be_asked_for() {
    let rule = "{type: ssh, from: 198.51.100.0/24}";
    let old = tables("keep", rule, None);
    let deaf = tables("keep\ninfrastructure: {arp: false}", rule, Some(&old));
    let flow = [flow(&old)];
    for keeping in [Keeping::Tracked(&flow), Keeping::Adopted] {
        let fate = |old, new| SESSION.fate(old, new, &ways(), keeping);
        assert!(matches!(fate(Some(&old), &deaf), Fate::WouldBeCut { .. }));
        assert!(matches!(fate(None, &deaf), Fate::WouldBeCut { .. }));
        // It lives without them already.
        assert_eq!(fate(Some(&deaf), &deaf), Fate::Unaffected);
        assert_eq!(fate(Some(&deaf), &old), Fate::Unaffected);
    }
}
