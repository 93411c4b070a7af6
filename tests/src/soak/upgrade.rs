//! Programs replaced by newer ones under a flood, again and again: no packet may meet no program, or two.

use anyhow::{Context as _, Result, ensure};

use super::{
    Measured, Options,
    streams::{self, Streams},
};
use crate::{
    example::Side::{self, Host, Workload},
    net::Net,
    scenario::Scenario,
};

pub(super) fn tcx(options: Options) -> Result<Measured> {
    upgrade(options, Workload, &["--tc", "tcx"])
}

pub(super) fn clsact(options: Options) -> Result<Measured> {
    upgrade(options, Workload, &["--tc", "clsact"])
}

pub(super) fn xdp(options: Options) -> Result<Measured> {
    upgrade(options, Host, &["--xdp", "native"])
}

fn upgrade(options: Options, side: Side, hooks: &[&str]) -> Result<Measured> {
    let net = Net::pair()?;
    let scenario = Scenario::attach_with(&net, &streams::example()?, side, hooks)?;
    let sgctl = scenario.controller("server");
    let streams = Streams::open(&net)?;
    let programs = || -> Result<Vec<u64>> {
        let status = sgctl.json(&["status"])?;
        let hooks = status["devices"][0]["hooks"].as_array().context("hooks")?;
        Ok(hooks.iter().filter_map(|hook| hook["program"].as_u64()).collect())
    };
    let ((), counts) = streams.during(|| {
        let mut before = programs()?;
        for round in 0..options.rounds {
            sgctl.run(["attach"])?.ok().with_context(|| format!("upgrade {round}"))?;
            let after = programs()?;
            ensure!(after.len() == 2 && after.iter().all(|one| !before.contains(one)));
            before = after;
        }
        Ok(())
    })?;
    let sum = |allowed: bool| -> (u64, u64) {
        let of = counts.iter().filter(|one| one.allowed == allowed);
        of.fold((0, 0), |(sent, wrong), one| (sent + one.sent, wrong + one.wrong()))
    };
    let ((allowed, lost), (denied, passed)) = (sum(true), sum(false));
    for one in &counts {
        ensure!(one.sent > 0, "nothing was sent {}", one.name);
    }
    Ok(Measured {
        numbers: format!(
            "{} upgrades: {lost} of {allowed} allowed lost, {passed} of {denied} denied passed",
            options.rounds
        ),
        passed: lost == 0 && passed == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The measurement itself: a device without programs for a moment is noticed.
    #[test]
    fn a_gap_is_seen() -> Result<()> {
        let net = Net::pair()?;
        let scenario = Scenario::attach(&net, &streams::example()?, Workload)?;
        let sgctl = scenario.controller("server");
        let policy = sgctl.dir().join("policy.yaml");
        let ((), counts) = Streams::open(&net)?.during(|| {
            sgctl.run(["detach", "to-server"])?.ok()?;
            sgctl.run(["attach".as_ref(), "--policy".as_ref(), policy.as_os_str()])?.ok()?;
            Ok(())
        })?;
        for one in counts {
            ensure!(one.allowed || one.wrong() > 0, "{one:?}");
        }
        Ok(())
    }
}
