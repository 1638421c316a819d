"""
The tunnels of tunnel64d on this minion.

What a minion tells about its keys is the public half: nothing here returns a private key, so none
gets into a job's result, the mine, or the master's cache.

:maintainer: tunnel64d maintainers
:platform: Linux with systemd
"""

import glob
import json
import math
import os
import re
import subprocess
import tempfile
import time

import salt.utils.path
from salt.exceptions import CommandExecutionError

CONFIG_DIR = "/etc/tunnel64d"
# Atop the files that Salt writes, to know them by.
HEADER = "# Written by Salt, from the pillar tunnel64d:tunnels:{}.\n"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def __virtual__():
    # Also without the daemon: in its first run the formula installs it and goes on from there.
    return True


def tunnels():
    """
    The names of the tunnels that have a configuration here.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.tunnels
    """
    return sorted(
        name
        for name in (os.path.basename(path)[: -len(".toml")] for path in _files("*.toml"))
        if name != "tunnel64d"
    )


def ours():
    """
    The names of the tunnels whose configuration Salt has written.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.ours
    """
    written = []
    for name in tunnels():
        with open(os.path.join(CONFIG_DIR, f"{name}.toml"), encoding="utf-8") as file:
            if file.readline() == HEADER.format(name):
                written.append(name)
    return written


def status(name=None):
    """
    How a tunnel is, or each: its unit's state, whether it starts at boot, whether the peer is
    connected, and in a line why, or why not. Under ``daemon`` is all that the daemon itself tells.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.status
        salt 'gw1' tunnel64d.status tun0
    """
    if name is None:
        return {name: status(name) for name in tunnels()}
    shown = _properties(name, "ActiveState", "UnitFileState", "MainPID")
    daemon = _asked(name)
    problems = [problem["text"] for problem in daemon.get("problems", [])]
    return {
        "state": shown["ActiveState"],
        "enabled": shown["UnitFileState"] == "enabled",
        "connected": daemon.get("state") == "up",
        "says": "; ".join(problems) or daemon.get("summary") or shown["ActiveState"],
        "pid": int(shown["MainPID"] or 0),
        "daemon": daemon,
    }


def down():
    """
    The tunnels that should run, since they start at boot, and have no connection: each with the
    reason. Empty when all is well; what a monitoring asks for.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.down
    """
    return {
        name: found["says"]
        for name, found in status().items()
        if found["enabled"] and not found["connected"]
    }


def wait_connected(name=None, timeout=30):
    """
    Wait until a tunnel, or each that is enabled, has its peer; an error after ``timeout`` seconds.

    CLI Example:

    .. code-block:: bash

        salt 'gw*' tunnel64d.wait_connected tun0 timeout=60
    """
    names = [name] if name else [each for each in tunnels() if status(each)["enabled"]]
    deadline = time.monotonic() + int(timeout)
    for each in names:
        left = max(0, math.ceil(deadline - time.monotonic()))
        ended = _run(["status", _name(each), "--json", "--wait-connected", str(left)])
        if ended["retcode"] != 0:
            reason = status(each)["says"]
            raise CommandExecutionError(f"{each}: not connected after {timeout} s: {reason}")
    return True


def check(name):
    """
    The mistakes in a tunnel's configuration as it lies on this minion, all layers of it; none when
    it is valid.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.check tun0
    """
    return _check([_name(name)])


