//! Who changes a policy: what the kernel says of a process, before anything that it says of itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Uid, User, geteuid};
use serde::{Deserialize, Serialize};

/// Who changes a policy, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Author {
    /// Who.
    pub user: String,
    /// By which command, quoted as a shell reads it.
    pub command: String,
    /// Why, in their own words.
    pub message: Option<String>,
}

impl Author {
    /// Whoever runs this process: through sudo, who asked it to.
    #[must_use]
    pub fn of_process(message: Option<String>) -> Self {
        let process = Path::new("/proc/self");
        let words: Vec<_> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let sudo = std::env::var("SUDO_USER").ok();
        Self { user: user(process, sudo, geteuid()), command: command(words), message }
    }

    /// Whoever is at the other end of a socket.
    pub(super) fn of_peer(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = getsockopt(stream, PeerCredentials)?;
        let process = PathBuf::from(format!("/proc/{}", peer.pid()));
        let zero = |byte: &u8| *byte == 0;
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_string_lossy().into_owned();
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        let sudo = environment.split(zero).find_map(|one| one.strip_prefix(b"SUDO_USER="));
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let line = line.strip_suffix(&[0]).unwrap_or(&line);
        let command = match line {
            // It has ended, or lives where this process does not see it.
            [] => format!("process {}", peer.pid()),
            line => command(line.split(zero).map(text).collect()),
        };
        let user = user(&process, sudo.map(text), Uid::from_raw(peer.uid()));
        Ok(Self { user, command, message: None })
    }
}

/// Who logged in, whatever they have become since; else who called sudo; else who the process is.
fn user(process: &Path, sudo: Option<String>, uid: Uid) -> String {
    let name = |uid: Uid| User::from_uid(uid).ok().flatten().map(|user| user.name);
    // Unset where nobody logged in.
    let login = std::fs::read_to_string(process.join("loginuid")).unwrap_or_default();
    let login = login.trim().parse().ok().filter(|&uid| uid != u32::MAX).map(Uid::from_raw);
    login.and_then(name).or(sudo).or_else(|| name(uid)).unwrap_or_else(|| uid.to_string())
}

/// A command line that a shell would read as these words; the program without its folder.
fn command(mut words: Vec<String>) -> String {
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(&*program).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    let plain = words.join(" ");
    // No word of a command line holds a zero byte, which alone cannot be quoted.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["/usr/bin/sgctl", "rule", "authorize", "web", "--description", "it's us"];
        let text = command(words.map(str::to_owned).to_vec());
        assert_eq!(text, r#"sgctl rule authorize web --description "it's us""#);
        assert_eq!(shlex::split(&text).expect("words")[5], "it's us");
    }

    #[test]
    fn a_peer_is_who_the_kernel_says() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let peer = Author::of_peer(&ours).expect("credentials");
        let us = Author::of_process(None);
        assert_eq!((peer.user, peer.command), (us.user, us.command));
    }
}
