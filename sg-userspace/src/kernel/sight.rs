//! What has become of an attached device since: gone, re-created, renamed, moved to another network namespace, or
//! rid of a program.
//!
//! What the kernel does (Linux 6.18, the same since links exist): TCX and XDP links hold on to the device itself, so
//! they stay with it when it is renamed or moved to another namespace, and go on judging there; its index moves with
//! it unless it is taken there. A clsact qdisc stays when a device is renamed, and goes, with its filters, when it is
//! moved. Nothing survives the device: a link is then on device 0.
//!
//! So a device that has links is found wherever it goes, by its programs. One that had filters is not: another of its
//! name, index and address in another namespace may well be another tenant's. The kernel tells where it goes when it
//! goes, to whoever listens.

use std::fs::File;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use aya::programs::{SchedClassifier, TcAttachType};

use super::bpf::{linked_device, linked_program};
use super::exchange::exchange;
use super::hooks::{Hook, is_alive};
use super::live::AttachedDevice;
use super::{Device, Paths, namespace};

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Inode of its network namespace.
    pub namespace: u64,
    /// Its name there.
    pub name: String,
    /// Its index there.
    pub index: u32,
}

/// What is seen of an attached device now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Where it is; `None`: it is gone, or where it cannot be seen.
    pub place: Option<Place>,
    /// Hooks that have no program of ours any more.
    pub lost: Vec<Hook>,
}

