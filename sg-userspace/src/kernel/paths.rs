//! Where things live: pins, runtime state, history. All three can be moved by environment, for tests and
//! for two instances on one machine.

use std::path::PathBuf;

use sg_common::abi::ABI_VERSION;

/// The directories of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `SG_BPFFS`, else `/sys/fs/bpf/sg`.
    pub bpffs: PathBuf,
    /// `SG_RUN`, else `/run/sg`.
    pub run: PathBuf,
    /// `SG_STATE`, else `/var/lib/sg`.
    pub state: PathBuf,
}

impl Paths {
    /// From the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let path = |name: &str, default: &str| {
            std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            bpffs: path("SG_BPFFS", "/sys/fs/bpf/sg"),
            run: path("SG_RUN", "/run/sg"),
            state: path("SG_STATE", "/var/lib/sg"),
        }
    }

    /// Whether there is a BPF file system where the pins go.
    #[must_use]
    pub fn is_on_bpffs(&self) -> bool {
        let parent = self.bpffs.ancestors().skip(1).find(|one| one.exists());
        parent.is_some_and(|parent| {
            nix::sys::statfs::statfs(parent)
                .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
        })
    }

    /// Pins of this version's layout: programs and controllers of different versions share no map.
    #[must_use]
    pub fn version(&self) -> PathBuf {
        self.bpffs.join(format!("v{ABI_VERSION}"))
    }

    /// Where maps are pinned.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// Where links are pinned.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// The pin of one link of a device in the network namespace with this inode.
    #[must_use]
    pub fn link(&self, namespace: u64, device: &str, hook: &str) -> PathBuf {
        // A bpffs name may not contain a dot; a device's may, but neither slash nor colon.
        self.links().join(format!("{namespace}-{}-{hook}", device.replace('.', ":")))
    }

    /// The lock that every command which changes something takes.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// The lock of whoever keeps deadlines.
    #[must_use]
    pub fn keeper_lock(&self) -> PathBuf {
        self.run.join("keeper.lock")
    }

    /// The lock of whoever serves edits.
    #[must_use]
    pub fn serve_lock(&self) -> PathBuf {
        self.run.join("serve.lock")
    }

    /// Where edits are served.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("sgctl.socket")
    }

    /// Room for the state that an unconfirmed policy leaves when it goes.
    #[must_use]
    pub fn way_back(&self) -> PathBuf {
        self.run.join("way-back")
    }

    /// Room for the state that rules leave when their time is over.
    #[must_use]
    pub fn way_on(&self) -> PathBuf {
        self.run.join("way-on")
    }

    /// The lock of whoever reads the event stream.
    #[must_use]
    pub fn events_lock(&self) -> PathBuf {
        self.run.join("events.lock")
    }

    /// State that belongs to the maps and goes with them.
    #[must_use]
    pub fn live(&self, generation: u64) -> PathBuf {
        self.run.join(format!("live.{generation}.json"))
    }
}
