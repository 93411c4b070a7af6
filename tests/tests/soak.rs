//! A few rounds of each row of the soak suite; `cargo xtask soak` makes a hundred.

use tests::soak::{Options, ROWS};

/// Runs one row.
fn run(name: &str) {
    let row = ROWS.iter().find(|row| row.name == name);
    let row = row.unwrap_or_else(|| panic!("no row is called {name}"));
    let measured = row.run(Options { rounds: 2 });
    assert!(measured.passed, "{name}: must be {}; measured {}", row.must, measured.numbers);
}

#[test]
fn upgrade_tcx() {
    run("upgrade, TCX");
}

#[test]
fn upgrade_clsact() {
    run("upgrade, clsact");
}

#[test]
fn upgrade_xdp() {
    run("upgrade, native XDP");
}
