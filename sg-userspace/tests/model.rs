//! The engine against a naive model of the contract, in random histories: packets of both directions and
//! families, of several peers and ports, fragments, ICMP errors, and time.

#[path = "model/cases.rs"]
mod cases;
#[path = "model/flows.rs"]
mod flows;
#[path = "model/fragments.rs"]
mod fragments;
#[path = "model/lockstep.rs"]
mod lockstep;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/packet.rs"]
mod packet;
#[path = "compile_support/naive.rs"]
mod rules;
#[path = "model/steps.rs"]
mod steps;
#[path = "model/tcp.rs"]
mod tcp;
#[path = "model/world.rs"]
mod world;

use proptest::prelude::*;

use lockstep::run;
use steps::steps;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_contract_says(which in 0..world::WORLDS.len(), steps in steps()) {
        run(which, &steps).map_err(TestCaseError::fail)?;
    }
}
