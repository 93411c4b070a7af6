//! Edits by the hundred: many at once are one change, and what is patched is what would be compiled.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use sg_userspace::{
    kernel::{
        serve::Client,
        transaction::{Author, EditRequest},
    },
    policy::edit::Edit,
};
use tests::{
    example::Side::Workload,
    lab::{self, ONE},
    net::Net,
    process::Running,
    scenario::{LONG, Probe::Tcp, Scenario},
    sgctl::Sgctl,
    traffic::Outcome::{Connected, TimedOut},
};

const SSH: &str = "- {type: ssh, from: {group: default}}\n          - {type: http";

fn request(edit: Edit) -> EditRequest {
    let author = Author { user: "test".into(), command: "test".into(), message: None };
    EditRequest { edits: vec![edit], author }
}

fn add(name: &str, address: &str, group: &str) -> EditRequest {
    let interface = format!("{{name: {name}, addresses: [{address}], groups: [{group}]}}");
    request(Edit::InterfaceAdd { vpc: None, interface })
}

fn set_groups(name: &str, group: &str) -> EditRequest {
    let groups = vec![group.to_owned()];
    request(Edit::InterfaceSetGroups { interface: name.to_owned(), groups })
}

fn remove(name: &str) -> EditRequest {
    request(Edit::InterfaceRemove { interface: name.to_owned() })
}

fn serve(sgctl: &Sgctl<'_>) -> Result<Running> {
    let serving = sgctl.start(["serve"])?;
    let started = std::time::Instant::now();
    while Client::connect(&sgctl.paths()).is_err() {
        ensure!(started.elapsed() < LONG, "sgctl serve does not answer");
        thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(serving)
}

/// The policy of the history, compiled anew, is what is in force.
fn nothing_but_the_policy_is_in_force(sgctl: &Sgctl<'_>) -> Result<String> {
    let status = sgctl.json(&["status"])?;
    let number = status["number"].as_u64().context("a number")?.to_string();
    let text = sgctl.run(["history", &number, "--policy"])?.ok()?.stdout;
    let path = sgctl.policy("again.yaml", &text)?;
    let again = sgctl.run(["apply", path.to_str().context("a path in UTF-8")?])?.ok()?;
    ensure!(again.stdout.contains("nothing changes"), "{again:?}");
    Ok(text)
}

#[test]
fn members_come_and_go_by_the_hundred() -> Result<()> {
    let net = Net::pair()?;
    let policy = lab::one()?;
    let mut scenario = Scenario::attach(&net, &policy, Workload)?;
    scenario.serve("server", &[Tcp(22), Tcp(80)])?;
    let sgctl = scenario.controller("server");
    let path = sgctl.policy("ssh.yaml", &ONE.replace("- {type: http", SSH))?;
    sgctl.run(["apply", path.to_str().context("a path in UTF-8")?])?.ok()?;
    let paths = sgctl.paths();
    let serving = serve(sgctl)?;
    let numbers = AtomicUsize::new(0);
    thread::scope(|scope| -> Result<()> {
        let work = |thread: u8| -> Result<()> {
            let mut client = Client::connect(&paths)?;
            for round in 0..10 {
                let name = format!("m-{thread}-{round}");
                let address = format!("10.77.{}.{}", 100 + thread, round + 1);
                client.edit(&add(&name, &address, "default"))?;
                client.edit(&set_groups(&name, "web"))?;
                if round % 2 == 0 {
                    client.edit(&set_groups(&name, "default"))?;
                } else {
                    client.edit(&remove(&name))?;
                }
                let again = client.edit(&add("server", &address, "default"));
                ensure!(again.is_err(), "a second interface of one name");
                numbers.fetch_add(3, Relaxed);
            }
            Ok(())
        };
        let tasks: Vec<_> = (0..8).map(|thread| scope.spawn(move || work(thread))).collect();
        tasks.into_iter().try_for_each(|task| task.join().expect("no panic in a client"))
    })?;
    let status = sgctl.json(&["status"])?;
    let number = status["number"].as_u64().context("a number")?;
    println!("{} edits in {} changes", numbers.load(Relaxed), number - 2);
    // The client of the lab is a member of `default`; then of none that may.
    scenario.expect(&[("client", "server", Tcp(22), Connected)])?;
    Client::connect(&paths)?.edit(&set_groups("client", "web"))?;
    scenario.expect(&[
        ("client", "server", Tcp(22), TimedOut),
        ("client", "server", Tcp(80), Connected),
    ])?;
    drop(serving);
    let text = nothing_but_the_policy_is_in_force(sgctl)?;
    assert_eq!(text.matches("name: m-").count(), 8 * 5);
    Ok(())
}

/// The process that serves is killed while it is at work: each edit was made or was not, and all that was
/// answered was.
#[test]
fn a_killed_server_leaves_what_it_has_answered() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let path = sgctl.policy("ssh.yaml", &ONE.replace("- {type: http", SSH))?;
    sgctl.run(["apply", path.to_str().context("a path in UTF-8")?])?.ok()?;
    let paths = sgctl.paths();
    let mut answered: Vec<String> = Vec::new();
    for round in 0..12_u64 {
        let serving = serve(sgctl)?;
        thread::scope(|scope| -> Result<()> {
            let mut client = Client::connect(&paths)?;
            let writer = scope.spawn(move || {
                let mut made = |index: u64| {
                    let name = format!("k-{round}-{index}");
                    let address = format!("10.77.{}.{}", 100 + round, index + 1);
                    client.edit(&add(&name, &address, "default")).ok().map(|_edited| name)
                };
                (0..200).map_while(&mut made).collect::<Vec<_>>()
            });
            thread::sleep(std::time::Duration::from_millis(40 + 23 * round));
            drop(serving);
            answered.extend(writer.join().expect("no panic in a writer"));
            Ok(())
        })?;
        let text = nothing_but_the_policy_is_in_force(sgctl)?;
        for name in &answered {
            ensure!(
                text.contains(&format!("name: {name},"))
                    || text.contains(&format!("name: {name}\n")),
                "{name} was answered and is lost in\n{text}"
            );
        }
    }
    println!("{} edits answered before 12 kills", answered.len());
    ensure!(!answered.is_empty());
    Ok(())
}
