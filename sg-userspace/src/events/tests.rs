//! Events as text and as JSON, and what filters make of them.

use sg_common::abi::{Event, EventKind};
use sg_common::{Direction, Reason};

use super::{Filter, Names, Record, WallClock, trace_line};

const CLOCK: WallClock = WallClock::at(0, 0);

fn names() -> Names {
    let rule = "group web ingress tcp/80 from 0.0.0.0/0";
    Names {
        interfaces: [(3, "web".to_owned())].into(),
        rules: [(7, rule.to_owned())].into(),
        gone: [].into(),
    }
}

fn word(octets: [u8; 4]) -> u32 {
    u32::from_ne_bytes(octets)
}

fn event(kind: EventKind, reason: Reason, direction: Direction) -> Event {
    Event {
        time: 43_384_123_456_789,
        kind: kind as u8,
        reason: reason as u8,
        direction: direction as u8,
        slot: 3,
        family: 4,
        protocol: 6,
        local: [word([10, 0, 0, 5]), 0, 0, 0],
        remote: [word([198, 51, 100, 7]), 0, 0, 0],
        local_port: 22,
        remote_port: 51234,
        length: 60,
        ..Event::default()
    }
}

fn record(event: &Event) -> Record {
    Record::new(event, &names(), &CLOCK).expect("a known event")
}

fn v6() -> Event {
    let mut event = event(EventKind::Drop, Reason::NoRule, Direction::Egress);
    event.family = 6;
    event.local = [word([0xfd, 0, 0, 0]), 0, 0, word([0, 0, 0, 1])];
    event.remote = [word([0x20, 0x01, 0x0d, 0xb8]), 0, 0, word([0, 0, 0, 2])];
    event
}

fn end() -> Event {
    Event {
        rule: 7,
        packets: [5, 4],
        bytes: [700, 4000],
        length: 0,
        ..event(EventKind::End, Reason::Flow, Direction::Ingress)
    }
}

#[test]
fn lines_read_in_packet_direction() {
    let drop = event(EventKind::Drop, Reason::NoRule, Direction::Ingress);
    let allow = Event { rule: 7, ..event(EventKind::Allow, Reason::Rule, Direction::Ingress) };
    let icmp = Event {
        protocol: 1,
        icmp_type: 8,
        ..event(EventKind::Audit, Reason::NoRule, Direction::Egress)
    };
    let strange =
        Event { family: 0, ..event(EventKind::Drop, Reason::Malformed, Direction::Ingress) };
    let other = Event { protocol: 47, ..drop };
    for (event, text) in [
        (drop, "drop ingress web tcp 198.51.100.7:51234 -> 10.0.0.5:22 no_rule 60 B"),
        (
            allow,
            "allow ingress web tcp 198.51.100.7:51234 -> 10.0.0.5:22 \
             (group web ingress tcp/80 from 0.0.0.0/0) 60 B",
        ),
        (icmp, "audit egress web icmp 10.0.0.5 -> 198.51.100.7 type 8 code 0 no_rule 60 B"),
        (strange, "drop ingress web not-ip malformed 60 B"),
        (other, "drop ingress web 47 198.51.100.7 -> 10.0.0.5 no_rule 60 B"),
        (v6(), "drop egress web tcp [fd00::1]:22 -> [2001:db8::2]:51234 no_rule 60 B"),
        (
            end(),
            "end ingress web tcp 198.51.100.7:51234 -> 10.0.0.5:22 in 5 packets 700 B, \
             out 4 packets 4000 B (group web ingress tcp/80 from 0.0.0.0/0)",
        ),
        (
            Event { slot: 9, ..drop },
            "drop ingress slot 9 tcp 198.51.100.7:51234 -> 10.0.0.5:22 no_rule 60 B",
        ),
    ] {
        assert_eq!(record(&event).to_string(), format!("12:03:04.123 {text}"));
    }
}

#[test]
fn json_keys_are_stable() {
    let json = serde_json::to_value(record(&end())).expect("JSON");
    let expected = serde_json::json!({
        "time": "1970-01-01T12:03:04.123456Z",
        "verdict": "end",
        "direction": "ingress",
        "interface": "web",
        "protocol": "tcp",
        "source": "198.51.100.7",
        "source_port": 51234,
        "destination": "10.0.0.5",
        "destination_port": 22,
        "icmp_type": null,
        "icmp_code": null,
        "reason": "flow",
        "rule": "group web ingress tcp/80 from 0.0.0.0/0",
        "rule_gone": false,
        "length": null,
        "packets": {"ingress": 5, "egress": 4},
        "bytes": {"ingress": 700, "egress": 4000},
    });
    assert_eq!(json, expected);
}

