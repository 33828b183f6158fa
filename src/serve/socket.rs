//! The sockets of a server: Unix and TCP, its own and inherited ones.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::error::{Error, Kind, Result};
use crate::host::folder_of;
use crate::text::printable_path;

/// The longest path of a socket: `sun_path` has 108 bytes, and the last one is zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// A connected socket.
#[derive(Debug)]
pub struct Stream(Kinds<UnixStream, TcpStream>);

/// A socket that clients connect to. The file of a Unix socket that it made goes away with it.
#[derive(Debug)]
pub struct Listener {
    socket: Kinds<UnixListener, TcpListener>,
    /// The file of the socket, with its device and number.
    file: Option<(PathBuf, (u64, u64))>,
}

/// What a descriptor of a parent is.
#[derive(Debug)]
pub enum Inherited {
    /// Clients connect to it.
    Listener(Listener),
    /// A client is at its other end.
    Stream(Stream),
}

#[derive(Debug)]
enum Kinds<U, T> {
    Unix(U),
    Tcp(T),
}

impl Listener {
    /// A new Unix socket at `path`, which only its owner may use. A socket there that no server listens to any more is
    /// replaced; anything else is left alone.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a path that is too long or taken, [`Kind::Output`] where there can be no socket.
    pub fn unix(path: &Path) -> Result<Self> {
        let length = path.as_os_str().as_bytes().len();
        if length > LONGEST_PATH {
            return Err(Error::new(Kind::Usage, "the path of the socket is too long")
                .at(path)
                .expected(format!("at most {LONGEST_PATH} bytes"))
                .found(format!("{length} bytes"))
                .why("the kernel stores it in 108 bytes (unix(7))")
                .hint("take a shorter one, or one that is relative to the current directory; a client has to be there too"));
        }
        make_way(path)?;
        let failed = |error| Error::io(Kind::Output, "cannot make the socket", path, error);
        // Between bind and chmod anybody could connect. So it is made in a folder that only its owner enters, and appears
        // in its place with its final mode.
        let parent = folder_of(path);
        let folder = tempfile::Builder::new()
            .prefix(".socket")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(failed)?;
        let near = folder.path().join("s");
        // If that is too long for a socket, the open folder has a short name too.
        let open = File::open(folder.path()).map_err(failed)?;
        let short = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join("s");
        let fits = near.as_os_str().as_bytes().len() <= LONGEST_PATH;
        let socket = UnixListener::bind(if fits { &near } else { &short }).map_err(failed)?;
        std::fs::set_permissions(&near, Permissions::from_mode(0o600)).map_err(failed)?;
        let meta = std::fs::symlink_metadata(&near).map_err(failed)?;
        std::fs::hard_link(&near, path).map_err(failed)?;
        Ok(Self { socket: Kinds::Unix(socket), file: Some((path.to_owned(), (meta.dev(), meta.ino()))) })
    }

    /// A new TCP socket. Everybody who reaches this address can read what is served.
    ///
    /// # Errors
    /// [`Kind::Output`] where the address cannot be used.
    pub fn tcp(address: SocketAddr) -> Result<Self> {
        let socket = TcpListener::bind(address).map_err(|error| {
            let used = error.kind() == io::ErrorKind::AddrInUse;
            Error::new(Kind::Output, "cannot listen at this address")
                .found(address)
                .because(error)
                .or_hint(used.then_some("take another port; 0 is any free one"))
        })?;
        Ok(Self { socket: Kinds::Tcp(socket), file: None })
    }

