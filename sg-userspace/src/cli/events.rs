//! `sgctl events`: the stream of allows, drops and ends.

use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ipnet::IpNet;
use sg_common::abi::EventKind;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Format, Global, attached, output, traffic};
use crate::events::{Filter, Names, Record, WallClock, trace_line};
use crate::kernel::live::Live;
use crate::kernel::stream::{self, EventStream, StreamTotals};
use crate::kernel::trace::TraceStream;
use crate::kernel::{Paths, read, require_root};

/// Show what was allowed and dropped
///
/// First packets of allowed flows, dropped packets, and the ends of flows with their totals. Without -f,
/// what is buffered since the last reader, which is then gone; -f begins with that. One reader at a time.
/// Drops beyond the budget of `attach --drop-events` are not in the stream; `status` counts them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sgctl events -f
  sgctl events -f --verdict drop --direction ingress --port 22
  sgctl events -f --address 198.51.100.0/24 -o json | jq -r .source
  sgctl events -f --rule 'group alb' --count 1   wait until that group's rules allow a flow")]
pub(super) struct Arguments {
    /// Go on as events come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Of this interface only
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// With this verdict only; several with commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "VERDICT")]
    verdict: Vec<Verdict>,
    /// In this direction only
    #[arg(long, value_enum)]
    direction: Option<traffic::Direction>,
    /// Of this protocol only: a name or a number
    #[arg(long, value_parser = traffic::protocol)]
    protocol: Option<u8>,
    /// With an end in this range only
    #[arg(long, value_name = "CIDR", value_parser = traffic::range)]
    address: Option<IpNet>,
    /// With this port at one end only
    #[arg(long)]
    port: Option<u16>,
    /// Decided by a rule whose words contain this
    #[arg(long, value_name = "TEXT")]
    rule: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Also each packet at devices that are attached with --trace; filters and --count do not apply
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verdict {
    /// The first packet of a flow passed
    Allow,
    /// A packet was dropped
    Drop,
    /// A flow ended
    End,
    /// A packet would have been dropped without --audit
    Audit,
}

impl From<Verdict> for EventKind {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Drop => Self::Drop,
            Verdict::End => Self::End,
            Verdict::Audit => Self::Audit,
        }
    }
}

pub(super) fn run(arguments: &Arguments, global: Global) -> anyhow::Result<Exit> {
    require_root("read the event ring")?;
    let paths = Paths::from_environment();
    super::follow_addresses(&paths);
    // Before the names: what changes in between is learnt later.
    let names_version = read::names_version(&paths);
    let live = Live::require(&paths)?;
    if let Some(name) = &arguments.interface {
        attached::slot(&live.tables, name)?;
    }
    let mut ring = EventStream::open(&paths)?;
    let before = stream::totals(&paths)?;
    let mut printer = Printer {
        paths: &paths,
        names: live.names(),
        names_version,
        clock: WallClock::now(read::monotonic()),
        filter: filter(arguments),
        format: global.output,
        left: arguments.count,
        traces: if arguments.trace { traces(&paths, &live)? } else { Vec::new() },
        out: BufWriter::new(io::stdout().lock()),
    };
    let result = if arguments.follow {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(follow(ring, &mut printer))
    } else {
        while printer.print_some(&mut ring)? == Progress::More {}
        Ok(())
    };
    drop(printer);
    tell_losses(&paths, before);
    result.map(|()| Exit::Yes)
}

fn filter(arguments: &Arguments) -> Filter {
    Filter {
        interface: arguments.interface.clone(),
        kinds: arguments.verdict.iter().map(|&verdict| verdict.into()).collect(),
        direction: arguments.direction.map(Into::into),
        protocol: arguments.protocol,
        address: arguments.address,
        port: arguments.port,
        rule: arguments.rule.clone(),
    }
}

fn traces(paths: &Paths, live: &Live) -> anyhow::Result<Vec<TraceStream>> {
    let mut streams = Vec::new();
    for device in live.devices.iter().filter(|device| device.instance.trace) {
        match TraceStream::open(paths, device)? {
            Some(stream) => streams.push(stream),
            None => log::warn!(
                "{} is attached by clsact in another network namespace, which hides its trace",
                device.device
            ),
        }
    }
    if streams.is_empty() {
        log::warn!("no device with a trace: it is `sgctl attach --trace` that makes one");
    }
    Ok(streams)
}

