//! The verbs that edit the policy in force, with real sockets: what each opens, closes and refuses.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    example::{Example, Side::Workload},
    lab::ONE,
    net::Net,
    process::{Output, run},
    scenario::{
        LONG,
        Probe::{self, Tcp, Udp},
        SHORT, Scenario,
    },
    sgctl::Sgctl,
    traffic::{
        Outcome::{self, Connected, TimedOut},
        tcp::Client,
    },
};

/// [`ONE`] with what the verbs may refer to.
fn lab() -> Result<Example> {
    let lists = "\n    prefix_lists:\n      - {name: office, cidrs: [10.77.1.0/24, \"fd77:1::/32\"]}\n      - {name: \
                 nobody, cidrs: []}\n    security_groups:\n      - {name: clients here}\n      - {name: both}\n";
    let text = ONE.replace("\n    security_groups:\n", lists).replace("name: nobody", "name: both");
    Example::new("lab", text)
}

/// `sgctl`, which must succeed.
fn yes(sgctl: &Sgctl<'_>, args: &[&str]) -> Result<String> {
    Ok(sgctl.run(args)?.ok()?.stdout)
}

/// `sgctl`, which must fail with these words and change nothing.
fn no(sgctl: &Sgctl<'_>, args: &[&str], words: &str) -> Result<()> {
    let before = yes(sgctl, &["history", "-o", "json"])?;
    let Output { code, stderr, .. } = sgctl.run(args)?;
    ensure!(code == Some(1) && stderr.contains(words), "{args:?}: {words:?} is not in {stderr}");
    ensure!(yes(sgctl, &["history", "-o", "json"])? == before, "{args:?} is in the history");
    Ok(())
}

fn reaches(scenario: &Scenario<'_>, probe: Probe, outcome: Outcome) -> Result<()> {
    scenario.expect(&[("client", "server", probe, outcome)])
}

/// Identifiers of a group's rules whose description is `description`.
fn ids(sgctl: &Sgctl<'_>, group: &str, description: &str) -> Result<Vec<String>> {
    let rules = sgctl.json(&["rule", "list", group])?;
    let rules = rules.as_array().context("a list")?.iter();
    let wanted = rules.filter(|rule| rule["description"] == description);
    Ok(wanted.filter_map(|rule| rule["id"].as_str().map(str::to_owned)).collect())
}

#[test]
fn rules_are_authorized_and_revoked() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80), Tcp(8080)])?;
    let sgctl = scenario.controller("server");
    reaches(&scenario, Tcp(22), TimedOut)?;
    let http = ids(sgctl, "web", "everybody reads")?;
    ensure!(http.len() == 2, "http has a rule for each family: {http:?}");

    let ssh = ["--type", "ssh", "--from", "office"];
    let told = yes(
        sgctl,
        &[&["rule", "authorize", "web"][..], &ssh, &["--description", "heads", "-m", "ticket 7"]]
            .concat(),
    )?;
    let id = ids(sgctl, "web", "heads")?.pop().context("the rule")?;
    ensure!(told.contains(&id) && told.contains("policy 2 is in force"), "{told}");
    reaches(&scenario, Tcp(22), Connected)?;
    let history = yes(sgctl, &["history", "2"])?;
    ensure!(history.contains("ticket 7") && history.contains("type: ssh"), "{history}");
    no(sgctl, &[&["rule", "authorize", "web"][..], &ssh].concat(), "InvalidPermission.Duplicate")?;

    // Live flows go on, new ones do not come up.
    let server = net.host("server").socket_v4(22);
    let mut live =
        Client::open(net.host("client").ns(), None, server, LONG)?.ok().context("ssh")?;
    assert_eq!(live.exchange(LONG)?, Connected);
    yes(sgctl, &["rule", "revoke", "web", "--id", &id])?;
    reaches(&scenario, Tcp(22), TimedOut)?;
    assert_eq!(live.exchange(LONG)?, Connected);
    no(sgctl, &["rule", "revoke", "web", "--id", &id], "InvalidSecurityGroupRuleId.NotFound")?;
    no(sgctl, &[&["rule", "revoke", "web"][..], &ssh].concat(), "InvalidPermission.NotFound")?;

    let ports = ["--protocol", "tcp", "--port", "8000-8100,22", "--from", "group:default"];
    yes(sgctl, &[&["rule", "authorize", "web"][..], &ports].concat())?;
    scenario.expect(&[
        ("client", "server", Tcp(22), Connected),
        ("client", "server", Tcp(8080), Connected),
        ("client", "server", Tcp(80), Connected),
    ])?;
    yes(sgctl, &[&["rule", "revoke", "web"][..], &ports].concat())?;
    reaches(&scenario, Tcp(8080), TimedOut)?;
    assert_eq!(ids(sgctl, "web", "everybody reads")?, http, "other rules keep their identifiers");
    Ok(())
}

