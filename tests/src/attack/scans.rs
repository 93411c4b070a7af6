//! nmap's scans: what it sends must not get to the host, whatever flags it wears.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use etherparse::TransportSlice;

use super::{
    Measured, Options,
    frames::Ends,
    range::{self, Hook, Target},
    witness::{Place, Witness},
};
use crate::{frame::Frame, netns::Namespace, process, traffic::tcp};

const LIMIT: Duration = Duration::from_secs(90);

pub(super) fn closed(_: &Options) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::CLOSED, Hook::Tc, &[])?;
    let (sent, arrived) = scan(&target, &["-sA", "-sF", "-sX", "-sN", "-sS", "-sU"])?;
    let passed = arrived.is_empty() && sent > 0;
    Ok(Measured { numbers: format!("{} of {sent} packets", arrived.len()), passed })
}

pub(super) fn denied_ports(_: &Options) -> Result<Measured> {
    let net = range::routed()?;
    let target = Target::attach(&net, range::OPEN, Hook::Tc, &[])?;
    let server = target.server();
    let mut listeners = Vec::new();
    for port in [80, 81, 443] {
        for socket in [server.socket_v4(port), server.socket_v6(port)] {
            listeners.push(tcp::Server::start(server.ns(), socket)?);
        }
    }
    let (sent, arrived) = scan(&target, &["-sS", "-sA", "-sF"])?;
    // A SYN may open a connection to the port that is allowed, and an ACK go on with one; a FIN neither.
    let wrong = arrived.iter().filter(|frame| !is_allowed(frame)).count();
    let numbers =
        format!("{wrong} of {sent} packets, {} to the allowed port", arrived.len() - wrong);
    Ok(Measured {
        numbers,
        passed: wrong == 0 && arrived.len() > wrong && sent > arrived.len() as u64,
    })
}

fn is_allowed(frame: &Frame) -> bool {
    let Some(slice) = frame.slice() else { return false };
    let Some(TransportSlice::Tcp(tcp)) = slice.transport else { return false };
    tcp.destination_port() == 80 && (!tcp.fin() || tcp.syn())
}

/// Runs scans of both families at once: how many packets went out, and those that arrived.
fn scan(target: &Target<'_>, kinds: &[&str]) -> Result<(u64, Vec<Frame>)> {
    let ends = target.ends();
    let witness = Witness::place(
        target.wire(),
        &[
            (Place::Forwarded, "sent4", &format!("ip saddr {}", ends[0].source)),
            (Place::Forwarded, "sent6", &format!("ip6 saddr {}", ends[1].source)),
        ],
    )?;
    let mut capture = target.capture()?;
    thread::scope(|scope| {
        let mut scans = Vec::new();
        for kind in kinds {
            for ends in ends {
                scans.push(scope.spawn(move || nmap(target.client().ns(), kind, ends)));
            }
        }
        scans.into_iter().try_for_each(|scan| scan.join().expect("no panic in a scan"))
    })?;
    target.fence(&mut capture)?;
    let from_client = |frame: &&Frame| {
        let addresses = frame.addresses();
        let from = addresses.is_some_and(|(from, _)| ends.iter().any(|ends| ends.source == from));
        !frame.outgoing && from && !frame.is_chatter()
    };
    let arrived: Vec<_> = capture.frames()?.iter().filter(from_client).cloned().collect();
    Ok((witness.count("sent4")? + witness.count("sent6")?, arrived))
}

fn nmap(client: &Namespace, kind: &str, ends: Ends) -> Result<()> {
    let mut command = client.command("nmap");
    command.args(["-Pn", "-n", "-T5", "--max-retries", "0", "--min-rate", "2000"]);
    // From the port of a service, which filters without state used to let in.
    command.args(["-p", "1-1000", "--source-port", "53", kind]);
    if !ends.is_v4() {
        command.arg("-6");
    }
    let output = process::run(command.arg(ends.destination.to_string()), LIMIT)?;
    let output = output.ok().with_context(|| format!("nmap {kind}"))?;
    ensure!(output.stdout.contains("scanned in"), "nmap says: {}", output.stdout);
    Ok(())
}
