//! Accepts clients, gives each a thread, and ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Hear, converse};
use super::exports::{Export, Exports};
use super::socket::{Listener, Stream};
use crate::error::{Error, Kind, Result};
use crate::units::u64_of;

/// Files that one client may keep open: its socket, and what a [`Cursor`](crate::image::Cursor) holds.
const FILES_OF_ONE: u64 = 24;

/// Files for everything else.
const FILES_BESIDE: u64 = 64;

/// The most clients at a time, however many files may be open: each has a thread and a buffer.
const MOST_CLIENTS: u64 = 256;

/// Bytes of a thread's stack. Settling a digest starts threads of its own, and nothing here is deep.
const STACK: usize = 1 << 20;

/// How long to wait for files to be closed when the process has no more.
const PAUSE: Duration = Duration::from_millis(50);

/// How many sources that failed are remembered, so that each is told once.
const FAILED: usize = 1024;

/// Bytes of requests that are read ahead: clients send several at once.
const AHEAD: usize = 4096;

/// What a server reports while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client has connected.
    Connected {
        /// Its number, from 1.
        client: u64,
    },
    /// It reads this export from now on.
    Chosen {
        /// Its number.
        client: u64,
        /// The name of the export.
        export: &'a str,
    },
    /// It has left.
    Left {
        /// Its number.
        client: u64,
        /// How many requests it got answered.
        requests: u64,
        /// How many bytes it read.
        bytes: u64,
        /// What it did that the protocol forbids.
        fault: Option<&'a str>,
    },
    /// Bytes cannot be read: a source changed or vanished. Each source is reported once.
    Failed {
        /// The client that asked for them.
        client: u64,
        /// Why.
        error: &'a Error,
    },
}

