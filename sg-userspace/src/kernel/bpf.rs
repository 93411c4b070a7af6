//! System calls that aya does not make.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::KernelError;

/// Commands of bpf(2), `linux/bpf.h`.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;

/// The head of the attributes of `BPF_MAP_CREATE`.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

/// The attributes of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct Update {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The attributes of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_link_info`; the members of TCX and of XDP links begin alike.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    /// Index of the device; 0 once that has gone.
    device: u32,
}

/// The index of the device that a pinned TCX or XDP link holds on to; 0 when the device has gone.
pub(super) fn linked_device(pin: &Path) -> io::Result<u32> {
    link_info(pin).map(|info| info.device)
}

fn link_info(pin: &Path) -> io::Result<LinkInfo> {
    let link = open_pin(pin)?;
    let mut info = LinkInfo::default();
    let get_info = GetInfo {
        fd: descriptor(link.as_raw_fd()),
        length: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &get_info)?;
    Ok(info)
}

/// Waits until every program run that had begun before the call has ended.
///
/// An update of a map of maps from userspace does exactly that before it returns, so that the inner map
/// taken out is used by nobody (kernel/bpf/syscall.c, `maybe_wait_bpf_programs`). The two maps are made for
/// the call and go with it.
pub(super) fn wait_for_programs() -> Result<(), KernelError> {
    let failed = |source| KernelError::Syscall { call: "grace period", source };
    let inner = create(ARRAY, 0).map_err(failed)?;
    let outer = create(ARRAY_OF_MAPS, descriptor(inner.as_raw_fd())).map_err(failed)?;
    let key = 0_u32;
    let value = descriptor(inner.as_raw_fd());
    let update = Update {
        map: descriptor(outer.as_raw_fd()),
        padding: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(&value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &update).map_err(failed).map(|_zero| ())
}

/// The attributes of `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjectGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The attributes of `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `BPF_F_REPLACE`: only if the link has the program that it is said to have.
const REPLACE: u32 = 1 << 2;

/// Replaces the program of a pinned link in one step: each packet meets the old one or the new one. Refused when
/// the link has not the old one. (aya's `attach_to_link` asks for no old one.)
pub(super) fn update_link(
    pin: &Path,
    program: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
) -> io::Result<()> {
    let link = open_pin(pin)?;
    let update = LinkUpdate {
        link: descriptor(link.as_raw_fd()),
        program: descriptor(program.as_raw_fd()),
        flags: REPLACE,
        old_program: descriptor(old.as_raw_fd()),
    };
    bpf(BPF_LINK_UPDATE, &update).map(|_zero| ())
}

/// The program of a pinned link.
pub(super) fn linked_program(pin: &Path) -> io::Result<u32> {
    link_info(pin).map(|info| info.program)
}

/// The attributes of `BPF_LINK_CREATE` for devices; the end is `tcx`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// Attaches a loaded program to a device, and pins the link. (aya attaches only what it has loaded itself.)
pub(super) fn create_link(
    program: BorrowedFd<'_>,
    device: u32,
    attach_type: u32,
    flags: u32,
    pin: &Path,
) -> io::Result<()> {
    let program = descriptor(program.as_raw_fd());
    let create = LinkCreate { program, device, attach_type, flags, ..LinkCreate::default() };
    let link = own(bpf(BPF_LINK_CREATE, &create)?)?;
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let fd = descriptor(link.as_raw_fd());
    bpf(BPF_OBJ_PIN, &ObjectGet { path: path.as_ptr() as u64, fd, flags: 0 }).map(|_zero| ())
}

/// The attributes of `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ProgramById {
    id: u32,
    next: u32,
    flags: u32,
}

/// A loaded program, held for as long as the descriptor is open, in a hook or not.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    own(bpf(BPF_PROG_GET_FD_BY_ID, &ProgramById { id, next: 0, flags: 0 })?)
}

/// The attributes of `BPF_LINK_DETACH`.
#[repr(C)]
struct LinkDetach {
    link: u32,
}

/// Takes the program of a pinned link off its hook before the call returns. Removing the pin alone does it
/// some milliseconds later: the kernel frees the inode behind a grace period, and the link with it. (aya
/// opens pinned links, but neither detaches them nor lends the descriptor.)
pub(super) fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open_pin(pin)?;
    bpf(BPF_LINK_DETACH, &LinkDetach { link: descriptor(link.as_raw_fd()) }).map(|_zero| ())
}

pub(super) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjectGet { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    own(bpf(BPF_OBJ_GET, &get)?)
}

/// The attributes of `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
struct LookupBatch {
    begin: u64,
    end: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Entries of a hash table in one system call.
const BATCH: u32 = 8192;

/// Every entry of a hash table whose keys and values are `K` and `V`. Bucket after bucket: a table that changes
/// meanwhile is never walked again from the beginning, as it is key by key where the last key has gone.
pub(super) fn entries<K: aya::Pod, V: aya::Pod>(pin: &Path) -> io::Result<Vec<(K, V)>> {
    let map = open_pin(pin)?;
    let mut keys: Vec<K> = Vec::with_capacity(BATCH as usize);
    let mut values: Vec<V> = Vec::with_capacity(BATCH as usize);
    let mut found = Vec::new();
    // Where a call goes on, as the one before it left it.
    let mut place = 0_u64;
    let end = std::ptr::from_mut(&mut place) as u64;
    let mut begin = 0;
    loop {
        let mut lookup = LookupBatch {
            begin,
            end,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH,
            map: descriptor(map.as_raw_fd()),
            element_flags: 0,
            flags: 0,
        };
        let is_last = match bpf_mut(BPF_MAP_LOOKUP_BATCH, &mut lookup) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = lookup.count.min(BATCH) as usize;
        // SAFETY: there is room for a batch, and the kernel has written so many keys, whatever bytes.
        unsafe { keys.set_len(count) };
        // SAFETY: the same of the values.
        unsafe { values.set_len(count) };
        found.extend(keys.drain(..).zip(values.drain(..)));
        if is_last {
            return Ok(found);
        }
        begin = end;
    }
}

fn create(map_type: u32, inner_map: u32) -> io::Result<OwnedFd> {
    let create =
        Create { map_type, key_size: 4, value_size: 4, max_entries: 1, flags: 0, inner_map };
    own(bpf(BPF_MAP_CREATE, &create)?)
}

/// A descriptor that a command has just returned.
fn own(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the caller has just got this descriptor from the kernel, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn descriptor(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are a prefix of the kernel's union of the length given, what they point at
    // outlives the call, and the commands in use write to none of it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`bpf`], for commands that answer in their attributes.
fn bpf_mut<T>(command: libc::c_long, attributes: &mut T) -> io::Result<()> {
    // SAFETY: as in `bpf`; the attributes and what they point at are the caller's to write to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
