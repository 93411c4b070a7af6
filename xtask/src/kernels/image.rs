//! What a virtual machine boots into: an archive with the test program as its first process, the programs that
//! this one starts, the libraries of both, the cases, and the modules that devices need.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cpio::{NewcBuilder, write_cpio};

use super::package::Kernel;
use crate::cmd;

/// Modules of Debian's kernels, in the order in which each finds what it needs: devices, the bridge of the test
/// bench, and what programs at clsact hang on.
const MODULES: [&str; 6] = ["veth", "llc", "stp", "bridge", "sch_ingress", "cls_bpf"];
/// Programs that the test bench starts.
const PROGRAMS: [&str; 1] = ["ip"];
/// Modes of folders and files.
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// Writes the image for a kernel.
pub(crate) fn write(path: &Path, program: &Path, kernel: &Kernel) -> Result<()> {
    let mut archive = Archive::default();
    // Symbols and lines are five sixths of the program, and the machine has to hold it in memory twice.
    let stripped = path.with_extension("init");
    cmd::run(cmd::command("strip").arg("-o").arg(&stripped).arg(program))?;
    archive.add(Path::new("/init"), fs::read(&stripped)?)?;
    let mut libraries = libraries(&stripped)?;
    for name in PROGRAMS {
        let program = cmd::find(name).with_context(|| format!("no program {name}"))?;
        libraries.extend(self::libraries(&program)?);
        archive.add(&Path::new("/usr/bin").join(name), fs::read(&program)?)?;
    }
    for library in libraries {
        let bytes = fs::read(&library).with_context(|| library.display().to_string())?;
        archive.add(&library, bytes)?;
    }
    for (place, name) in MODULES.iter().enumerate() {
        let bytes = module(&kernel.modules, name).with_context(|| format!("module {name}"))?;
        archive.add(Path::new(&format!("/modules/{place}-{name}.ko")), bytes)?;
    }
    // Where they were when the program was compiled.
    let cases = cmd::workspace_root().join("tests/cases");
    for entry in fs::read_dir(&cases).with_context(|| cases.display().to_string())? {
        let path = entry?.path();
        archive.add(&path, fs::read(&path)?)?;
    }
    archive.write(path)
}

/// The libraries that a program is linked with, the dynamic linker among them.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", "/lib64/ld-linux-x86-64.so.2 (0x...)"
    let list = cmd::output(cmd::command("ldd").arg(program))?;
    if let Some(line) = list.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    let paths = list.lines().filter_map(|line| {
        let path = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        path.starts_with('/').then(|| path.split(" (").next().map(PathBuf::from))?
    });
    Ok(paths.collect())
}

/// A module, unpacked: a kernel may not be able to.
fn module(modules: &Path, name: &str) -> Result<Vec<u8>> {
    let names = [format!("{name}.ko"), format!("{name}.ko.xz")];
    let path = find(&modules.join("kernel"), &names)?.context("not in the package")?;
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = cmd::command("xz").args(["--decompress", "--stdout"]).arg(&path).output()?;
        if !output.status.success() {
            bail!("xz: {}", String::from_utf8_lossy(&output.stderr));
        }
        return Ok(output.stdout);
    }
    Ok(fs::read(path)?)
}

/// A file by one of its names, in a folder or below.
fn find(folder: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), names)? {
                return Ok(Some(found));
            }
        } else if names.iter().any(|name| **name == *entry.file_name()) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// An archive under way: entries, each behind the folders above it.
#[derive(Default)]
struct Archive {
    entries: Vec<(NewcBuilder, Cursor<Vec<u8>>)>,
    folders: BTreeSet<PathBuf>,
}

impl Archive {
    fn add(&mut self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| folder.parent().is_some()) {
            if self.folders.insert(folder.to_owned()) {
                self.put(folder, FOLDER, Vec::new())?;
            }
        }
        self.put(path, FILE, bytes)
    }

    fn put(&mut self, path: &Path, mode: u32, bytes: Vec<u8>) -> Result<()> {
        let name = path.to_str().context("a path that is no text")?.trim_start_matches('/');
        self.entries.push((NewcBuilder::new(name).mode(mode), Cursor::new(bytes)));
        Ok(())
    }

    fn write(self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut out = write_cpio(self.entries.into_iter(), BufWriter::new(file))?;
        Ok(out.flush()?)
    }
}
