//! Streams of packets, in both directions and both families, of which some are allowed and some denied: counted where
//! they are sent, and behind the programs by somebody else.
//!
//! The numbers are exact, not samples: each packet sent is one that the device took, and the far end counts in its
//! netdev hook, in front of every socket buffer. A veth with XDP has a ring of 256 packets and throws away what finds
//! it full, which would look like a packet lost: the streams wait for the far end before it is, and an
//! allowed packet missing while the devices have thrown any away is an error of the measurement.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    attack::{
        frames::{self, Ends, Link},
        witness::nft,
    },
    example::Example,
    net::{DEVICE, Net},
    netns::Namespace,
    packet_socket::{Hears, PacketSocket},
    process,
};

/// What must come of the streams.
pub(crate) const EXACT: &str = "0 allowed packets lost, 0 denied packets passed";

/// A server that may be asked for names, and may ask for names: nothing else, in either direction.
pub(crate) const POLICY: &str = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: names
        ingress: [{type: dns-udp, from: [0.0.0.0/0, "::/0"]}]
        egress: [{type: dns-udp, to: [0.0.0.0/0, "::/0"]}]
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [names], device: to-server, side: workload}
"#;

/// The port that the policy allows, and one that it does not.
const PORTS: [u16; 2] = [53, 54];
/// Source ports: of flows that live and of new ones.
const SOURCES: Range<u16> = 2000..2128;
/// Packets of a stream handed to the kernel at a time.
const BATCH: usize = 32;
/// Packets that may be on their way to a device: half of a veth's ring (`VETH_RING_SIZE`).
const WINDOW: u64 = 128;
/// Longest that a packet may take from one end of a veth to the other.
const ARRIVAL: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(20);

/// The example of [`POLICY`].
pub(crate) fn example() -> Result<Example> {
    Example::new("soak", POLICY)
}

/// One stream: a direction, and whether it is allowed.
struct Stream {
    name: &'static str,
    allowed: bool,
    socket: PacketSocket,
    frames: Vec<Vec<u8>>,
    sent: AtomicU64,
    /// Behind which device it waits.
    far: usize,
}

/// The receiving end of two streams.
pub(crate) struct FarEnd {
    /// /proc/net/dev of its namespace.
    statistics: File,
    device: String,
    /// Packets that were on their way to it when the streams began.
    offset: u64,
    sent: AtomicU64,
}

impl FarEnd {
    pub(crate) fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        let open = || File::open("/proc/thread-self/net/dev");
        let statistics = namespace.run(open).context("/proc/net/dev")?;
        let mut end =
            Self { statistics, device: device.to_owned(), offset: 0, sent: AtomicU64::new(0) };
        end.offset = end.arrived()?;
        Ok(end)
    }

    /// Packets that the device has taken, with XDP out of its ring.
    fn arrived(&self) -> Result<u64> {
        let mut text = [0; 4096];
        let length = self.statistics.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..length])?;
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix(&self.device)?.strip_prefix(':'));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)).context("a device")?;
        Ok(packets.parse::<u64>()? - self.offset)
    }

    /// Takes a place for packets, if there is one.
    pub(crate) fn claim(&self, packets: u64) -> Result<bool> {
        let sent = self.sent.load(Ordering::Relaxed);
        let is_free = sent + packets <= self.arrived()? + WINDOW;
        let next = sent + packets;
        let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        Ok(is_free && self.sent.compare_exchange(sent, next, order, failed).is_ok())
    }

    /// Gives back the places of packets that were dropped on the way out of the near device: judged, and not on their
    /// way.
    pub(crate) fn give_back(&self, packets: u64) {
        self.sent.fetch_sub(packets, Ordering::Relaxed);
    }
}

/// Four streams that flow for as long as this is borrowed by [`Streams::during`].
pub(crate) struct Streams<'net> {
    net: &'net Net,
    streams: [Stream; 4],
    ends: [FarEnd; 2],
}

/// What became of the packets of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    /// Its direction, for messages.
    pub(crate) name: &'static str,
    pub(crate) allowed: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Count {
    /// Packets that met the other verdict than theirs.
    pub(crate) fn wrong(&self) -> u64 {
        if self.allowed { self.sent.abs_diff(self.received) } else { self.received }
    }
}

impl<'net> Streams<'net> {
    /// Places the counters; nothing is sent.
    pub(crate) fn open(net: &'net Net) -> Result<Self> {
        let (client, server) = (net.host("client"), net.host("server"));
        let inward = [Ends::new(client.v4(), server.v4()), Ends::new(client.v6(), server.v6())];
        let outward = inward.map(Ends::reverse);
        let to = Link { source: server.port_mac(), destination: server.mac() };
        let from = Link { source: server.mac(), destination: server.port_mac() };
        count(server.ns(), DEVICE)?;
        count(net.wire(), server.port())?;
        let stream =
            |far: usize, way: (&Namespace, &str), link: Link, ends: [Ends; 2], allowed: bool| {
                let port = PORTS[usize::from(!allowed)];
                let packet = |(source, ends): (u16, Ends)| {
                    link.packet(
                        ends,
                        sg_common::wire::ip::UDP,
                        &frames::udp((source, port), b"who is it?"),
                    )
                };
                let frames = SOURCES.flat_map(|source| ends.map(|ends| (source, ends))).map(packet);
                let socket = PacketSocket::open(way.0, way.1, Hears::Nothing)?;
                let sent = AtomicU64::new(0);
                let name = if far == 0 { "in" } else { "out" };
                anyhow::Ok(Stream { name, allowed, socket, frames: frames.collect(), sent, far })
            };
        let (near, far) = ((net.wire(), server.port()), (server.ns(), DEVICE));
        let streams = [
            stream(0, near, to, inward, true)?,
            stream(0, near, to, inward, false)?,
            stream(1, far, from, outward, true)?,
            stream(1, far, from, outward, false)?,
        ];
        let ends = [FarEnd::open(far.0, far.1)?, FarEnd::open(near.0, near.1)?];
        Ok(Self { net, streams, ends })
    }

