//! The ssh session that a command is typed in, and what a change does to it: whoever locks themselves out
//! cannot mend it.
//!
//! Two things can go wrong. The session's own packets are dropped from now on; or they pass, since a live flow
//! outlives its rule, and only the next login would fail, when the one who could have mended it has gone. Both
//! refuse the change; a login that failed before the change already is told, and refuses nothing.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use sg_common::Direction;
use sg_common::abi::InterfaceFlags;
use sg_common::wire::ip;

use crate::compile::TableSpec;
use crate::engine::Rules;
use crate::kernel::read::FlowRecord;
use crate::plan::flows::{Standing, standing};
use crate::policy::model::Side;

/// A connection to an ssh server on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Where the user is.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The address that they logged in to.
    pub server: IpAddr,
    /// Its port.
    pub server_port: u16,
}

/// What a change does to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It does not come through an interface that is judged here.
    NotOurs,
    /// It goes on, and so does the next login.
    Unaffected,
    /// Its packets are dropped from now on.
    WouldBeCut {
        /// At which interface.
        interface: String,
        /// By what.
        why: String,
    },
    /// It goes on, but a new login from there would be dropped.
    CouldNotReturn {
        /// At which interface.
        interface: String,
        /// By what.
        why: String,
        /// So it was before the change.
        already: bool,
    },
}

/// An interface that a session may come through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// Its name.
    pub interface: String,
    /// What its devices have, whatever the policy says that it has.
    pub addresses: Vec<IpNet>,
    /// Nothing is dropped there.
    pub audit: bool,
}

/// What keeps flows going that no rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping<'f> {
    /// The programs run: these are their flows.
    Tracked(&'f [FlowRecord]),
    /// The programs are about to be attached, and adopt what is open or learn it from its packets.
    Adopted,
    /// They are, and do neither.
    Nothing,
}

impl Session {
    /// The session of this process, or of the closest process above it that has one: sudo takes the variable
    /// away.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        if let Ok(text) = std::env::var(VARIABLE) {
            return Self::parse(&text);
        }
        let mut process = std::os::unix::process::parent_id();
        // A cycle is impossible, but processes come and go while this looks.
        for _ in 0..64 {
            if process <= 1 {
                return None;
            }
            let folder = Path::new("/proc").join(process.to_string());
            // Of another user's process the environment cannot be read, and its parent's may.
            let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
            if let Some(session) = in_environment(&environment) {
                return Some(session);
            }
            process = parent(&std::fs::read_to_string(folder.join("stat")).ok()?)?;
        }
        None
    }

    /// From the four words of `SSH_CONNECTION`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let client = address(words.next()?)?;
        let client_port = words.next()?.parse().ok()?;
        let server = address(words.next()?)?;
        let server_port = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { client, client_port, server, server_port })
    }

    /// What becomes of it, the worst of all ways that it may take. `old` is what judged before, if anything.
    #[must_use]
    pub fn fate(
        &self,
        old: Option<&TableSpec>,
        new: &TableSpec,
        ways: &[Way],
        keeping: Keeping<'_>,
    ) -> Fate {
        let (before, after) = (old.map(Rules::of), Rules::of(new));
        let mut worst = Fate::NotOurs;
        for way in ways {
            let Some(slot) = new.slot(&way.interface) else { continue };
            let Some(passage) = self.passage(way, slot, new, keeping) else { continue };
            let fate = if way.audit {
                Fate::Unaffected
            } else if let Some(why) = passage.loses_its_neighbour(&way.interface, old, new) {
                Fate::WouldBeCut { interface: way.interface.clone(), why }
            } else {
                let old = old.zip(before.as_ref());
                let old = old.and_then(|(spec, rules)| Some((spec.slot(&way.interface)?, rules)));
                passage.fate(self, &way.interface, old, (new, &after), keeping)
            };
            if rank(&fate) > rank(&worst) {
                worst = fate;
            }
        }
        worst
    }

    /// How it passes the interface, if it does.
    fn passage<'f>(
        &self,
        way: &Way,
        slot: u16,
        tables: &TableSpec,
        keeping: Keeping<'f>,
    ) -> Option<Passage<'f>> {
        let flow = |local: (IpAddr, u16), remote: (IpAddr, u16)| match keeping {
            Keeping::Tracked(flows) => flows.iter().find(|flow| {
                (flow.slot, flow.protocol) == (slot, ip::TCP)
                    && (flow.local, flow.local_port) == local
                    && (flow.remote, flow.remote_port) == remote
            }),
            Keeping::Adopted | Keeping::Nothing => None,
        };
        let (client, server) = ((self.client, self.client_port), (self.server, self.server_port));
        let (arriving, leaving) = (flow(server, client), flow(client, server));
        let side = tables.interfaces.get(&slot).map(|it| it.side)?;
        let has = |address: IpAddr| {
            is_own(tables, slot, address) || way.addresses.iter().any(|net| net.addr() == address)
        };
        if arriving.is_some() || has(self.server) {
            let direction = Direction::Ingress;
            return Some(Passage { slot, direction, remote: self.client, flow: arriving });
        }
        // From a workload of this machine to the machine itself.
        let is_inside = side == Side::Workload && is_own(tables, slot, self.client);
        (leaving.is_some() || is_inside).then_some(Passage {
            slot,
            direction: Direction::Egress,
            remote: self.server,
            flow: leaving,
        })
    }
}