#[test]
fn what_this_version_does_not_know_is_no_record() {
    let known = event(EventKind::Drop, Reason::NoRule, Direction::Ingress);
    for unknown in [
        Event { kind: 99, ..known },
        Event { reason: 255, ..known },
        Event { direction: 2, ..known },
    ] {
        assert_eq!(Record::new(&unknown, &names(), &CLOCK), None);
    }
}

#[test]
fn a_rule_that_has_gone_is_named_and_marked() {
    let allow = Event { rule: 7, ..event(EventKind::Allow, Reason::Rule, Direction::Ingress) };
    let mut names = names();
    let told = |names: &Names, rule| {
        let record = Record::new(&Event { rule, ..allow }, names, &CLOCK).expect("a known event");
        let (_, rule) = record
            .to_string()
            .split_once(":22 ")
            .map(|(a, b)| (a.len(), b.to_owned()))
            .expect("a line");
        (record.rule_gone, rule)
    };
    let web = "group web ingress tcp/80 from 0.0.0.0/0";
    assert_eq!(told(&names, 7), (false, format!("({web}) 60 B")));
    assert_eq!(told(&names, 9), (true, "(rule 9; gone) 60 B".to_owned()));
    // Another rule comes for it; its name is kept.
    names.learn(Names { rules: [(9, "another".to_owned())].into(), ..Names::default() });
    assert_eq!(told(&names, 7), (true, format!("({web}; gone) 60 B")));
    assert_eq!(told(&names, 9), (false, "(another) 60 B".to_owned()));
    // And comes back.
    names.learn(self::names());
    assert!(!told(&names, 7).0);
    assert!(told(&names, 9).0);
    assert!(!names.is_gone(0), "no rule is none that went");
}

#[test]
fn names_are_learnt_when_a_number_is_unknown() {
    let known = event(EventKind::Drop, Reason::NoRule, Direction::Ingress);
    assert!(names().know(&known));
    assert!(names().know(&Event { rule: 7, ..known }));
    assert!(!names().know(&Event { rule: 8, ..known }));
    assert!(!names().know(&Event { slot: 4, ..known }));
    let unknown = Event { rule: 8, ..event(EventKind::Allow, Reason::Rule, Direction::Ingress) };
    assert!(record(&unknown).to_string().ends_with("(rule 8; gone) 60 B"));
}

#[test]
fn filters_look_at_both_ends() {
    let record = record(&end());
    let all = Filter::default;
    let net = |text: &str| text.parse().ok();
    for (filter, fits) in [
        (all(), true),
        (Filter { interface: Some("web".into()), ..all() }, true),
        (Filter { interface: Some("we".into()), ..all() }, false),
        (Filter { kinds: vec![EventKind::Drop, EventKind::End], ..all() }, true),
        (Filter { kinds: vec![EventKind::Drop], ..all() }, false),
        (Filter { direction: Some(Direction::Egress), ..all() }, false),
        (Filter { protocol: Some(6), ..all() }, true),
        (Filter { protocol: Some(17), ..all() }, false),
        (Filter { address: net("10.0.0.0/24"), ..all() }, true),
        (Filter { address: net("198.51.100.7/32"), ..all() }, true),
        (Filter { address: net("fd00::/8"), ..all() }, false),
        (Filter { port: Some(51234), ..all() }, true),
        (Filter { port: Some(22), ..all() }, true),
        (Filter { port: Some(23), ..all() }, false),
        (Filter { rule: Some("WEB ingress".into()), ..all() }, true),
        (Filter { rule: Some("db".into()), ..all() }, false),
    ] {
        assert_eq!(filter.fits(&record), fits, "{filter:?}");
    }
}

#[test]
fn traces_are_put_in_words() {
    let with_ends = format!(
        "slot=3 direction=0 reason={} rule=0 protocol=4/6 source=4/{}/0/0/0/443 destination=4/{}/0/0/0/0",
        Reason::Flow as u8,
        word([198, 51, 100, 7]),
        word([10, 0, 0, 5]),
    );
    for (line, words) in [
        (
            "slot=3 direction=0 reason=2 rule=7",
            "web ingress allow rule (group web ingress tcp/80 from 0.0.0.0/0)",
        ),
        ("slot=4 direction=1 reason=16 rule=0", "slot 4 egress drop no_rule rule=0"),
        (&*with_ends, "web ingress allow flow rule=0 tcp 198.51.100.7:443 -> 10.0.0.5"),
        (
            "slot=3 direction=0 reason=16 rule=0 protocol=0/0 source=0/0/0/0/0/0 destination=0/0/0/0/0/0",
            "web ingress drop no_rule rule=0",
        ),
        ("something else=1", "something else=1"),
    ] {
        assert_eq!(trace_line(line, &names()), words);
    }
}
