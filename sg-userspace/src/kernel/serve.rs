//! A process that keeps policy and tables in memory and makes the edits that arrive together in one change.
//!
//! It is a shortcut and nothing else: what it writes is what every command writes, under the same lock, and
//! without it each command reads the state, changes it and is done. Requests and answers are JSON, a line each.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::controller::Controller;
use super::process::is_stopped;
use super::request::{EditRequest, Edited, refused};
use super::transaction::Reviewer;
use super::{KernelError, Lock, Paths, message, policy_tests};

/// The most requests that are one change: a failure has them tried one by one.
const BATCH: usize = 1024;

/// Longest request: one that goes on without an end must not take all memory.
const LONGEST: u64 = 64 << 20;
/// The most connections at once. Each has a thread; a client needs one.
const CONNECTIONS: usize = 256;
/// Longest wait for an answer: more than a change takes, and whoever serves waits ten seconds for others.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause when no connection can be served.
const PAUSE: Duration = Duration::from_millis(50);

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Edited),
    Failed(String),
}

/// A request, and where its answer goes.
type Job = (EditRequest, Sender<Answer>);

/// Asks the process that serves, if there is one that is at work.
pub(super) fn ask(paths: &Paths, request: &EditRequest) -> Option<Result<Edited, KernelError>> {
    if let Some(process) = Lock::holder(&paths.serve_lock()).filter(|&process| is_stopped(process))
    {
        log::warn!(
            "`sgctl serve` (process {process}) is stopped, so this goes without it; `kill -CONT {process}` has it go on"
        );
        return None;
    }
    Some(Client::connect(paths).ok()?.edit(request))
}

/// A connection to the process that serves.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody serves.
    pub fn connect(paths: &Paths) -> Result<Self, KernelError> {
        let socket = paths.socket();
        let stream = UnixStream::connect(&socket).map_err(KernelError::file("open", &socket))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(KernelError::file("set up", &socket))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Has edits made, and returns when they are in force.
    ///
    /// # Errors
    /// What the edits are refused for, or the connection.
    pub fn edit(&mut self, request: &EditRequest) -> Result<Edited, KernelError> {
        match self.exchange(request) {
            Ok(Answer::Done(edited)) => Ok(edited),
            Ok(Answer::Failed(why)) => Err(KernelError::Request(why)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(KernelError::Request(format!(
                    "no answer from `sgctl serve` in {} s; it may still make the change: `sgctl history` says whether it is in force",
                    PATIENCE.as_secs()
                )))
            }
            Err(error) => Err(KernelError::Request(format!(
                "no answer from `sgctl serve` ({error}); `sgctl history` says whether the change is in force"
            ))),
        }
    }

    fn exchange(&mut self, request: &EditRequest) -> io::Result<Answer> {
        let written = write_line(self.stream.get_mut(), request);
        let mut line = String::new();
        // Whoever is not served is told so without being asked.
        let length = self.stream.read_line(&mut line)?;
        if length == 0 {
            written?;
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Serves until it is ended. `ready` is called when connections are taken.
///
/// # Errors
/// When another one serves, or the socket cannot be made.
pub fn run(paths: &Paths, ready: impl FnOnce()) -> Result<(), KernelError> {
    super::require_root("change the policy")?;
    let socket = paths.socket();
    let _only_one = Lock::try_take(&paths.serve_lock()).map_err(|error| {
        if let KernelError::Busy { holder } = error {
            KernelError::Served { holder, socket: socket.clone() }
        } else {
            error
        }
    })?;
    // Its owner has gone: we have the lock.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(KernelError::file("remove", &socket)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let failed = |error| KernelError::file("make", &socket)(error);
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let (jobs, queue) = channel();
    thread::spawn(move || accept(&listener, &jobs));
    ready();
    work(paths, &queue);
    Ok(())
}

fn accept(listener: &UnixListener, jobs: &Sender<Job>) {
    let places = Arc::new(());
    for stream in listener.incoming() {
        let jobs = jobs.clone();
        let talking = stream.and_then(|stream| {
            // One reference is this function's.
            if Arc::strong_count(&places) > CONNECTIONS {
                return refuse(stream);
            }
            let place = Arc::clone(&places);
            let talk = move || {
                // Whoever has gone wants no answer.
                let _closed = talk(stream, &jobs);
                drop(place);
            };
            thread::Builder::new().spawn(talk).map(|_handle| ())
        });
        if let Err(error) = talking {
            // Out of files or threads: others are about to give theirs back.
            log::warn!("a connection is not served: {error}");
            thread::sleep(PAUSE);
        }
    }
}

/// Says that there are too many connections.
fn refuse(mut stream: UnixStream) -> io::Result<()> {
    let why = format!(
        "`sgctl serve` has {CONNECTIONS} connections, and takes no more; close one, or use one for many edits"
    );
    // Its buffer is empty, so this does not wait.
    let _closed = write_line(&mut stream, &Answer::Failed(why));
    Ok(())
}

/// One connection: request and answer in turn.
fn talk(stream: UnixStream, jobs: &Sender<Job>) -> io::Result<()> {
    let peer = Author::of_peer(&stream)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let length = (&mut reader).take(LONGEST).read_until(b'\n', &mut line)?;
        if length == 0 || line.len() as u64 == LONGEST {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<EditRequest>(&line) {
            Ok(request) => {
                // Who they are is not theirs to say; why, is.
                let author = Author { message: request.author.message, ..peer.clone() };
                let (answers, answer) = channel();
                let request = EditRequest { author, ..request };
                jobs.send((request, answers)).map_err(io::Error::other)?;
                answer.recv().map_err(io::Error::other)?
            }
            Err(error) => Answer::Failed(format!("not a request: {error}")),
        };
        write_line(&mut writer, &answer)?;
    }
}

/// Makes changes, each of all that has arrived during the one before.
fn work(paths: &Paths, queue: &Receiver<Job>) {
    let mut kept = None;
    while let Ok(first) = queue.recv() {
        let others = queue.try_iter().take(BATCH - 1);
        let (requests, answers): (Vec<_>, Vec<_>) = std::iter::once(first).chain(others).unzip();
        let results = change(paths, &mut kept, &requests);
        for (answer, result) in answers.iter().zip(results) {
            let result = match result {
                Ok(edited) => Answer::Done(edited),
                Err(error) => Answer::Failed(message(&error)),
            };
            // Its connection may have gone.
            let _closed = answer.send(result);
        }
    }
}

fn change(
    paths: &Paths,
    kept: &mut Option<Controller>,
    requests: &[EditRequest],
) -> Vec<Result<Edited, KernelError>> {
    let opened = Lock::take(&paths.lock()).and_then(|lock| {
        let controller = match kept.take().filter(|kept| kept.is_current(paths)) {
            Some(controller) => controller,
            None => Controller::open(paths, &lock)?,
        };
        Ok((lock, controller))
    });
    match opened {
        Ok((_lock, mut controller)) => {
            // A look at the change costs a copy of the tables: it is for policies with `tests:`.
            let tests: Option<Reviewer<'_>> =
                (!controller.policy().tests.is_empty()).then_some(&policy_tests::hold);
            let results = controller.commit(paths, requests, tests);
            *kept = Some(controller);
            results
        }
        Err(error) => refused(requests, &error),
    }
}
