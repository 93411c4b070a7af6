//! What `plan` says beforehand is what `apply` does; and nobody cuts the ssh session they type in by accident.

use std::{fs, net::SocketAddr, path::Path, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    example::Side::{Host, Workload},
    lab::{self, HTTP, ONE, SSH},
    net::Net,
    process::{Output, run},
    scenario::{LONG, Probe::Tcp, SHORT, Scenario},
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, Stalled, TimedOut},
        tcp::Client,
    },
};

/// Names, sizes and times of the files that sgctl keeps.
fn files(sgctl: &Sgctl<'_>) -> Result<Vec<(String, u64, SystemTime)>> {
    let mut found = Vec::new();
    for folder in ["run", "state"] {
        for entry in fs::read_dir(sgctl.dir().join(folder))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = format!("{folder}/{}", entry.file_name().display());
            found.push((name, metadata.len(), metadata.modified()?));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_plan_tells_and_touches_nothing() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let before = files(sgctl)?;
    let same = sgctl.with_file("plan", ONE, &["--exit-code"])?.ok()?.stdout;
    ensure!(
        same.contains("nothing changes") && same.contains("no change; 9 rules unchanged"),
        "{same}"
    );
    let next = ONE.replace(HTTP, SSH);
    let told = sgctl.with_file("plan", &next, &[])?.ok()?.stdout;
    for line in [
        "against policy 1 in force",
        "+ rule: group web ingress tcp/22 from group default",
        "- rule: group web ingress tcp/80 from 0.0.0.0/0 (everybody reads)",
        "+ opens ingress tcp/22 from group default on server",
        "- closes ingress tcp/80 from ::/0 on server",
        "+1 -2 rules, opens 1, closes 2; 7 rules unchanged, 0 tests passed",
    ] {
        ensure!(told.contains(line), "{line:?} is not in {told}");
    }
    assert_eq!(sgctl.with_file("plan", &next, &["--exit-code"])?.code, Some(3));
    let report: Value =
        serde_json::from_str(&sgctl.with_file("plan", &next, &["-o", "json"])?.ok()?.stdout)?;
    assert_eq!(report["attached"], true);
    assert_eq!(report["opens"][0]["traffic"], "tcp/22");
    assert_eq!(report["opens"][0]["addresses"], json!(["10.77.1.10/32", "fd77:1::10/128"]));
    assert_eq!(report["closes"][1]["interfaces"], json!(["server"]));
    assert_eq!(report["live_flows"]["cut"], 0);
    assert_eq!(files(sgctl)?, before, "no file was written, none was read by changing it");
    Ok(())
}

#[test]
fn a_plan_says_what_apply_would_refuse() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach_with(&net, &lab::one()?, Workload, &["--max-permits", "64"])?;
    let sgctl = scenario.controller("server");
    let many: Vec<_> = (0..50)
        .map(|index| {
            format!("{{protocol: tcp, ports: {}, from: 10.77.{index}.0/24}}", 2 * index + 1)
        })
        .collect();
    let many = format!("{HTTP}\n          - {}", many.join("\n          - "));
    for (from, to, words) in [
        ("name: server, addresses", "name: other, addresses", "the policy does not have"),
        ("name: lab", "name: elsewhere", "in another VPC"),
        (HTTP, &*many, "the policy does not fit: PERMITS"),
        (
            "vpcs:",
            "tests: [{from: client, to: server, type: ssh, expect: allow}]\nvpcs:",
            "1 test of",
        ),
    ] {
        ensure!(ONE.contains(from));
        let text = ONE.replacen(from, to, 1);
        let planned = sgctl.with_file("plan", &text, &[])?;
        ensure!(planned.code == Some(1) && planned.stderr.contains(words), "{words}: {planned:?}");
        let applied = sgctl.with_file("apply", &text, &[])?;
        ensure!(applied.code == Some(1), "apply refuses it as well: {applied:?}");
    }
    Ok(())
}

#[test]
fn a_plan_for_nothing_attached() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    let told = sgctl.with_file("plan", ONE, &[])?.ok()?.stdout;
    ensure!(told.contains("nothing is attached"), "{told}");
    ensure!(told.contains("+ opens ingress tcp/80 from 0.0.0.0/0 on server"), "{told}");
    ensure!(!sgctl.dir().join("run").exists(), "nothing was made");
    let output = sgctl.with_file("plan", &ONE.replace("http", "htpp"), &[])?;
    ensure!(output.code == Some(1) && output.stderr.contains("htpp"), "{output:?}");
    let path = sgctl.policy("one.yaml", ONE)?;
    let output = sgctl.run_as_nobody([Path::new("plan"), &path])?;
    ensure!(output.code == Some(1), "{output:?}");
    Ok(())
}