/// Receives what a server reports, on any thread.
type Log = dyn Fn(&Event<'_>) + Send + Sync;

/// Asks servers to end. All clones are one.
#[derive(Clone, Debug)]
pub struct Stop(Arc<(UnixStream, UnixStream)>);

impl Stop {
    /// One that nobody has used.
    ///
    /// # Errors
    /// [`Kind::Output`] where the process can have no more files open.
    pub fn new() -> Result<Self> {
        UnixStream::pair()
            .and_then(|pair| {
                pair.0.set_nonblocking(true)?;
                pair.1.set_nonblocking(true)?;
                Ok(Self(Arc::new(pair)))
            })
            .map_err(|error| Error::new(Kind::Output, "cannot make a pair of sockets").because(error))
    }

    /// Ends every server that has this.
    pub fn now(&self) {
        // If it is full, it was used before.
        let _ = (&self.0.0).write(&[1]);
    }

    /// A socket that ends the servers once a byte is written to it: for handlers of signals.
    ///
    /// # Errors
    /// [`Kind::Output`] where the process can have no more files open.
    pub fn waker(&self) -> Result<UnixStream> {
        self.0
            .0
            .try_clone()
            .map_err(|error| Error::new(Kind::Output, "cannot watch for signals").because(error))
    }

    /// Waits until it is used, or `file` can be read or was closed by its other side. Whether it was used.
    ///
    /// # Errors
    /// [`Kind::Output`] where the system cannot wait.
    pub fn wait_with(&self, file: impl AsFd) -> Result<bool> {
        loop {
            let ready = waits(&[&self.0.1, &file], None).map_err(failed)?;
            if ready.contains(&true) {
                return Ok(ready[0]);
            }
        }
    }

    /// Whether it was used.
    #[must_use]
    pub fn is_now(&self) -> bool {
        waits(&[&self.0.1], Some(Duration::ZERO)).is_ok_and(|ready| ready[0])
    }
}

/// Serves [`Exports`] to clients, each in a thread of its own.
///
/// ```
/// use diskwright::image::Builder;
/// use diskwright::serve::{Exports, Listener, Server, Stop};
/// use diskwright::units::Bytes;
///
/// # let folder = tempfile::tempdir()?;
/// # let socket = folder.path().join("socket");
/// let image = Builder::new(Bytes::new(1 << 20)).finish()?;
/// let server = Server::new(Exports::of(&image)?);
/// let (listener, stop) = (Listener::unix(&socket)?, Stop::new()?);
/// std::thread::scope(|scope| {
///     let serving = scope.spawn(|| server.serve_on(&listener, &stop));
///     // Clients come and go here.
///     stop.now();
///     serving.join()
/// }).map_err(|_| "the server panicked")??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    exports: Exports,
    once: bool,
    log: Box<Log>,
    /// The sources that were reported.
    failed: Mutex<BTreeSet<PathBuf>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("exports", &self.exports)
            .field("once", &self.once)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server of `exports`.
    #[must_use]
    pub fn new(exports: Exports) -> Self {
        Self { exports, once: false, log: Box::new(|_| ()), failed: Mutex::default() }
    }

    /// The same, which ends when the last client has left that chose an export.
    #[must_use]
    pub fn once(self, once: bool) -> Self {
        Self { once, ..self }
    }

    /// The same, which reports to `log`.
    #[must_use]
    pub fn log(self, log: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self { log: Box::new(log), ..self }
    }

    /// What it serves.
    #[must_use]
    pub const fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Serves the one client at the other end of `stream`, until it leaves or `stop` is used.
    ///
    /// # Errors
    /// [`Kind::Output`] where the system gives no thread.
    pub fn serve_one(&self, stream: Stream, stop: &Stop) -> Result<()> {
        let clients = Clients::new().map_err(failed)?;
        std::thread::scope(|scope| {
            let clients = &clients;
            self.welcome(scope, clients, stream).map_err(failed)?;
            let done = loop {
                match waits(&[&stop.0.1, &clients.left.1], None) {
                    Ok(ready) if ready.contains(&true) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            clients.end();
            done.map_err(failed)
        })
    }

    /// Serves one client over any stream, until it leaves or the stream fails.
    pub fn serve_stream(&self, input: impl Read, output: impl Write) {
        struct Silent<'a>(&'a Server);
        impl Hear for Silent<'_> {
            fn chosen(&mut self, export: &Export) {
                (self.0.log)(&Event::Chosen { client: 1, export: export.name() });
            }

            fn failed(&mut self, error: &Error) {
                if self.0.is_new(error) {
                    (self.0.log)(&Event::Failed { client: 1, error });
                }
            }
        }
        converse(&self.exports, input, output, None, &mut Silent(self));
    }

    /// Serves everybody who connects to `listener`, until `stop` is used.
    ///
    /// # Errors
    /// [`Kind::Output`] where the listener fails. A failure of one client ends that client alone.
    pub fn serve_on(&self, listener: &Listener, stop: &Stop) -> Result<()> {
        listener.set_nonblocking().map_err(failed)?;
        let clients = Clients::new().map_err(failed)?;
        std::thread::scope(|scope| {
            let done = self.accept(scope, listener, stop, &clients);
            clients.end();
            done.map_err(failed)
        })
    }

    fn accept<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        listener: &Listener,
        stop: &Stop,
        clients: &'scope Clients,
    ) -> io::Result<()> {
        loop {
            let full = clients.is_full();
            let listening: &[&dyn AsFd] = &[&stop.0.1, &clients.left.1, listener];
            let ready = waits(if full { &listening[..2] } else { listening }, None)?;
            let is = |at: usize| ready.get(at) == Some(&true);
            if is(0) {
                return Ok(());
            }
            if is(1) && clients.have_left() && self.once {
                return Ok(());
            }
            if !is(2) {
                continue;
            }
            match listener.accept().and_then(|stream| {
                clients.make_way();
                self.welcome(scope, clients, stream)
            }) {
                Ok(()) => {}
                // Another server of the same socket was faster, or the client left before it was let in (accept(2)).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_passing(&error) => {
                    clients.dismiss();
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives a client its thread.
    fn welcome<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        clients: &'scope Clients,
        stream: Stream,
    ) -> io::Result<()> {
        let stream = Arc::new(stream);
        let client = clients.enter(Arc::clone(&stream));
        let spawned = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
            (self.log)(&Event::Connected { client });
            let mut ear = Ear { server: self, clients, client };
            let input = BufReader::with_capacity(AHEAD, &*stream);
            let talk = converse(&self.exports, input, &*stream, Some(stream.socket()), &mut ear);
            stream.shutdown();
            (self.log)(&Event::Left {
                client,
                requests: talk.requests,
                bytes: talk.bytes,
                fault: talk.fault,
            });
            clients.leave(client);
        });
        spawned.map(|_| ()).inspect_err(|_| clients.leave(client))
    }

    /// Whether a failure of this source was not reported yet.
    fn is_new(&self, error: &Error) -> bool {
        let mut failed = locked(&self.failed);
        match error.path() {
            Some(path) if failed.len() < FAILED => failed.insert(path.to_owned()),
            Some(path) => !failed.contains(path),
            None => true,
        }
    }
}

