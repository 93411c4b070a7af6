//! What a kernel makes of the programs: loads every one of them, runs every case in them, by test run and on
//! devices. `cargo xtask kernels` starts it on the running kernel and as the first process of virtual machines
//! that boot others.
//!
//! The report is lines of fields parted by tabs, the first of which names the kind of line:
//!
//! ```text
//! kernel   RELEASE
//! program  DEVICE  NAME  INSTRUCTIONS  INSTRUCTIONS-WITH-TRACE  MILLISECONDS
//! refused  DEVICE  ERROR
//! cases    LEVEL  PASSED  FAILED  LEFT-OUT  MILLISECONDS
//! failure  LEVEL  TEXT
//! left-out LEVEL  PLACE
//! end
//! ```
//!
//! Without the last line, the report is not whole.

mod machine;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sg_common::{LinkLayer, Side};
use sg_userspace::kernel::run::{ProgramSize, RunHook, program_sizes};
use sg_userspace::kernel::{Instance, TcMode, Wanted, XdpMode};
use tests::case::check::{Folders, Level, Report, check_all};
use tests::case::{Bench, Case, File, files};

/// Every kind of device.
const DEVICES: [(&str, LinkLayer, Side); 4] = [
    ("ethernet host", LinkLayer::Ethernet, Side::Host),
    ("ethernet workload", LinkLayer::Ethernet, Side::Workload),
    ("ip host", LinkLayer::Ip, Side::Host),
    ("ip workload", LinkLayer::Ip, Side::Workload),
];

fn main() -> ExitCode {
    if std::process::id() == 1 {
        machine::run(|| {
            let mut port = OpenOptions::new().write(true).open(machine::REPORT)?;
            report(&mut port, OnDevices::OnePolicyAFile)
        });
    }
    match report(&mut io::stdout().lock(), OnDevices::Everything) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Which cases run on devices. Each policy is attached anew there, and to verify the programs for it takes an
/// emulated processor some seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDevices {
    Everything,
    /// The cases of the first policy in each file.
    OnePolicyAFile,
}

/// Does everything and writes what came of it.
fn report(out: &mut dyn Write, on_devices: OnDevices) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    line(out, &["kernel", release.trim()])?;
    for (device, link, side) in DEVICES {
        load(out, device, &Instance::new(0, 1, side, link))?;
    }
    let files = files()?;
    let cases: Vec<&Case> = files.iter().flat_map(|file| &file.cases).collect();
    run(out, "test run, TC", || Ok(check_all(&cases, Level::Run(RunHook::Tc))))?;
    run(out, "test run, XDP", || Ok(check_all(&cases, Level::Run(RunHook::Xdp))))?;
    let cases: Vec<&Case> = match on_devices {
        OnDevices::Everything => cases,
        OnDevices::OnePolicyAFile => files.iter().flat_map(first_policy).collect(),
    };
    for (name, xdp) in [("devices, TC", XdpMode::Off), ("devices, XDP", XdpMode::Native)] {
        let hooks = Wanted { xdp, tc: TcMode::Auto };
        run(out, name, || Ok(check_all(&cases, Level::Devices(&Bench::new(hooks)?))))?;
    }
    line(out, &["end"])
}

fn first_policy(file: &File) -> impl Iterator<Item = &Case> {
    file.cases.iter().filter(|case| file.cases[0].has_setting_of(case))
}

/// Loads the programs of a kind of device, without a trace and with.
fn load(out: &mut dyn Write, device: &str, instance: &Instance) -> Result<()> {
    eprintln!("loading the programs of {device}");
    let started = Instant::now();
    let sizes = || -> Result<_> {
        let without = program_sizes(Folders::new().paths(), instance)?;
        let traced = Instance { trace: true, ..*instance };
        let with = program_sizes(Folders::new().paths(), &traced)?;
        let names = |sizes: &[ProgramSize]| sizes.iter().map(|one| one.name).collect::<Vec<_>>();
        ensure!(!with.is_empty() && names(&without) == names(&with), "{without:?}, {with:?}");
        Ok(without.into_iter().zip(with))
    };
    let sizes = match sizes() {
        Ok(sizes) => sizes,
        Err(error) => return line(out, &["refused", device, &tail(&format!("{error:#}"))]),
    };
    let milliseconds = started.elapsed().as_millis().to_string();
    for (without, with) in sizes {
        let (plain, traced) = (without.verified.to_string(), with.verified.to_string());
        line(out, &["program", device, without.name, &plain, &traced, &milliseconds])?;
    }
    Ok(())
}

/// Runs the cases at one level.
fn run(out: &mut dyn Write, level: &str, check: impl FnOnce() -> Result<Report>) -> Result<()> {
    eprintln!("running the cases: {level}");
    let started = Instant::now();
    let report = check().with_context(|| level.to_owned())?;
    let Report { cases, passed, left_out, failures, .. } = report;
    let numbers = [passed, cases - passed, left_out.len()].map(|it| it.to_string());
    let milliseconds = started.elapsed().as_millis().to_string();
    line(out, &["cases", level, &numbers[0], &numbers[1], &numbers[2], &milliseconds])?;
    for failure in &failures {
        line(out, &["failure", level, &tail(&failure.to_string())])?;
    }
    left_out.iter().try_for_each(|place| line(out, &["left-out", level, place]))
}

/// The end of a long text: a verifier's log says last what was wrong.
fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(LINES) {
        None | Some(0) => text.to_owned(),
        Some(_) => {
            let (first, last) = (lines[..2].join("\n"), lines[lines.len() - LINES..].join("\n"));
            format!("{first}\n...\n{last}")
        }
    }
}

/// One line of the report; a field of several lines has `\n` between them.
fn line(out: &mut dyn Write, fields: &[&str]) -> Result<()> {
    let fields = fields.iter().map(|field| field.replace('\t', " ").replace('\n', "\\n"));
    writeln!(out, "{}", fields.collect::<Vec<_>>().join("\t"))?;
    Ok(out.flush()?)
}
