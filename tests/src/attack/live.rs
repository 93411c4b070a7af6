//! Conversations that are under way while an attack goes on, with both ends in our hands.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::range::Target;
use crate::net::Host;

/// Longest that a message may be on its way, lost packets included.
const PATIENCE: Duration = Duration::from_secs(10);
const MESSAGE: [u8; 16] = *b"still with us? \n";

/// TCP connections that the client opened.
#[derive(Debug)]
pub(super) struct Connections {
    listener: Socket,
    to: SocketAddr,
    /// The client's end and the server's.
    pub(super) pairs: Vec<(TcpStream, TcpStream)>,
}

impl Connections {
    /// Opens them, and says something in each.
    pub(super) fn open(target: &Target<'_>, to: SocketAddr, count: usize) -> Result<Self> {
        let server = target.server().ns();
        let listener = server
            .run(|| Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)))?;
        listener.set_reuse_address(true)?;
        listener.bind(&to.into()).with_context(|| format!("binding to {to}"))?;
        listener.listen(1024)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        let mut connections = Self { listener, to, pairs: Vec::new() };
        for _ in 0..count {
            let pair = connections.connect(target.client(), PATIENCE)?;
            connections.pairs.push(pair.context("a connection before the attack")?);
        }
        anyhow::ensure!(connections.alive()? == count, "not every connection carries data");
        Ok(connections)
    }

    /// One more connection; none if it does not come about.
    pub(super) fn connect(
        &self,
        client: &Host,
        limit: Duration,
    ) -> Result<Option<(TcpStream, TcpStream)>> {
        let Ok(near) = client.ns().run(|| TcpStream::connect_timeout(&self.to, limit)) else {
            return Ok(None);
        };
        let local = near.local_addr()?;
        self.listener.set_read_timeout(Some(limit))?;
        // Others may have been waiting: an attempt that was given up, say.
        while let Ok((far, from)) = self.listener.accept() {
            if from.as_socket() == Some(local) {
                let far = TcpStream::from(far);
                for stream in [&near, &far] {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                }
                return Ok(Some((near, far)));
            }
        }
        Ok(None)
    }

    /// How many of them carry data both ways.
    pub(super) fn alive(&mut self) -> Result<usize> {
        let there = carry(self.pairs.iter().map(|(near, far)| (near, far)));
        let back = carry(self.pairs.iter().map(|(near, far)| (far, near)));
        Ok(there.iter().zip(back).filter(|(there, back)| **there && *back).count())
    }

    /// Tries until a stranger's connection carries data both ways; how long that took.
    pub(super) fn time_to_connect(
        &self,
        client: &Host,
        limit: Duration,
    ) -> Result<Option<Duration>> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some((near, far)) = self.connect(client, Duration::from_secs(2))?
                && carry([(&near, &far)].into_iter()) == [true]
                && carry([(&far, &near)].into_iter()) == [true]
            {
                return Ok(Some(started.elapsed()));
            }
        }
        Ok(None)
    }
}

/// Says something in each of them at once; which arrived as it was sent.
pub(super) fn carry<'s>(ways: impl Iterator<Item = (&'s TcpStream, &'s TcpStream)>) -> Vec<bool> {
    let ways: Vec<_> = ways.collect();
    let sent: Vec<_> = ways
        .iter()
        .map(|(from, _)| {
            let mut from: &TcpStream = from;
            from.write_all(&MESSAGE).is_ok()
        })
        .collect();
    let started = Instant::now();
    ways.iter()
        .zip(sent)
        .map(|((_, to), sent)| sent && receive(to, PATIENCE.saturating_sub(started.elapsed())))
        .collect()
}

fn receive(mut stream: &TcpStream, limit: Duration) -> bool {
    let started = Instant::now();
    let (mut heard, mut buffer) = (Vec::new(), [0; MESSAGE.len()]);
    while heard.len() < MESSAGE.len() {
        match stream.read(&mut buffer[heard.len()..]) {
            Ok(0) => return false,
            Ok(length) => {
                let from = heard.len();
                heard.extend_from_slice(&buffer[from..from + length]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if started.elapsed() >= limit {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return false,
        }
    }
    heard == MESSAGE
}

/// UDP flows that the server opened to the client, at a port that no rule lets back in.
#[derive(Debug)]
pub(super) struct Streams {
    server: Vec<UdpSocket>,
    client: UdpSocket,
}

impl Streams {
    pub(super) fn open(target: &Target<'_>, count: usize) -> Result<Self> {
        let client = target.client().socket_v4(9999);
        let peer = target.client().ns().run(|| UdpSocket::bind(client))?;
        let open = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(client)?;
            Ok(socket)
        };
        let server =
            target.server().ns().run(|| (0..count).map(|_| open()).collect::<Result<_, _>>())?;
        let streams = Self { server, client: peer };
        streams.speak()?;
        anyhow::ensure!(streams.hear_unasked()? == count, "not every UDP flow is answered");
        Ok(streams)
    }

    /// How many hear from the client what they did not ask for.
    pub(super) fn hear_unasked(&self) -> Result<usize> {
        for socket in &self.server {
            self.client.send_to(&MESSAGE, socket.local_addr()?)?;
        }
        let started = Instant::now();
        let mut heard = 0;
        for socket in &self.server {
            let left = Duration::from_secs(5).saturating_sub(started.elapsed());
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut buffer = [0; MESSAGE.len()];
            let hears = socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == MESSAGE);
            heard += usize::from(hears);
        }
        Ok(heard)
    }

    fn speak(&self) -> Result<()> {
        self.client.set_read_timeout(Some(PATIENCE))?;
        for socket in &self.server {
            socket.send(&MESSAGE)?;
            let mut buffer = [0; MESSAGE.len()];
            self.client.recv_from(&mut buffer).context("the client hears nothing")?;
        }
        Ok(())
    }
}

/// Room for two sockets of each connection.
pub(super) fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}
