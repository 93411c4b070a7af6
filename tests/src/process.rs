//! Child processes with an end: a program that hangs must not hang the tests.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Looks again and again until it is so, at most for `limit`; tells when it was.
///
/// # Errors
/// When it does not become so, or looking fails.
pub fn wait_until(limit: Duration, so: impl Fn() -> Result<bool>) -> Result<Instant> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if so()? {
            return Ok(Instant::now());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("it is not so after {limit:?}")
}

/// How a program ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Output {
    /// Itself if the program succeeded.
    ///
    /// # Errors
    /// With all that it said, if its exit code is not 0.
    pub fn ok(self) -> Result<Self> {
        if self.code == Some(0) {
            return Ok(self);
        }
        bail!("exit code {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

/// Runs a program to its end, at most for `limit`; then it is killed.
///
/// # Errors
/// When it cannot be started or takes too long. Its own failure is not an error here.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    run_with(command, "", limit)
}

/// The same with something to read, small enough for a pipe.
///
/// # Errors
/// As [`run`].
pub fn run_with(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    let started = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // What does not read to the end says why by its exit code.
        _ = stdin.write_all(input.as_bytes());
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            // Its readers end with it, but a grandchild may hold the pipes: they are not joined.
            child.kill()?;
            child.wait()?;
            bail!("{command:?} did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Output { code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A pipe that breaks has said all it will.
            _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// A program that goes on, such as `sgctl events -f`; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; its messages go to the test's own standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line that is `wanted`; lines before it are gone. None after `limit`, or when
    /// the program has ended.
    pub fn wait_for_line(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let started = Instant::now();
        loop {
            let left = limit.checked_sub(started.elapsed())?;
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return Some(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The lines printed since the last look, without waiting.
    #[must_use]
    pub fn lines_so_far(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Its process id, to send it a signal.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good as killed.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{Running, run};

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn reports_code_and_output() {
        let script = "echo out; echo err >&2; exit 3";
        let output = run(Command::new("sh").args(["-c", script]), LIMIT).expect("sh runs");
        assert_eq!((output.code, &*output.stdout, &*output.stderr), (Some(3), "out\n", "err\n"));
        assert!(output.ok().is_err());
    }

    #[test]
    fn ends_what_does_not_end() {
        let limit = Duration::from_millis(50);
        let error = run(Command::new("sleep").arg("60"), limit).expect_err("too long");
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn follows_lines() {
        let script = "echo one; echo two; exec sleep 60";
        let running = Running::start(Command::new("sh").args(["-c", script])).expect("sh runs");
        assert_eq!(running.wait_for_line(LIMIT, |line| line == "two").as_deref(), Some("two"));
        assert_eq!(running.wait_for_line(Duration::from_millis(20), |_| true), None);
    }
}