/// A session at one interface.
struct Passage<'f> {
    slot: u16,
    direction: Direction,
    remote: IpAddr,
    flow: Option<&'f FlowRecord>,
}

impl Passage<'_> {
    /// Rules do not help whose packets find no way: where neighbours are not to be asked for any more, a session ends
    /// with what is known of them.
    fn loses_its_neighbour(
        &self,
        interface: &str,
        old: Option<&TableSpec>,
        new: &TableSpec,
    ) -> Option<String> {
        let (flag, name) = match self.remote {
            IpAddr::V4(_) => (InterfaceFlags::ARP, "ARP"),
            IpAddr::V6(_) => (InterfaceFlags::NEIGHBOUR_DISCOVERY, "neighbour discovery"),
        };
        let passes = |tables: &TableSpec, slot: u16| {
            tables.interfaces.get(&slot).is_some_and(|it| it.version.flags & flag != 0)
        };
        let before = old.and_then(|old| Some(passes(old, old.slot(interface)?)));
        (!passes(new, self.slot) && before != Some(false))
            .then(|| format!("`infrastructure:` lets no {name} pass"))
    }

    fn fate(
        &self,
        session: &Session,
        interface: &str,
        old: Option<(u16, &Rules<'_>)>,
        (new, rules): (&TableSpec, &Rules<'_>),
        keeping: Keeping<'_>,
    ) -> Fate {
        let (direction, port) = (self.direction, session.server_port);
        let allows = |slot: u16, rules: &Rules<'_>| {
            rules.permit(slot, direction, self.remote, ip::TCP, port).is_some()
        };
        if allows(self.slot, rules) {
            return Fate::Unaffected;
        }
        let preposition = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let why =
            format!("no rule allows {} tcp/{port} {preposition} {}", direction.name(), self.remote);
        let flags = new.interfaces.get(&self.slot).map_or(0, |it| it.version.flags);
        let cuts = flags & InterfaceFlags::CUT_LIVE_FLOWS != 0;
        let already = old.is_some_and(|(slot, rules)| !allows(slot, rules));
        let goes_on = match (keeping, self.flow) {
            (Keeping::Tracked(_), Some(flow)) => {
                matches!(standing(flow, new, rules), Some(Standing::Allowed | Standing::Kept))
            }
            (Keeping::Adopted, _) => !cuts,
            // Without an entry its packets are those of a new flow. What was dropped before is not cut.
            (Keeping::Tracked(_), None) => already,
            (Keeping::Nothing, _) => false,
        };
        let interface = interface.to_owned();
        if !goes_on {
            return Fate::WouldBeCut { interface, why };
        }
        Fate::CouldNotReturn { interface, why, already }
    }
}

impl Fate {
    /// Whether a change that does this needs `--force`.
    #[must_use]
    pub const fn refuses(&self) -> bool {
        matches!(self, Self::WouldBeCut { .. } | Self::CouldNotReturn { already: false, .. })
    }

    /// What it does to this session, in a sentence; nothing where there is nothing to say.
    #[must_use]
    pub fn text(&self, session: &Session) -> Option<String> {
        let Session { client, server, server_port, .. } = session;
        match self {
            Self::NotOurs | Self::Unaffected => None,
            Self::WouldBeCut { interface, why } => Some(format!(
                "it would cut the ssh session that this is typed in ({client} to {server}, at interface {interface}): {why}"
            )),
            Self::CouldNotReturn { interface, why, already } => Some(format!(
                "the ssh session that this is typed in goes on, but a new login from {client} to {server} port {server_port} {} be dropped at interface {interface}: {why}",
                if *already { "would still" } else { "would" }
            )),
        }
    }
}

const fn rank(fate: &Fate) -> u8 {
    match fate {
        Fate::NotOurs => 0,
        Fate::Unaffected => 1,
        Fate::CouldNotReturn { already: true, .. } => 2,
        Fate::CouldNotReturn { already: false, .. } => 3,
        Fate::WouldBeCut { .. } => 4,
    }
}

const VARIABLE: &str = "SSH_CONNECTION";

/// An address without its zone; IPv4 that came through an IPv6 socket is IPv4.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next()?;
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// From the bytes of a process's environment.
fn in_environment(bytes: &[u8]) -> Option<Session> {
    let mut variables = bytes.split(|&byte| byte == 0);
    let value = variables.find_map(|it| it.strip_prefix(b"SSH_CONNECTION="))?;
    Session::parse(std::str::from_utf8(value).ok()?)
}

/// The parent, from `/proc/PID/stat`. The second field is the command's name, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn is_own(tables: &TableSpec, slot: u16, address: IpAddr) -> bool {
    tables.own_addresses(slot).any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests;
