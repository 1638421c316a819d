//! The package under test, and others made from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{Machine, PACKAGES, Release, World, output};

/// The package as it was built.
pub fn built() -> PathBuf {
    let named = std::env::var_os("E2E_PACKAGE").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian/tunnel64d.deb")
    });
    assert!(path.exists(), "{} is not there: `make deb` builds it", path.display());
    path
}

/// The package with another version number and another binary, after `change`, a shell script that
/// runs where the package lies unpacked.
pub fn other_version(world: &World, version: &str, change: &str) -> PathBuf {
    let unpacked = world.file(&format!("unpacked-{version}"));
    let package = world.file(&format!("tunnel64d_{version}.deb"));
    output(Command::new("dpkg-deb").arg("-R").arg(built()).arg(&unpacked));
    let script = format!(
        "sed -i 's/^Version: .*/Version: {version}/' DEBIAN/control
         printf '\\n{version}\\n' >>usr/bin/tunnel64d
         {change}"
    );
    output(Command::new("bash").args(["-euc", &script]).current_dir(&unpacked));
    output(
        Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&unpacked).arg(&package),
    );
    fs::remove_dir_all(unpacked).expect("a directory of ours");
    package
}

/// Boots a machine in which the package is installed, once for all tests.
pub fn boot_installed<'w>(world: &'w World, name: &'static str, release: Release) -> Machine<'w> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/installed");
    let mut command = Command::new(installed);
    command.arg(release.root(&PACKAGES)).arg(built());
    world.boot_from(name, output(&mut command).trim())
}

impl Machine<'_> {
    /// `apt-get install`, as an administrator would: gives what it printed.
    pub fn install(&self, package: &Path) -> String {
        self.try_install(package).unwrap_or_else(|text| panic!("{}: {text}", package.display()))
    }

    /// As [`Machine::install`], for packages that are meant to fail.
    pub fn try_install(&self, package: &Path) -> Result<String, String> {
        self.copy(package, "/root/tunnel64d.deb");
        self.attempt("apt-get -o Dpkg::Use-Pty=0 install -y --reinstall --allow-downgrades /root/tunnel64d.deb")
    }
}
