//! What root can read, and the daemon, which its unit runs as a user of its own, can't.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, getgrouplist};

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
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
    let groups = getgrouplist(&CString::new(USER).ok()?, user.gid).unwrap_or_default();
    let class = if Uid::from_raw(owner) == user.uid {
        6
    } else if groups.contains(&Gid::from_raw(group)) {
        3
    } else {
        0
    };
    let needed = if metadata.is_dir() { 0o5 } else { 0o4 };
    let mode = mode & 0o7777;
    (mode >> class & needed != needed)
        .then(|| format!("it has owner {owner}, group {group} and mode {mode:04o}"))
}

/// The first file among these, or directory of one, that the daemon can't read, and what to do.
pub fn among<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<(String, String)> {
    files.into_iter().find_map(|file| {
        file.parent().into_iter().chain([file]).find_map(|path| {
            let why = for_the_daemon(path)?;
            let (shown, mode) = (path.display(), if path.is_dir() { 750 } else { 640 });
            let remedy = format!("`chown root:{USER} {shown}` and `chmod {mode} {shown}`");
            Some((format!("{shown}: the daemon can't read it: {why}"), remedy))
        })
    })
}
