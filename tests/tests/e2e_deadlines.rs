//! Deadlines, on machines that do all they can against them: disks that somebody keeps full, histories that are damaged,
//! keepers that were stopped or killed half-way, commands that hold the lock and do not go on.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sg_userspace::kernel::Lock;
use tests::{
    disk::Mounted,
    example::Side::Workload,
    lab::{self, HTTP, ONE, SSH},
    net::Net,
    process::wait_until,
    scenario::{LONG, Scenario},
    sgctl::Sgctl,
};

/// From where the rule may come whose time will be over.
const OFFICE: &str = "10.1.0.0/16";
/// What [`HTTP`] lets in, and [`SSH`] does not.
const EVERYBODY: &str = "everybody reads";

fn listed(sgctl: &Sgctl<'_>) -> Result<String> {
    Ok(sgctl.run(["rule", "list", "web"])?.ok()?.stdout)
}

fn lets_in(sgctl: &Sgctl<'_>, who: &str) -> Result<bool> {
    Ok(listed(sgctl)?.contains(who))
}

fn authorize(sgctl: &Sgctl<'_>, timeout: &str) -> Result<()> {
    let rule = ["rule", "authorize", "web", "--type", "https", "--from", OFFICE];
    sgctl.run(rule.iter().chain(&["--timeout", timeout]))?.ok()?;
    Ok(())
}

/// [`ONE`] in force, with everything that it writes on a disk of its own.
fn on_a_small_disk<'net>(net: &'net Net) -> Result<(Sgctl<'net>, Mounted)> {
    let sgctl = Sgctl::new(net.wire())?;
    let disk = Mounted::small(sgctl.dir().to_owned(), "4m")?;
    let path = sgctl.policy("policy.yaml", ONE)?;
    sgctl.run(["attach".as_ref(), "--policy".as_ref(), path.as_os_str()])?.ok()?;
    Ok((sgctl, disk))
}

/// The file of the state in force, and its generation.
fn state(sgctl: &Sgctl<'_>) -> Result<(PathBuf, u64)> {
    for entry in fs::read_dir(sgctl.paths().run)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let generation = name.strip_prefix("live.").and_then(|name| name.strip_suffix(".json"));
        if let Some(generation) = generation {
            return Ok((entry.path(), generation.parse()?));
        }
    }
    bail!("there is no state")
}

/// What anybody frees is taken at once, so what is kept must be held until it is used.
#[test]
fn an_unconfirmed_policy_goes_from_a_disk_that_is_kept_full() -> Result<()> {
    let net = Net::pair()?;
    let (sgctl, disk) = on_a_small_disk(&net)?;
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "3s"])?.ok()?;
    let filling = disk.keep_full()?;
    ensure!(!lets_in(&sgctl, EVERYBODY)?, "it is back already");
    wait_until(LONG, || lets_in(&sgctl, EVERYBODY))?;
    let late = sgctl.run(["confirm"])?;
    ensure!(late.stderr.contains("policy 1 is in force again, as entry 3"), "{late:?}");
    drop(filling);
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &[])?.ok()?;
    Ok(())
}

/// Refused changes take nothing of it, and it has grown with the policy.
#[test]
fn the_room_for_a_rule_outlives_refused_changes() -> Result<()> {
    let net = Net::pair()?;
    let (sgctl, disk) = on_a_small_disk(&net)?;
    authorize(&sgctl, "8s")?;
    let text = sgctl.run(["history", "2", "--policy"])?.ok()?.stdout;
    let groups: String = (0..200)
        .map(|at| format!("      - {{name: group-{at}, description: {}}}\n", "x".repeat(200)))
        .collect();
    let larger =
        text.replacen("    security_groups:\n", &format!("    security_groups:\n{groups}"), 1);
    sgctl.with_file("apply", &larger, &[])?.ok()?;
    let room = || Ok::<_, anyhow::Error>(fs::metadata(sgctl.paths().way_on())?.len());
    let size = fs::metadata(state(&sgctl)?.0)?.len();
    ensure!(room()? >= 2 * size, "{size} bytes, and room of {}", room()?);

    let next = sgctl.policy("next.yaml", &ONE.replace(HTTP, SSH))?;
    let next = next.to_str().context("a path in UTF-8")?;
    let _filling = disk.keep_full()?;
    let before = room()?;
    for options in [&["--confirm-within", "1h"][..], &[]] {
        let refused = sgctl.run([&["apply", next], options].concat())?;
        ensure!(refused.code == Some(1), "{refused:?}");
        assert_eq!(room()?, before);
    }
    ensure!(lets_in(&sgctl, OFFICE)?, "its time is not over");
    wait_until(LONG, || Ok(!lets_in(&sgctl, OFFICE)?))?;
    Ok(())
}

/// Two times are over one after the other, and each has room of its own.
#[test]
fn a_rule_and_the_policy_go_from_a_full_disk() -> Result<()> {
    let net = Net::pair()?;
    let (sgctl, disk) = on_a_small_disk(&net)?;
    authorize(&sgctl, "4s")?;
    let text = sgctl.run(["history", "2", "--policy"])?.ok()?.stdout;
    let text = text.replace(EVERYBODY, "not yet");
    sgctl.with_file("apply", &text, &["--confirm-within", "10s"])?.ok()?;
    let _filling = disk.keep_full()?;
    wait_until(LONG, || Ok(!lets_in(&sgctl, OFFICE)?))?;
    ensure!(!lets_in(&sgctl, EVERYBODY)?, "the rule went with the policy only");
    wait_until(2 * LONG, || lets_in(&sgctl, EVERYBODY))?;
    ensure!(!lets_in(&sgctl, OFFICE)?, "the rule is back");
    Ok(())
}

