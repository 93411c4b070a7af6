//! An example in force, and questions to it: who reaches whom, by what, and how it ends.
//!
//! All questions of a list are asked at once, over IPv4 and IPv6, so that a list takes as long as
//! its slowest member. On side `workload` a capture inside each protected host sits beside: what
//! was dropped must not be in it, and what was not must be.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    capture::Capture,
    example::{Example, Side},
    frame::Frame,
    net::{DEVICE, Host, Net},
    process::Output,
    sgctl::Sgctl,
    traffic::{Outcome, icmp, tcp, udp},
};

/// Time for what must not arrive to arrive nonetheless.
pub const SHORT: Duration = Duration::from_millis(800);
/// Time for what must arrive, on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(10);

/// By what to reach a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A connection to a port, and a line each way.
    Tcp(u16),
    /// A datagram to a port, and the answer.
    Udp(u16),
    /// An echo request.
    Ping,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

impl Probe {
    /// Asks once.
    ///
    /// # Errors
    /// When the socket fails in a way that is not the network's answer.
    pub fn ask(self, from: &Host, to: IpAddr, limit: Duration) -> Result<Outcome> {
        match self {
            Self::Tcp(port) => tcp::connect(from.ns(), None, SocketAddr::new(to, port), limit),
            Self::Udp(port) => udp::request(from.ns(), None, SocketAddr::new(to, port), limit),
            Self::Ping => icmp::ping(from.ns(), None, to, limit),
        }
    }

    /// Is it a packet of such a question?
    fn is_in(self, frame: &Frame, from: IpAddr, to: IpAddr) -> bool {
        let protocol = frame.protocol();
        let question = match self {
            Self::Tcp(port) => protocol == Some(6) && frame.is_to(SocketAddr::new(to, port)),
            Self::Udp(port) => protocol == Some(17) && frame.is_to(SocketAddr::new(to, port)),
            Self::Ping => frame.is_echo_request(),
        };
        question && frame.is_between(from, to)
    }
}

/// Who, to whom, by what, and how it must end.
pub type Expectation<'a> = (&'a str, &'a str, Probe, Outcome);

/// A server behind its guard.
#[derive(Debug)]
enum Server {
    Tcp(#[expect(dead_code, reason = "a guard")] tcp::Server),
    Udp(#[expect(dead_code, reason = "a guard")] udp::Server),
}

/// A policy in force on the devices of a network; off them when dropped.
#[derive(Debug)]
pub struct Scenario<'net> {
    side: Side,
    net: &'net Net,
    /// Side `host`: one per protected host, under its name. Side `workload`: one for all.
    controllers: BTreeMap<String, Sgctl<'net>>,
    protected: Vec<String>,
    options: Vec<String>,
    servers: Vec<Server>,
}

/// Name of the one controller of side `workload`.
const CARRIER: &str = "";

impl<'net> Scenario<'net> {
    /// Attaches every interface of the file that names a device.
    ///
    /// # Errors
    /// When sgctl fails.
    pub fn attach(net: &'net Net, example: &Example, side: Side) -> Result<Self> {
        Self::attach_with(net, example, side, &[])
    }

    /// The same with more options, such as `--audit`.
    ///
    /// # Errors
    /// When sgctl fails.
    pub fn attach_with(
        net: &'net Net,
        example: &Example,
        side: Side,
        options: &[&str],
    ) -> Result<Self> {
        let protected: Vec<_> = example.protected().map(str::to_owned).collect();
        let controllers = match side {
            Side::Workload => [(CARRIER.to_owned(), Sgctl::new(net.wire())?)].into(),
            Side::Host => protected
                .iter()
                .map(|name| Ok((name.clone(), Sgctl::new(net.host(name).ns())?)))
                .collect::<Result<_>>()?,
        };
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut scenario = Self { side, net, controllers, protected, options, servers: Vec::new() };
        scenario.attach_again(example)?;
        Ok(scenario)
    }

    fn attach_again(&mut self, example: &Example) -> Result<()> {
        thread::scope(|scope| {
            let attach = |(name, sgctl): (&String, &Sgctl<'_>)| -> Result<()> {
                let text = match self.side {
                    Side::Host => example.on_host(name)?,
                    Side::Workload => example.on_carrier(self.net)?,
                };
                let path = sgctl.policy("policy.yaml", &text)?;
                let policy = path.to_str().context("a path in UTF-8")?;
                let options = self.options.iter().map(String::as_str);
                let args = ["attach", "--policy", policy].into_iter().chain(options);
                sgctl.run(args)?.ok().context("sgctl attach")?;
                Ok(())
            };
            let tasks: Vec<_> =
                self.controllers.iter().map(|one| scope.spawn(move || attach(one))).collect();
            tasks.into_iter().try_for_each(|task| task.join().expect("no panic in an attach"))
        })
    }