    /// The URI by which clients find the export `name` (NetworkBlockDevice/nbd, doc/uri.md). A socket at a relative path whose
    /// whole path is too long has a URI with the path as it was given, for clients in the same directory.
    ///
    /// # Errors
    /// [`Kind::Output`] where the socket has no address that it can tell.
    pub fn uri(&self, name: &str) -> Result<String> {
        let failed = |error| Error::new(Kind::Output, "the socket has no address").because(error);
        let name = escaped(name.as_bytes());
        match &self.socket {
            Kinds::Tcp(socket) => Ok(format!("nbd://{}/{name}", socket.local_addr().map_err(failed)?)),
            Kinds::Unix(socket) => {
                let address = socket.local_addr().map_err(failed)?;
                let own = self.file.as_ref().map(|(path, _)| path.as_path());
                let path = own.or(address.as_pathname()).ok_or_else(|| {
                    Error::new(Kind::Output, "the socket has no path, so that it has no URI")
                })?;
                // No client connects to a path that is too long.
                let whole = std::path::absolute(path).map_err(failed)?;
                let fits = whole.as_os_str().as_bytes().len() <= LONGEST_PATH;
                let path = if fits { whole.as_path() } else { path };
                Ok(format!("nbd+unix:///{name}?socket={}", escaped(path.as_os_str().as_bytes())))
            }
        }
    }

    /// The next client.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Kinds::Unix(socket) => socket.accept().map(|(stream, _)| Stream(Kinds::Unix(stream))),
            Kinds::Tcp(socket) => {
                let (stream, _) = socket.accept()?;
                // A reply is sent when it is there and not when the next one is.
                stream.set_nodelay(true)?;
                Ok(Stream(Kinds::Tcp(stream)))
            }
        }
    }

    /// Lets [`Listener::accept`] return where there is no client.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match &self.socket {
            Kinds::Unix(socket) => socket.set_nonblocking(true),
            Kinds::Tcp(socket) => socket.set_nonblocking(true),
        }
    }
}

/// Removes a socket at `path` that nobody listens to.
fn make_way(path: &Path) -> Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let taken = |what: &str| {
        Err(Error::new(Kind::Usage, what).at(path).hint("take another path, or remove what is there"))
    };
    if !meta.file_type().is_socket() {
        return taken("there is something else at the path of the socket");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|error| Error::io(Kind::Output, "cannot replace the socket", path, error)),
        _ => taken("another server listens at this socket"),
    }
}

