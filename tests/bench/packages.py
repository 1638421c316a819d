"""Peers as Debian built them, unpacked for this benchmark and not installed: no service starts, and
the machine's own apt configuration stays as it is."""

import os
import shutil
from pathlib import Path

from lab import Failed, run

# Where Debian keeps administration tools, also for those who are not root.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])

SOURCES = """Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


class Unavailable(Exception):
    """Why a peer is not measured, in one line."""


class Program:
    """A command, the environment it needs, and the package and version it is from."""

    def __init__(self, path, package, version, libraries=()):
        self.path = Path(path)
        self.package = package
        self.version = version
        self.libraries = libraries

    def command(self, *arguments):
        """The command line; libraries that came with the package are found through env(1), which
        becomes the program."""
        if not self.libraries:
            return [self.path, *arguments]
        found = os.pathsep.join(map(str, self.libraries))
        return ["env", f"LD_LIBRARY_PATH={found}", self.path, *arguments]


def program(name, package, store, suite=None):
    """The command `name` of a Debian package: the machine's own when it is installed and any build
    will do, else unpacked under `store`, with the libraries that the machine lacks."""
    if suite is None and (installed := shutil.which(name, path=PATH)):
        return Program(installed, package, installed_version(package))
    root = Path(store) / (f"{package}-{suite}" if suite else package)
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        (root / "archives/partial").mkdir(parents=True)
        try:
            download(package, root, suite)
            for archive in (root / "archives").glob("*.deb"):
                run(["dpkg-deb", "-x", archive, root])
        except (Failed, OSError) as failure:
            raise Unavailable(f"{package}: {reason(failure)}") from failure
        (root / "complete").touch()
    for directory in ("usr/sbin", "usr/bin", "sbin", "bin"):
        if (root / directory / name).exists():
            libraries = sorted({library.parent for library in root.glob("**/*.so.*")})
            return Program(root / directory / name, package, archive_version(package, root), libraries)
    raise Unavailable(f"{package}: has no {name}")


def download(package, root, suite):
    if suite is None:
        # apt leaves out what is installed, so these are the package and what it lacks here.
        command = ["apt-get", "-y", "-q", "--no-install-recommends", "--download-only",
                   "-o", f"Dir::Cache::archives={root}/archives", "install", package]
        try:
            run(command, 120)
        except Failed:
            run(["apt-get", "-q", "update"], 120)
            run(command, 120)
        return
    for directory in ("lists/partial", "cache", "parts"):
        (root / directory).mkdir(parents=True)
    (root / "debian.sources").write_text(SOURCES.format(suite=suite))
    private = ["-o", f"Dir::Etc::sourcelist={root}/debian.sources",
               "-o", f"Dir::Etc::sourceparts={root}/parts",
               "-o", f"Dir::State::lists={root}/lists",
               "-o", f"Dir::Cache={root}/cache",
               "-o", "APT::Sandbox::User=root"]
    run(["apt-get", "-q", *private, "update"], 120)
    run(["apt-get", "-q", *private, "download", package], 120, cwd=root / "archives")
    shutil.rmtree(root / "lists")
    shutil.rmtree(root / "cache")


def installed_version(package):
    try:
        return run(["dpkg-query", "-W", "-f", "${Version}", package])
    except (Failed, OSError):
        return "not from a package"


def archive_version(package, root):
    archives = list((root / "archives").glob(f"{package}_*.deb"))
    return run(["dpkg-deb", "-f", archives[0], "Version"]).strip() if archives else "?"


def reason(error):
    """The line of a failed command's output that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    blamed = [line for line in lines if line.lower().startswith(("e:", "error"))]
    return (blamed or lines or [type(error).__name__])[-1]