#[test]
fn peers_are_told_apart() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab()?, Workload)?;
    let sgctl = scenario.controller("server");
    let ssh = |from: &'static str| ["rule", "authorize", "web", "--type", "ssh", "--from", from];
    no(sgctl, &ssh("both"), "'group:both' or 'prefix-list:both'")?;
    no(sgctl, &ssh("nobody"), "has no group and no prefix list of that name")?;
    no(sgctl, &ssh("group:nobody"), "InvalidGroup.NotFound")?;
    no(sgctl, &ssh("prefix-list:nobody"), "InvalidPrefixListID.NotFound")?;
    no(sgctl, &ssh("10.0.0"), "is not an IP address")?;
    let nobody = ["rule", "authorize", "nobody", "--type", "ssh", "--from", "office"];
    no(sgctl, &nobody, "InvalidGroup.NotFound: VPC \"lab\" has no group \"nobody\"")?;
    for peer in ["group:both", "prefix-list:both", "clients here", "198.51.100.7"] {
        yes(sgctl, &ssh(peer))?;
    }
    let listed = sgctl.json(&["rule", "list", "web"])?;
    let peers: Vec<&Value> = listed
        .as_array()
        .context("a list")?
        .iter()
        .filter(|rule| rule["traffic"] == "tcp/22")
        .map(|rule| &rule["peer"])
        .collect();
    let expected = serde_json::json!([
        {"group": "both"}, {"prefix_list": "both"}, {"group": "clients here"}, {"cidr": "198.51.100.7/32"}
    ]);
    assert_eq!(serde_json::to_value(peers)?, expected);
    Ok(())
}

#[test]
fn my_ip_is_where_the_session_comes_from() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22)])?;
    let sgctl = scenario.controller("server");
    let authorize = ["rule", "authorize", "web", "--type", "ssh", "--from", "my-ip"];
    // Wherever the tests run, no process between sgctl and the script has a session.
    let client = net.host("client").v4();
    let variable = format!("SSH_CONNECTION={client} 50000 192.0.2.1 22");
    let nowhere = "SSH_CONNECTION=nonsense";
    let output = run(&mut sgctl.wrapped(&["env"], nowhere, authorize), LONG)?;
    ensure!(output.code == Some(1) && output.stderr.contains("SSH_CONNECTION"), "{output:?}");
    reaches(&scenario, Tcp(22), TimedOut)?;
    run(&mut sgctl.wrapped(&["env"], &variable, authorize), LONG)?.ok()?;
    let rule = sgctl.json(&["rule", "list", "web"])?;
    let from = format!("{client}/32");
    let mut rules = rule.as_array().context("a list")?.iter();
    ensure!(rules.any(|rule| rule["peer"]["cidr"] == from), "{rule}");
    let server = net.host("server");
    assert_eq!(Tcp(22).ask(net.host("client"), server.v4().into(), LONG)?, Connected);
    assert_eq!(Tcp(22).ask(net.host("client"), server.v6().into(), SHORT)?, TimedOut);
    // The same through sudo, which takes the variable away.
    let script = "env -u SSH_CONNECTION \"$@\"; exit $?";
    let revoke = ["rule", "revoke", "web", "--type", "ssh", "--from", "my-ip"];
    let shell = ["env", &variable, "sh", "-c", script];
    run(&mut sgctl.wrapped(&shell, "sh", revoke), LONG)?.ok()?;
    assert_eq!(Tcp(22).ask(net.host("client"), server.v4().into(), SHORT)?, TimedOut);
    Ok(())
}

