"""
The Debian package, from a file on the minion or from a repository.

.. code-block:: yaml

    tunnel64d:
      tunnel64d_package.installed:
        - path: /var/cache/tunnel64d/tunnel64d.deb
        - version: 0.1.0
"""

import os

from salt.exceptions import CommandExecutionError


def installed(name, path=None, version=None, source_hash=None, refresh=True):
    """
    The package ``name`` is installed, from the file ``path``, or else from a repository that apt
    knows. Running tunnels are not touched.

    version
        the one version to have, or ``latest``. Without it: that of the file, or, from a
        repository, whatever is installed.
    source_hash
        of the file, such as ``sha256=…``; one with another is refused. (Salt itself does not look
        at the hash of a file that comes from its own file server.)
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        now = _installed(name)
        if path and source_hash and os.path.exists(path):
            _demand_hash(path, source_hash)
        new = _offered(name, path, version, now, refresh)
        if new is not None and new == now:
            ret["comment"] = f"{name} {now} is installed."
            return ret
        ret["changes"] = {name: {"old": now or None, "new": new or "the version found then"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} {new or ''} would be installed.")
            return ret
        if path:
            _install_file(path)
        else:
            __salt__["pkg.install"](name, version=new, refresh=refresh)
        now = _installed(name)
        if now != new:
            raise CommandExecutionError(f"{name}: {now or 'nothing'} is installed, not {new}")
    except CommandExecutionError as error:
        ret.update(result=False, changes={}, comment=f"{name}: {error}")
        return ret
    ret["comment"] = f"{name} {new} was installed."
    return ret


def _installed(name):
    """The version that is there; empty for none, and for what was removed or is half there."""
    asked = _run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name])
    status, version = asked["stdout"][:3], asked["stdout"][3:]
    return version if asked["retcode"] == 0 and status == "ii " else ""


def _offered(name, path, version, now, refresh):
    """The version to have; None when that can't be known yet."""
    if not path:
        if version not in (None, "latest"):
            return version
        if version is None and now:
            return now
        offered = __salt__["pkg.latest_version"](name, refresh=refresh and not __opts__["test"])
        if offered or now:
            return offered or now
        if __opts__["test"]:
            return None
        raise CommandExecutionError("no repository that apt knows has it")
    if not os.path.exists(path):
        if __opts__["test"]:
            return None if version == "latest" else version
        raise CommandExecutionError(f"{path}: no such file")
    fields = _run(["dpkg-deb", "-f", path, "Package", "Version"])
    if fields["retcode"] != 0:
        raise CommandExecutionError(f"{path}: no Debian package: {fields['stderr']}")
    found = dict(line.split(": ", 1) for line in fields["stdout"].splitlines())
    if found["Package"] != name:
        raise CommandExecutionError(f"{path}: this is the package {found['Package']}")
    if version not in (None, "latest", found["Version"]):
        raise CommandExecutionError(
            f"{path}: this is version {found['Version']}, but the pillar wants {version}"
        )
    return found["Version"]


def _demand_hash(path, source_hash):
    kind, wanted = source_hash.split("=")
    found = __salt__["file.get_hash"](path, kind)
    # A test looks at the file that was there before the one that is to come.
    if found != wanted.lower() and not __opts__["test"]:
        raise CommandExecutionError(
            f"{path}: its {kind} is {found}, but the pillar's source_hash says {wanted}"
        )


def _install_file(path):
    """Salt's own pkg.install refuses a file that is older than what is there."""
    ended = __salt__["cmd.run_all"](
        ["apt-get", "-q", "-y", "--allow-downgrades", "-o", "DPkg::Lock::Timeout=120",
         "-o", "DPkg::Options::=--force-confold", "-o", "DPkg::Options::=--force-confdef",
         "-o", "Dpkg::Use-Pty=0", "install", path],
        python_shell=False,
        ignore_retcode=True,
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    if ended["retcode"] != 0:
        errors = [line for line in ended["stderr"].splitlines() if line.startswith("E: ")]
        raise CommandExecutionError("\n".join(errors) or ended["stderr"] or ended["stdout"])


def _run(command):
    return __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)
