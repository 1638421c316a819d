//! What Debian's own tools say of the package.

use std::process::Command;

use crate::machine::{PACKAGES, Release, World, output};
use crate::package;

on_both_releases! {
    lintian_has_nothing_to_complain_of,
    autopkgtest_passes,
}

fn lintian_has_nothing_to_complain_of(release: Release) {
    let root = release.root(&PACKAGES);
    let world = World::new();
    let package = world.file("tunnel64d.deb");
    std::fs::copy(package::built(), &package).expect("a copy");
    // The package lies in the root's /mnt, for this test's eyes only.
    world.shell(&format!(
        "mkdir seen; mv tunnel64d.deb seen; mount --bind seen {}/mnt",
        root.display()
    ));
    let said = output(
        Command::new("chroot").arg(&root).args(["env", "LC_ALL=C.UTF-8", "HOME=/tmp"]).args([
            "lintian",
            "--allow-root",
            "--fail-on=error,warning",
            "--tag-display-limit=0",
            "/mnt/tunnel64d.deb",
        ]),
    );
    println!("{said}");
    world.shell(&format!("umount {}/mnt", root.display()));
}

fn autopkgtest_passes(release: Release) {
    let world = World::new();
    let near = world.boot("near", release);
    near.copy(&package::built(), "/root/tunnel64d.deb");
    near.run("mkdir -p /root/source/debian/tests");
    for file in ["control", "changelog", "tests/control", "tests/tunnel", "tests/service"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("debian").join(file);
        near.copy(&path, &format!("/root/source/debian/{file}"));
    }
    // The machine is one that tests may do anything to; the null runner can't know.
    let said = near.run("cd /root && autopkgtest -B --ignore-restrictions=isolation-machine tunnel64d.deb source/ -- null");
    for test in ["tunnel", "service"] {
        let passed = |line: &str| line.starts_with(test) && line.ends_with("PASS");
        assert!(said.lines().any(passed), "{said}");
    }
}
