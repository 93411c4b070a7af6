//! `sgctl`.
fn main() {}
