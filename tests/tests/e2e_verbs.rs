//! What the verbs say to whoever has misspelt a name, has two VPCs or looks back: by the built command.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::{Example, Side::Workload},
    lab::{self, ONE},
    net::Net,
    process::Output,
    scenario::{
        LONG,
        Probe::{Tcp, Udp},
        Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{Connected, TimedOut},
        tcp::Client,
    },
};

/// [`ONE`] beside a VPC that has a group of its own and one of the same name.
fn two_vpcs() -> Result<Example> {
    let other = "  - name: other\n    cidrs: [10.78.0.0/16]\n    prefix_lists:\n      - {name: office, cidrs: \
                 [203.0.113.0/24]}\n    security_groups:\n      - {name: web}\n      - {name: monitoring}\n    \
                 interfaces:\n      - {name: probe, addresses: [10.78.0.1]}\n";
    Example::new("two", format!("{ONE}{other}"))
}

fn yes(sgctl: &Sgctl<'_>, args: &[&str]) -> Result<Output> {
    sgctl.run(args)?.ok()
}

/// What is said by a command that fails.
fn refused(sgctl: &Sgctl<'_>, args: &[&str]) -> Result<String> {
    let Output { code, stderr, .. } = sgctl.run(args)?;
    ensure!(code == Some(1), "{args:?}: {code:?}, {stderr}");
    Ok(stderr)
}

#[test]
fn of_two_vpcs_the_one_is_found_that_is_meant() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &two_vpcs()?, Workload)?;
    let sgctl = scenario.controller("server");
    let ssh = ["--type", "ssh", "--from", "203.0.113.9"];
    yes(sgctl, &[&["rule", "authorize", "Monitoring"][..], &ssh].concat())?;
    let rule = sgctl.json(&["rule", "list", "monitoring"])?[0].clone();
    ensure!(rule["vpc"] == "other" && rule["direction"] == "ingress", "{rule}");
    yes(sgctl, &["rule", "revoke", "monitoring", "--id", rule["id"].as_str().context("an id")?])?;
    yes(sgctl, &["prefix-list", "add", "office", "192.0.2.0/24"])?;
    yes(sgctl, &["group", "delete", "monitoring", "--message", "in the only VPC that has it"])?;
    let which = "add --vpc with one of: lab, other";
    for args in [
        &[&["rule", "authorize", "web"][..], &ssh].concat()[..],
        &["rule", "list", "web"],
        &["group", "show", "web"],
        &["group", "create", "new"],
        &["interface", "add", "new", "--address", "10.77.0.9"],
        &["prefix-list", "create", "new"],
    ] {
        let said = refused(sgctl, args)?;
        ensure!(said.contains(which), "{args:?}: {said}");
    }
    yes(sgctl, &["group", "create", "new", "--vpc", "other"])?;
    let said = refused(sgctl, &["interface", "set-groups", "server", "new"])?;
    let expected =
        "interface \"server\" is in VPC \"lab\", which has no group \"new\" (VPC \"other\" has one";
    ensure!(said.contains(expected), "{said}");
    Ok(())
}

#[test]
fn who_misspells_is_asked_what_was_meant() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &two_vpcs()?, Workload)?;
    let sgctl = scenario.controller("server");
    let probe = ["--from", "10.0.0.1", "--protocol", "tcp", "--port", "1"];
    for (args, meant) in [
        (&["group", "show", "monitorin"][..], "monitoring"),
        (&["group", "delete", "monitorin"], "monitoring"),
        (&["group", "list", "--vpc", "othre"], "other"),
        (&["rule", "list", "monitorin"], "monitoring"),
        (&["interface", "show", "servr"], "server"),
        (&["interface", "remove", "servr"], "server"),
        (&["interface", "list", "--group", "monitorin"], "monitoring"),
        (&["prefix-list", "show", "ofice"], "office"),
        (&["prefix-list", "delete", "ofice"], "office"),
        (&[&["explain", "--interface", "servr"][..], &probe].concat(), "server"),
        (&["flows", "--interface", "servr"], "server"),
        (&["flows", "flush", "--interface", "servr"], "server"),
        (&["flows", "flush", "--group", "monitorin"], "monitoring"),
        (&["events", "--interface", "servr"], "server"),
        (
            &["rule", "authorize", "monitoring", "--type", "all", "--from", "10.0.0.1"],
            "all-traffic",
        ),
        (&["rule", "authorize", "monitoring", "--type", "ssh", "--from", "ofice"], "office"),
    ] {
        let said = refused(sgctl, args)?;
        ensure!(said.contains(&format!("did you mean `{meant}`?")), "{args:?}: {said}");
    }
    Ok(())
}