/// What becomes of a live connection when its rule goes, said before and seen after.
#[test]
fn live_flows_as_the_plan_says() -> Result<()> {
    let everywhere = "{type: http, from: [0.0.0.0/0, \"::/0\"]";
    let narrow = ONE.replace(everywhere, "{type: http, from: {group: default}");
    for (setting, text, told, outcome) in [
        ("keep", &*narrow, "1 live flow goes on without a rule", Connected),
        ("cut", &*narrow, "1 live flow would be cut", Stalled),
        // AWS leaves it untracked: it ends whatever the setting.
        ("keep", ONE, "1 live flow would be cut", Stalled),
    ] {
        let text = format!("live_flows: {setting}\n{text}");
        let net = Net::pair()?;
        let example = tests::example::Example::new("lab", &*text)?;
        let mut scenario = Scenario::attach(&net, &example, Workload)?;
        scenario.serve("server", &[Tcp(80)])?;
        let sgctl = scenario.controller("server");
        let address = net.host("server").socket_v4(80);
        let client = Client::open(net.host("client").ns(), None, address, LONG)?;
        let mut client = client.ok().context("a connection")?;
        assert_eq!(client.exchange(LONG)?, Connected);
        let next = text.replace("{type: http, ", "{type: https, ");
        let said = sgctl.with_file("plan", &next, &[])?.ok()?.stdout;
        ensure!(said.contains(told), "{setting}: {told:?} is not in {said}");
        if outcome == Stalled {
            let local = client.local_address()?;
            let line = format!("server: tcp {address} <- {local} (group web ingress tcp/80 from ");
            ensure!(said.contains(&line), "{line:?} is not in {said}");
        }
        sgctl.with_file("apply", &next, &[])?.ok()?;
        let limit = if outcome == Stalled { SHORT } else { LONG };
        assert_eq!(client.exchange(limit)?, outcome, "{setting}: after {said}");
    }
    Ok(())
}

/// A connection to port 22 that stands for an ssh session, and a command typed in it.
struct Session {
    client: Client,
    variable: String,
}

impl Session {
    fn open(net: &Net) -> Result<Self> {
        let server = net.host("server").socket_v4(22);
        let client = Client::open(net.host("client").ns(), None, server, LONG)?;
        let client = client.ok().context("a connection")?;
        let from: SocketAddr = client.local_address()?;
        let variable = format!("SSH_CONNECTION={} {} {} 22", from.ip(), from.port(), server.ip());
        Ok(Self { client, variable })
    }

    fn types(&self, sgctl: &Sgctl<'_>, args: &[&str]) -> Result<Output> {
        run(&mut sgctl.wrapped(&["env"], &self.variable, args), LONG)
    }

    /// The same through something that takes the variable away, as sudo does.
    fn types_through_sudo(&self, sgctl: &Sgctl<'_>, args: &[&str]) -> Result<Output> {
        let script = "env -u SSH_CONNECTION \"$@\"; exit $?";
        let shell = ["env", &self.variable, "sh", "-c", script];
        run(&mut sgctl.wrapped(&shell, "sh", args), LONG)
    }
}

