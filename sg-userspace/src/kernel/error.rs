//! Why something of the kernel's could not be done, in words for whoever asked for it.

use std::path::PathBuf;

use super::lock::Holder;

/// Why something could not be done. Each message says what and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Not root.
    #[error(
        "this needs root (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON): the kernel refused to {doing}; try sudo"
    )]
    Privilege {
        /// What was refused.
        doing: &'static str,
    },
    /// A device that is not there.
    #[error("there is no device {name:?} in this network namespace (there are: {have})")]
    NoDevice {
        /// Its name.
        name: String,
        /// What there is instead.
        have: String,
    },
    /// A device whose packets cannot be read.
    #[error(
        "device {name:?} has link type {kind}, which is neither Ethernet nor IP; attach to the device above or below it"
    )]
    LinkLayer {
        /// Its name.
        name: String,
        /// ARP hardware type.
        kind: u16,
    },
    /// A device that did not do as told.
    #[error("cannot {doing} device {name:?}")]
    Device {
        /// Its name.
        name: String,
        /// What failed.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody reads the events.
    #[error("sgctl ({holder}) reads the events, which have one reader at a time; end it first")]
    EventsRead {
        /// Whoever reads.
        holder: Holder,
    },
    /// Another command changes the tables.
    #[error(
        "another sgctl ({holder}) is at work and does not end; see what keeps it and try again"
    )]
    Busy {
        /// Whose process it is.
        holder: Holder,
    },
    /// A file or directory of ours.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What failed.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// bpffs is not mounted.
    #[error(
        "{} is not on a BPF file system; mount one with `mount -t bpf bpf /sys/fs/bpf` (inside `ip netns exec` it is hidden: use `nsenter --net=` instead)",
        path.display()
    )]
    NoBpffs {
        /// Where pins should go.
        path: PathBuf,
    },
    /// The object was refused.
    #[error(
        "the kernel does not take the BPF object; sgctl needs Linux 6.1 or newer with BTF and bpf(2)"
    )]
    Object(#[source] Box<aya::EbpfError>),
    /// The object and this program do not belong together.
    #[error("the BPF object has no {0}; rebuild sgctl")]
    ObjectLacks(&'static str),
    /// A program was refused.
    #[error("the kernel does not take program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why, with the verifier's log.
        source: Box<aya::programs::ProgramError>,
    },
    /// A link that could not be made.
    #[error("cannot attach to {hook} of {device}: {why}")]
    Attach {
        /// The device.
        device: String,
        /// The hook.
        hook: &'static str,
        /// Why and what to do.
        why: String,
    },
    /// A map that could not be opened, read or written.
    #[error("cannot {doing} map {map}")]
    Map {
        /// What failed.
        doing: &'static str,
        /// Which map.
        map: &'static str,
        /// Why.
        source: Box<aya::maps::MapError>,
    },
    /// Many elements at once that could not be written.
    #[error("cannot {doing} map {map}")]
    Batch {
        /// What failed.
        doing: &'static str,
        /// Which map.
        map: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A table is too small for the policy.
    #[error(
        "the policy does not fit: {map} would hold {needed} entries and has room for {room}; detach everything and attach with larger tables (--max-{option})"
    )]
    Capacity {
        /// Which map.
        map: &'static str,
        /// How many entries it would hold.
        needed: u64,
        /// How many it can.
        room: u32,
        /// The option that enlarges it.
        option: &'static str,
    },
    /// State that does not fit the maps.
    #[error(
        "the state in {} is not usable: {why}; `sgctl detach --all` removes what is attached",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The device has programs of ours already, and they cannot become what is asked for without a gap.
    #[error(
        "{device} is attached already, {has}, and is to be {wanted}; `sgctl detach {device}` first (until it is attached again, nothing is filtered there)"
    )]
    AttachedAlready {
        /// The device.
        device: String,
        /// As what.
        has: String,
        /// What is asked for.
        wanted: String,
    },
    /// Maps that are pinned are not what the programs expect.
    #[error(
        "the maps in place are not those of this sgctl: {map} has {difference}; use the sgctl that attached them, or `sgctl detach --all` and attach anew (until then nothing is filtered)"
    )]
    Incompatible {
        /// The map.
        map: String,
        /// In what it differs.
        difference: String,
    },
    /// Another version has programs in place.
    #[error(
        "another version of sgctl (ABI {abi}, this one has {ours}) is attached to {devices}, and its flows and counters cannot be taken over; `sgctl detach --all`, of that version or this one, takes it off, then attach (until then nothing is filtered)"
    )]
    AnotherVersion {
        /// Its ABI.
        abi: u32,
        /// The devices.
        devices: String,
        /// Our ABI.
        ours: u32,
    },
    /// The device has no programs of ours.
    #[error("{device} is not attached{}", attached_hint(attached))]
    NotAttached {
        /// The device.
        device: String,
        /// What is.
        attached: Vec<String>,
    },
    /// A device of that name is attached, but not here.
    #[error(
        "{device} is attached in another network namespace, not in this one; detach it there: `nsenter --net=... sgctl detach {device}`"
    )]
    ElsewhereAttached {
        /// The device.
        device: String,
    },
    /// Nothing is attached at all.
    #[error("nothing is attached; `sgctl attach` comes first")]
    NothingAttached,
    /// A different policy is in force.
    #[error(
        "another policy is in force on {attached}; `sgctl apply FILE` changes it, and `sgctl attach` without --policy attaches under the one in force"
    )]
    AnotherPolicy {
        /// The attached devices.
        attached: String,
    },
    /// An edit that cannot be made.
    #[error(transparent)]
    Edit(Box<crate::policy::edit::EditError>),
    /// A policy that is not confirmed stands in the way.
    #[error(
        "policy {number} waits for its confirmation, {seconds} s more; `sgctl confirm` or `sgctl rollback` first"
    )]
    Unconfirmed {
        /// Its number in the history.
        number: u64,
        /// How long it still waits.
        seconds: u64,
    },
    /// Nobody confirmed in time.
    #[error(
        "too late: policy {number} was not confirmed in time and was taken back at {at}; {in_force}"
    )]
    TakenBack {
        /// Its number in the history.
        number: u64,
        /// When.
        at: String,
        /// What is in force instead.
        in_force: String,
    },
    /// Somebody serves edits.
    #[error(
        "`sgctl serve` runs already ({holder}, at {}), and the verbs use it; there is one at a time",
        socket.display()
    )]
    Served {
        /// Whose it is.
        holder: Holder,
        /// Where it is reached.
        socket: PathBuf,
    },
    /// The policy was edited since its file was put in force.
    #[error(
        "the policy of {path} is in force on {attached} and was edited since ({edits} edits), which the file does not say; `sgctl attach DEVICE` without --policy attaches under the one in force, `sgctl apply {path}` goes back to the file"
    )]
    EditedSince {
        /// The file.
        path: String,
        /// The attached devices.
        attached: String,
        /// How many edits.
        edits: usize,
    },
    /// Room for the policy that may have to come back.
    #[error(
        "there is no room in {} for what takes the policy back if nobody confirms it; nothing has changed",
        path.display()
    )]
    NoRoomForTheWayBack {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever looked at a change refuses it.
    #[error("{0}")]
    Refused(String),
    /// The history cannot be read or written.
    #[error(transparent)]
    History(#[from] crate::history::HistoryError),
    /// Nobody would take an unconfirmed policy back.
    #[error("cannot start the process that keeps deadlines; nothing has changed")]
    Keeper(#[source] std::io::Error),
    /// Somebody holds the process that keeps deadlines.
    #[error(
        "process {process}, which keeps deadlines, is held by a debugger and keeps none; let it go on (`kill -CONT {process}`), then try again"
    )]
    KeeperStopped {
        /// Its number.
        process: u32,
    },
    /// The policy and the request do not fit.
    #[error("{0}")]
    Request(String),
    /// The compiler refused.
    #[error(transparent)]
    Compile(#[from] crate::compile::CompileError),
    /// The sockets behind a device cannot be listed.
    #[error(
        "cannot list the sockets behind {device} (sock_diag, CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG), so what is open there would be cut; nothing was attached; --no-adopt attaches without them"
    )]
    Sockets {
        /// The device.
        device: String,
        /// Why.
        source: std::io::Error,
    },
    /// More is open than the flow table holds.
    #[error(
        "{} {} are open behind {device} and the flow tables have room for {} of them, so some would be cut; nothing was attached; raise the interface's max_flows where the policy file sets it, else detach what is attached and use --max-flows {}; or let them be cut with --no-adopt",
        overflow.live,
        overflow.what,
        overflow.room,
        overflow.enough
    )]
    Adoption {
        /// The device.
        device: String,
        /// How many of what.
        overflow: crate::adoption::Overflow,
    },
    /// The flow table is full of other flows.
    #[error(
        "the flow table has no room for what is open behind {device} (such as with {remote}), which would be cut; nothing was attached; detach what is attached and use a larger --max-flows (or raise the interface's own max_flows), or --no-adopt to let it be cut"
    )]
    AdoptionRefused {
        /// The device.
        device: String,
        /// The other end of the first that found no room.
        remote: std::net::SocketAddr,
    },
    /// A trace that cannot be read.
    #[error("cannot read the trace of {device}; is it attached with --trace?")]
    Trace {
        /// The device.
        device: String,
        /// Why.
        source: Box<aya_log::Error>,
    },
    /// A system call of the small seam beside aya.
    #[error("bpf({call}) failed")]
    Syscall {
        /// Which command.
        call: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn attached_hint(attached: &[String]) -> String {
    if attached.is_empty() {
        "; nothing is".to_owned()
    } else {
        format!(" (attached: {})", attached.join(", "))
    }
}

impl KernelError {
    pub(super) fn program(name: &'static str, source: aya::programs::ProgramError) -> Self {
        Self::Program { name, source: Box::new(source) }
    }

    pub(super) fn map(doing: &'static str, map: &'static str, source: aya::maps::MapError) -> Self {
        Self::Map { doing, map, source: Box::new(source) }
    }

    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

/// An error and its causes in one line, for whoever gets it from another process.
pub(super) fn message(error: &KernelError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let words = one.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = one.source();
    }
    text
}
