//! `sgctl`: everything is in the library, so that tests and other programs reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    sg_userspace::cli::main()
}
