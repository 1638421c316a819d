//! The control socket of an instance: `RUNTIME_DIR/NAME.sock`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::bound::{self, Bound, named};

/// Who may ask, besides root and the user that the daemon runs as.
const GROUP: &str = "tunnel64d";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.words())]
pub struct Error {
    /// The instance.
    name: String,
    why: bound::Error,
}

impl Error {
    /// Whether another daemon has it.
    pub fn is_running(&self) -> bool {
        matches!(self.why, bound::Error::InUse { .. })
    }

    /// What is in the way, and the way out.
    fn words(&self) -> String {
        let Self { name, why } = self;
        match why {
            bound::Error::InUse { path, process } => format!(
                "tunnel {name} runs already: {} has {}. Stop that one first, `systemctl stop \
                 tunnel64d@{name}`{}, or give this one another --runtime-dir",
                named(*process),
                path.display(),
                by_hand(*process)
            ),
            bound::Error::Taken(_) => why.to_string(),
            bound::Error::Io { .. } => format!(
                "{why}: make a directory that this process may write to, or name one with \
                 --runtime-dir"
            ),
        }
    }
}

fn by_hand(process: Option<u32>) -> String {
    process.map(|id| format!(" or `kill {id}`")).unwrap_or_default()
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

/// Listens for the instance `name`, in place of a daemon that is gone. The directory is made if only
/// its parent is there.
///
/// # Errors
/// [`Error`]
pub fn bind(directory: &Path, name: &str) -> Result<Bound, Error> {
    let error = |why| Error { name: name.to_owned(), why };
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error(bound::Error::Io { path: directory.to_owned(), source }));
        }
        _ => {}
    }
    Bound::new(&path(directory, name), Some(GROUP)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_made_and_only_what_is_whole_counts_as_an_instance() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("run");
        let bound = bind(&directory, "tun0").unwrap();
        assert_eq!(names(&directory).unwrap(), ["tun0"]);
        drop(bound);
        assert!(names(&directory).unwrap().is_empty());
    }

    #[test]
    fn a_second_daemon_is_told_of_the_first_and_of_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let first = bind(directory.path(), "tun0").unwrap();
        let second = bind(directory.path(), "tun0").unwrap_err().to_string();
        let id = std::process::id();
        for words in [
            "tunnel tun0 runs already",
            &format!("process {id} has {}", path(directory.path(), "tun0").display()),
            &format!("`systemctl stop tunnel64d@tun0` or `kill {id}`"),
            "--runtime-dir",
        ] {
            assert!(second.contains(words), "{words}: {second}");
        }
        assert!(bind(directory.path(), "tun1").is_ok(), "another tunnel is no obstacle");
        drop(first);
        assert!(bind(directory.path(), "tun0").is_ok());
    }

    #[test]
    fn what_is_in_the_way_is_told_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path(directory.path(), "tun0"), "text").unwrap();
        let error = bind(directory.path(), "tun0").unwrap_err();
        assert!(matches!(error.why, bound::Error::Taken(_)), "{error}");
        let nowhere = bind(&directory.path().join("a/b"), "tun0").unwrap_err();
        assert!(nowhere.to_string().contains("--runtime-dir"), "{nowhere}");
    }
}
