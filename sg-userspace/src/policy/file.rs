//! Reads policy files from disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Loaded, MAX_BYTES, Rejected, load};

/// Why a policy file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened or read; the cause says why.
    #[error("cannot read policy file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory.
    #[error("policy file {} is a directory", .0.display())]
    Directory(PathBuf),
    /// It is larger than [`MAX_BYTES`].
    #[error("policy file {} is larger than {} MiB", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
    /// It is not UTF-8.
    #[error("policy file {} is not UTF-8: byte {offset} does not belong there", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        offset: usize,
    },
    /// It was read and refused.
    #[error(transparent)]
    Rejected(#[from] Box<Rejected>),
}

/// Reads a policy from a file, which may be a pipe.
///
/// # Errors
///
/// [`FileError::Rejected`] when the text was read; the others when it was not.
pub fn load_file(path: &Path) -> Result<Loaded, FileError> {
    let text = read_file(path)?;
    Ok(load(&path.display().to_string(), &text)?)
}

/// Reads the text of a policy file, once: it may be a pipe.
///
/// # Errors
///
/// Every [`FileError`] but [`FileError::Rejected`].
pub fn read_file(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(FileError::Directory(path.to_owned()));
    }
    if metadata.len() > MAX_BYTES as u64 {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    let mut bytes = Vec::new();
    // A pipe has no size to ask for: one byte more than is allowed tells whether there is more.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotUtf8 {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}