#[test]
fn what_was_made_of_an_edit_is_told() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let ssh = ["--type", "ssh", "--from", "10.77.0.9/24"];
    let warning = "10.77.0.9/24 has host bits set, it is taken as 10.77.0.0/24";
    let told = yes(sgctl, &[&["rule", "authorize", "web"][..], &ssh].concat())?;
    ensure!(told.stdout.contains("{type: ssh, from: \"10.77.0.0/24\"}"), "{told:?}");
    ensure!(told.stderr.contains(warning), "{told:?}");
    let id = told.stdout.split(['(', ')']).nth(1).context("an identifier")?;
    let again = refused(sgctl, &[&["rule", "authorize", "web"][..], &ssh].concat())?;
    ensure!(again.contains("InvalidPermission.Duplicate") && again.contains(id), "{again}");
    let told = yes(sgctl, &[&["rule", "revoke", "web"][..], &ssh].concat())?;
    ensure!(told.stdout.contains(id) && told.stderr.contains(warning), "{told:?}");
    yes(sgctl, &["prefix-list", "create", "office"])?;
    let told = yes(sgctl, &["prefix-list", "add", "office", "10.77.0.9/24"])?;
    ensure!(told.stdout.contains("has 10.77.0.0/24") && told.stderr.contains(warning), "{told:?}");

    // What stands in the way of a deletion.
    yes(sgctl, &["rule", "authorize", "default", "--type", "ssh", "--from", "group:web"])?;
    let said = refused(sgctl, &["group", "delete", "web"])?;
    let by = "in use by interface \"server\", and by rule sgr-";
    ensure!(said.contains(by) && said.contains("of group \"default\""), "{said}");

    // A device may come later; whoever has misspelt it reads so now.
    let add = ["interface", "add", "later", "--address", "10.77.0.20", "--device", "nosuch"];
    let told = yes(sgctl, &add)?;
    ensure!(told.stderr.contains("there is no device \"nosuch\""), "{told:?}");
    Ok(())
}

/// Events that `wanted` fits, of what is in the ring.
fn events(sgctl: &Sgctl<'_>, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let read = yes(sgctl, &["events", "-o", "json"])?.stdout;
    let all: Vec<Value> = read.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(wanted).collect())
}

#[test]
fn rules_that_have_gone_keep_their_name() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80), Udp(53)])?;
    let sgctl = scenario.controller("server");
    let ssh = ["--type", "ssh", "--from", "default"];
    yes(sgctl, &[&["rule", "authorize", "web"][..], &ssh].concat())?;
    let server = net.host("server").socket_v4(22);
    let mut live =
        Client::open(net.host("client").ns(), None, server, LONG)?.ok().context("ssh")?;
    assert_eq!(live.exchange(LONG)?, Connected);
    yes(sgctl, &[&["rule", "revoke", "web"][..], &ssh].concat())?;
    // Another edit, so that it is not the state's last one alone that is remembered.
    yes(sgctl, &["group", "create", "another"])?;
    scenario.expect(&[
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), Connected),
    ])?;
    let sgctl = scenario.controller("server");
    let name = "group web ingress tcp/22 from group default";
    let flows = sgctl.json(&["flows", "--port", "22"])?;
    ensure!(flows[0]["rule"] == name && flows[0]["rule_gone"] == true, "{flows}");
    let text = yes(sgctl, &["flows", "--port", "22"])?.stdout;
    ensure!(text.contains(&format!("{name}; gone")), "{text}");

    let allowed = events(sgctl, |event| event["verdict"] == "allow")?;
    let (ssh, http): (Vec<_>, Vec<_>) =
        allowed.iter().partition(|event| event["destination_port"] == 22);
    ensure!(ssh.len() == 1 && ssh[0]["rule"] == name && ssh[0]["rule_gone"] == true, "{ssh:?}");
    ensure!(!http.is_empty() && http.iter().all(|event| event["rule_gone"] == false), "{http:?}");

    // Who follows is told of a rule that goes meanwhile, when its flow ends.
    let reader = sgctl.start(["events", "-f", "--verdict", "end", "--port", "22"])?;
    drop(live);
    let end = reader.wait_for_line(LONG, |line| line.contains(" end ")).context("no end")?;
    ensure!(end.contains(&format!("({name}; gone)")), "{end}");
    Ok(())
}
