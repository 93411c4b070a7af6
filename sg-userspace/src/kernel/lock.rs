//! One command at a time changes the tables; one at a time reads the event stream.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::KernelError;

/// A lock on a file, given up when dropped or when its holder dies.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`KernelError::Busy`] with the holder's process id when another command has it.
    pub fn take(path: &Path) -> Result<Self, KernelError> {
        let cannot = |source| KernelError::File { doing: "lock", path: path.into(), source };
        if let Some(directory) = path.parent() {
            super::paths::create_private(directory).map_err(cannot)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(cannot)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // Only for the message of whoever comes next.
                let _best_effort = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                Ok(Self { _file: file })
            }
            Err((mut file, error)) if error == nix::errno::Errno::EWOULDBLOCK => {
                let mut holder = String::new();
                let _best_effort = file.read_to_string(&mut holder);
                Err(KernelError::Busy { holder: holder.trim().to_owned() })
            }
            Err((_file, error)) => Err(cannot(error.into())),
        }
    }
}
