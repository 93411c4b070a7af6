//! Network namespaces: finding them, working in them, and the one behind a veth, where a workload's sockets are.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Device;
use super::exchange::exchange;

/// The namespace that the other end of a device is in; `None` where it has no other end, or where
/// that namespace has neither a name nor a process.
pub(super) fn behind(device: &Device) -> io::Result<Option<File>> {
    if device.driver.as_deref() != Some("veth") {
        return Ok(None);
    }
    let mut request = LinkMessage::default();
    request.header.index = device.index;
    let answers = exchange(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(request), 0)?;
    let id = answers.iter().find_map(|answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else { return None };
        link.attributes.iter().find_map(|attribute| {
            let LinkAttribute::LinkNetNsId(id) = attribute else { return None };
            Some(*id)
        })
    });
    // No identity: both ends are here.
    let Some(id) = id else { return File::open("/proc/thread-self/ns/net").map(Some) };
    Ok(known_as(id).map(|(_inode, file)| file))
}

/// The namespace with this inode, if it has a name or a process.
pub(super) fn find(inode: u64) -> Option<File> {
    let is_it = |file: &File| file.metadata().is_ok_and(|found| found.ino() == inode);
    let here = File::open("/proc/thread-self/ns/net").into_iter();
    here.chain(candidates().filter_map(|path| File::open(path).ok())).find(is_it)
}

/// Every namespace that has a name or a process, with its inode, each once.
pub(super) fn all() -> Vec<(u64, File)> {
    let mut seen = HashSet::new();
    let opened = candidates().filter_map(|path| File::open(path).ok());
    let known = opened.filter_map(|file| Some((file.metadata().ok()?.ino(), file)));
    known.filter(|(inode, _file)| seen.insert(*inode)).collect()
}

/// Runs `work` in a namespace, on a thread of its own: this one stays where it is.
pub(super) fn inside<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let entered = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(entered).join())
        .unwrap_or_else(|_panic| Err(io::Error::other("the thread in the namespace panicked")))
}

/// Files that stand for namespaces: named ones, and those of processes.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let list = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = list("/run/netns").map(|entry| entry.path());
    let processes = list("/proc")
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .map(|entry| entry.path().join("ns/net"));
    named.chain(processes)
}

/// The namespace that this one knows by a number, with its inode.
pub(super) fn known_as(id: i32) -> Option<(u64, File)> {
    all().into_iter().find(|(_, file)| identity(file).is_ok_and(|found| found == Some(id)))
}

/// The number by which this namespace knows another; `None`: by none.
fn identity(namespace: &File) -> io::Result<Option<i32>> {
    let mut request = NsidMessage::default();
    let descriptor = namespace.as_raw_fd().cast_unsigned();
    request.attributes.push(NsidAttribute::Fd(descriptor));
    let answers = exchange(NETLINK_ROUTE, RouteNetlinkMessage::GetNsId(request), 0)?;
    Ok(answers.iter().find_map(|answer| {
        let RouteNetlinkMessage::NewNsId(message) = answer else { return None };
        message.attributes.iter().find_map(|attribute| {
            let NsidAttribute::Id(id) = attribute else { return None };
            (*id >= 0).then_some(*id)
        })
    }))
}

/// How people know a namespace: by its name, if it has one.
pub(super) fn describe(inode: u64) -> String {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let is_it = |entry: &std::fs::DirEntry| {
        std::fs::metadata(entry.path()).is_ok_and(|found| found.ino() == inode)
    };
    let named = entries.filter(is_it).map(|entry| entry.file_name()).next();
    named.map_or_else(
        || format!("namespace {inode}"),
        |name| format!("namespace {}", name.to_string_lossy()),
    )
}
