//! Edits by the hundred: many at once are one change, and what is patched is what would be compiled.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use sg_userspace::{
    kernel::{
        serve::Client,
        transaction::{Author, EditRequest},
    },
    policy::edit::Edit,
};
use tests::{
    example::Example,
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

/// A line to the socket and the line that comes back, from a client that has nothing of ours.
fn talk(stream: &UnixStream, request: &Value) -> Result<Value> {
    stream.set_read_timeout(Some(LONG))?;
    let mut line = request.to_string();
    line.push('\n');
    // Whoever is not served is answered before they ask.
    _ = (&mut &*stream).write_all(line.as_bytes());
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).with_context(|| format!("{request}: {answer:?}"))
}

/// Whoever talks to the socket directly is held to what holds of the verbs.
#[test]
fn a_bare_client_is_no_exception() -> Result<()> {
    let net = Net::pair()?;
    let text = format!(
        "{}tests:\n  - {{from: client, to: server, protocol: tcp, port: 22, expect: drop}}\n",
        ONE
    );
    let scenario = Scenario::attach(&net, &Example::new("lab", text)?, Workload)?;
    let sgctl = scenario.controller("server");
    let serving = serve(sgctl)?;
    let stream = UnixStream::connect(sgctl.paths().socket())?;
    let author = json!({"user": "mallory", "command": "nothing at all", "message": "why not"});
    let ask = |edits: Value| talk(&stream, &json!({"edits": edits, "author": author}));
    let empty = ask(json!([]))?;
    ensure!(
        empty["failed"].as_str().is_some_and(|why| why.contains("at least one edit")),
        "{empty}"
    );
    let rule = |port: u16| {
        let rule = format!("{{protocol: tcp, ports: {port}, from: 10.77.0.0/16}}");
        json!([{"edit": "rule_authorize", "group": "web", "direction": "ingress", "rule": rule}])
    };
    let forbidden = ask(rule(22))?;
    ensure!(forbidden["failed"].as_str().is_some_and(|why| why.contains("line ")), "{forbidden}");
    let done = ask(rule(8080))?;
    ensure!(done["done"]["number"] == 2, "{done}");
    let entry = sgctl.json(&["history", "2"])?;
    ensure!(entry["user"] != "mallory" && entry["message"] == "why not", "{entry}");
    ensure!(entry["command"].as_str().is_some_and(|it| it.starts_with("e2e_serve")), "{entry}");

    let second = sgctl.run(["serve"])?;
    let process = format!("process {}", serving.id());
    ensure!(second.code == Some(1), "{second:?}");
    for words in [process.as_str(), "sgctl.socket", "runs already"] {
        ensure!(second.stderr.contains(words), "{words}: {second:?}");
    }
    Ok(())
}

#[test]
fn connections_have_an_end() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let _serving = serve(sgctl)?;
    let mut kept = Vec::new();
    let refused = loop {
        ensure!(kept.len() < 1000, "nobody is refused");
        let stream = UnixStream::connect(sgctl.paths().socket())?;
        let answer = talk(&stream, &json!({"edits": []}))?["failed"].to_string();
        if answer.contains("takes no more") {
            break answer;
        }
        kept.push(stream);
    };
    println!("{} connections, then {refused}", kept.len());
    ensure!(kept.len() > 100, "{} connections are few", kept.len());
    kept.clear();
    tests::process::wait_until(LONG, || {
        Ok(sgctl.run(["group", "create", "later"])?.code == Some(0))
    })?;
    Ok(())
}

/// A server that was told to stop keeps nobody from editing.
#[test]
fn a_stopped_server_is_done_without() -> Result<()> {
    let net = Net::pair()?;
    let scenario = Scenario::attach(&net, &lab::one()?, Workload)?;
    let sgctl = scenario.controller("server");
    let serving = serve(sgctl)?;
    let process = Pid::from_raw(serving.id().try_into()?);
    kill(process, Signal::SIGSTOP)?;
    let made = sgctl.run(["group", "create", "meanwhile"])?;
    kill(process, Signal::SIGCONT)?;
    let made = made.ok()?;
    ensure!(made.stderr.contains("is stopped"), "{made:?}");
    // It has seen that somebody else has written.
    Client::connect(&sgctl.paths())?.edit(&add("later", "10.77.9.9", "meanwhile"))?;
    let text = nothing_but_the_policy_is_in_force(sgctl)?;
    ensure!(text.contains("meanwhile") && text.contains("later"), "{text}");
    Ok(())
}
