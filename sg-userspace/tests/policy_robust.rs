//! Policy files that nobody would write: `load` must answer anything, and soon.

use std::fmt::Write as _;
use std::time::Instant;

use proptest::prelude::*;
use sg_userspace::policy::{Loaded, Rejected, Style, load};

const DESIGN: &str = include_str!("data/policy/good-design.yaml");
const EVERYTHING: &str = include_str!("data/policy/good-everything.yaml");

/// What holds of every answer, whatever the text.
fn check(text: &str) {
    let answer = load("fuzz.yaml", text);
    let (diagnostics, errors) = match &answer {
        Ok(Loaded { policy, warnings }) => {
            for vpc in &policy.vpcs {
                assert!(vpc.groups.iter().any(|group| group.name.eq_ignore_ascii_case("default")));
                assert!(vpc.interfaces.iter().all(|interface| !interface.groups.is_empty()));
            }
            (warnings, false)
        }
        Err(rejected) => {
            let Rejected { diagnostics } = rejected.as_ref();
            (diagnostics, true)
        }
    };
    assert_eq!(diagnostics.errors() > 0, errors);
    for item in diagnostics.iter() {
        let lines = text.split('\n').count();
        assert!((1..=lines).contains(&item.place.line), "{item:?}");
        assert!(item.place.column >= 1 && item.place.offset <= text.len(), "{item:?}");
        assert!(!item.message.is_empty());
    }
    for style in [Style::OneLine, Style::Narrated, Style::Graphical { color: true, width: 80 }] {
        diagnostics.render(style);
    }
}

/// Pieces that YAML and the format give a meaning to.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "vpcs:",
        "name:",
        "cidrs:",
        "security_groups:",
        "ingress:",
        "egress:",
        "interfaces:",
        "tests:",
        "from:",
        "to:",
        "protocol:",
        "ports:",
        "type:",
        "addresses:",
        "groups:",
        "quotas:",
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "~",
        "!!str ",
        "# ",
        "---\n",
        "\t",
        "|\n",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1",
        "tcp",
        "22",
        "-1",
        "1e999",
        ".nan",
        "0x7f",
        "true",
        "default",
        "\u{feff}",
        "\r\n",
        "\u{85}",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

/// A valid file with a few places replaced.
fn mutated(original: &'static str) -> impl Strategy<Value = String> {
    let edit = (0..original.len(), 0..12_usize, prop::collection::vec(piece(), 0..3));
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut text = original.to_owned();
        for (start, length, pieces) in edits {
            let boundary = |at: usize| {
                (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
            };
            let range = boundary(start)..boundary(start + length);
            text.replace_range(range, &pieces.concat());
        }
        text
    })
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_soup_of_yaml_is_answered(pieces in prop::collection::vec(piece(), 0..60)) {
        check(&pieces.concat());
    }

    #[test]
    fn damaged_files_are_answered(text in mutated(DESIGN)) {
        check(&text);
    }

    #[test]
    fn more_damaged_files_are_answered(text in mutated(EVERYTHING)) {
        check(&text);
    }
}

/// Many groups with rules, and many interfaces with one address each.
fn large(groups: u32, rules: u32, interfaces: u32) -> String {
    let mut text = String::from("quotas: {groups_per_vpc: 1000000}\nvpcs:\n  - name: v\n    ");
    text.push_str("cidrs: [10.0.0.0/8]\n    security_groups:\n");
    for group in 0..groups {
        let _ = writeln!(text, "      - name: g{group}\n        ingress:");
        for rule in 0..rules {
            let peer = (group + rule) % groups;
            let port = 1 + rule;
            let _ = writeln!(
                text,
                "          - {{protocol: tcp, ports: {port}, from: {{group: g{peer}}}}}"
            );
        }
    }
    text.push_str("    interfaces:\n");
    for interface in 0..interfaces {
        let [_, b, c, d] = interface.to_be_bytes();
        let group = interface % groups;
        let _ = writeln!(
            text,
            "      - {{name: i{interface}, addresses: [10.{b}.{c}.{d}], groups: [g{group}]}}"
        );
    }
    text
}

#[test]
fn large_files_load_whole() {
    let text = large(100, 50, 20_000);
    let policy = load("large.yaml", &text).expect("valid").policy;
    assert_eq!(policy.vpcs[0].groups.iter().map(|group| group.ingress.len()).sum::<usize>(), 5001);
    assert_eq!(policy.vpcs[0].interfaces.len(), 20_000);
}

#[test]
fn errors_beyond_the_first_thousand_are_counted() {
    let text = large(2, 50, 3000).replace("addresses: [10", "addresses: [11");
    let diagnostics = load("large.yaml", &text).expect_err("outside the VPC").diagnostics;
    assert_eq!((diagnostics.iter().count(), diagnostics.errors()), (1000, 3000));
    assert!(diagnostics.render(Style::OneLine).ends_with("... and 2000 more errors\n"));
}

#[test]
fn an_anchor_may_be_used_often() {
    let mut text = String::from("vpcs:\n  - name: v\n    cidrs: &c [10.0.0.0/8]\n");
    for vpc in 0..2000 {
        let _ = writeln!(text, "  - {{name: v{vpc}, cidrs: *c}}");
    }
    assert_eq!(load("anchors.yaml", &text).expect("valid").policy.vpcs.len(), 2001);
}

/// A hundred thousand rules, and a million addresses of a thousand interfaces.
fn many_addresses() -> String {
    let mut text = large(2000, 50, 0);
    for interface in 0..1000_u32 {
        let _ = writeln!(text, "      - name: i{interface}\n        addresses:");
        for address in 0..1000_u32 {
            let [_, b, c, d] = (interface * 1000 + address).to_be_bytes();
            let _ = writeln!(text, "          - 10.{b}.{c}.{d}");
        }
    }
    text
}

/// Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn million_addresses() {
    let interfaces = large(2000, 50, 1_000_000);
    for (name, text) in [
        ("100,000 rules, 1,000,000 addresses", many_addresses()),
        ("2,000,000 errors", interfaces.replace("addresses: [10", "adresses: [10")),
        ("100,000 rules, 1,000,000 interfaces", interfaces),
    ] {
        let start = Instant::now();
        let answer = load("large.yaml", &text);
        let loaded = start.elapsed();
        let errors = answer.err().map_or(0, |rejected| {
            rejected.diagnostics.render(Style::Graphical { color: true, width: 80 });
            rejected.diagnostics.errors()
        });
        let rendered = start.elapsed() - loaded;
        let size = text.len() >> 20;
        println!("{name}: {size} MB, load {loaded:.1?}, {errors} errors, render {rendered:.1?}");
    }
}
