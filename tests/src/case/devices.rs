//! The third level: programs attached to veth devices, frames put on the wire by packet sockets.
//!
//! ```text
//!     far namespace     |      protected namespace
//!   wire0 --------------|-- eth0 -- br0 -- tap0 -- behind0
//! ```
//!
//! What arrives at `eth0` is sent at `wire0` and, if it passes, bridged to `behind0`: a capture on `eth0` itself
//! would see it before the program does. What leaves is sent out of `eth0` and arrives at `wire0`. Addresses
//! belong to nobody there, so nothing answers. A second set (`wire1`, ...) serves a second interface.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use sg_common::abi::Event;
use sg_common::{Decision, Direction, Reason, Verdict};
use sg_userspace::compile::TableSpec;
use sg_userspace::kernel::flush::flows_at_rest;
use sg_userspace::kernel::live::Source;
use sg_userspace::kernel::read::RuleHits;
use sg_userspace::kernel::replay::Replay;
use sg_userspace::kernel::run::run_sizes;
use sg_userspace::kernel::session::{AttachRequest, Target, attach, detach_all};
use sg_userspace::kernel::stream::EventStream;
use sg_userspace::kernel::{Wanted, XdpMode, read};
use sg_userspace::policy::model::Side;

use super::check::{Folders, Judge, plain};
use super::packet::frame;
use super::{Case, Interface};
use crate::capture::Capture;
use crate::inject::Injector;
use crate::netns::Namespace;

/// Interfaces that a case may have.
const PORTS: usize = 2;
/// Bytes of a tag.
const VLAN_TAG: usize = 4;
/// Time for what must come.
const LONG: Duration = Duration::from_secs(2);

/// Of br_netfilter.
const BRIDGE_FILTERS: [(&str, &str); 3] = [
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
];

/// Two namespaces with their devices, for one case after another.
#[derive(Debug)]
pub struct Bench {
    protected: Namespace,
    far: Namespace,
    hooks: Wanted,
}

impl Bench {
    /// Makes the namespaces and their devices.
    ///
    /// # Errors
    /// When we are not root, or the kernel refuses.
    pub fn new(hooks: Wanted) -> Result<Self> {
        let (protected, far) = (Namespace::new("case")?, Namespace::new("far")?);
        for namespace in [&protected, &far] {
            let off = ("ipv6/conf/default/disable_ipv6", "1");
            namespace.set_parameters(&[off, ("ipv6/conf/all/disable_ipv6", "1")])?;
        }
        // Where the kernel has it, a bridge otherwise reads IP headers and trims frames.
        if std::path::Path::new("/proc/sys/net").join(BRIDGE_FILTERS[0].0).exists() {
            protected.set_parameters(&BRIDGE_FILTERS)?;
        }
        for port in 0..PORTS {
            protected.ip(&format!(
                "link add eth{port} mtu 9000 arp off type veth peer wire{port} mtu 9000 arp off netns {far}\n\
                 link add tap{port} mtu 9000 arp off type veth peer behind{port} mtu 9000 arp off\n\
                 link add br{port} mtu 9000 arp off type bridge mcast_snooping 0 stp_state 0\n\
                 link set eth{port} master br{port}\n\
                 link set tap{port} master br{port}\n\
                 link set eth{port} type bridge_slave learning off\n\
                 link set tap{port} type bridge_slave learning off\n\
                 link set br{port} up\n\
                 link set tap{port} up\n\
                 link set behind{port} up\n\
                 link set eth{port} up\n",
                far = far.name(),
            ))?;
            far.ip(&format!("link set wire{port} up\n"))?;
        }
        Ok(Self { protected, far, hooks })
    }

    /// Whether the hooks are for a host's own devices alone.
    pub(super) fn needs_host(&self) -> bool {
        matches!(self.hooks.xdp, XdpMode::Native | XdpMode::Generic)
    }
}

/// The programs of one case on the bench's devices.
pub(crate) struct Attachment<'b> {
    bench: &'b Bench,
    folders: Folders,
    ports: Vec<Port>,
    events: EventStream,
}

/// One device with its two neighbours.
struct Port {
    slot: u16,
    side: Side,
    clock: Replay,
    inward: Way,
    outward: Way,
}

/// Where frames of one direction are put in and come out.
struct Way {
    injector: Injector,
    capture: Capture,
    /// Frames that have come out.
    arrived: usize,
}

impl Way {
    fn open(from: (&Namespace, String), to: (&Namespace, String)) -> Result<Self> {
        let injector = Injector::open(from.0, &from.1)?;
        Ok(Self { injector, capture: Capture::start(to.0, &to.1)?, arrived: 0 })
    }

    /// Frames that came out since the last call.
    fn arrivals(&mut self) -> Result<Vec<Vec<u8>>> {
        let received = self.capture.frames()?.iter().filter(|frame| !frame.outgoing);
        let new: Vec<_> = received.skip(self.arrived).map(|frame| frame.bytes.clone()).collect();
        self.arrived += new.len();
        Ok(new)
    }
}

