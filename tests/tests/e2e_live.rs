//! Another policy for what is attached: as a whole, or not at all, and the way back.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::Side::{Host, Workload},
    lab::{self, HTTP, ONE, SSH},
    net::Net,
    process::{run, wait_until},
    scenario::{
        LONG,
        Probe::{Tcp, Udp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    stale::unique_name,
    traffic::{
        Outcome::{Connected, Stalled, TimedOut},
        tcp,
    },
};

fn with_ssh() -> String {
    ONE.replace(HTTP, SSH)
}

/// Numbers of the history, and which is in force.
fn history(sgctl: &Sgctl<'_>) -> Result<(Vec<u64>, u64)> {
    let Value::Array(entries) = sgctl.json(&["history"])? else {
        anyhow::bail!("history is a list");
    };
    let number = |entry: &Value| entry["number"].as_u64();
    let in_force = entries.iter().find(|entry| entry["in_force"] == true);
    let in_force = in_force.and_then(number).context("one is in force")?;
    Ok((entries.iter().filter_map(number).collect(), in_force))
}

#[test]
fn apply_opens_and_closes_and_rollback_undoes() -> Result<()> {
    for side in [Host, Workload] {
        let net = Net::pair()?;
        let mut scenario = Scenario::attach(&net, &lab::one()?, side)?;
        scenario.serve("server", &[Tcp(80), Tcp(22), Udp(53)])?;
        let http = [
            ("client", "server", Tcp(80), Connected),
            ("client", "server", Tcp(22), TimedOut),
            ("client", "server", Udp(53), Connected),
        ];
        let ssh = [
            ("client", "server", Tcp(80), TimedOut),
            ("client", "server", Tcp(22), Connected),
            ("client", "server", Udp(53), Connected),
        ];
        scenario.expect(&http)?;
        let sgctl = scenario.controller("server");
        let text = if side == Host {
            fs::read_to_string(sgctl.dir().join("policy.yaml"))?.replace(HTTP, SSH)
        } else {
            with_ssh()
        };
        ensure!(text.contains(SSH));
        let output = sgctl.with_file("apply", &text, &["--message", "ssh for a day"])?.ok()?;
        ensure!(output.stdout.contains("policy 2 is in force"), "{output:?}");
        scenario.expect(&ssh)?;
        let again = sgctl.with_file("apply", &text, &[])?.ok()?;
        ensure!(again.stdout.contains("nothing changes"), "{again:?}");
        assert_eq!(history(sgctl)?, (vec![1, 2], 2));
        let told = sgctl.run(["history", "2"])?.ok()?.stdout;
        for words in ["ssh for a day", "-          - {type: http", "+          - {type: ssh"] {
            ensure!(told.contains(words), "{words:?} is not in {told}");
        }
        let told = sgctl.run(["rollback"])?.ok()?.stdout;
        let words = ["policy 1 of 2", "(sgctl attach --policy ", "is in force again, as entry 3"];
        ensure!(words.iter().all(|words| told.contains(words)), "{told}");
        scenario.expect(&http)?;
        sgctl.run(["rollback", "2"])?.ok()?;
        scenario.expect(&ssh)?;
        assert_eq!(history(sgctl)?, (vec![1, 2, 3, 4], 4));
        let kept = sgctl.run(["history", "2", "--policy"])?.ok()?.stdout;
        assert_eq!(kept, text);
    }
    Ok(())
}

/// What an edit of the text makes of it, and words of the message.
#[test]
fn what_is_refused_changes_nothing() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22)])?;
    let sgctl = scenario.controller("server");
    let renamed = "name: server, addresses";
    for (from, to, words) in [
        ("type: ssh", "type: shs", "shs"),
        (
            "vpcs:",
            "tests: [{from: client, to: server, type: http, expect: allow}]\nvpcs:",
            "nothing has changed",
        ),
        (renamed, "name: other, addresses", "the policy does not have"),
        ("name: lab", "name: elsewhere", "in another VPC"),
    ] {
        let output = sgctl.with_file("apply", &with_ssh().replace(from, to), &[])?;
        ensure!(output.code == Some(1) && output.stderr.contains(words), "{words}: {output:?}");
    }
    let output = sgctl.run(["rollback", "7"])?;
    ensure!(output.code == Some(1) && output.stderr.contains("no policy 7"), "{output:?}");
    let output = sgctl.run(["rollback"])?;
    ensure!(output.code == Some(1) && output.stderr.contains("no policy before"), "{output:?}");
    let output = sgctl.run(["confirm"])?;
    ensure!(output.code == Some(1) && output.stderr.contains("no policy waits"), "{output:?}");
    assert_eq!(history(sgctl)?, (vec![1], 1));
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Tcp(22), TimedOut),
    ])
}

