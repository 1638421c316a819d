//! A Unix socket that listens: its file, for owner and group, and the lock that keeps others from
//! it.
//!
//! ```text
//! DIRECTORY/NAME          the socket
//! DIRECTORY/.NAME         the same while it is made: it gets its name when all is right with it
//! DIRECTORY/.NAME.lock    locked (flock(2)) for as long as the socket is there; has the process's id
//! ```
//!
//! What a process that was killed leaves behind is in nobody's way: the kernel takes the lock back,
//! and whoever has the lock may replace the socket if nobody answers there.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Group, Uid, chown, fchown};
use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect: owner and group.
const MODE: u32 = 0o660;

/// Why a socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process has it.
    #[error("{}: in use by {}", .path.display(), named(*.process))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The process, if it has left its name.
        process: Option<u32>,
    },
    /// Something else is there.
    #[error("{}: is there, and no socket: remove it", .0.display())]
    Taken(PathBuf),
    /// It can't be made.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What can't be made.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A process in words.
pub fn named(process: Option<u32>) -> String {
    process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InUse { .. } | Error::Taken(_) => io::ErrorKind::AddrInUse,
            Error::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    file: File,
}

/// A socket's file, which goes when this is dropped.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// Device and inode, so that nobody else's is removed.
    identity: (u64, u64),
    _lock: Lock,
}

impl Bound {
    /// Listens at this path, in place of a process that is gone. The file is this group's if there
    /// is one and we may give it away, else that of new files in this directory.
    ///
    /// # Errors
    /// [`Error`]
    pub fn new(path: &Path, group: Option<&str>) -> Result<Self, Error> {
        let lock = Lock::take(path)?;
        let io = |source| Error::Io { path: path.to_owned(), source };
        if is_answered(path).map_err(io)? {
            // It has no lock: it is another program, or the lock was removed.
            return Err(Error::InUse { path: path.to_owned(), process: None });
        }
        if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
            return Err(Error::Taken(path.to_owned()));
        }
        Self::bind(path, group, lock).map_err(io)
    }

    /// The listener, and what removes its file when it is dropped.
    pub fn into_parts(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }

    fn bind(path: &Path, group: Option<&str>, lock: Lock) -> io::Result<Self> {
        let unfinished = beside(path, "");
        let _ = fs::remove_file(&unfinished);
        let listener = UnixListener::bind(&unfinished)?;
        let identity = admit(&unfinished, group)?;
        let mut file = File { path: unfinished, identity, _lock: lock };
        listener.set_nonblocking(true)?;
        fs::rename(&file.path, path)?;
        file.path = path.to_owned();
        Ok(Self { listener, file })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What stays behind is replaced by the next process.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects, and gives up when nobody accepts in time.
///
/// # Errors
/// `ConnectionRefused` and `NotFound` when nobody listens, `WouldBlock` when nobody accepts.
pub fn connect(path: &Path, patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The kernel takes none for no limit.
    socket.set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Whether somebody listens there. One that accepts nobody, because it hangs, does as well.
fn is_answered(path: &Path) -> io::Result<bool> {
    match connect(path, Duration::ZERO) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
            _ => Err(error),
        },
    }
}

/// Lets owner and group connect to the socket at this path. Gives its device and inode.
fn admit(path: &Path, group: Option<&str>) -> io::Result<(u64, u64)> {
    // Whoever owns the directory may replace it at any time. What is changed is what was looked at:
    // chmod(2) takes a descriptor without access to the file by this name alone.
    let mut options = OpenOptions::new();
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("somebody else has replaced it while it was made"));
    }
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(&opened, Permissions::from_mode(MODE))?;
    if let Some(Ok(Some(group))) = group.map(Group::from_name) {
        // Root may; anybody else who runs the daemon by hand keeps a group of their own.
        let _ = chown(opened.as_str(), None, Some(group.gid));
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// The right to a path, for as long as it lives.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: Flock<fs::File>,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, Error> {
        let path = beside(socket, ".lock");
        let io = |source| Error::Io { path: path.clone(), source };
        loop {
            let file = open(&path).map_err(io)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    // The one before may have removed it after it was opened: then the next one
                    // would lock another file.
                    let metadata = file.metadata().map_err(io)?;
                    if identity(&path).ok() != Some((metadata.dev(), metadata.ino())) {
                        continue;
                    }
                    // The lock holds without a name, which a file system that is full doesn't take.
                    let _ = sign(&mut file);
                    return Ok(Self { path, _file: file });
                }
                Err((file, Errno::EWOULDBLOCK)) => {
                    let (path, process) = (socket.to_owned(), signature(file));
                    return Err(Error::InUse { path, process });
                }
                Err((_, error)) => return Err(io(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: nobody else has it, and it is the file of this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the lock's file, which nobody but the owner of the directory can lock, and root.
fn open(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // Whatever is there instead of a file, nobody waits for it.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.nlink() > 1 {
        // Root would give away, and empty, a file that has its place elsewhere.
        let reason = format!("{} is a link to another file; remove it", path.display());
        return Err(io::Error::other(reason));
    }
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    if file.metadata()?.uid() != directory.uid() {
        // What root leaves behind must not be in the way of the service's user.
        let owner = (Uid::from_raw(directory.uid()), Gid::from_raw(directory.gid()));
        let _ = fchown(&file, Some(owner.0), Some(owner.1));
    }
    Ok(file)
}

/// Leaves this process's id for those who come too late.
fn sign(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// The process whose id is there. It may be left from one before, and another program's by now.
fn signature(file: fs::File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.parse().ok().filter(|id: &u32| program(&id.to_string()) == program("self"))
}

/// The name of a process's program.
fn program(process: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/comm")).ok()
}

/// The hidden file of the same name.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(extension);
    path.with_file_name(name)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
