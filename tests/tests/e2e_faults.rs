//! Live policies on machines that fail: full disks, files that stay, keepers that were killed. What is answered is
//! true, and what was to go goes.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use tests::{
    disk::Mounted,
    example::Side::Workload,
    lab::{self, HTTP, ONE, SSH},
    net::Net,
    process::wait_until,
    scenario::{LONG, Scenario},
    sgctl::Sgctl,
};

/// In place of [`HTTP`].
const MORE: &str = "{type: https, from: [0.0.0.0/0, \"::/0\"]}";

#[test]
fn what_is_in_force_is_not_called_failed() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let old = fs::read_dir(&sgctl.paths().run)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|it| it == "json"))
        .context("a state")?;
    // Behind the flip the old state cannot be removed.
    let stays = Mounted::over_itself(old)?;
    let output = sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &[])?;
    let text = sgctl.run(["rule", "list", "web"])?.ok()?.stdout;
    ensure!(text.contains("22") == (output.code == Some(0)), "{output:?}\n{text}");
    drop(stays);
    sgctl.with_file("apply", ONE, &[])?.ok()?;
    Ok(())
}

#[test]
fn a_killed_keeper_is_started_by_whoever_meets_an_unconfirmed_policy() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "2s"])?.ok()?;
    kill(sgctl.keeper()?, Signal::SIGKILL)?;
    thread::sleep(Duration::from_millis(2500));
    // It does not wait for whoever it starts.
    let late = sgctl.with_file("apply", &ONE.replace(HTTP, MORE), &[])?.ok()?;
    ensure!(late.stderr.contains("policy 2 was not confirmed in time"), "{late:?}");
    let history = sgctl.run(["history"])?.ok()?.stdout;
    ensure!(history.contains("confirmation timed out"), "{history}");
    assert_eq!(sgctl.number()?, 4);
    Ok(())
}

#[test]
fn an_unconfirmed_policy_goes_though_the_disk_is_full() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "2s"])?.ok()?;
    let _full = Mounted::full(sgctl.paths().state)?;
    wait_until(LONG, || {
        Ok(sgctl.run(["rule", "list", "web"])?.ok()?.stdout.contains("everybody reads"))
    })?;
    Ok(())
}

/// The state of what comes back is as large as that of what goes, and there is no room for another.
#[test]
fn an_unconfirmed_policy_goes_though_there_is_no_room_for_its_state() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let run = sgctl.paths().run;
    fs::create_dir(&run)?;
    let disk = Mounted::small(run, "4m")?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?.ok()?;
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "3s"])?.ok()?;
    disk.fill()?;
    let listed = || Ok::<_, anyhow::Error>(sgctl.run(["rule", "list", "web"])?.ok()?.stdout);
    ensure!(!listed()?.contains("everybody reads"), "it is back already");
    wait_until(LONG, || Ok(listed()?.contains("everybody reads")))?;
    let late = sgctl.run(["confirm"])?;
    ensure!(late.stderr.contains("policy 1 is in force again, as entry 3"), "{late:?}");
    // Whoever makes room goes on as ever.
    fs::remove_file(disk.path().join("filling"))?;
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "1h"])?.ok()?;
    sgctl.run(["confirm"])?.ok()?;
    let left = fs::read_dir(disk.path())?.flatten().map(|entry| entry.file_name());
    let mut left = left.into_iter();
    ensure!(left.all(|name| name != "way-back" && name != "way-on"), "room is kept for nothing");
    // So with a rule whose time is over.
    let timeout =
        ["rule", "authorize", "web", "--type", "https", "--from", "10.1.0.0/16", "--timeout"];
    sgctl.run(timeout.iter().chain(&["3s"]))?.ok()?;
    disk.fill()?;
    wait_until(LONG, || Ok(!listed()?.contains("10.1.0.0/16")))?;
    fs::remove_file(disk.path().join("filling"))?;
    // And where there is no room for the way back, there is none forward. The keeper may still give back what it kept.
    let filling = disk.keep_full()?;
    let refused = sgctl.with_file("apply", ONE, &["--confirm-within", "1h"])?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("nothing has changed"),
        "{refused:?}"
    );
    drop(filling);
    assert_eq!(sgctl.number()?, 6);
    sgctl.run(["detach", "--all"])?.ok()?;
    Ok(())
}

/// A deadline counts what the machine sleeps, so whoever keeps it must as well. Nothing here can suspend a machine; the
/// kernel tells which clock is waited for.
#[test]
fn the_keeper_waits_by_the_clock_of_its_deadlines() -> Result<()> {
    /// `linux/time.h`
    const CLOCK_BOOTTIME: &str = "clockid: 7";
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "1h"])?.ok()?;
    let folder = format!("/proc/{}/fdinfo", sgctl.keeper()?);
    wait_until(LONG, || {
        let files = fs::read_dir(&folder)?.flatten();
        let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        Ok(texts.any(|text| text.contains(CLOCK_BOOTTIME) && !text.contains("it_value: (0, 0)")))
    })?;
    sgctl.run(["confirm"])?.ok()?;
    Ok(())
}

#[test]
fn rules_expire_while_a_confirmation_is_awaited() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let short =
        ["rule", "authorize", "web", "--type", "ssh", "--from", "10.1.0.0/16", "--timeout", "4s"];
    sgctl.run(short)?.ok()?;
    let text = sgctl.run(["history", "2", "--policy"])?.ok()?.stdout;
    sgctl
        .with_file(
            "apply",
            &text.replace("everybody reads", "everybody"),
            &["--confirm-within", "1h"],
        )?
        .ok()?;
    wait_until(LONG, || {
        Ok(!sgctl.run(["rule", "list", "web"])?.ok()?.stdout.contains("10.1.0.0/16"))
    })?;
    sgctl.run(["confirm"])?.ok()?;
    ensure!(sgctl.number()? >= 3);
    let listed = sgctl.run(["rule", "list", "web"])?.ok()?.stdout;
    ensure!(listed.contains("everybody") && !listed.contains("10.1.0.0/16"), "{listed}");
    Ok(())
}