#[test]
fn a_confirmed_policy_stays_and_nothing_is_built_on_an_unconfirmed_one() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22)])?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &with_ssh(), &["--confirm-within", "1h"])?.ok()?;
    let output = sgctl.with_file("apply", ONE, &[])?;
    ensure!(output.code == Some(1) && output.stderr.contains("sgctl confirm"), "{output:?}");
    let status = sgctl.run(["status"])?.ok()?.stderr;
    ensure!(status.contains("waits for its confirmation"), "{status}");
    sgctl.run(["confirm"])?.ok()?;
    scenario.expect(&[("client", "server", Tcp(22), Connected)])?;
    // And one that is taken back by hand.
    sgctl.with_file("apply", ONE, &["--confirm-within", "1h"])?.ok()?;
    sgctl.run(["rollback"])?.ok()?;
    assert_eq!(history(sgctl)?, (vec![1, 2, 3, 4], 4));
    scenario.expect(&[
        ("client", "server", Tcp(80), TimedOut),
        ("client", "server", Tcp(22), Connected),
    ])
}

/// The session that applied is killed with everything in it, and its control group as well.
#[test]
fn an_unconfirmed_policy_goes_though_its_session_is_gone() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22)])?;
    let sgctl = scenario.controller("server");
    let path = sgctl.policy("next.yaml", &with_ssh())?;
    let group = ControlGroup::make()?;
    let seconds = 3;
    let mut session = sgctl.wrapped(
        &["setsid", "sh", "-c", "echo $$ > \"$0\" && \"$@\"; sleep 60"],
        group.path.join("cgroup.procs"),
        ["apply", path.to_str().context("a path in UTF-8")?, "--confirm-within", "3s"],
    );
    let mut session = session.spawn()?;
    let applied = wait_until(Duration::from_secs(20), || Ok(history(sgctl)?.1 == 2))?;
    group.kill()?;
    session.wait()?;
    scenario.expect(&[("client", "server", Tcp(22), Connected)])?;
    let back = wait_until(Duration::from_secs(20), || Ok(history(sgctl)?.1 == 3))?;
    let late = back.duration_since(applied).as_secs_f64() - f64::from(seconds);
    println!("the policy was back {late:.2} s after its deadline, as seen by `sgctl history`");
    scenario.expect(&[
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Tcp(22), TimedOut),
    ])?;
    let told = sgctl.run(["history", "3"])?.ok()?.stdout;
    ensure!(told.contains("was not confirmed in time"), "{told}");
    let late = sgctl.run(["confirm"])?;
    for words in
        ["too late: policy 2 ", "was taken back at 2", "policy 1 is in force again, as entry 3"]
    {
        ensure!(late.code == Some(1) && late.stderr.contains(words), "{words}: {late:?}");
    }
    Ok(())
}

/// A control group like that of a login session.
struct ControlGroup {
    /// Where version 2 is mounted.
    root: PathBuf,
    /// By us.
    is_mounted: bool,
    path: PathBuf,
}

impl ControlGroup {
    fn make() -> Result<Self> {
        let name = unique_name("session");
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let found = words.find(|words| words.get(2) == Some(&"cgroup2"));
        let (root, is_mounted) = match found {
            Some(words) => (PathBuf::from(words[1]), false),
            None => (env::temp_dir().join(&name), true),
        };
        if is_mounted {
            fs::create_dir(&root)?;
            run(Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&root), LONG)?.ok()?;
        }
        let path = root.join(&name);
        let group = Self { root, is_mounted, path };
        fs::create_dir(&group.path).with_context(|| group.path.display().to_string())?;
        Ok(group)
    }

    /// Kills everything in it.
    fn kill(&self) -> Result<()> {
        Ok(fs::write(self.path.join("cgroup.kill"), "1")?)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        _ = self.kill();
        let started = Instant::now();
        while fs::remove_dir(&self.path).is_err() && started.elapsed() < LONG {
            thread::sleep(Duration::from_millis(10));
        }
        if self.is_mounted {
            _ = run(Command::new("umount").arg(&self.root), LONG);
            _ = fs::remove_dir(&self.root);
        }
    }
}

