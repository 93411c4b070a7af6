//! `cargo xtask demo`: the three-tier example on a network of namespaces, before one's eyes.
//!
//! Each step says what is about to happen, sends real traffic, and prints what the client saw beside
//! what the event stream told. Whatever ends it, Ctrl-C included, the guards of the harness take the
//! programs, namespaces and processes away again.

use std::{
    io::{IsTerminal as _, stdout},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use comfy_table::{Table, presets};
use tests::{
    example::{Example, Side},
    interrupt,
    net::Net,
    process::Running,
    scenario::{Probe, Scenario},
    traffic::{
        Outcome::{self, Connected, Refused, TimedOut},
        tcp,
    },
};

/// How long a client waits for what is not expected to come.
const PATIENCE: Duration = Duration::from_secs(1);
/// And for what is.
const LONG: Duration = Duration::from_secs(5);
/// Events follow their packets within this time.
const EVENT_DELAY: Duration = Duration::from_millis(60);

/// The rule that one step takes away.
const ENTRANCE: &str =
    "ingress:\n          - {type: http, from: [0.0.0.0/0, \"::/0\"], description: customers}";

/// From, to, port, and how it must end.
type Attempt = (&'static str, &'static str, u16, Outcome);

fn main() -> ExitCode {
    let result = interrupt::watch().and_then(|()| show());
    if interrupt::requested() {
        println!("\ninterrupted: programs, namespaces and processes of the demo are gone");
        return ExitCode::from(130);
    }
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: not everything ended as expected");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything in order; whether all ended as expected.
fn show() -> Result<bool> {
    let example = Example::read("three-tier")?;
    say("A network of namespaces: balancer, bastion, backend, database, a customer, the office.");
    let net = example.net(&[
        ("customer", &["198.51.100.7", "2001:db8:51::7"]),
        ("office", &["203.0.113.10", "2001:db8:113::10"]),
    ])?;
    let mut demo = Demo { net: &net, events: None, rows: Vec::new(), step: 0, policy: "none" };
    let mut servers = Vec::new();
    for (host, ports) in [
        ("balancer-1", &[80, 22][..]),
        ("bastion-1", &[22]),
        ("backend-1", &[22]),
        ("database-1", &[3306]),
        ("customer", &[443]),
    ] {
        for port in ports {
            servers.extend(serve(&net, host, *port)?);
        }
    }
    demo.step(
        "Before any policy everybody reaches everything, the database included.",
        &[("customer", "balancer-1", 80, Connected), ("customer", "database-1", 3306, Connected)],
    )?;

    demo.step += 1;
    say(&format!("{}. `sgctl attach --policy examples/three-tier.yaml`", demo.step));
    let mut scenario = Scenario::attach(&net, &example, Side::Workload)?;
    demo.policy = "three-tier";
    print_indented(&scenario.sgctl("balancer-1", &["status"])?.ok()?.stdout, 8);
    demo.follow(&scenario)?;
    demo.step(
        "Two entrances: customers to the balancer, the office to the bastion.",
        &[
            ("customer", "balancer-1", 80, Connected),
            ("customer", "balancer-1", 22, TimedOut),
            ("office", "bastion-1", 22, Connected),
            ("customer", "bastion-1", 22, TimedOut),
        ],
    )?;
    demo.step(
        "Allowed, but nobody listens: the backend itself says no, at once.",
        &[("balancer-1", "backend-1", 80, Refused)],
    )?;
    servers.extend(serve(&net, "backend-1", 80)?);
    demo.step(
        "The web server is up. Each tier is reached from the one before it...",
        &[
            ("balancer-1", "backend-1", 80, Connected),
            ("bastion-1", "backend-1", 22, Connected),
            ("backend-1", "database-1", 3306, Connected),
        ],
    )?;
    demo.step(
        "... and from nowhere else. What is dropped says nothing, so clients wait.",
        &[
            ("customer", "backend-1", 80, TimedOut),
            ("balancer-1", "backend-1", 22, TimedOut),
            ("balancer-1", "database-1", 3306, TimedOut),
            ("bastion-1", "database-1", 3306, TimedOut),
        ],
    )?;
    demo.step(
        "Outwards: answers need no ingress rule; the database has no egress rule at all.",
        &[("backend-1", "customer", 443, Connected), ("database-1", "customer", 443, TimedOut)],
    )?;

    // `drop` of the guard is a SIGKILL; no process of ours is left after it.
    demo.events = None;
    demo.step(
        "Every process of ours is killed. The verdicts are the kernel's and stay.",
        &[("customer", "balancer-1", 80, Connected), ("customer", "backend-1", 80, TimedOut)],
    )?;

    say("The balancer's rule is taken out of the file; detach, attach anew.");
    scenario.replace(&example.without_tests()?.edited(ENTRANCE, "ingress: []")?)?;
    demo.policy = "without the balancer's rule";
    demo.follow(&scenario)?;
    demo.step(
        "Customers hang until they give up; nobody else notices.",
        &[
            ("customer", "balancer-1", 80, TimedOut),
            ("office", "bastion-1", 22, Connected),
            ("balancer-1", "backend-1", 80, Connected),
        ],
    )?;

    demo.events = None;
    say("`sgctl detach --all`");
    print_indented(&scenario.sgctl("balancer-1", &["detach", "--all"])?.ok()?.stdout, 8);
    demo.policy = "none";
    demo.step(
        "Nothing is left of it: everybody reaches everything again.",
        &[("customer", "balancer-1", 80, Connected), ("customer", "database-1", 3306, Connected)],
    )?;
    Ok(demo.conclude())
}

/// A server at each address of a host.
fn serve(net: &Net, host: &str, port: u16) -> Result<Vec<tcp::Server>> {
    let host = net.host(host);
    let sockets = [host.socket_v4(port), host.socket_v6(port)];
    sockets.into_iter().map(|socket| tcp::Server::start(host.ns(), socket)).collect()
}

/// What was seen so far.
struct Demo<'net> {
    net: &'net Net,
    /// `sgctl events -f`.
    events: Option<Running>,
    rows: Vec<Row>,
    step: usize,
    policy: &'static str,
}

/// A line of the table at the end.
struct Row {
    step: usize,
    policy: &'static str,
    attempt: Attempt,
    family: &'static str,
    seen: Outcome,
}

impl Row {
    fn agrees(&self) -> bool {
        self.seen == self.attempt.3
    }
}

impl Demo<'_> {
    /// Reads the event stream from here on.
    fn follow(&mut self, scenario: &Scenario<'_>) -> Result<()> {
        self.events = Some(scenario.controller("balancer-1").start(["events", "-f"])?);
        Ok(())
    }

    /// Narrates, then makes each attempt over IPv4 and IPv6.
    fn step(&mut self, narration: &str, attempts: &[Attempt]) -> Result<()> {
        self.step += 1;
        say(&format!("{}. {narration}", self.step));
        for attempt in attempts {
            let to = self.net.host(attempt.1);
            for (family, address) in [("IPv4", to.v4().into()), ("IPv6", to.v6().into())] {
                ensure!(!interrupt::requested(), "interrupted");
                let (from, name, port, expected) = *attempt;
                let limit = if expected == TimedOut { PATIENCE } else { LONG };
                let started = Instant::now();
                let seen = Probe::Tcp(port).ask(self.net.host(from), address, limit)?;
                println!(
                    "   {:<10} -> {:<15} {family}  {} after {:.3} s",
                    from,
                    format!("{name}:{port}"),
                    colored(seen),
                    started.elapsed().as_secs_f64()
                );
                self.rows.push(Row {
                    step: self.step,
                    policy: self.policy,
                    attempt: *attempt,
                    family,
                    seen,
                });
                self.tell_events();
            }
        }
        Ok(())
    }

    /// What the stream says of what has just been seen.
    fn tell_events(&self) {
        let Some(events) = &self.events else { return };
        thread::sleep(EVENT_DELAY);
        for line in events.lines_so_far() {
            println!("        {line}");
        }
    }

    /// Prints the table; whether all of it agrees.
    fn conclude(&self) -> bool {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["step", "policy", "from", "to", "family", "expected", "seen", "agree"]);
        for row in &self.rows {
            let (from, to, port, expected) = row.attempt;
            table.add_row([
                row.step.to_string(),
                row.policy.to_owned(),
                from.to_owned(),
                format!("{to}:{port}"),
                row.family.to_owned(),
                words(expected).to_owned(),
                words(row.seen).to_owned(),
                if row.agrees() { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        println!("\n{table}");
        let agree = self.rows.iter().filter(|row| row.agrees()).count();
        println!("{agree} of {} as expected", self.rows.len());
        agree == self.rows.len()
    }
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Connected => "connected",
        TimedOut => "timed out",
        Refused => "refused",
        Outcome::Unreachable => "unreachable",
        Outcome::Stalled => "stalled",
        Outcome::Reset => "reset",
    }
}

/// Green, red or yellow for people.
fn colored(outcome: Outcome) -> String {
    let code = match outcome {
        Connected => 32,
        TimedOut => 31,
        Refused | Outcome::Unreachable | Outcome::Stalled | Outcome::Reset => 33,
    };
    let words = format!("{:<11}", words(outcome));
    if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{words}\x1b[0m")
    } else {
        words
    }
}

fn say(text: &str) {
    println!("\n{text}");
}

fn print_indented(text: &str, indent: usize) {
    for line in text.lines() {
        println!("{:indent$}{line}", "");
    }
}