    /// Lets the streams flow while `work` runs, and counts what became of them.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, [Count; 4])> {
        let before = self.received()?;
        let sent = self.streams.each_ref().map(|stream| stream.sent.load(Ordering::Relaxed));
        let thrown = self.thrown_away()?;
        let stop = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            let flows: Vec<_> = self
                .streams
                .iter()
                .map(|stream| scope.spawn(|| stream.flow(&self.ends[stream.far], &stop)))
                .collect();
            let done = work();
            stop.store(true, Ordering::Relaxed);
            for flow in flows {
                flow.join().expect("no panic in a stream")?;
            }
            done
        })?;
        let counts = self.settle(sent, before)?;
        let thrown = self.thrown_away()?.saturating_sub(thrown);
        let is_lost = counts.iter().any(|one| one.allowed && one.wrong() > 0);
        // Denied ones may be among them: they may go lost wherever they like.
        ensure!(!is_lost || thrown == 0, "the devices threw {thrown} packets away: {counts:?}");
        Ok((done, counts))
    }

    /// What is on its way arrives: the counts once every allowed packet has, or once they stand still.
    fn settle(&self, sent: [u64; 4], before: [u64; 4]) -> Result<[Count; 4]> {
        let started = Instant::now();
        loop {
            let received = self.received()?;
            let counts: [Count; 4] = std::array::from_fn(|at| {
                let Stream { name, allowed, sent: now, .. } = &self.streams[at];
                Count {
                    name,
                    allowed: *allowed,
                    sent: now.load(Ordering::Relaxed) - sent[at],
                    received: received[at] - before[at],
                }
            });
            let arrived = counts.iter().all(|one| !one.allowed || one.wrong() == 0);
            if arrived || started.elapsed() > ARRIVAL {
                return Ok(counts);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn received(&self) -> Result<[u64; 4]> {
        let [inward, outward] = [self.net.host("server").ns(), self.net.wire()].map(counted);
        let ([a, b], [c, d]) = (inward?, outward?);
        Ok([a, b, c, d])
    }

    /// Packets that the two ends of the veth had no room for.
    fn thrown_away(&self) -> Result<u64> {
        let server = self.net.host("server");
        let near = dropped(self.net.wire(), server.port())?;
        Ok(near + dropped(server.ns(), DEVICE)?)
    }
}

impl Stream {
    fn flow(&self, end: &FarEnd, stop: &AtomicBool) -> Result<()> {
        let mut batches = self.frames.chunks(BATCH).cycle();
        let mut batch = batches.next().context("no frames")?;
        while !stop.load(Ordering::Relaxed) {
            let packets = u64::try_from(batch.len())?;
            if !end.claim(packets)? {
                thread::yield_now();
                continue;
            }
            let dropped = u64::try_from(self.socket.send_many(batch)?)?;
            end.give_back(dropped);
            self.sent.fetch_add(packets, Ordering::Relaxed);
            batch = batches.next().context("no frames")?;
        }
        Ok(())
    }
}

/// Counts, behind the programs, what arrives at either port, and lets nothing of it further.
fn count(namespace: &Namespace, device: &str) -> Result<()> {
    let [allowed, denied] = PORTS;
    nft(
        namespace,
        &format!(
            "table netdev soak {{\ncounter allowed {{\n}}\ncounter denied {{\n}}\nchain c {{\n\
             type filter hook ingress device \"{device}\" priority 0\n\
             udp dport {allowed} counter name allowed drop\n\
             udp dport {denied} counter name denied drop\n}}\n}}\n"
        ),
    )
}

fn counted(namespace: &Namespace) -> Result<[u64; 2]> {
    let listed = json(namespace, &["nft", "-j", "list", "counters"])?;
    let items = listed["nftables"].as_array().context("nft's list")?;
    let of = |name: &str| {
        let mut found = items.iter().filter(|one| one["counter"]["name"] == name);
        found.next().and_then(|one| one["counter"]["packets"].as_u64()).context("a counter")
    };
    Ok([of("allowed")?, of("denied")?])
}

pub(crate) fn dropped(namespace: &Namespace, device: &str) -> Result<u64> {
    let listed = json(namespace, &["ip", "-j", "-s", "link", "show", "dev", device])?;
    let stats = &listed[0]["stats64"];
    let of = |way: &str| stats[way]["dropped"].as_u64().with_context(|| format!("{listed}"));
    Ok(of("rx")? + of("tx")?)
}

fn json(namespace: &Namespace, words: &[&str]) -> Result<Value> {
    let mut command = namespace.command(words[0]);
    let output = process::run(command.args(&words[1..]), LIMIT)?.ok()?;
    serde_json::from_str(&output.stdout).with_context(|| format!("{words:?}: {}", output.stdout))
}