/// What an interface had let in before it was detached is nothing to whoever has its slot next.
#[test]
fn flows_do_not_outlive_a_detach() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::two()?, Workload)?;
    scenario.serve("server", &[Tcp(80)])?;
    let sgctl = scenario.controller("server");
    let address = net.host("server").socket_v4(80);
    let client = tcp::Client::open(net.host("client").ns(), None, address, LONG)?;
    let mut client = client.ok().context("a connection")?;
    assert_eq!(client.exchange(LONG)?, Connected);
    sgctl.run(["detach", "to-server"])?.ok()?;
    let text = fs::read_to_string(sgctl.dir().join("policy.yaml"))?;
    sgctl.with_file("apply", &text.replace(HTTP, SSH), &[])?.ok()?;
    sgctl.run(["attach", "to-server", "--no-adopt"])?.ok()?;
    assert_eq!(client.exchange(SHORT)?, Stalled);
    Ok(())
}

/// What the history has of what is in force, and what was done since the file.
#[test]
fn status_and_history_say_what_is_in_force() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let status = || sgctl.run(["status"])?.ok();
    ensure!(!status()?.stdout.contains("edited since"), "{:?}", status()?);
    let ssh = ["rule", "authorize", "web", "--type", "ssh", "--from", "10.1.0.0/16"];
    sgctl.run([&ssh[..], &["--description", "office; $HOME only"]].concat())?.ok()?;
    sgctl.run(["interface", "set-groups", "client", "web"])?.ok()?;
    ensure!(status()?.stdout.contains("policy.yaml, edited since (2 edits)"), "{:?}", status()?);
    assert_eq!(sgctl.json(&["status"])?["edits"], 2);
    let told = sgctl.run(["history"])?.ok()?.stdout;
    ensure!(told.contains("--description 'office; $HOME only'"), "{told}");
    let times = [
        sgctl.json(&["history"])?[0]["time"].clone(),
        sgctl.json(&["status"])?["devices"][0]["since"].clone(),
    ];
    for time in times {
        ensure!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
    }
    // The file does not say what is in force.
    let path = sgctl.dir().join("policy.yaml");
    let path = path.to_str().context("a path in UTF-8")?;
    let refused = sgctl.run(["attach", "--policy", path])?;
    for words in ["was edited since (2 edits)", "without --policy", "sgctl apply"] {
        ensure!(refused.code == Some(1) && refused.stderr.contains(words), "{words}: {refused:?}");
    }
    sgctl.run(["rollback", "1"])?.ok()?;
    ensure!(!status()?.stdout.contains("edited since"), "{:?}", status()?);

    fs::remove_dir_all(sgctl.paths().state)?;
    for verb in ["history", "status"] {
        let output = sgctl.run([verb])?.ok()?;
        ensure!(output.stderr.contains("policy 4 is in force, and the history in "), "{output:?}");
    }
    Ok(())
}

/// An entry of whoever was killed before the flip goes before nobody knows any more that it never counted.
#[test]
fn what_never_came_into_force_is_not_listed_after_a_detach() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    sgctl.with_file("apply", &with_ssh(), &[])?.ok()?;
    let folder = sgctl.paths().state.join("history");
    let entry = fs::read_to_string(folder.join("00000000000000000002.jsonl"))?;
    let stray = entry.replacen("\"number\":2", "\"number\":3", 1);
    ensure!(stray != entry, "{entry}");
    fs::write(folder.join("00000000000000000003.jsonl"), stray)?;
    assert_eq!(history(sgctl)?, (vec![1, 2], 2));
    sgctl.run(["detach", "--all"])?.ok()?;
    let listed = sgctl.json(&["history"])?;
    let numbers: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 2]);
    Ok(())
}
