//! Debian packages: which, why, and how they get installed.

use anyhow::{Context as _, Result, bail};

use super::{already, doing, warn};
use crate::{cmd, privilege::Privilege};

/// A package this workspace needs.
#[derive(Clone, Copy)]
pub(crate) struct Package {
    /// Debian's name.
    name: &'static str,
    /// A program that shows, on a system without dpkg, that it is there; none for libraries.
    program: Option<&'static str>,
}

const fn tool(name: &'static str, program: &'static str) -> Package {
    Package { name, program: Some(program) }
}

const fn library(name: &'static str) -> Package {
    Package { name, program: None }
}

/// What the tests run. The linker `cc` is not here: without it, this program would not exist.
pub(crate) const TOOLS: [Package; 7] = [
    tool("iproute2", "ip"),        // namespaces, veth pairs, addresses, routes
    tool("util-linux", "nsenter"), // sgctl inside a namespace, bpffs still visible
    tool("bpftool", "bpftool"),    // an independent view of programs, maps and links
    tool("tcpdump", "tcpdump"),    // an independent witness of packets
    tool("nftables", "nft"),       // drops that are not ours, to compare with
    tool("ncat", "ncat"),          // an independent client and server
    tool("g++", "g++"),            // compiles libFuzzer
];

/// What the attack suite attacks with.
pub(crate) const ATTACK_TOOLS: [Package; 6] = [
    tool("hping3", "hping3"),           // floods
    tool("nmap", "nmap"),               // scans
    tool("thc-ipv6", "atk6-firewall6"), // header chains and fragments that get past filters
    tool("ipv6toolkit", "na6"),         // forged neighbour and router discovery
    tool("tcpreplay", "tcpreplay"),     // captures on a device
    library("python3-scapy"),           // forgeries of every kind
];

/// What `cargo xtask bench` holds the programs against, besides nftables, and what it sets devices up with.
pub(crate) const BENCH_TOOLS: [Package; 3] =
    [tool("iptables", "iptables"), tool("ipset", "ipset"), tool("ethtool", "ethtool")];

/// A Rust that compiles for the BPF target and has core's source, new enough for aya.
pub(crate) const BPF_TOOLCHAIN: [Package; 3] =
    [library("rustc-web"), library("cargo-web"), library("rust-web-src")];

/// What bpf-linker links with; its version must be that of the compiler's LLVM.
pub(crate) const BPF_LINKER: [Package; 1] = [library("llvm-22-dev")];

/// What boots other kernels (`cargo xtask kernels`); nothing else wants them.
pub(crate) const KERNELS: [Package; 3] = [
    tool("qemu-system-x86", "qemu-system-x86_64"), // the machine
    tool("binutils", "strip"),                     // a smaller image
    tool("xz-utils", "xz"),                        // modules come compressed
];

/// Installs those that are missing.
///
/// # Errors
/// When a tool is missing and cannot be installed. Libraries that this system's archive does not
/// have are only warned about: the step that needs them may know another way.
pub(crate) fn ensure(wanted: &[Package], privilege: Privilege) -> Result<()> {
    if !cmd::on_path("dpkg-query") || !cmd::on_path("apt-get") {
        return check_programs(wanted);
    }
    let missing = missing(wanted);
    if missing.is_empty() {
        let names: Vec<_> = wanted.iter().map(|package| package.name).collect();
        already(&format!("packages {}", names.join(" ")));
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    doing(&format!("installing packages {}", names.join(" ")));
    let install = format!("apt-get install --no-install-recommends {}", names.join(" "));
    update(privilege).with_context(|| format!("as root: {install}"))?;
    let (available, absent): (Vec<_>, Vec<_>) = missing.into_iter().partition(has_candidate);
    for package in absent {
        if package.program.is_some() {
            bail!("this system's archive has no package {}; install it by hand", package.name);
        }
        warn(&format!("this system's archive has no package {}", package.name));
    }
    if available.is_empty() {
        return Ok(());
    }
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(available.iter().map(|package| package.name));
    apt_get(privilege, &args).with_context(|| format!("as root: {install}"))
}

/// Fetches the archive's lists.
///
/// # Errors
/// When there is no way to root's powers, or apt fails.
pub(crate) fn update(privilege: Privilege) -> Result<()> {
    apt_get(privilege, &["update", "-q"])
}

/// Those of `wanted` that dpkg does not call installed.
fn missing(wanted: &[Package]) -> Vec<Package> {
    let mut query = cmd::command("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"]);
    query.args(wanted.iter().map(|package| package.name));
    // Its exit code is an error as soon as one name is unknown; the others are listed all the same.
    let listed = query.output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let installed = |package: &&Package| {
        !listed.lines().any(|line| line.strip_prefix("installed ") == Some(package.name))
    };
    wanted.iter().filter(installed).copied().collect()
}

/// Does apt know a version of this package that it could install?
fn has_candidate(package: &Package) -> bool {
    cmd::output(cmd::command("apt-cache").args(["policy", package.name]))
        .is_ok_and(|policy| policy.contains("Candidate: ") && !policy.contains("Candidate: (none)"))
}

fn apt_get(privilege: Privilege, args: &[&str]) -> Result<()> {
    let Some(mut command) = privilege.command("env") else {
        bail!("packages are missing, and neither are we root nor does `sudo -n` work");
    };
    // `env` because sudo drops the caller's variables; a package's questions would wait for ever.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    // Another apt may be at work on a machine that has just booted.
    command.args(["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]);
    cmd::run(command.args(args)).context("apt-get")
}

/// Without apt nothing is installed for the user, but what is missing is named.
fn check_programs(wanted: &[Package]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter_map(|package| package.program)
        .filter(|program| !cmd::on_path(program))
        .collect();
    if !missing.is_empty() {
        bail!("no apt on this system; install these programs by hand: {}", missing.join(" "));
    }
    already("test tools");
    Ok(())
}