/// A keeper that was killed when the state of what comes back had its name, before that counted.
#[test]
fn what_a_killed_keeper_has_left_is_room_for_the_next() -> Result<()> {
    let net = Net::pair()?;
    let (sgctl, disk) = on_a_small_disk(&net)?;
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "3s"])?.ok()?;
    kill(sgctl.keeper()?, Signal::SIGKILL)?;
    let (path, generation) = state(&sgctl)?;
    let paths = sgctl.paths();
    OpenOptions::new().write(true).open(paths.way_back())?.write_all(&fs::read(path)?)?;
    fs::rename(paths.way_back(), paths.live(generation + 1))?;
    let _filling = disk.keep_full()?;
    thread::sleep(Duration::from_secs(3));
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(status.stderr.contains("was not confirmed in time"), "{status:?}");
    wait_until(LONG, || lets_in(&sgctl, EVERYBODY))?;
    Ok(())
}

#[test]
fn rules_expire_though_the_history_is_damaged() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    authorize(sgctl, "3s")?;
    for segment in fs::read_dir(sgctl.paths().state.join("history"))?.flatten() {
        fs::write(segment.path(), "nothing that can be read\n")?;
    }
    let refused = sgctl.run(["group", "create", "later"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("damaged"), "{refused:?}");
    wait_until(LONG, || Ok(!lets_in(sgctl, OFFICE)?))?;
    assert_eq!(sgctl.number()?, 3);
    Ok(())
}

/// `status` has another take its place, and verbs do its work.
#[test]
fn a_stopped_keeper_is_done_without() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &ONE.replace(HTTP, SSH), &["--confirm-within", "2s"])?.ok()?;
    let stopped = sgctl.keeper()?;
    kill(stopped, Signal::SIGSTOP)?;
    thread::sleep(Duration::from_secs(3));
    ensure!(!lets_in(sgctl, EVERYBODY)?, "nobody is there to take it back");
    let status = sgctl.run(["status"])?.ok()?;
    for words in ["not confirmed in time", "was stopped", "another takes its place"] {
        ensure!(status.stderr.contains(words), "{words}: {status:?}");
    }
    wait_until(LONG, || lets_in(sgctl, EVERYBODY))?;

    authorize(sgctl, "2s")?;
    let stopped = sgctl.keeper()?;
    kill(stopped, Signal::SIGSTOP)?;
    thread::sleep(Duration::from_secs(3));
    ensure!(lets_in(sgctl, OFFICE)?, "nobody is there to remove it");
    sgctl.run(["group", "create", "later"])?.ok()?;
    let text = listed(sgctl)?;
    kill(stopped, Signal::SIGCONT)?;
    ensure!(!text.contains(OFFICE), "an edit puts it in force again: {text}");
    Ok(())
}

/// The one that was killed may hold its lock for a moment more.
#[test]
fn status_is_not_taken_in_by_a_dying_keeper() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    authorize(sgctl, "1h")?;
    for _ in 0..10 {
        let killed = sgctl.keeper()?;
        kill(killed, Signal::SIGKILL)?;
        sgctl.run(["status"])?.ok()?;
        ensure!(sgctl.keeper()? != killed, "{killed} is taken for alive");
        ensure!(Lock::is_held(&sgctl.paths().keeper_lock())?, "nobody keeps deadlines");
    }
    Ok(())
}

/// Stops a command while it holds the lock: to load the programs takes it long enough.
fn stop_with_the_lock(sgctl: &Sgctl<'_>) -> Result<tests::process::Running> {
    let lock = sgctl.paths().lock();
    for _ in 0..20 {
        let running = sgctl.start(["attach", "to-server"])?;
        let process = Pid::from_raw(running.id().try_into()?);
        let is_holder = || Ok(fs::read_to_string(&lock)?.trim() == running.id().to_string());
        if wait_until(LONG, is_holder).is_ok() {
            kill(process, Signal::SIGSTOP)?;
            if Lock::is_held(&lock)? {
                return Ok(running);
            }
        }
    }
    bail!("it has never been stopped in time")
}

/// Whoever waits says for whom, and a deadline waits for nobody who does not go on.
#[test]
fn a_stopped_command_keeps_no_deadline_from_being_kept() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let stopped = stop_with_the_lock(sgctl)?;
    let refused = sgctl.run(["group", "create", "later"])?;
    let hint = format!("kill -CONT {}", stopped.id());
    ensure!(refused.code == Some(1) && refused.stderr.contains(&hint), "{refused:?}");
    let status = sgctl.run(["status"])?.ok()?;
    ensure!(status.stderr.contains(&hint), "{status:?}");
    // Without a deadline, it is nobody's to end.
    kill(Pid::from_raw(stopped.id().try_into()?), Signal::SIGCONT)?;
    wait_until(LONG, || Ok(!Lock::is_held(&sgctl.paths().lock())?))?;

    authorize(sgctl, "4s")?;
    let stopped = stop_with_the_lock(sgctl)?;
    ensure!(lets_in(sgctl, OFFICE)?, "its time is not over");
    wait_until(2 * LONG, || Ok(!lets_in(sgctl, OFFICE)?))?;
    let state =
        Command::new("ps").args(["-o", "stat=", "-p", &stopped.id().to_string()]).output()?;
    ensure!(!String::from_utf8_lossy(&state.stdout).starts_with('T'), "{state:?}");
    sgctl.run(["group", "create", "later"])?.ok()?;
    Ok(())
}