/// Whether there is more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Certainly.
    More,
    /// The ring was empty.
    Empty,
    /// As many as were asked for have been printed.
    Enough,
}

/// Records read before anything else gets its turn.
const BATCH: usize = 4096;

struct Printer<'p> {
    paths: &'p Paths,
    names: Names,
    names_version: Option<u64>,
    clock: WallClock,
    filter: Filter,
    format: Format,
    left: Option<u64>,
    traces: Vec<TraceStream>,
    out: BufWriter<StdoutLock<'static>>,
}

impl Printer<'_> {
    fn print_some(&mut self, ring: &mut EventStream) -> anyhow::Result<Progress> {
        self.print_traces()?;
        let mut progress = Progress::More;
        for _ in 0..BATCH {
            if self.left == Some(0) {
                progress = Progress::Enough;
                break;
            }
            let Some(event) = ring.next_event() else {
                progress = Progress::Empty;
                break;
            };
            if !self.names.know(&event) {
                self.follow_policy();
            }
            let record = Record::new(&event, &self.names, &self.clock);
            if let Some(record) = record.filter(|record| self.filter.fits(record)) {
                self.print(&record)?;
                self.left = self.left.map(|left| left - 1);
            }
        }
        self.out.flush()?;
        Ok(progress)
    }

    /// Learns the names anew where the policy may have changed since: rules came, or went whose numbers are known.
    fn follow_policy(&mut self) {
        let version = read::names_version(self.paths);
        if version == self.names_version {
            return;
        }
        self.names_version = version;
        if let Ok(Some(live)) = Live::read(self.paths) {
            self.names.learn(live.names());
        }
    }

    fn print(&mut self, record: &Record) -> anyhow::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{record}")?,
            Format::Json => writeln!(self.out, "{}", serde_json::to_string(record)?)?,
        }
        Ok(())
    }

    fn print_traces(&mut self) -> anyhow::Result<()> {
        let Self { traces, out, format, names, .. } = self;
        for stream in traces {
            for line in stream.take() {
                let line = trace_line(&line, names);
                let device = stream.device();
                match format {
                    Format::Text => writeln!(out, "trace {device} {line}")?,
                    Format::Json => {
                        let object = serde_json::json!({"trace": line, "device": device});
                        writeln!(out, "{object}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How often to look whether anybody still reads, whether anything is still attached, and by which rules.
const WATCH: Duration = Duration::from_secs(1);
/// Traces are many and need no hurry.
const TRACE: Duration = Duration::from_millis(50);

async fn follow(ring: EventStream, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut tick = tokio::time::interval(if printer.traces.is_empty() { WATCH } else { TRACE });
    let mut policy = Instant::now();
    // SAFETY: the ring owns its descriptor, which stays open and the same until the ring is dropped.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.map_err(io::Error::from)?;
    loop {
        let progress = tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = tick.tick() => {
                if is_unread() {
                    return Ok(());
                }
                if !printer.paths.maps().exists() {
                    log::warn!("everything was detached");
                    return Ok(());
                }
                if policy.elapsed() >= WATCH {
                    policy = Instant::now();
                    printer.follow_policy();
                }
                printer.print_some(ring.get_mut())?
            }
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                let progress = printer.print_some(ready.get_inner_mut())?;
                if progress == Progress::Empty {
                    ready.clear_ready();
                }
                progress
            }
        };
        if progress == Progress::Enough {
            return Ok(());
        }
    }
}

/// Whether the other end of standard output has gone, which a write would tell too late.
fn is_unread() -> bool {
    let mut watched = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    // SAFETY: one live element, and a timeout of zero: the call returns at once.
    let ready = unsafe { libc::poll(&raw mut watched, 1, 0) };
    ready > 0 && watched.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

fn tell_losses(paths: &Paths, before: StreamTotals) {
    // Nothing is left to ask when everything was detached meanwhile.
    let Ok(after) = stream::totals(paths) else { return };
    let suppressed = after.suppressed.saturating_sub(before.suppressed);
    let lost = after.lost.saturating_sub(before.lost);
    if suppressed > 0 {
        let events = output::count(suppressed, "drop");
        log::warn!("{events} beyond the budget not reported (attach --drop-events)");
    }
    if lost > 0 {
        log::warn!("{} lost because the ring was full", output::count(lost, "event"));
    }
}