    /// Detaches everything and attaches what an edit has made of the file.
    ///
    /// # Errors
    /// When sgctl fails.
    pub fn replace(&mut self, example: &Example) -> Result<()> {
        for sgctl in self.controllers.values() {
            sgctl.run(["detach", "--all"])?.ok().context("sgctl detach --all")?;
        }
        self.attach_again(example)
    }

    /// Starts servers on a host, at all its addresses.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve(&mut self, host: &str, probes: &[Probe]) -> Result<()> {
        let host = self.net.host(host);
        for address in host.addresses() {
            for probe in probes {
                match probe {
                    Probe::Tcp(port) => self.servers.push(Server::Tcp(tcp::Server::start(
                        host.ns(),
                        SocketAddr::new(*address, *port),
                    )?)),
                    Probe::Udp(port) => self.servers.push(Server::Udp(udp::Server::start(
                        host.ns(),
                        SocketAddr::new(*address, *port),
                    )?)),
                    Probe::Ping => bail!("hosts answer pings by themselves"),
                }
            }
        }
        Ok(())
    }

    /// The controller of a protected host.
    ///
    /// # Panics
    /// When the host is not protected.
    #[must_use]
    pub fn controller(&self, host: &str) -> &Sgctl<'net> {
        let found = match self.side {
            Side::Host => self.controllers.get(host),
            Side::Workload => self.controllers.get(CARRIER),
        };
        found.unwrap_or_else(|| panic!("host {host} is not protected"))
    }

    /// Runs sgctl where a protected host is protected.
    ///
    /// # Errors
    /// As [`Sgctl::run`].
    pub fn sgctl(&self, host: &str, args: &[&str]) -> Result<Output> {
        self.controller(host).run(args)
    }

    /// Asks everything at once.
    ///
    /// # Errors
    /// With every answer that is not the expected one.
    pub fn expect(&self, expectations: &[Expectation<'_>]) -> Result<()> {
        let questions: Vec<_> =
            expectations.iter().flat_map(|one| Question::of(self.net, *one)).collect();
        let mut captures = self.captures(&questions)?;
        let answers: Vec<_> = thread::scope(|scope| {
            let tasks: Vec<_> = questions.iter().map(|one| scope.spawn(|| one.ask())).collect();
            tasks.into_iter().map(|task| task.join().expect("no panic in a question")).collect()
        });
        let mut wrong = Vec::new();
        for (question, answer) in questions.iter().zip(answers) {
            let answer = answer.with_context(|| format!("{question}"))?;
            if answer != question.expected {
                wrong.push(format!("{question}: {answer:?} instead of {:?}", question.expected));
            }
            if let Some(capture) = captures.get_mut(question.to) {
                let seen = capture.count(|frame| {
                    !frame.outgoing
                        && question.probe.is_in(frame, question.source, question.destination)
                })?;
                if (seen == 0) != (question.expected == Outcome::TimedOut) {
                    wrong.push(format!("{question}: {seen} packets arrived inside"));
                }
            }
        }
        ensure!(wrong.is_empty(), "side {}:\n  {}", self.side, wrong.join("\n  "));
        Ok(())
    }

    /// Inside the protected hosts that are asked, where nothing dropped may be seen.
    fn captures<'q>(&self, questions: &[Question<'q>]) -> Result<BTreeMap<&'q str, Capture>> {
        if self.side == Side::Host {
            // Captures there see what arrives before TC judges it.
            return Ok(BTreeMap::new());
        }
        let asked = questions.iter().map(|question| question.to);
        let protected = asked.filter(|to| self.protected.iter().any(|name| name == to));
        protected
            .map(|name| Ok((name, Capture::start(self.net.host(name).ns(), DEVICE)?)))
            .collect()
    }
}

/// An expectation over one address family.
struct Question<'q> {
    host: &'q Host,
    from: &'q str,
    to: &'q str,
    source: IpAddr,
    destination: IpAddr,
    probe: Probe,
    expected: Outcome,
}

impl<'q> Question<'q> {
    /// One for each family that both hosts speak.
    fn of(
        net: &'q Net,
        (from, to, probe, expected): Expectation<'q>,
    ) -> impl Iterator<Item = Self> {
        let host = net.host(from);
        net.host(to).addresses().iter().filter_map(move |&destination| {
            let same = |source: &&IpAddr| source.is_ipv4() == destination.is_ipv4();
            let source = *host.addresses().iter().find(same)?;
            Some(Self { host, from, to, source, destination, probe, expected })
        })
    }

    fn ask(&self) -> Result<Outcome> {
        let limit = if self.expected == Outcome::TimedOut { SHORT } else { LONG };
        self.probe.ask(self.host, self.destination, limit)
    }
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, source, destination, probe, .. } = self;
        write!(f, "{from} ({source}) to {to} ({destination}) {probe}")
    }
}