#[test]
fn interfaces_come_go_and_change_their_groups() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let sgctl = scenario.controller("server");
    yes(sgctl, &["rule", "authorize", "web", "--type", "ssh", "--from", "clients here"])?;
    reaches(&scenario, Tcp(22), TimedOut)?;
    yes(sgctl, &["interface", "set-groups", "client", "clients here", "default"])?;
    reaches(&scenario, Tcp(22), Connected)?;
    yes(sgctl, &["interface", "set-groups", "client", "default"])?;
    reaches(&scenario, Tcp(22), TimedOut)?;
    yes(sgctl, &["interface", "remove", "client"])?;
    let v4 = net.host("client").v4().to_string();
    let v6 = net.host("client").v6().to_string();
    let add = ["interface", "add", "new client", "--address", &v4, "--address", &v6];
    yes(sgctl, &[&add[..], &["--group", "clients here"]].concat())?;
    reaches(&scenario, Tcp(22), Connected)?;
    no(sgctl, &add, "is given twice")?;
    no(sgctl, &["interface", "add", "x", "--address", &v4], "InvalidIPAddress.InUse")?;
    no(sgctl, &["interface", "remove", "client"], "InvalidNetworkInterfaceID.NotFound")?;
    no(sgctl, &["interface", "set-groups", "server", "nobody"], "InvalidGroup.NotFound")?;

    // The group of an attached device: what it lets in changes with it.
    yes(sgctl, &["interface", "set-groups", "server", "default"])?;
    reaches(&scenario, Tcp(80), TimedOut)?;
    yes(sgctl, &["interface", "set-groups", "server", "web"])?;
    reaches(&scenario, Tcp(80), Connected)?;
    let shown = yes(sgctl, &["interface", "show", "new client"])?;
    ensure!(shown.contains("clients here") && shown.contains("elsewhere"), "{shown}");
    Ok(())
}

#[test]
fn a_prefix_list_changes_for_all_its_rules() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22)])?;
    let sgctl = scenario.controller("server");
    let client = net.host("client");
    let (v4, v6) = (client.v4().to_string(), client.v6().to_string());
    yes(sgctl, &["prefix-list", "create", "admins here"])?;
    yes(sgctl, &["rule", "authorize", "web", "--type", "ssh", "--from", "admins here"])?;
    reaches(&scenario, Tcp(22), TimedOut)?;
    yes(sgctl, &["prefix-list", "add", "admins here", &v4, &v6])?;
    reaches(&scenario, Tcp(22), Connected)?;
    no(sgctl, &["prefix-list", "add", "admins here", &v4], "InvalidPrefixListModification")?;
    no(sgctl, &["prefix-list", "delete", "admins here"], "DependencyViolation")?;
    no(sgctl, &["prefix-list", "create", "office", "10.0.0.1"], "is given twice")?;
    yes(sgctl, &["prefix-list", "remove", "admins here", &v4, &v6])?;
    // Empty never becomes everybody.
    reaches(&scenario, Tcp(22), TimedOut)?;
    yes(sgctl, &["rule", "revoke", "web", "--type", "ssh", "--from", "admins here"])?;
    yes(sgctl, &["prefix-list", "delete", "admins here"])?;
    no(sgctl, &["prefix-list", "show", "admins here"], "has no prefix list \"admins here\"")
}

