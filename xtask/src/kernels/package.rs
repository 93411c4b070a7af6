//! A kernel as Debian packages it: found by its series, downloaded and unpacked below `target`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::privilege::Privilege;
use crate::{cmd, setup::packages};

/// An unpacked package.
pub(crate) struct Kernel {
    /// What a boot loader starts.
    pub(crate) image: PathBuf,
    /// The folder of its modules.
    pub(crate) modules: PathBuf,
}

/// The newest kernel of a series that the archive has, unless one is there: what a machine has once fetched it
/// goes on with, offline too. Whoever wants a newer one removes the folder.
pub(crate) fn fetch(series: &str, folder: &Path, privilege: Privilege) -> Result<Kernel> {
    let unpacked = folder.join("unpacked");
    if let Ok(kernel) = find(&unpacked) {
        return Ok(kernel);
    }
    let name = match newest(series)? {
        Some(name) => name,
        None => {
            packages::update(privilege)?;
            newest(series)?.with_context(|| {
                format!("this system's archive has no package linux-image-{series}.*-cloud-amd64")
            })?
        }
    };
    // In a folder of its own, so that no half of an earlier try is taken for the whole.
    let download = folder.join("download");
    remove(&download)?;
    remove(&unpacked)?;
    fs::create_dir_all(&download)?;
    cmd::run(cmd::command("apt-get").current_dir(&download).args(["download", "-q", &name]))?;
    let package = only(&download)?;
    let part = download.join("unpacked");
    cmd::run(cmd::command("dpkg-deb").arg("--extract").arg(&package).arg(&part))?;
    fs::rename(&part, &unpacked)?;
    remove(&download)?;
    find(&unpacked)
}

/// The newest package of a series, by the numbers in its name.
fn newest(series: &str) -> Result<Option<String>> {
    // Without the dash before the `c`, it would be the package of debugging symbols, or the unsigned twin.
    let pattern = format!("^linux-image-{}[.].*-cloud-amd64$", series.replace('.', "[.]"));
    let found = cmd::output(cmd::command("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = found.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.max_by_key(|name| numbers(name)).map(str::to_owned))
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn find(unpacked: &Path) -> Result<Kernel> {
    let images = fs::read_dir(unpacked.join("boot"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_image = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("vmlinuz"))
    };
    let image = images.into_iter().find(is_image).context("no vmlinuz in the package")?;
    // `/lib` is what the package says, `/usr/lib` what later Debians make of it.
    let roots = ["lib/modules", "usr/lib/modules"].map(|root| unpacked.join(root));
    let root = roots.iter().find(|root| root.is_dir()).context("no modules in the package")?;
    Ok(Kernel { image, modules: only(root)? })
}

/// The only entry of a folder.
fn only(folder: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(folder)?.next();
    Ok(entry.with_context(|| format!("{} is empty", folder.display()))??.path())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| folder.display().to_string())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn orders_by_number() {
        let newest = |names: [&'static str; 2]| names.into_iter().max_by_key(|name| numbers(name));
        let (old, new) = ("linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64");
        assert_eq!(newest([old, new]), Some(new));
        assert_eq!(newest([new, old]), Some(new));
    }
}
