//! A flow table that is full: what is in it stays, and every newcomer that is refused is told of.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Measured, Options,
    live::{Connections, raise_file_limit},
    range::{self, Hook, Target},
};
use crate::{
    net::Net,
    process::Running,
    traffic::{Outcome, tcp},
};

/// Room of the table, and flows that live in it before the attack.
const ROOM: &str = "256";
const LIVE: usize = 200;
/// Flows of each of two workloads, less than half of the table.
const SHARE: usize = 100;
const NEIGHBOUR: &str = "      - {name: neighbour, addresses: [10.77.3.10, \"fd77:3::10\"], \
                         groups: [open], device: to-neighbour, side: workload}\n";
/// Connections that want in beside them.
const NEWCOMERS: usize = 160;
/// How a newcomer's packet is counted.
const FULL: [&str; 2] = ["table_full", "flow_limit"];
/// How many try at a time.
const WORKERS: usize = 160;
/// Long enough for an answer, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn table(_: &Options) -> Result<Measured> {
    raise_file_limit()?;
    let net = range::routed()?;
    // Every drop is to be told, however many there are in a second.
    let options = ["--max-flows", ROOM, "--drop-events", "1000000"];
    let policy = range::OPEN.replace("{type: http,", "{protocol: tcp, ports: [80, 8080],");
    let target = Target::attach(&net, &policy, Hook::Tc, &options)?;
    let mut measured = Measured::begin();
    for ends in target.ends() {
        let mut connections = Connections::open(&target, (ends.destination, 80).into(), LIVE)?;
        let before = refusals(&target)?;
        let events = target.sgctl().start(["events", "-f", "-o", "json"])?;
        let newcomers = knock(&target, (ends.destination, 8080).into())?;
        let admitted = admitted(&target, ends.source)?;
        let refused: BTreeSet<u16> = newcomers
            .iter()
            .map(|(port, _)| *port)
            .filter(|port| !admitted.contains(port))
            .collect();
        let connected = newcomers
            .iter()
            .filter(|(port, outcome)| refused.contains(port) && *outcome == Outcome::Connected)
            .count();
        let (told, counted) = (told(&events, ends.source, &refused), refusals(&target)? - before);
        let alive = connections.alive()?;
        measured.add(
            alive == LIVE
                && !refused.is_empty()
                && connected == 0
                && told.is_superset(&refused)
                && counted >= u64::try_from(refused.len())?,
            &format!(
                "{}: {alive} of {LIVE} live, {} of {NEWCOMERS} find no room ({connected} get in all \
                 the same), {} told, {counted} packets",
                ends.family(),
                refused.len(),
                told.len(),
            ),
        );
    }
    Ok(measured)
}

/// Two workloads share a table. One is filled from outside up to its share; the other opens as many as ever.
pub(super) fn share(_: &Options) -> Result<Measured> {
    raise_file_limit()?;
    let net = Net::builder()
        .routed("client", &["10.77.1.1/24", "fd77:1::1/64"], &["10.77.1.10", "fd77:1::10"])
        .routed("server", &["10.77.2.1/24", "fd77:2::1/64"], &["10.77.2.10", "fd77:2::10"])
        .routed("neighbour", &["10.77.3.1/24", "fd77:3::1/64"], &["10.77.3.10", "fd77:3::10"])
        .build()?;
    let policy =
        range::OPEN.replace("{type: http,", "{protocol: tcp, ports: [80, 8080],") + NEIGHBOUR;
    let target = Target::attach(&net, &policy, Hook::Tc, &["--max-flows", ROOM])?;
    let [ends, _] = target.ends();
    let mut connections = Connections::open(&target, (ends.destination, 80).into(), SHARE)?;
    let refused = knock(&target, (ends.destination, 8080).into())?
        .iter()
        .filter(|(_, outcome)| *outcome != Outcome::Connected)
        .count();
    let limited = target.counted("flow_limit")?;
    let web = net.host("neighbour").socket_v4(80);
    let _server = tcp::Server::start(net.host("neighbour").ns(), web)?;
    let tries: Vec<_> = (0..SHARE).map(|_| try_once(&target, web)).collect::<Result<_>>()?;
    let opened = tries.iter().filter(|(_, outcome, _)| *outcome == Outcome::Connected).count();
    let alive = connections.alive()?;
    Ok(Measured {
        numbers: format!(
            "{alive} of {SHARE} live, {refused} of {NEWCOMERS} refused ({limited} packets), the \
             neighbour opens {opened} of {SHARE}"
        ),
        passed: alive == SHARE && refused > 0 && limited > 0 && opened == SHARE,
    })
}

/// Real connections to a port of their own, several at a time: the port of each and how it ended. Those that
/// got in stay until all have tried.
fn knock(target: &Target<'_>, to: SocketAddr) -> Result<Vec<(u16, Outcome)>> {
    let _server = tcp::Server::start(target.server().ns(), to)?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| (0..NEWCOMERS / WORKERS).map(|_| try_once(target, to)).collect())
            })
            .collect();
        let results =
            workers.into_iter().map(|worker| worker.join().expect("no panic in a worker"));
        let all: Vec<Vec<Result<_>>> = results.collect();
        let mut held = Vec::new();
        let mut ends = Vec::new();
        for result in all.into_iter().flatten() {
            let (port, outcome, client) = result?;
            held.push(client);
            ends.push((port, outcome));
        }
        Ok(ends)
    })
}

fn try_once(target: &Target<'_>, to: SocketAddr) -> Result<(u16, Outcome, tcp::Client)> {
    let client = tcp::Client::open(target.client().ns(), None, to, PATIENCE)?;
    let mut client = client.ok().context("the handshake itself is never refused")?;
    let outcome = client.exchange(PATIENCE)?;
    Ok((client.local_address()?.port(), outcome, client))
}

/// Clients' ports of the newcomers that have a place in the table.
fn admitted(target: &Target<'_>, client: IpAddr) -> Result<BTreeSet<u16>> {
    let flows = target.flows(&["--established", "--port", "8080"])?;
    let ours = flows.iter().filter(|flow| flow["remote"] == client.to_string());
    Ok(ours.filter_map(|flow| flow["remote_port"].as_u64()?.try_into().ok()).collect())
}

/// The interface's share of the table, which for an only interface is all of it, or the table itself.
fn is_full(reason: &Value) -> bool {
    FULL.iter().any(|full| reason == full)
}

fn refusals(target: &Target<'_>) -> Result<u64> {
    FULL.iter().map(|reason| target.counted(reason)).sum()
}

/// The clients' ports of whom the events say that the table was full.
fn told(events: &Running, client: IpAddr, expected: &BTreeSet<u16>) -> BTreeSet<u16> {
    let mut told = BTreeSet::new();
    let port_of = |line: &str| -> Option<u16> {
        let event: Value = serde_json::from_str(line).ok()?;
        // Those of the other family, before, may still be trying.
        let is_ours = event["source"].as_str()?.parse::<IpAddr>() == Ok(client);
        let is_told = is_ours && is_full(&event["reason"]);
        is_told.then(|| event["source_port"].as_u64())??.try_into().ok()
    };
    // Until all are told, or nothing more comes.
    while !told.is_superset(expected)
        && let Some(line) =
            events.wait_for_line(Duration::from_secs(2), |line| port_of(line).is_some())
    {
        told.extend(port_of(&line));
    }
    told
}