/// What one client's conversation reports to.
struct Ear<'a> {
    server: &'a Server,
    clients: &'a Clients,
    client: u64,
}

impl Hear for Ear<'_> {
    fn chosen(&mut self, export: &Export) {
        self.clients.chosen(self.client);
        (self.server.log)(&Event::Chosen { client: self.client, export: export.name() });
    }

    fn failed(&mut self, error: &Error) {
        if self.server.is_new(error) {
            (self.server.log)(&Event::Failed { client: self.client, error });
        }
    }
}

/// The clients that are connected.
#[derive(Debug)]
struct Clients {
    list: Mutex<List>,
    /// Each client that leaves writes a byte to the first; the second wakes the server.
    left: (UnixStream, UnixStream),
    most: u64,
}

#[derive(Debug, Default)]
struct List {
    /// By number, so that the oldest is the first; with whether it has chosen an export.
    connected: BTreeMap<u64, (Arc<Stream>, bool)>,
    last: u64,
    /// Whether any client has chosen an export.
    served: bool,
}

impl Clients {
    fn new() -> io::Result<Self> {
        let left = UnixStream::pair()?;
        left.0.set_nonblocking(true)?;
        left.1.set_nonblocking(true)?;
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (files.saturating_sub(FILES_BESIDE) / FILES_OF_ONE).clamp(1, MOST_CLIENTS);
        Ok(Self { list: Mutex::default(), left, most })
    }

    fn enter(&self, stream: Arc<Stream>) -> u64 {
        let mut list = locked(&self.list);
        list.last += 1;
        let number = list.last;
        list.connected.insert(number, (stream, false));
        number
    }

    fn chosen(&self, number: u64) {
        let mut list = locked(&self.list);
        list.served = true;
        if let Some((_, chosen)) = list.connected.get_mut(&number) {
            *chosen = true;
        }
    }

    fn leave(&self, number: u64) {
        locked(&self.list).connected.remove(&number);
        // If it is full, the server is awake.
        let _ = (&self.left.0).write(&[1]);
    }

    /// Whether there is no space for another one, not even if a silent one is dismissed.
    fn is_full(&self) -> bool {
        let list = locked(&self.list);
        u64_of(list.connected.len()) >= self.most && list.connected.values().all(|(_, chosen)| *chosen)
    }

    /// Dismisses the oldest client that has chosen nothing, if there are as many as can be.
    fn make_way(&self) {
        if u64_of(locked(&self.list).connected.len()) >= self.most {
            self.dismiss();
        }
    }

    /// Dismisses the oldest client that has chosen nothing.
    fn dismiss(&self) {
        let mut list = locked(&self.list);
        let silent = list.connected.iter().find(|(_, (_, chosen))| !chosen).map(|(number, _)| *number);
        if let Some((stream, _)) = silent.and_then(|silent| list.connected.remove(&silent)) {
            stream.shutdown();
        }
    }

    /// Takes note that clients have left. Whether that was the last one, and one of all has chosen an export.
    fn have_left(&self) -> bool {
        let mut heard = [0; 64];
        while matches!((&self.left.1).read(&mut heard), Ok(64)) {}
        let list = locked(&self.list);
        list.served && list.connected.is_empty()
    }

    /// Ends all conversations.
    fn end(&self) {
        locked(&self.list).connected.values().for_each(|(stream, _)| stream.shutdown());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: io::Error) -> Error {
    Error::new(Kind::Output, "the socket failed").because(error)
}

/// Whether accepting or a thread failed for want of something that comes back: files, memory, threads; or for what only the
/// client is to blame (accept(2), "Error handling").
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
    ];
    Errno::from_io_error(error).is_some_and(|error| passing.contains(&error))
}

/// Waits until one of `files` can be read, and says which; none after a signal.
fn waits(files: &[&dyn AsFd], most: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        files.iter().map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)).collect();
    let most = most.map(|most| Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    });
    match poll(&mut polled, most.as_ref()) {
        Ok(_) => Ok(polled.iter().map(|file| !file.revents().is_empty()).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![false; files.len()]),
        Err(error) => Err(error.into()),
    }
}
