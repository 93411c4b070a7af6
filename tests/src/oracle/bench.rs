//! The way through nf_conntrack: a namespace that forwards everything between two devices, with an exported
//! ruleset on one of them.
//!
//! ```text
//!   ends     |          filter           |    ends
//!   wire ----|-- outer  (routes)  inner --|---- behind
//! ```
//!
//! Towards the protected end a frame goes from `wire` to `behind`; the ruleset sits on `outer` for a host and on
//! `inner` for a workload, as the programs do. Half of the traffic is so judged behind routing, which throws
//! some of it away before the ruleset sees it, and half before: a packet that routing would not take is
//! judged on the side that sees it first.
//!
//! Each frame has a number in its destination address, which the witness, a table around the exported one,
//! takes for a packet mark: what it has seen before and behind the ruleset stands in its sets, and packet
//! sockets at the ends bear it out. The low half of the number is the zone of connection tracking, one for each
//! conversation, so that none knows the other's flows and fragments.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use sg_common::Direction;
use sg_userspace::policy::model::Side;

use super::packet::fragment;
use super::witness::{FORGET, Fate, Seen, TABLES, Tag, last_tag};
use crate::capture::Capture;
use crate::inject::Injector;
use crate::netns::Namespace;
use crate::{case::packet, nft, process};

/// Time for what must come.
const LONG: Duration = Duration::from_secs(5);

/// As the ruleset's head recommends, and nothing that routing would throw away before it is judged.
const PARAMETERS: [(&str, &str); 13] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/default/accept_local", "1"),
    ("ipv4/conf/default/route_localnet", "1"),
    ("ipv4/conf/default/accept_source_route", "1"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("netfilter/nf_conntrack_tcp_loose", "1"),
    ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    // Neither engine's business; SCTP's is not filled in by the language of the cases.
    ("netfilter/nf_conntrack_checksum", "0"),
];

/// For both families. The table of local addresses, asked last, knows only those of the loopback device.
const ROUTES: [&str; 6] = [
    "rule add pref 1 iif outer lookup 100",
    "rule add pref 2 iif inner lookup 101",
    "rule add pref 9 lookup local",
    "rule del pref 0",
    "route add default dev inner table 100",
    "route add default dev outer table 101",
];

/// A frame on its way, or none.
pub(super) type Sent<'f> = Option<(Direction, &'f [u8])>;

/// The namespaces, for one ruleset after another.
#[derive(Debug)]
pub struct Filter {
    filter: Namespace,
    _ends: Namespace,
    inward: Injector,
    outward: Injector,
    /// At both ends.
    arrivals: [Capture; 2],
    /// Zone of the next conversation.
    zone: u16,
}

impl Filter {
    /// The device that a ruleset must be exported for.
    #[must_use]
    pub const fn device(side: Side) -> &'static str {
        match side {
            Side::Host => "outer",
            Side::Workload => "inner",
        }
    }

    /// Makes the namespaces.
    ///
    /// # Errors
    /// When we are not root, or the kernel refuses.
    pub fn new() -> Result<Self> {
        let (filter, ends) = (Namespace::new("filter")?, Namespace::new("ends")?);
        filter.set_parameters(&PARAMETERS)?;
        ends.set_parameters(&[("ipv6/conf/default/disable_ipv6", "1")])?;
        filter.ip(&format!(
            "link add outer mtu 9000 arp off type veth peer wire mtu 9000 arp off netns {ends}\n\
             link add inner mtu 9000 arp off type veth peer behind mtu 9000 arp off netns {ends}\n\
             link set outer up\n\
             link set inner up\n",
            ends = ends.name(),
        ))?;
        ends.ip("link set wire up\nlink set behind up\n")?;
        // What comes from one device leaves by the other, whatever it says.
        for route in ROUTES {
            for family in ["-4", "-6"] {
                let words = [family].into_iter().chain(route.split(' '));
                process::run(filter.command("ip").args(words), LONG)?.ok().context(route)?;
            }
        }
        nft::load(&filter, TABLES)?;
        filter.wait_until_running()?;
        ends.wait_until_running()?;
        let inward = Injector::open(&ends, "wire")?;
        let outward = Injector::open(&ends, "behind")?;
        let arrivals = [Capture::start(&ends, "wire")?, Capture::start(&ends, "behind")?];
        Ok(Self { filter, _ends: ends, inward, outward, arrivals, zone: 1 })
    }

    /// What becomes of the frames of each conversation under a ruleset that was exported for
    /// [`Self::device`].
    ///
    /// # Errors
    /// When nft refuses the ruleset, a frame cannot be sent, or the last one does not come through.
    pub fn judge(
        &mut self,
        side: Side,
        ruleset: &str,
        conversations: &[Vec<Sent<'_>>],
    ) -> Result<Vec<Vec<Option<Fate>>>> {
        nft::load(&self.filter, &format!("{FORGET}{ruleset}"))?;
        self.arrivals.iter_mut().try_for_each(Capture::clear)?;
        let first = self.zone;
        let number = u16::try_from(conversations.len())?;
        self.zone = first.checked_add(number).context("too many conversations")?;
        thread::scope(|scope| scope.spawn(|| self.send(first, conversations)).join())
            .map_err(|_panic| anyhow::anyhow!("the sender panicked"))??;
        let seen = self.await_last(side)?;
        self.all_have_arrived(&seen)?;
        let fates = conversations.iter().zip(first..).map(|(frames, zone)| {
            let fates = frames.iter().zip(0..).map(|(sent, frame)| {
                sent.map(|(direction, _)| seen.fate(Tag { frame, zone }, direction))
            });
            fates.collect()
        });
        Ok(fates.collect())
    }

    /// One after another, on one processor, whose queue keeps them in order.
    fn send(&self, first: u16, conversations: &[Vec<Sent<'_>>]) -> Result<()> {
        let mut one = CpuSet::new();
        one.set(sched_getcpu()?)?;
        sched_setaffinity(Pid::from_raw(0), &one)?;
        for (frames, zone) in conversations.iter().zip(first..) {
            for (sent, frame) in frames.iter().zip(0..) {
                let Some((direction, bytes)) = sent else { continue };
                self.way(*direction).send(&Tag { frame, zone }.put(bytes))?;
            }
        }
        for direction in Direction::ALL {
            let last = packet::frame("udp 192.0.2.1:9 > 192.0.2.2:9", direction, None)?;
            self.way(direction).send(&last_tag(direction).put(&last))?;
        }
        Ok(())
    }

    fn await_last(&self, side: Side) -> Result<Seen> {
        let started = Instant::now();
        loop {
            let seen = Seen::read(&self.filter, side)?;
            if seen.has_last() {
                return Ok(seen);
            }
            ensure!(started.elapsed() < LONG, "the last frame is not seen");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The witness tells the truth: as many packets are at the ends as it has seen leave.
    fn all_have_arrived(&mut self, seen: &Seen) -> Result<()> {
        let mut arrived = 0;
        for end in &mut self.arrivals {
            // A packet may have been cut again; its first piece stands for it.
            arrived += end.count(|frame| {
                let is_whole = fragment(&frame.bytes).is_none_or(|it| it.offset == 0);
                !frame.outgoing && is_whole
            })?;
        }
        let left = seen.left.len();
        ensure!(arrived == left, "{left} packets have left, {arrived} have arrived");
        Ok(())
    }

    const fn way(&self, direction: Direction) -> &Injector {
        match direction {
            Direction::Ingress => &self.inward,
            Direction::Egress => &self.outward,
        }
    }
}
