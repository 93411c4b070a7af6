//! Everything a developer or CI does to this workspace, as one program without shell scripts.
//!
//! It is the first thing that a fresh machine compiles, so its dependencies stay few. A subcommand
//! is a module with an `Args` (where it takes any) and a `run`; adding one is a line in [`Command`]
//! and a line in [`dispatch`].

mod attack;
mod bench;
mod build;
mod ci;
mod cmd;
mod corpus;
mod demo;
mod fuzz;
mod kernels;
mod privilege;
mod setup;
mod soak;
mod summary;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, build and tests of this workspace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this machine able to build and test (safe to repeat)
    Setup,
    /// Set up, then build the workspace
    Build(build::Args),
    /// Set up, then run every test
    Test(test::Args),
    /// Set up, then check format and lints, then run every test
    Ci,
    /// Set up, then show the three-tier example with real traffic, step by step
    Demo,
    /// Set up, tools included, then play every attack and print what came of each
    Attack(attack::Args),
    /// Set up, then do again and again, under a flood, what no packet may notice (about half an hour)
    Soak(soak::Args),
    /// Set up, then measure what a packet costs (about ten minutes), or a change of policy
    Bench(bench::Args),
    /// Set up, then replay captures: programs and host engine must agree on every packet
    Corpus(corpus::Args),
    /// Set up, then load every program and run every case on other kernels, in virtual machines
    Kernels(kernels::Args),
    /// Set up, then run the fuzz targets for a bounded time
    Fuzz(fuzz::Args),
}

fn dispatch(command: Command) -> Result<()> {
    setup::run()?;
    match command {
        Command::Setup => Ok(()),
        Command::Build(args) => build::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Ci => ci::run(),
        Command::Demo => demo::run(),
        Command::Attack(args) => attack::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Corpus(args) => corpus::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
    }
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
