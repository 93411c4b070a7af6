//! Files that outlive a crash, and directories that only root reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Makes a directory that only root reads, and those above it.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file whose bytes are on the disk when the call returns; its name may not be yet.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts the names of a directory on the disk: what was made, renamed and removed.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What follows a text in room that is larger.
pub(crate) const PADDING: u8 = b' ';

/// Has a file be at least this large, all of it allocated: writing into it needs no more room. Where there is none, it
/// stays as it was.
pub(crate) fn reserve(path: &Path, size: u64) -> io::Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let before = file.metadata()?.len();
    if before >= size {
        return Ok(());
    }
    let length = i64::try_from(size).map_err(io::Error::other)?;
    let allocated = fallocate(&file, FallocateFlags::empty(), 0, length);
    let reserved = allocated.map_err(io::Error::from).and_then(|()| file.sync_all());
    if reserved.is_err() {
        let _best_effort =
            if before == 0 { std::fs::remove_file(path) } else { file.set_len(before) };
    }
    reserved
}

/// As [`write_synced`], into room that is there: nothing of it is given back, what is left is padded.
pub(crate) fn overwrite_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let left = file.metadata()?.len().saturating_sub(bytes.len() as u64);
    file.write_all(bytes)?;
    io::copy(&mut io::repeat(PADDING).take(left), &mut file)?;
    file.sync_all()
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
