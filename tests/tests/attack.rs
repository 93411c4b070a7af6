//! The attacks that take no tools and little time, one test each; `cargo xtask attack` plays all.

use tests::attack::{ATTACKS, Options};

/// Plays one attack of the suite; it must be one of the quick ones.
fn play(name: &str) {
    let attack = ATTACKS.iter().find(|attack| attack.quick && attack.name == name);
    let attack = attack.unwrap_or_else(|| panic!("no quick attack is called {name}"));
    let measured = attack.play(&Options::default());
    assert!(measured.passed, "{name}: must be {}; measured {}", attack.must, measured.numbers);
}

macro_rules! attacks {
    ($($test:ident: $name:literal;)+) => {
        $(#[test] fn $test() { play($name); })+

        #[test]
        fn every_quick_attack_is_played() {
            let played = [$($name),+];
            let quick = ATTACKS.iter().filter(|attack| attack.quick).map(|attack| attack.name);
            assert_eq!(quick.collect::<Vec<_>>(), played);
        }
    };
}

attacks! {
    blind_resets: "10 000 blind RST per flow";
    blind_fins: "10 000 blind FIN per flow";
    blind_syns_and_acks: "10 000 blind SYN and ACK per flow";
    forged_icmp_errors: "1000 forged ICMP errors";
    true_icmp_errors: "1000 true packet-too-big";
    crafted_fragments: "fragments: tiny, overlapping, reversed, ...";
    orphaned_fragments: "later fragments of a dropped first";
    large_datagrams: "8 KB datagrams in either order";
    cut_packets: "own packets cut at every byte";
    header_lengths: "IHL 5-15 x every port position";
    vlan_tags: "VLAN 0-3 tags x two ethertypes";
    impossible_sources: "land, own, loopback, multicast sources";
    full_table: "full flow table";
    share_of_the_table: "one workload fills its share";
}