/// Everything but letters, digits and `-._~/` as `%XX` (RFC 3986, 2.1 and 3.4).
fn escaped(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, id)) = &self.file else { return };
        let own = std::fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == *id);
        if own {
            // If it cannot be removed, the next server finds that nobody listens to it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Kinds::Unix(socket) => socket.as_fd(),
            Kinds::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl Inherited {
    /// A socket that a parent has opened.
    ///
    /// # Errors
    /// [`Kind::Usage`] where it is of a kind that does not carry the protocol.
    pub fn over(descriptor: OwnedFd) -> Result<Self> {
        let refused = |found: &str| {
            Error::new(Kind::Usage, "the descriptor is nothing to serve on")
                .expected("a Unix or TCP socket that carries a stream")
                .found(found)
        };
        let kind = sockopt::socket_type(&descriptor).map_err(|_| refused("something else than a socket"))?;
        if kind != SocketType::STREAM {
            return Err(refused("a socket that carries no stream"));
        }
        let failed =
            |error: rustix::io::Errno| refused("a socket that says nothing of itself").because(error);
        let listens = sockopt::socket_acceptconn(&descriptor).map_err(failed)?;
        let family = sockopt::socket_domain(&descriptor).map_err(failed)?;
        let unix = match family {
            AddressFamily::UNIX => true,
            AddressFamily::INET | AddressFamily::INET6 => false,
            _ => return Err(refused("a socket of another family")),
        };
        // What this process starts has no use for it.
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).map_err(failed)?;
        // A parent may have set that, for itself or by accident.
        rustix::io::ioctl_fionbio(&descriptor, false).map_err(failed)?;
        Ok(match (listens, unix) {
            (true, true) => Self::Listener(Listener { socket: Kinds::Unix(descriptor.into()), file: None }),
            (true, false) => Self::Listener(Listener { socket: Kinds::Tcp(descriptor.into()), file: None }),
            (false, true) => Self::Stream(Stream(Kinds::Unix(descriptor.into()))),
            (false, false) => Self::Stream(Stream(Kinds::Tcp(descriptor.into()))),
        })
    }

    /// The socket of socket activation: the one descriptor that the environment variables LISTEN_FDS and LISTEN_PID tell
    /// (sd_listen_fds(3)). `None` if they tell of none for this process.
    ///
    /// # Errors
    /// [`Kind::Usage`] for several sockets, and as [`Inherited::over`].
    pub fn activated() -> Result<Option<Self>> {
        let number = |name: &str| -> Option<u32> { std::env::var(name).ok()?.parse().ok() };
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Ok(None);
        }
        let count = number("LISTEN_FDS");
        // The descriptors begin at 3. One that is not open must not become ours: another file may get its number later.
        let open = std::fs::symlink_metadata("/proc/self/fd/3").is_ok();
        if count != Some(1) || !open {
            let told = std::env::var_os("LISTEN_FDS").unwrap_or_default();
            return Err(Error::new(Kind::Usage, "socket activation gives one socket here")
                .expected("LISTEN_FDS=1, and descriptor 3")
                .found(if open { printable_path(told) } else { "no descriptor 3".to_owned() }));
        }
        let sockets = sd_listen_fds::get()
            .map_err(|error| Error::new(Kind::Usage, "socket activation failed").because(error))?;
        let Some((_, socket)) = sockets.into_iter().next() else { return Ok(None) };
        Self::over(socket.into_std()).map(Some)
    }

    /// Descriptor `number` of this process, which its parent left open.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is none, and as [`Inherited::over`].
    pub fn numbered(number: u16) -> Result<Self> {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
        if number == 0 {
            let own = rustix::io::dup(std::io::stdin());
            return Self::over(own.map_err(|error| none_such(number).because(error))?);
        }
        // The only way to a descriptor by its number that needs no promise of the caller (pidfd_getfd(2)).
        let own = pidfd_open(getpid(), PidfdFlags::empty())
            .and_then(|own| pidfd_getfd(own, number.into(), PidfdGetfdFlags::empty()));
        match own {
            Ok(socket) => Self::over(socket),
            Err(error @ (rustix::io::Errno::PERM | rustix::io::Errno::NOSYS)) => {
                Err(Error::new(Kind::Usage, "this system does not hand out descriptors by their number")
                    .because(error)
                    .hint("give the socket as standard input, descriptor 0, or by socket activation"))
            }
            Err(error) => Err(none_such(number).because(error)),
        }
    }
}

fn none_such(number: u16) -> Error {
    Error::new(Kind::Usage, "there is no such descriptor").found(number)
}

impl Stream {
    /// Two connected sockets, for a client in the same process or one that inherits the other end.
    ///
    /// # Errors
    /// [`Kind::Output`] where the process can have no more files open.
    pub fn pair() -> Result<(Self, UnixStream)> {
        let (own, other) = UnixStream::pair()
            .map_err(|error| Error::new(Kind::Output, "cannot make a pair of sockets").because(error))?;
        Ok((Self(Kinds::Unix(own)), other))
    }

    /// The socket itself, for calls that send files.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kinds::Unix(stream) => stream.as_fd(),
            Kinds::Tcp(stream) => stream.as_fd(),
        }
    }

    /// Ends the conversation, for both sides and every thread.
    pub(super) fn shutdown(&self) {
        // It fails if the other side was faster.
        let _ = match &self.0 {
            Kinds::Unix(stream) => stream.shutdown(Shutdown::Both),
            Kinds::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for &Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kinds::Unix(stream) => (&mut &*stream).read(out),
            Kinds::Tcp(stream) => (&mut &*stream).read(out),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kinds::Unix(stream) => (&mut &*stream).write(bytes),
            Kinds::Tcp(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
