//! Maps of programs that no device has: test runs and benchmarks judge by them as a device's programs do by theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sg_common::LinkLayer;

use super::commit::{Planned, Prepared, Slots};
use super::journal::Begun;
use super::maps::PolicyMaps;
use super::object::{Object, Sizes};
use super::{Instance, KernelError, Paths};
use crate::compile::TableSpec;

/// Maps, pinned in a folder of their own, and the policy in them.
#[derive(Clone)]
pub(super) struct Unattached {
    pins: Arc<Pins>,
    sizes: Sizes,
    tables: TableSpec,
    slots: Slots,
}

impl Unattached {
    /// A folder for them; the first [`Self::open`] makes them.
    pub(super) fn make(paths: &Paths, sizes: &Sizes) -> Result<Self, KernelError> {
        Ok(Self {
            pins: Arc::new(Pins::make(paths)?),
            sizes: *sizes,
            tables: TableSpec::default(),
            slots: Slots::default(),
        })
    }

    /// An instance for the interface in a slot.
    pub(super) fn instance(
        tables: &TableSpec,
        slot: u16,
        link: LinkLayer,
    ) -> Result<Instance, KernelError> {
        let interface = tables
            .interfaces
            .get(&slot)
            .ok_or_else(|| KernelError::Request(format!("no interface in slot {slot}")))?;
        Ok(Instance::new(slot, interface.vpc, interface.attachment(slot).side, link))
    }

    /// An object on these maps.
    pub(super) fn open(&self, instance: &Instance) -> Result<Object, KernelError> {
        Object::open(&self.pins.0, &self.sizes, instance)
    }

    /// Puts another policy in force, as a commit does. Flows stay.
    pub(super) fn change(&mut self, tables: &TableSpec) -> Result<(), KernelError> {
        let mut tables = tables.clone();
        tables.share_flows(self.sizes.flows);
        let planned = Planned::between(&self.tables, &tables, &self.slots, &self.sizes)?;
        let maps = PolicyMaps::open(&self.pins.0)?;
        let prepared = Prepared::write(&Begun::unrecorded(), maps, planned, &self.slots)?;
        self.slots = prepared.slots.clone();
        self.tables = tables;
        prepared.flip()
    }

    /// Where they are pinned.
    pub(super) fn pins(&self) -> &Path {
        &self.pins.0
    }

    /// The policy in force.
    pub(super) fn tables(&self) -> &TableSpec {
        &self.tables
    }
}

/// A folder of pins that goes with the last that uses it.
pub(super) struct Pins(pub(super) PathBuf);

impl Pins {
    pub(super) fn make(paths: &Paths) -> Result<Self, KernelError> {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let parent = paths.bpffs.parent().unwrap_or(&paths.bpffs);
        let name = format!("sg-run-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        Self::at(parent.join(name))
    }

    /// One that is not there yet.
    pub(super) fn at(path: PathBuf) -> Result<Self, KernelError> {
        crate::files::create_private(&path).map_err(|error| {
            if error.raw_os_error() == Some(libc::EPERM) {
                KernelError::NoBpffs { path: path.clone() }
            } else {
                KernelError::file("make", &path)(error)
            }
        })?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        for entry in entries {
            // Nothing else to do: the folder's name says whose it was.
            let _best_effort = std::fs::remove_file(entry.path());
        }
        let _best_effort = std::fs::remove_dir(&self.0);
    }
}