def check_config(name, config):
    """
    The mistakes in a configuration that is given as data, by key.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.check_config tun0 '{link: {listen: "172.16.2.131"}}'
    """
    text = toml(config)
    with tempfile.TemporaryDirectory(prefix="tunnel64d-") as directory:
        path = os.path.join(directory, f"{_name(name)}.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        place = re.compile(re.escape(path) + r":(\d+: )? ?")
        return [place.sub("", mistake) for mistake in _check(["--config", path])]


def reload(name):
    """
    Have the daemon apply its configuration without a restart; the keys that it has changed. An
    error, with the reasons, when it can't: the old configuration is still in force then.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.reload tun0
    """
    asked = try_reload(name)
    if asked["reasons"]:
        raise CommandExecutionError("\n".join([f"{name}: not reloaded", *asked["reasons"]]))
    return asked["changed"]


def try_reload(name):
    """
    As :py:func:`reload`, with the reasons as data: ``changed``, ``reasons``, and whether a restart
    would help.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.try_reload tun0
    """
    ended = _run(["reload", _name(name)])
    reasons = [] if ended["retcode"] == 0 else _last_words(ended).splitlines()
    # One that does not answer may be of a version that knew nothing of this.
    helps = ended["retcode"] > 1 or any("needs a restart" in reason for reason in reasons)
    changed = [line for line in ended["stdout"].splitlines() if line != "nothing changed"]
    return {"changed": changed, "reasons": reasons, "restart_helps": bool(reasons) and helps}


def pubkey(name="tun0"):
    """
    The public key that belongs to a tunnel's private key: what the peer is configured with.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.pubkey tun0
    """
    name = _name(name)
    path = _key_files().get(name, os.path.join(CONFIG_DIR, f"{name}.key"))
    if path is None:
        raise CommandExecutionError(
            f"{name}: by its pillar it has no key file: of a credential, ask `tunnel64d pubkey` "
            "where the key was made; in plaintext there is none"
        )
    return pubkey_of(path)


def pubkeys():
    """
    The public keys of all tunnels of this minion, by name: for the mine.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.pubkeys
    """
    keys = {}
    for name, path in _key_files().items():
        try:
            if path:
                keys[name] = pubkey_of(path)
        except CommandExecutionError:
            # One that is missing, or of another kind, must not keep the good ones from the peers.
            continue
    return keys


def pubkey_of(path):
    """
    The public key of a private key file.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.pubkey_of /etc/tunnel64d/tun0.key
    """
    # The file is the daemon's input: the private key never gets into this process.
    try:
        with open(path, "rb") as file:
            ended = subprocess.run(
                [binary(), "pubkey"], stdin=file, capture_output=True, text=True, check=False
            )
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from error
    if ended.returncode != 0:
        why = ended.stderr.strip().replace("stdin: ", "")
        raise CommandExecutionError(
            f"{path}: no key: {why} (remove the file to have another key made)"
        )
    return ended.stdout.strip()


def make_key(path):
    """
    Make a private key where no file is, and return its public key. A file that is there is never
    touched.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.make_key /etc/tunnel64d/tun0.key
    """
    directory = os.path.dirname(path)
    # Complete before it has its name: a minion that is killed leaves no half key behind.
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".key-", dir=directory)
    except OSError as error:
        raise CommandExecutionError(f"{path}: no key can be made: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            subprocess.run([binary(), "genkey"], stdout=file, check=True)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError as error:
        raise CommandExecutionError(f"{path}: is there already") from error
    except subprocess.CalledProcessError as error:
        raise CommandExecutionError(f"{path}: tunnel64d genkey failed: {error}") from error
    finally:
        os.unlink(temporary)
    return pubkey_of(path)


def toml(config):
    """
    A tunnel's configuration, given as data in the shape of its file, as TOML. A key without a value
    is left out, so that a pillar can take back what another one has set.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.toml '{link: {listen: "172.16.2.131"}}'
    """
    if not isinstance(config, dict):
        raise CommandExecutionError(f"a configuration is a mapping of sections, not {config!r}")
    lines = []
    for section, keys in __salt__["tunnel64d_pillar.valued"](config).items():
        if not isinstance(keys, dict):
            lines.insert(0, f"{_key(section)} = {_value(keys)}")
            continue
        tables = {key: value for key, value in keys.items() if _is_table(value)}
        lines.extend(["", f"[{_key(section)}]"])
        lines.extend(f"{_key(key)} = {_value(keys[key])}" for key in keys if key not in tables)
        for key, table in tables.items():
            lines.extend(["", f"[{_key(section)}.{_key(key)}]"])
            lines.extend(f"{_key(name)} = {_value(value)}" for name, value in table.items())
    return "\n".join(lines).strip("\n") + "\n"


def file_of(name, config):
    """
    The text of a tunnel's file, as the formula writes it.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.file_of tun0 '{link: {listen: "172.16.2.131"}}'
    """
    return f"{HEADER.format(_name(name))}\n{toml(config)}"


def version():
    """
    The version of the daemon that is installed.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.version
    """
    ended = _run(["--version"])
    return ended["stdout"].split()[-1]


def outdated(name):
    """
    Whether a tunnel still runs what an upgrade has replaced.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.outdated tun0
    """
    pid = status(name)["pid"]
    if not pid:
        return False
    try:
        running, installed = os.stat(f"/proc/{pid}/exe"), os.stat(binary())
    except FileNotFoundError:
        return False
    return (running.st_dev, running.st_ino) != (installed.st_dev, installed.st_ino)


def pending(name, stamp):
    """
    Whether configuration or key are newer than what the daemon has read: than its start, and than
    ``stamp``, the file that tells when it was last reloaded.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.pending tun0 /run/tunnel64d.applied/tun0
    """
    shown = _properties(name, "MainPID", "ExecMainStartTimestampMonotonic")
    if not int(shown["MainPID"] or 0):
        return False
    read = time.time() - time.monotonic() + int(shown["ExecMainStartTimestampMonotonic"]) / 1e6
    if os.path.exists(stamp):
        read = max(read, os.stat(stamp).st_mtime)
    files = [os.path.join(CONFIG_DIR, f"{name}.toml"), _key_files().get(name)]
    return any(file and os.path.exists(file) and os.stat(file).st_mtime > read for file in files)


def binary():
    """
    Where the daemon's program is; an error that says what to do when it is nowhere.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.binary
    """
    found = salt.utils.path.which("tunnel64d")
    if not found:
        raise CommandExecutionError(
            "tunnel64d is not installed on this minion: apply the state tunnel64d.package first"
        )
    return found


def _run(arguments):
    return __salt__["cmd.run_all"]([binary(), *arguments], python_shell=False, ignore_retcode=True)


def _check(arguments):
    ended = _run(["check", *arguments])
    if ended["retcode"] == 0:
        return []
    return [line for line in ended["stderr"].splitlines() if line] or [_last_words(ended)]


def _last_words(ended):
    text = (ended["stderr"] or ended["stdout"]).strip()
    return text or f"exit status {ended['retcode']}, and no word about it"


def _asked(name):
    try:
        told = json.loads(_run(["status", name, "--json"])["stdout"])
    except (CommandExecutionError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _properties(name, *properties):
    shown = __salt__["cmd.run_all"](
        ["systemctl", "show", f"--property={','.join(properties)}", unit(name)],
        python_shell=False,
        ignore_retcode=True,
    )
    found = dict.fromkeys(properties, "")
    found.update(line.split("=", 1) for line in shown["stdout"].splitlines() if "=" in line)
    return found


def unit(name):
    """
    The systemd unit of a tunnel.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d.unit tun0
    """
    return f"tunnel64d@{_name(name)}.service"


def _name(name):
    if not NAME.match(str(name)):
        raise CommandExecutionError(
            f"{name!r} is no name for a tunnel: letters, digits, '.', '-' and '_', such as tun0"
        )
    return str(name)


def _key_files():
    """
    Where each tunnel's private key lies: by the pillar, or else by the name of the file; None where
    the pillar says that it has none.
    """
    found = {os.path.basename(path)[: -len(".key")]: path for path in _files("*.key")}
    # Outside of templates pillar.get masks what it gives, from Salt 3008 on.
    given = __pillar__.get("tunnel64d")
    listed = given.get("tunnels") if isinstance(given, dict) else None
    for name, tunnel in listed.items() if isinstance(listed, dict) else ():
        if isinstance(tunnel, dict):
            found[name] = __salt__["tunnel64d_pillar.key_file"](name, tunnel)
    return found


def _files(pattern):
    return sorted(glob.glob(os.path.join(CONFIG_DIR, pattern)))


def _key(key):
    key = str(key)
    return key if BARE_KEY.match(key) else _text(key)


def _is_table(value):
    """Entries with keys of their own, as routes have, read better a line each."""
    return isinstance(value, dict) and any(isinstance(each, dict) for each in value.values())


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return _text(str(value))


def _text(text):
    # TOML knows JSON's strings, but no halves of surrogate pairs, and no bare DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
