//! nf_conntrack and the programs judge the same packets; see `tests::oracle`.

use std::time::Instant;

use anyhow::Result;
use sg_userspace::policy::model::Side;
use tests::case::{Case, files};
use tests::oracle::{Classes, Filter, OurPrograms, Report, Trial, of_cases, of_random};

/// Any number: the conversations follow from it.
const SEED: u64 = 7;
/// For each side.
const CONVERSATIONS: usize = 1000;

#[test]
fn every_difference_is_explained() -> Result<()> {
    let started = Instant::now();
    let classes = Classes::read()?;
    let files = files()?;
    let cases: Vec<&Case> = files.iter().flat_map(|file| &file.cases).collect();
    let mut trials = of_cases(&cases);
    for side in [Side::Host, Side::Workload] {
        trials.push(of_random(side, SEED, CONVERSATIONS)?);
    }
    let report = run(&trials, &classes)?;
    println!("{report}, {:.1?}", started.elapsed());
    report.verdict(&classes)
}

fn run<'c>(trials: &[Trial<'c>], classes: &Classes) -> Result<Report> {
    let (mut programs, mut filter) = (OurPrograms::new()?, Filter::new()?);
    let mut report = Report::default();
    for trial in trials {
        for (name, opinions) in trial.run(&mut programs, &mut filter)? {
            report.add(classes, name, &opinions);
        }
    }
    Ok(report)
}
