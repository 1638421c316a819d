//! The socket's file: `RUNTIME_DIR/NAME.sock`, for root and the group `tunnel64d`.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Group, chown};
use socket2::{Domain, SockAddr, Socket, Type};

/// Who else may ask.
const GROUP: &str = "tunnel64d";

/// How long a daemon may take to accept, before it counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon answers there.
    #[error(
        "tunnel {name} runs already: something answers on {}. Stop that one first, or give this \
         one another --runtime-dir",
        .path.display()
    )]
    Running {
        /// The instance.
        name: String,
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{}: is there, and no socket: remove it", .0.display())]
    Taken(PathBuf),
    /// The directory or the file in it can't be made.
    #[error(
        "{}: {source}: make a directory that this process may write to, or name one with \
         --runtime-dir",
        .path.display()
    )]
    Unavailable {
        /// What can't be made.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
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
}

/// The file of the instance `name`.
pub fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.sock"))
}

/// The instances that have a socket in this directory, sorted.
///
/// # Errors
/// The directory can't be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".sock"));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Connects, and gives up when nobody accepts in time.
///
/// # Errors
/// `ConnectionRefused` and `NotFound` when nobody listens, `WouldBlock` when nobody accepts.
pub fn connect(path: &Path, patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

impl Bound {
    /// Listens for the instance `name`, in place of a daemon that is gone. The directory is made
    /// if only its parent is there.
    ///
    /// # Errors
    /// [`Error`]
    pub fn new(directory: &Path, name: &str) -> Result<Self, Error> {
        let path = path(directory, name);
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::Unavailable { path: directory.to_owned(), source });
            }
            _ => {}
        }
        match connect(&path, PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if fs::symlink_metadata(&path).is_ok_and(|file| !file.file_type().is_socket()) {
                    return Err(Error::Taken(path));
                }
            }
            Ok(_) => return Err(Error::Running { name: name.to_owned(), path }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Running { name: name.to_owned(), path });
            }
            Err(source) => return Err(Error::Unavailable { path, source }),
        }
        Self::bind(directory, name, &path).map_err(|source| Error::Unavailable { path, source })
    }

    /// The listener, and what removes its file when it is dropped.
    pub fn into_parts(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }

    /// It gets its name when all is right with it: whoever sees it may connect, or may not.
    fn bind(directory: &Path, name: &str, path: &Path) -> io::Result<Self> {
        let unfinished = directory.join(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&unfinished);
        let listener = UnixListener::bind(&unfinished)?;
        let metadata = fs::symlink_metadata(&unfinished)?;
        let mut file = File { path: unfinished, identity: (metadata.dev(), metadata.ino()) };
        fs::set_permissions(&file.path, Permissions::from_mode(0o660))?;
        if let Ok(Some(group)) = Group::from_name(GROUP) {
            // Root may; anybody else who runs the daemon by hand keeps a group of their own.
            let _ = chown(&file.path, None, Some(group.gid));
        }
        listener.set_nonblocking(true)?;
        fs::rename(&file.path, path)?;
        file.path = path.to_owned();
        Ok(Self { listener, file })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let ours = |file: fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // What stays behind is replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_with_its_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("run");
        let bound = Bound::new(&directory, "tun0").unwrap();
        let mode = fs::metadata(path(&directory, "tun0")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(names(&directory).unwrap(), ["tun0"], "nothing is left of its making");
        drop(bound);
        assert!(names(&directory).unwrap().is_empty());
    }

    #[test]
    fn a_daemon_that_runs_is_not_pushed_aside_and_one_that_is_gone_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = Bound::new(directory.path(), "tun0").unwrap();
        let second = Bound::new(directory.path(), "tun0").unwrap_err();
        assert!(matches!(&second, Error::Running { name, .. } if name == "tun0"), "{second}");
        assert!(Bound::new(directory.path(), "tun1").is_ok(), "another tunnel is no obstacle");
        // As after kill -9: the file is there, and nobody listens.
        let (listener, file) = first.into_parts();
        drop(listener);
        let third = Bound::new(directory.path(), "tun0").unwrap();
        drop(file);
        assert!(connect(&path(directory.path(), "tun0"), PATIENCE).is_ok(), "it is the third's");
        drop(third);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path(), "tun0"), "text").unwrap();
        let error = Bound::new(directory.path(), "tun0").unwrap_err();
        assert!(matches!(error, Error::Taken(_)), "{error}");
        let nowhere = Bound::new(&directory.path().join("a/b"), "tun0").unwrap_err();
        assert!(nowhere.to_string().contains("--runtime-dir"), "{nowhere}");
    }
}
