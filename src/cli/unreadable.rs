//! What root can read, and the daemon, which its unit runs as a user of its own, can't.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User};

/// The user that the unit runs the daemon as, and its group.
pub const USER: &str = "tunnel64d";

/// Why the daemon can't read a file or a directory; `None` when it can, or when that is not to be
/// known: nobody but root reads what others can't, and without systemd there is no such user.
pub fn for_the_daemon(path: &Path) -> Option<String> {
    if !Uid::effective().is_root() || !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let user = User::from_name(USER).ok().flatten()?;
    let metadata = fs::metadata(path).ok()?;
    let needed: &[&str] = if metadata.is_dir() { &["-r", "-x"] } else { &["-r"] };
    // Modes are not all there is: the kernel knows of access control lists as well.
    let may = |what: &&str| {
        let mut test = Command::new("/usr/bin/test");
        test.arg(what).arg(path).uid(user.uid.as_raw()).gid(user.gid.as_raw());
        test.status().map_or(true, |status| status.success())
    };
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    (!needed.iter().all(may))
        .then(|| format!("it has owner {owner}, group {group} and mode {mode:04o}"))
}

/// The first of these files and directories that the daemon can't read, and what to do.
pub fn among(paths: &[PathBuf]) -> Option<(String, String)> {
    paths.iter().find_map(|path| {
        let why = for_the_daemon(path)?;
        let (shown, mode) = (path.display(), if path.is_dir() { 750 } else { 640 });
        let remedy = format!("`chown root:{USER} {shown}` and `chmod {mode} {shown}`");
        Some((format!("{shown}: the daemon can't read it: {why}"), remedy))
    })
}