#[test]
fn groups_are_created_copied_and_deleted() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80), Udp(53)])?;
    let sgctl = scenario.controller("server");
    yes(sgctl, &["group", "copy", "web", "web two"])?;
    yes(sgctl, &["rule", "authorize", "web two", "--type", "ssh", "--from", "office"])?;
    yes(sgctl, &["interface", "set-groups", "server", "web two"])?;
    scenario.expect(&[
        ("client", "server", Tcp(22), Connected),
        ("client", "server", Tcp(80), Connected),
        ("client", "server", Udp(53), Connected),
    ])?;
    no(sgctl, &["group", "delete", "web two"], "DependencyViolation")?;
    no(sgctl, &["group", "delete", "default"], "CannotDelete")?;
    no(sgctl, &["group", "create", "WEB"], "InvalidGroup.Duplicate")?;
    yes(sgctl, &["group", "delete", "web"])?;
    scenario.expect(&[
        ("client", "server", Tcp(22), Connected),
        ("client", "server", Tcp(80), Connected),
    ])?;
    yes(sgctl, &["group", "create", "sealed", "--no-egress", "-d", "nobody in, nobody out"])?;
    yes(sgctl, &["interface", "set-groups", "server", "sealed"])?;
    reaches(&scenario, Tcp(80), TimedOut)?;
    let shown = sgctl.json(&["group", "show", "sealed"])?;
    assert_eq!(shown["rules"], Value::Array(Vec::new()), "{shown}");
    assert_eq!(shown["interfaces"], serde_json::json!(["server"]), "{shown}");
    Ok(())
}

#[test]
fn an_edit_that_a_test_of_the_policy_forbids_is_refused() -> Result<()> {
    let net = Net::pair()?;
    let text = format!(
        "{}tests:\n  - {{from: client, to: server, protocol: tcp, port: 22, expect: drop}}\n",
        lab()?.text()
    );
    let mut scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    scenario.serve("server", &[Tcp(22)])?;
    let sgctl = scenario.controller("server");
    let authorize = ["rule", "authorize", "web", "--type", "ssh", "--from", "office"];
    no(sgctl, &authorize, "expected drop, got allow")?;
    reaches(&scenario, Tcp(22), TimedOut)?;
    no(sgctl, &["interface", "remove", "client"], "DependencyViolation")
}

#[test]
fn a_rule_with_a_timeout_goes_by_itself() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let sgctl = scenario.controller("server");
    let authorize = ["rule", "authorize", "web", "--type", "ssh", "--from", "office"];
    yes(sgctl, &[&authorize[..], &["--timeout", "8s"]].concat())?;
    let listed = yes(sgctl, &["rule", "list", "web"])?;
    ensure!(listed.contains("(expires "), "{listed}");
    let server = net.host("server").v4();
    let ask = |limit| Tcp(22).ask(net.host("client"), server.into(), limit);
    ensure!(ask(LONG)? == Connected, "for eight seconds it holds");
    let mut rounds = 0;
    while ask(SHORT)? == Connected {
        rounds += 1;
        ensure!(rounds < 600, "the rule is still there");
        thread::sleep(Duration::from_millis(100));
    }
    reaches(&scenario, Tcp(22), TimedOut)?;
    reaches(&scenario, Tcp(80), Connected)?;
    let told = yes(sgctl, &["history", "3"])?;
    ensure!(told.contains("group web: tcp 22 ingress, sgr-"), "{told}");
    // It is gone from the policy too, and may come again.
    yes(sgctl, &authorize)?;
    reaches(&scenario, Tcp(22), Connected)
}