impl Sight {
    /// Whether every packet of the device meets a program of ours.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.place.is_some() && self.lost.is_empty()
    }

    /// Whether all is as it was when the device was attached.
    #[must_use]
    pub fn is_as_attached(&self, device: &AttachedDevice) -> bool {
        self.is_protected() && self.place.as_ref().is_some_and(|place| *place == place_of(device))
    }

    /// What is different, in words; `None` where nothing is.
    #[must_use]
    pub fn change(&self, device: &AttachedDevice) -> Option<String> {
        let Some(place) = &self.place else { return Some("gone".to_owned()) };
        let mut words = Vec::new();
        if place.namespace != device.namespace {
            words.push(format!("moved to {}", namespace::describe(place.namespace)));
        } else if place.index != device.index {
            words.push(format!("re-created with index {} (was {})", place.index, device.index));
        }
        if place.name != device.device {
            words.push(format!("renamed to {}", place.name));
        }
        if !self.lost.is_empty() && place.index == device.index {
            let lost: Vec<_> = self.lost.iter().map(|hook| hook.name()).collect();
            words.push(format!("lost {}", lost.join(", ")));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

fn place_of(device: &AttachedDevice) -> Place {
    Place { namespace: device.namespace, name: device.device.clone(), index: device.index }
}

/// As [`look`], and where that finds nothing, at the place where the device is said to have gone.
#[must_use]
pub fn look_at(paths: &Paths, device: &AttachedDevice, told: Option<&Place>) -> Sight {
    let seen = look(paths, device);
    let Some(place) = told.filter(|_| seen.place.is_none()) else { return seen };
    let there = || {
        let name = nix::net::if_::if_indextoname(place.index).ok()?;
        Some(sight(paths, device, name.to_str().ok()?, place.index))
    };
    Home::open(place.namespace).run(there).flatten().unwrap_or(seen)
}

/// Looks for an attached device: first where it was, then in every namespace that can be opened.
#[must_use]
pub fn look(paths: &Paths, device: &AttachedDevice) -> Sight {
    let home = Home::open(device.namespace);
    let found = home.run(|| where_it_was(paths, device)).flatten();
    let found = found
        .or_else(|| linked_index(paths, device).and_then(|index| moved(paths, device, index)))
        .or_else(|| home.run(|| by_name(paths, device)).flatten());
    match (found, home.is_open()) {
        (Some(sight), _) => sight,
        (None, true) => gone(device),
        (None, false) => unseen(paths, device),
    }
}

fn gone(device: &AttachedDevice) -> Sight {
    Sight { place: None, lost: device.attached.hooks.clone() }
}

/// In a namespace that cannot be opened: links tell whether they hold on to a device; filters tell nothing, and go
/// with their namespace.
fn unseen(paths: &Paths, device: &AttachedDevice) -> Sight {
    let links = device.attached.hooks.iter().filter(|hook| !hook.is_clsact());
    let lost: Vec<_> =
        links.copied().filter(|hook| !is_alive(paths, device, device.index, *hook)).collect();
    Sight { place: lost.is_empty().then(|| place_of(device)), lost }
}

/// A namespace: this one, another, or one that cannot be opened.
enum Home {
    Here,
    Other(File),
    Closed,
}

impl Home {
    fn open(inode: u64) -> Self {
        if inode == Device::namespace_here() {
            return Self::Here;
        }
        namespace::find(inode).map_or(Self::Closed, Self::Other)
    }

    const fn is_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Option<T> {
        match self {
            Self::Here => Some(work()),
            Self::Other(file) => namespace::inside(file, || Ok(work())).ok(),
            Self::Closed => None,
        }
    }
}

/// The device of the index, if it has a program of ours: as attached, renamed, or rid of some programs.
fn where_it_was(paths: &Paths, device: &AttachedDevice) -> Option<Sight> {
    carrying(paths, device, device.index)
}

/// The device of an index in this namespace, if it is the one that has our programs.
fn carrying(paths: &Paths, device: &AttachedDevice, index: u32) -> Option<Sight> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    let name = name.to_str().ok()?;
    let hooks = &device.attached.hooks;
    // Names and indices are unique in their namespace only, programs everywhere.
    let is_it = hooks.iter().any(|hook| {
        is_alive(paths, device, index, *hook) && has_program(paths, device, name, index, *hook)
    });
    is_it.then(|| sight(paths, device, name, index))
}

fn sight(paths: &Paths, device: &AttachedDevice, name: &str, index: u32) -> Sight {
    let hooks = device.attached.hooks.iter().copied();
    Sight {
        place: Some(Place { namespace: Device::namespace_here(), name: name.to_owned(), index }),
        lost: hooks.filter(|hook| !is_alive(paths, device, index, *hook)).collect(),
    }
}

/// Whether the program of a link is on this device of this namespace.
fn has_program(paths: &Paths, device: &AttachedDevice, name: &str, index: u32, hook: Hook) -> bool {
    let wanted = || linked_program(&paths.link(device.namespace, &device.device, hook.name()));
    let on_tcx = |kind| {
        let programs = SchedClassifier::query_tcx(name, kind).map(|(_revision, all)| all);
        let programs = programs.unwrap_or_default();
        wanted().is_ok_and(|id| programs.iter().any(|program| program.id() == id))
    };
    match hook {
        // It was found by its name on this device.
        Hook::ClsactIngress | Hook::ClsactEgress => true,
        Hook::TcxIngress => on_tcx(TcAttachType::Ingress),
        Hook::TcxEgress => on_tcx(TcAttachType::Egress),
        Hook::XdpNative | Hook::XdpGeneric => {
            wanted().is_ok_and(|id| xdp_program(index).is_ok_and(|found| found == Some(id)))
        }
    }
}

fn xdp_program(index: u32) -> io::Result<Option<u32>> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let answers = exchange(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(request), 0)?;
    Ok(answers.iter().find_map(|answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else { return None };
        link.attributes.iter().find_map(|attribute| {
            let LinkAttribute::Xdp(parts) = attribute else { return None };
            parts.iter().find_map(|part| {
                let LinkXdp::ProgId(id) = part else { return None };
                Some(*id)
            })
        })
    }))
}

/// The index of the device that a link holds on to, wherever that is.
fn linked_index(paths: &Paths, device: &AttachedDevice) -> Option<u32> {
    let links = device.attached.hooks.iter().filter(|hook| !hook.is_clsact());
    let pins = links.map(|hook| paths.link(device.namespace, &device.device, hook.name()));
    pins.filter_map(|pin| linked_device(&pin).ok()).find(|index| *index != 0)
}

/// The device that the links have gone with.
fn moved(paths: &Paths, device: &AttachedDevice, index: u32) -> Option<Sight> {
    let others = namespace::all().into_iter().filter(|(inode, _)| *inode != device.namespace);
    let carrying = || Ok(carrying(paths, device, index));
    others.filter_map(|(_, file)| namespace::inside(&file, carrying).ok()).find_map(|it| it)
}

/// A device of the same name where it was: another one, or the same without any program of ours.
fn by_name(paths: &Paths, device: &AttachedDevice) -> Option<Sight> {
    let index = nix::net::if_::if_nametoindex(device.device.as_str()).ok()?;
    Some(sight(paths, device, &device.device, index))
}