#[test]
fn whoever_would_lock_themselves_out_is_asked_twice() -> Result<()> {
    let net = Net::pair()?;
    let example = tests::example::Example::new("lab", ONE.replace(HTTP, SSH))?;
    let mut scenario = Scenario::attach(&net, &example, Host)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let sgctl = scenario.controller("server");
    let mut session = Session::open(&net)?;
    assert_eq!(session.client.exchange(LONG)?, Connected);
    let open = fs::read_to_string(sgctl.dir().join("policy.yaml"))?;
    ensure!(open.contains(SSH));
    let cut = format!("live_flows: cut\n{}", open.replace(SSH, HTTP));
    let closed = open.replace(SSH, HTTP);
    let file = |name: &str, text: &str| -> Result<String> {
        let path = sgctl.policy(name, text)?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    };
    let (open, cut, closed) =
        (file("open.yaml", &open)?, file("cut.yaml", &cut)?, file("closed.yaml", &closed)?);
    let would_cut = "it would cut the ssh session that this is typed in";
    let would_not_return = "a new login from 10.77.1.10 to 10.77.2.10 port 22 would be dropped";
    for (path, words) in [(&cut, would_cut), (&closed, would_not_return)] {
        let planned = session.types(sgctl, &["plan", path])?.ok()?;
        ensure!(planned.stderr.contains(words), "{planned:?}");
        for output in [
            session.types(sgctl, &["apply", path])?,
            session.types_through_sudo(sgctl, &["apply", path])?,
        ] {
            ensure!(output.code == Some(1) && output.stderr.contains(words), "{output:?}");
            ensure!(output.stderr.contains("--force"), "{output:?}");
        }
    }
    let history = sgctl.json(&["history"])?;
    assert_eq!(history.as_array().map(Vec::len), Some(1), "nothing was applied");
    scenario.expect(&[
        ("client", "server", Tcp(22), Connected),
        ("client", "server", Tcp(80), TimedOut),
    ])?;
    // Whoever is not in that session is not asked.
    let elsewhere = "SSH_CONNECTION=198.51.100.7 1 198.51.100.8 22";
    run(&mut sgctl.wrapped(&["env"], elsewhere, ["apply", &open]), LONG)?.ok()?;

    let forced = session.types(sgctl, &["apply", &closed, "--force"])?.ok()?;
    ensure!(forced.stderr.contains(would_not_return), "a warning at least: {forced:?}");
    assert_eq!(session.client.exchange(LONG)?, Connected, "the session itself goes on");
    scenario.expect(&[
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), Connected),
    ])?;
    // It is so already: no change for the worse is refused.
    let again = closed.replace("closed", "again");
    fs::write(&again, fs::read_to_string(&closed)?.replace("{type: dns-udp", "{type: dns-tcp"))?;
    let output = session.types(sgctl, &["apply", &again])?.ok()?;
    ensure!(output.stderr.contains("would still be dropped"), "{output:?}");

    let output = session.types(sgctl, &["apply", &cut])?;
    ensure!(output.code == Some(1) && output.stderr.contains(would_cut), "{output:?}");
    assert_eq!(session.client.exchange(LONG)?, Connected);
    session.types(sgctl, &["apply", &cut, "--force"])?.ok()?;
    assert_eq!(session.client.exchange(SHORT)?, Stalled, "it was right");
    Ok(())
}

#[test]
fn a_first_attach_asks_as_well() -> Result<()> {
    let net = Net::pair()?;
    let server = net.host("server");
    let sgctl = Sgctl::new(server.ns())?;
    let _ssh = tests::traffic::tcp::Server::start(server.ns(), server.socket_v4(22))?;
    let mut session = Session::open(&net)?;
    let text = lab::one()?.on_host("server")?;
    let cut = sgctl.policy("cut.yaml", &format!("live_flows: cut\n{text}"))?;
    let keep = sgctl.policy("keep.yaml", &text)?;
    let (cut, keep) = (cut.to_str().context("UTF-8")?, keep.to_str().context("UTF-8")?);
    let would_cut = "it would cut the ssh session";
    for (options, words) in [
        (&["attach", "--policy", cut][..], would_cut),
        (&["attach", "--policy", keep, "--no-adopt"], would_cut),
        (&["attach", "--policy", keep], "a new login from 10.77.1.10"),
    ] {
        let output = session.types(&sgctl, options)?;
        ensure!(output.code == Some(1) && output.stderr.contains(words), "{output:?}");
    }
    ensure!(!sgctl.pins().exists(), "nothing was attached");
    assert_eq!(session.client.exchange(LONG)?, Connected);
    // With --audit nothing is dropped, so nothing is at stake.
    session.types(&sgctl, &["attach", "--policy", cut, "--audit"])?.ok()?;
    sgctl.run(["detach", "--all"])?.ok()?;
    session.types(&sgctl, &["attach", "--policy", keep, "--force"])?.ok()?;
    assert_eq!(session.client.exchange(LONG)?, Connected, "it was adopted");
    let again = Client::open(net.host("client").ns(), None, server.socket_v4(22), SHORT)?;
    assert_eq!(again.err(), Some(TimedOut));
    Ok(())
}