#[test]
fn hits_tell_which_rules_are_used() -> Result<()> {
    let net = Net::pair()?;
    let mut scenario = Scenario::attach(&net, &lab()?, Workload)?;
    scenario.serve("server", &[Tcp(80), Tcp(22)])?;
    let sgctl = scenario.controller("server");
    yes(sgctl, &["rule", "authorize", "web", "--type", "ssh", "--from", "office"])?;
    let used = |what: &str| -> Result<u64> {
        let rules = sgctl.json(&["rule", "list", "web", "--hits"])?;
        let rules = rules.as_array().context("a list")?.iter();
        let packets = rules
            .filter(|rule| rule["traffic"] == what)
            .filter_map(|rule| rule["hits"]["packets"].as_u64());
        Ok(packets.sum())
    };
    reaches(&scenario, Tcp(80), Connected)?;
    let http = used("tcp/80")?;
    ensure!(http >= 6, "two handshakes at least: {http}");
    assert_eq!(used("tcp/22")?, 0);
    reaches(&scenario, Tcp(22), Connected)?;
    ensure!(used("tcp/22")? >= 6);
    yes(sgctl, &["rule", "authorize", "web", "--type", "https", "--from", "office"])?;
    assert_eq!(used("tcp/80")?, http, "an edit elsewhere costs a rule none of its counts");
    // The rule for https is unused, but not for an hour.
    let unused = sgctl.run(["rule", "list", "web", "--unused-for", "1h"])?.ok()?;
    ensure!(!unused.stdout.contains("tcp/443"), "{unused:?}");
    ensure!(unused.stderr.contains("in force for a shorter time"), "{unused:?}");
    thread::sleep(Duration::from_millis(1100));
    let unused = sgctl.run(["rule", "list", "web", "--unused-for", "1s"])?.ok()?.stdout;
    ensure!(
        unused.contains("tcp/443") && unused.contains("never since it is in force"),
        "{unused}"
    );
    Ok(())
}

#[test]
fn without_devices_there_is_no_policy_to_edit() -> Result<()> {
    let net = Net::pair()?;
    let sgctl = Sgctl::new(net.wire())?;
    for args in [
        &["group", "list"][..],
        &["rule", "authorize", "web", "--type", "ssh", "--from", "10.0.0.1"],
        &["interface", "remove", "server"],
        &["prefix-list", "show", "office"],
    ] {
        let output = sgctl.run(args)?;
        ensure!(output.code == Some(1), "{output:?}");
        ensure!(output.stderr.contains("nothing is attached"), "{args:?}: {output:?}");
    }
    Ok(())
}

#[test]
fn an_edit_does_not_bring_back_a_rule_whose_time_is_over() -> Result<()> {
    let net = Net::pair()?;
    let over = "- {type: ssh, from: [0.0.0.0/0, \"::/0\"], expires: 2020-01-31T18:00:00Z}\n          - {type: http";
    let text = lab()?.text().replace("- {type: http", over);
    let mut scenario = Scenario::attach(&net, &Example::new("lab", text.clone())?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let sgctl = scenario.controller("server");
    reaches(&scenario, Tcp(22), TimedOut)?;
    let path = sgctl.policy("over.yaml", &text)?;
    let output = sgctl.run(["validate", path.to_str().context("a path in UTF-8")?])?.ok()?;
    ensure!(output.stderr.contains("its time is over: group web: tcp 22 ingress"), "{output:?}");
    yes(sgctl, &["rule", "authorize", "web", "--type", "https", "--from", "office"])?;
    // Not even for the moment until the rule is taken away once more.
    let rules = sgctl.json(&["rule", "list", "web"])?;
    let rules = rules.as_array().context("a list")?;
    ensure!(rules.iter().all(|rule| rule["traffic"] != "tcp/22"), "{rules:?}");
    scenario.expect(&[
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), Connected),
    ])
}

#[test]
fn a_rule_of_an_attached_file_goes_at_its_time() -> Result<()> {
    let net = Net::pair()?;
    let date = ["-u", "-d", "+20 seconds", "+%FT%TZ"];
    let moment = run(std::process::Command::new("date").args(date), LONG)?.ok()?.stdout;
    let rule = format!(
        "- {{type: ssh, from: [0.0.0.0/0, \"::/0\"], expires: {}}}\n          - {{type: http",
        moment.trim()
    );
    let text = lab()?.text().replace("- {type: http", &rule);
    let mut scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let server = net.host("server").v4();
    let ask = |limit| Tcp(22).ask(net.host("client"), server.into(), limit);
    ensure!(ask(LONG)? == Connected, "for twenty seconds it holds");
    let mut rounds = 0;
    while ask(SHORT)? == Connected {
        rounds += 1;
        ensure!(rounds < 600, "the rule is still there");
        thread::sleep(Duration::from_millis(200));
    }
    scenario.expect(&[
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), Connected),
    ])
}
