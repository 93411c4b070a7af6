//! Datagrams of which each is a new flow, to a server whose policy is being edited: of members of the group that is
//! edited, of one that is in it before and after each edit, and of strangers. Counted where they are sent, and by
//! somebody else behind the programs.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sg_common::wire::ip::UDP;

use crate::{
    attack::{
        frames::{self, Ends, Link},
        witness::{Witness, nft},
    },
    net::{DEVICE, Net},
    packet_socket::{Hears, PacketSocket},
    soak::streams::{FarEnd, dropped},
};

/// The port that members may send to, and one that nobody may.
pub(super) const ALLOWED: u16 = 7000;
const DENIED: u16 = 7001;
/// The address that is in the group all the time, in whatever other groups.
pub(super) const STEADY: Ipv4Addr = Ipv4Addr::new(10, 77, 101, 1);
/// The others that are: 10.77.100.0/24.
const MEMBERS: [u8; 3] = [10, 77, 100];
/// No member's: 10.78.0.0/16.
const STRANGERS: [u8; 2] = [10, 78];
/// Packets handed to the kernel at a time, one stream after the other.
const BATCH: usize = 32;
/// Between batches: the machine has other things to do than to send.
const PAUSE: Duration = Duration::from_micros(500);
/// Longest that a packet may take from one end of a veth to the other.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Who sends where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Members to the port that they may send to.
    Members,
    /// The one that stays a member.
    Steady,
    /// Strangers to the same port.
    Strangers,
    /// Members to the other port.
    OtherPort,
}

impl Stream {
    const ALL: [Self; 4] = [Self::Members, Self::Steady, Self::Strangers, Self::OtherPort];

    const fn is_allowed(self) -> bool {
        matches!(self, Self::Members | Self::Steady)
    }

    /// The name of its counter.
    const fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Steady => "steady",
            Self::Strangers => "strangers",
            Self::OtherPort => "otherport",
        }
    }

    /// Source address and ports of its packet of this number. So many in a row are different flows: 2^24, or of one
    /// address, 2^16.
    fn packet(self, number: u64) -> (Ipv4Addr, u16, u16) {
        let index = number.wrapping_mul(0x9e37_79b1);
        let [.., high, middle, low] = index.to_be_bytes();
        let port = u16::from_be_bytes([middle, low]);
        let [a, b, c] = MEMBERS;
        match self {
            Self::Members => (Ipv4Addr::new(a, b, c, high), port, ALLOWED),
            Self::Steady => (STEADY, port, ALLOWED),
            Self::Strangers => {
                let [a, b] = STRANGERS;
                (Ipv4Addr::new(a, b, high, middle), port, ALLOWED)
            }
            Self::OtherPort => (Ipv4Addr::new(a, b, c, high), port, DENIED),
        }
    }
}

/// What became of the packets of one stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) stream: Stream,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Count {
    pub(super) fn is_allowed(&self) -> bool {
        self.stream.is_allowed()
    }

    /// Packets that met the other verdict than theirs.
    pub(super) fn wrong(&self) -> u64 {
        if self.is_allowed() { self.sent.abs_diff(self.received) } else { self.received }
    }
}

/// Every stream, from the wire to the server.
pub(super) struct Traffic<'net> {
    net: &'net Net,
    witness: Witness<'net>,
    socket: PacketSocket,
    link: Link,
    end: FarEnd,
    sent: [AtomicU64; 4],
}

impl<'net> Traffic<'net> {
    /// Places the counters; nothing is sent.
    pub(super) fn open(net: &'net Net) -> Result<Self> {
        let server = net.host("server");
        nft(server.ns(), &rules())?;
        Ok(Self {
            net,
            witness: Witness::place(server.ns(), &[])?,
            socket: PacketSocket::open(net.wire(), server.port(), Hears::Nothing)?,
            link: Link { source: server.port_mac(), destination: server.mac() },
            end: FarEnd::open(server.ns(), DEVICE)?,
            sent: [const { AtomicU64::new(0) }; 4],
        })
    }

    /// Sends until told to stop.
    pub(super) fn flow(&self, stop: &AtomicBool) -> Result<()> {
        let destination = self.net.host("server").v4();
        for (stream, sent) in Stream::ALL.iter().zip(&self.sent).cycle() {
            if stop.load(Relaxed) {
                break;
            }
            let mut frames = Vec::with_capacity(BATCH);
            let first = sent.load(Relaxed);
            for number in first..first + BATCH as u64 {
                let (source, from, to) = stream.packet(number);
                let ends = Ends::new(source, destination);
                frames.push(self.link.packet(ends, UDP, &frames::udp((from, to), b"who is it?")));
            }
            let count = u64::try_from(frames.len())?;
            while !self.end.claim(count)? {
                thread::yield_now();
            }
            let refused = u64::try_from(self.socket.send_many(&frames)?)?;
            self.end.give_back(refused);
            sent.fetch_add(count, Relaxed);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The counts, once what is on its way has arrived, or they stand still. Nothing may be sent meanwhile.
    pub(super) fn settle(&self) -> Result<[Count; 4]> {
        let started = Instant::now();
        loop {
            let mut counts = Vec::with_capacity(4);
            for (stream, sent) in Stream::ALL.into_iter().zip(&self.sent) {
                let received = self.witness.count(stream.name())?;
                counts.push(Count { stream, sent: sent.load(Relaxed), received });
            }
            let arrived = counts.iter().all(|one| !one.is_allowed() || one.wrong() == 0);
            if arrived || started.elapsed() > ARRIVAL {
                let (wire, server) = (self.net.wire(), self.net.host("server"));
                let lost = dropped(wire, server.port())? + dropped(server.ns(), DEVICE)?;
                ensure!(lost == 0, "the devices themselves threw {lost} packets away: {counts:?}");
                return <[Count; 4]>::try_from(counts)
                    .map_err(|_| anyhow::anyhow!("a count for each stream"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Counts the datagrams of each stream where they arrive, and lets nothing of them further.
fn rules() -> String {
    let [a, b, c] = MEMBERS;
    let counters: String =
        Stream::ALL.iter().map(|stream| format!("counter {} {{\n}}\n", stream.name())).collect();
    let matching = |stream: Stream| match stream {
        Stream::Members => format!("ip saddr {a}.{b}.{c}.0/24 udp dport {ALLOWED}"),
        Stream::Steady => format!("ip saddr {STEADY} udp dport {ALLOWED}"),
        Stream::Strangers => format!("udp dport {ALLOWED}"),
        Stream::OtherPort => format!("udp dport {DENIED}"),
    };
    let lines: String = Stream::ALL
        .iter()
        .map(|&stream| format!("{} counter name {} drop\n", matching(stream), stream.name()))
        .collect();
    format!(
        "table netdev bench {{\n{counters}chain c {{\ntype filter hook ingress device \"{DEVICE}\" priority 0\n\
         {lines}}}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_packet_is_a_flow_of_its_own() {
        for stream in Stream::ALL {
            let flows: BTreeSet<_> = (0..60_000).map(|number| stream.packet(number)).collect();
            assert_eq!(flows.len(), 60_000, "{stream:?}");
        }
    }

    #[test]
    fn a_packet_is_wrong_where_it_should_not_be() {
        let count = |stream, sent, received| Count { stream, sent, received };
        assert_eq!(count(Stream::Members, 10, 8).wrong(), 2);
        assert_eq!(count(Stream::Steady, 10, 10).wrong(), 0);
        assert_eq!(count(Stream::Strangers, 10, 0).wrong(), 0);
        assert_eq!(count(Stream::OtherPort, 10, 3).wrong(), 3);
    }
}