impl<'b> Attachment<'b> {
    /// `side` takes the place of what the policy says.
    pub(crate) fn new(bench: &'b Bench, case: &Case, side: Option<Side>) -> Result<Self> {
        ensure!(case.interfaces.len() <= PORTS, "the bench has {PORTS} devices");
        let side =
            |interface: &Interface| side.unwrap_or(case.spec.interfaces[&interface.slot].side);
        let target = |(port, interface): (usize, &Interface)| Target {
            device: format!("eth{port}"),
            interface: interface.name.clone(),
            side: Some(side(interface)),
        };
        let request = AttachRequest {
            policy: &case.policy,
            source: Source::file(case.file.clone(), case.policy_text.clone()),
            targets: case.interfaces.iter().enumerate().map(target).collect(),
            hooks: bench.hooks,
            audit: false,
            trace: false,
            replay: true,
            drop_budget: u32::MAX,
            adopt: false,
            grace: Duration::from_nanos(case.grace_until),
            sizes: run_sizes(&case.spec),
        };
        let folders = Folders::new();
        let paths = folders.paths();
        let devices = bench.protected.run(|| attach(paths, &request))?;
        let ports = devices.iter().zip(&case.interfaces).enumerate();
        let ports = ports.map(|(port, (device, interface))| {
            let (wire, eth) = (format!("wire{port}"), format!("eth{port}"));
            let behind = (&bench.protected, format!("behind{port}"));
            Ok(Port {
                slot: interface.slot,
                side: side(interface),
                clock: bench.protected.run(|| Replay::of_device(paths, &device.device))?,
                inward: Way::open((&bench.far, wire.clone()), behind)?,
                outward: Way::open((&bench.protected, eth), (&bench.far, wire))?,
            })
        });
        let ports = ports.collect::<Result<Vec<_>>>();
        let events = EventStream::open(paths);
        let (ports, events) = match (ports, events) {
            (Ok(ports), Ok(events)) => (ports, events),
            (ports, events) => {
                bench.protected.run(|| detach_all(paths))?;
                return Err(ports.err().or(events.err().map(Into::into)).context("no error")?);
            }
        };
        Ok(Self { bench, folders, ports, events })
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // A drop has no one to tell; the devices go with the bench.
        _ = self.bench.protected.run(|| detach_all(self.folders.paths()));
    }
}

/// Calls until there is an answer, or for [`LONG`].
fn await_some<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        let answer = ask()?;
        if answer.is_some() || started.elapsed() > LONG {
            return Ok(answer);
        }
        // A frame is judged while it is sent, unless the machine is busy.
        thread::yield_now();
    }
}

impl<'c> Judge<'c> for Attachment<'_> {
    fn judge(
        &mut self,
        at: usize,
        way: Direction,
        frame: &[u8],
        now: u64,
    ) -> Result<Option<Decision>> {
        let Some(port) = self.ports.get_mut(at) else { bail!("no device {at}") };
        let arrives = (way == Direction::Ingress) == (port.side == Side::Host);
        let path = if arrives { &mut port.inward } else { &mut port.outward };
        port.clock.begin(now)?;
        let refused = match path.injector.send(frame) {
            Ok(()) => false,
            // So the kernel tells a sender of a packet that was dropped on its way out.
            Err(error) if error.downcast_ref() == Some(&Errno::ENOBUFS) => true,
            Err(error) => return Err(error),
        };
        let clock = &port.clock;
        let decision = await_some(|| Ok(clock.decision()?))?.context("no program saw the frame")?;
        let arrival = match decision.verdict() {
            Verdict::Drop => path.arrivals()?,
            Verdict::Allow => {
                await_some(|| Ok(Some(path.arrivals()?).filter(|new| !new.is_empty())))?
                    .unwrap_or_default()
            }
        };
        let expected: &[&[u8]] = match decision.verdict() {
            Verdict::Drop => &[],
            Verdict::Allow => &[frame],
        };
        ensure!(arrival == expected, "{decision:?}, but on the other side arrived {arrival:02x?}");
        ensure!(!refused || expected.is_empty(), "{decision:?}, but the frame was refused");
        Ok(Some(decision))
    }

    fn change(&mut self, _spec: &'c TableSpec) -> Result<()> {
        // Attached with the only one that the case has.
        Ok(())
    }

    fn counters(&mut self, at: usize) -> Result<Vec<(Direction, Reason, u64)>> {
        Ok(plain(read::counters(self.folders.paths(), self.ports[at].slot)?))
    }

    /// The kernel takes the outer tag out of a frame that arrives, before TC sees it.
    fn length(&self, at: usize, way: Direction, frame: &[u8]) -> usize {
        let is_tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        let arrives = (way == Direction::Ingress) == (self.ports[at].side == Side::Host);
        let is_cut = is_tagged && arrives && !self.bench.needs_host();
        if is_cut { frame.len() - VLAN_TAG } else { frame.len() }
    }

    fn hits(&mut self) -> Result<Vec<RuleHits>> {
        Ok(read::rule_hits(self.folders.paths())?)
    }

    fn events(&mut self) -> Result<Vec<Event>> {
        Ok(std::iter::from_fn(|| self.events.next_event()).collect())
    }

    fn begin(&mut self, _spec: &'c TableSpec) -> Result<()> {
        Ok(flows_at_rest(self.folders.paths())?)
    }

    /// A frame that the programs would drop comes last, once they are gone: what was let through late would
    /// have come before it, and the next case finds the device free.
    fn finish(&mut self) -> Result<()> {
        self.bench.protected.run(|| detach_all(self.folders.paths()))?;
        let marker = frame("ethertype/88b5 vlan=1,2,3", Direction::Ingress, None)?;
        for port in &mut self.ports {
            for path in [&mut port.inward, &mut port.outward] {
                // The kernel lets go of a link some time after the last who held it.
                let arrived = await_some(|| {
                    _ = path.injector.send(&marker);
                    Ok(Some(path.arrivals()?).filter(|new| !new.is_empty()))
                })?
                .unwrap_or_default();
                let late = arrived.iter().find(|one| **one != marker);
                ensure!(!arrived.is_empty(), "the device is not free");
                ensure!(late.is_none(), "late: {late:02x?}");
            }
        }
        Ok(())
    }
}
