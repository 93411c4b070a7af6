//! Disks of a test's own: small ones, full ones, and ones that somebody goes on filling.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Something mounted, until it is dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// A file over itself: it can be read and written, not removed.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn over_itself(path: PathBuf) -> Result<Self> {
        mount(Some(&path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self(path))
    }

    /// A disk without room.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn full(path: PathBuf) -> Result<Self> {
        let mounted = Self::small(path, "64k")?;
        mounted.fill()?;
        Ok(mounted)
    }

    /// A disk of this size.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small(path: PathBuf, size: &str) -> Result<Self> {
        let options = format!("size={size},mode=700");
        let options = Some(options.as_str());
        mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), options)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes what room there is now, by a file `filling`.
    ///
    /// # Errors
    /// When it takes more than a disk of a test should have.
    pub fn fill(&self) -> Result<()> {
        let filled = fs::write(self.0.join("filling"), vec![0; 8 << 20]);
        ensure!(filled.is_err(), "there is room");
        Ok(())
    }

    /// Takes what room there is, and what comes free until this is dropped.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn keep_full(&self) -> Result<Filling> {
        self.fill()?;
        let path = self.0.join("filling");
        let mut file = OpenOptions::new().append(true).open(&path)?;
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            while !is_ended.load(Ordering::Relaxed) {
                if file.write_all(&[0; 4096]).is_err() {
                    // As soon as may be: what is freed for a moment must not be there.
                    thread::yield_now();
                }
            }
        });
        Ok(Filling { path, ended, thread: Some(thread) })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Whoever goes on filling a disk; when dropped, there is room again.
#[derive(Debug)]
pub struct Filling {
    path: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        _ = fs::remove_file(&self.path);
    }
}
