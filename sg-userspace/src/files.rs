//! Files that outlive a crash, and directories that only root reads.

use std::fs::File;
use std::io::{self, Write as _};
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
