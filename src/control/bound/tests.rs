use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::*;

fn somewhere() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tun0.sock");
    (directory, path)
}

fn files(directory: &TempDir) -> Vec<OsString> {
    let mut files: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    files
}

#[test]
fn it_is_for_owner_and_group_and_leaves_nothing_behind() {
    let (directory, path) = somewhere();
    let bound = Bound::new(&path, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
    let lock = directory.path().join(".tun0.sock.lock");
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600);
    assert_eq!(files(&directory), [".tun0.sock.lock", "tun0.sock"]);
    drop(bound);
    assert!(files(&directory).is_empty());
}

#[test]
fn a_group_that_is_named_gets_it_and_else_the_one_of_the_directory() {
    let (directory, path) = somewhere();
    let ours = Gid::from_raw(4711);
    if chown(directory.path(), None, Some(ours)).is_err() {
        return; // Nobody but root gives files away.
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o2770)).unwrap();
    let group = |name| {
        let _bound = Bound::new(&path, name).unwrap();
        fs::metadata(&path).unwrap().gid()
    };
    let tty = Group::from_name("tty").unwrap().unwrap().gid;
    assert_eq!(group(None), ours.as_raw());
    assert_eq!(group(Some("tty")), tty.as_raw());
    assert_eq!(group(Some("no such group")), ours.as_raw());
}

#[test]
fn a_lock_that_is_another_file_is_refused_and_the_file_left_alone() {
    let (directory, path) = somewhere();
    let precious = directory.path().join("precious");
    fs::write(&precious, "kept").unwrap();
    fs::hard_link(&precious, directory.path().join(".tun0.sock.lock")).unwrap();
    let error = Bound::new(&path, None).unwrap_err();
    assert!(error.to_string().contains("remove it"), "{error}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
}

/// Whoever owns the directory may put something else in the place of what was made.
#[test]
fn nothing_else_is_made_accessible_in_its_place() {
    let (directory, path) = somewhere();
    let precious = directory.path().join("precious");
    fs::write(&precious, "").unwrap();
    fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&precious, &path).unwrap();
    assert!(admit(&path, None).is_err());
    assert!(admit(&precious, None).is_err());
    // Neither is a socket that a link leads to.
    fs::remove_file(&precious).unwrap();
    let _listener = UnixListener::bind(&precious).unwrap();
    fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
    assert!(admit(&path, None).is_err());
    assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o777, 0o600);
    assert!(admit(&precious, None).is_ok());
    assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o777, MODE);
}

#[test]
fn of_many_that_come_at_once_after_a_crash_one_gets_it() {
    const MANY: usize = 8;
    for _ in 0..50 {
        let (_directory, path) = somewhere();
        drop(UnixListener::bind(&path).unwrap());
        let (ready, tried) = (Barrier::new(MANY), Barrier::new(MANY));
        let got = thread::scope(|scope| {
            let one = || {
                ready.wait();
                let bound = Bound::new(&path, None);
                tried.wait();
                bound.map(|_| ()).map_err(|error| assert!(matches!(error, Error::InUse { .. })))
            };
            let all: Vec<_> = (0..MANY).map(|_| scope.spawn(one)).collect();
            all.into_iter().filter_map(|one| one.join().unwrap().ok()).count()
        });
        assert_eq!(got, 1);
    }
}

#[test]
fn whoever_has_it_is_named_also_before_it_listens() {
    let (_directory, path) = somewhere();
    let lock = Lock::take(&path).unwrap();
    let error = Bound::new(&path, None).unwrap_err().to_string();
    let us = format!("in use by process {}", std::process::id());
    assert!(error.ends_with(&us), "{error}");
    drop(lock);
    assert!(Bound::new(&path, None).is_ok());
}

#[test]
fn another_program_is_not_named() {
    let (directory, path) = somewhere();
    let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let lock = directory.path().join(".tun0.sock.lock");
    fs::write(&lock, other.id().to_string()).unwrap();
    let locked = Flock::lock(open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
    let error = Bound::new(&path, None).unwrap_err();
    assert!(matches!(error, Error::InUse { process: None, .. }), "{error}");
    drop(locked);
    drop(other.stdin.take());
    other.wait().unwrap();
}

/// As on a file system that is full; a pipe can't be written like a file either.
#[test]
fn a_lock_that_takes_no_name_is_a_lock() {
    let (directory, path) = somewhere();
    let lock = directory.path().join(".tun0.sock.lock");
    nix::unistd::mkfifo(&lock, Mode::from_bits_truncate(0o600)).unwrap();
    let bound = Bound::new(&path, None).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    let error = Bound::new(&path, None).unwrap_err();
    assert!(matches!(error, Error::InUse { process: None, .. }), "{error}");
    drop(bound);
    assert!(files(&directory).is_empty());
}

#[test]
fn what_a_killed_process_left_is_replaced() {
    let (directory, path) = somewhere();
    drop(UnixListener::bind(&path).unwrap());
    drop(UnixListener::bind(directory.path().join(".tun0.sock")).unwrap());
    fs::write(directory.path().join(".tun0.sock.lock"), "4711").unwrap();
    let bound = Bound::new(&path, None).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(bound);
    assert!(files(&directory).is_empty());
}

#[test]
fn what_another_program_serves_or_keeps_there_is_left_alone() {
    let (directory, path) = somewhere();
    let other = UnixListener::bind(&path).unwrap();
    let error = Bound::new(&path, None).unwrap_err();
    assert!(matches!(error, Error::InUse { process: None, .. }), "{error}");
    drop(other);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let error = Bound::new(&path, None).unwrap_err();
    assert!(matches!(error, Error::Taken(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(files(&directory), ["tun0.sock"]);
}

#[test]
fn what_has_taken_its_place_stays() {
    let (_directory, path) = somewhere();
    let bound = Bound::new(&path, None).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(bound);
    assert!(UnixStream::connect(&path).is_ok());
}
