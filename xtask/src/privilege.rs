//! How this user gets at root's powers: installing packages, mounting bpffs and running the tests
//! that load programs need them; compiling never does.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use crate::cmd;

/// What this user may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// We are root.
    Root,
    /// `sudo` works without asking for a password.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// Finds out, without ever prompting: CI has no one to answer.
    pub(crate) fn detect() -> Self {
        // A process's own /proc entry belongs to its effective user.
        if fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
            Self::Root
        } else if cmd::on_path("sudo") && cmd::succeeds(cmd::command("sudo").args(["-n", "true"])) {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// A command that runs with root's powers, or nothing if there is no way to get them.
    pub(crate) fn command(self, program: &str) -> Option<Command> {
        match self {
            Self::Root => Some(cmd::command(program)),
            Self::Sudo => {
                let mut command = cmd::command("sudo");
                command.args(["-n", "--", program]).stdin(Stdio::null());
                Some(command)
            }
            Self::None => None,
        }
    }
}
