"""
Tunnels of tunnel64d, and the routes that lead to them.

.. code-block:: yaml

    /etc/tunnel64d/tun0.key:
      tunnel64d.key_present: []

    tun0:
      tunnel64d.running:
        - wait_connected: 30

    fc00:1234:4::/64:
      tunnel64d.route_present:
        - via: fc00:1234:3::1
        - dev: eth2
"""

import os
import time

from salt.exceptions import CommandExecutionError

# Says when a daemon was last reloaded from here; a boot empties it, and starts the daemons anew.
STAMPS = "/run/tunnel64d-salt"
# What a start may take that does not wait for the peer.
PATIENCE = 30


def key_present(name, group="tunnel64d", mode="0640"):
    """
    There is a private key in the file ``name``, which root may write and ``group`` may read. It is
    made here, once; a key that is there stays, whatever it is.
    """
    if os.path.exists(name):
        return _key_kept(name, group, mode)
    ret = _ret(name, "A private key was made.")
    ret["changes"]["public key"] = {"old": None, "new": "will be made here"}
    if __opts__["test"]:
        return _foreseen(ret, "A private key would be made.")
    try:
        ret["changes"]["public key"]["new"] = __salt__["tunnel64d.make_key"](name)
    except CommandExecutionError as error:
        return _failed(ret, error)
    __salt__["file.check_perms"](name, None, "root", group, mode)
    return ret


def config_present(name, config, problems=(), group="tunnel64d", mode="0640"):
    """
    ``/etc/tunnel64d/NAME.toml`` says what ``config`` does, data in the shape of the file. The
    daemon's own check has to accept it before the file that is there is touched. ``problems``
    were found before: with any, nothing is.
    """
    path = f"/etc/tunnel64d/{name}.toml"
    ret = _ret(name, "The configuration is as it should be.")
    if problems:
        return _rejected(ret, problems, path)
    try:
        text = __salt__["tunnel64d.file_of"](name, config)
        if not _has_daemon():
            ret["changes"] = {path: "written"}
            return _foreseen(ret, f"{path} would be written, and checked by then.")
        mistakes = __salt__["tunnel64d.check_config"](name, config)
    except CommandExecutionError as error:
        return _rejected(ret, [error], path)
    if mistakes:
        return _rejected(ret, mistakes, path)
    written = __states__["file.managed"](
        path, contents=text, user="root", group=group, mode=mode, makedirs=True, dir_mode="0750"
    )
    ret.update(result=written["result"], changes=written["changes"])
    if written["changes"] or written["result"] is not True:
        ret["comment"] = written["comment"]
    return ret


def enabled(name):
    """
    The tunnel starts at boot.
    """
    ret = _ret(name, "The tunnel starts at boot.")
    if __salt__["tunnel64d.status"](name)["enabled"]:
        return ret
    ret["changes"] = {name: "enabled"}
    if __opts__["test"]:
        return _foreseen(ret, "The tunnel would be enabled.")
    try:
        _command(["systemctl", "enable", __salt__["tunnel64d.unit"](name)])
    except CommandExecutionError as error:
        return _failed(ret, error)
    return ret


def dead(name):
    """
    The tunnel does not run, and does not start at boot. Its interface, addresses and routes are
    gone with it.
    """
    ret = _ret(name, "The tunnel does not run.")
    found = __salt__["tunnel64d.status"](name)
    if found["state"] not in ("inactive", "failed"):
        ret["changes"][name] = "stopped"
    if found["enabled"]:
        ret["changes"][f"{name} at boot"] = "disabled"
    if not ret["changes"]:
        return ret
    if __opts__["test"]:
        return _foreseen(ret, "The tunnel would be stopped.")
    unit = __salt__["tunnel64d.unit"](name)
    try:
        if found["enabled"]:
            _command(["systemctl", "disable", unit])
        _command(["systemctl", "stop", unit])
    except CommandExecutionError as error:
        return _failed(ret, error)
    ret["comment"] = "The tunnel was stopped."
    return ret


def running(name, apply="auto", wait_connected=0, wait="always", restart_outdated=False):
    """
    The tunnel runs, with the configuration that lies there. Meant to ``watch`` key and
    configuration.

    apply
        how a running daemon gets a changed configuration. ``auto``: by a reload, and where a key
        needs it by a restart. ``reload``: by a reload, and an error where that is not enough.
        ``restart``; or ``none``: whoever restarts it next decides when.
    wait_connected
        seconds to wait for the peer after a start, reload or restart; an error when it does not
        come. 0: not at all.
    wait
        ``always``; or ``returning``: only for a peer that was there before.
    restart_outdated
        whether an upgraded package restarts what still runs the old program.
    """
    ret = _ret(name, "The tunnel runs.")
    found = __salt__["tunnel64d.status"](name)
    try:
        if not _runs(found):
            what, act = "started", _start
        elif restart_outdated and __salt__["tunnel64d.outdated"](name):
            what, act = "restarted, for the version that is installed", _restart
        elif apply != "none" and __salt__["tunnel64d.pending"](name, _stamp(name)):
            return mod_watch(name, None, apply, wait_connected, wait)
        else:
            return ret
    except CommandExecutionError as error:
        return _failed(ret, error)
    if __opts__["test"]:
        ret["changes"] = {name: what}
        return _foreseen(ret, f"The tunnel would be {what}.")
    return _change(ret, lambda: act(name) or what, wait_connected, wait)


def mod_watch(
    name, sfun=None, apply="auto", wait_connected=0, wait="always", restart_outdated=False, **_
):
    """
    The daemon gets the configuration that has changed.
    """
    ret = _ret(name, "The configuration has changed, and `apply: none` leaves the daemon alone.")
    if apply == "none":
        return ret
    if __opts__["test"]:
        words = {"auto": "reloaded, or restarted where a changed key needs it"}
        what = words.get(apply, f"{apply}ed")
        ret["changes"] = {name: what}
        return _foreseen(ret, f"The tunnel would be {what}.")
    return _change(ret, lambda: _apply(name, apply), wait_connected, wait)


def route_present(name, dev, via=None, metric=None, table=None, source=None, persist="auto"):
    """
    The kernel has this route to the prefix ``name``, and has it again after a boot.

    persist
        who brings it back: ``networkd``, ``ifupdown``, ``unit``, ``none``; or ``auto``, whoever
        configures the interface ``dev``.
    """
    ret = _ret(name, "The route is there.")
    try:
        route = __salt__["tunnel64d_route.wanted"](name, via, dev, metric, table, source)
        manager = __salt__["tunnel64d_route.manager_of"](dev) if persist == "auto" else persist
        files = __salt__["tunnel64d_route.boot_files"](route, manager)
        if not __salt__["tunnel64d_route.is_live"](route):
            new = __salt__["tunnel64d_route.text"](route)
            ret["changes"]["route"] = {"old": _live(name, table), "new": new}
        there = __salt__["tunnel64d_route.boot_files_there"](name, table)
        stale = [path for path in there if path not in files]
        writes = {path: file for path, file in files.items() if not _is_file(path, *file)}
        ret["changes"].update(dict.fromkeys(writes, "written"))
        ret["changes"].update(dict.fromkeys(stale, "removed"))
        if not ret["changes"]:
            return ret
        if __opts__["test"]:
            return _foreseen(ret, "The route would be set.")
        # First: what the kernel refuses is not written down for the next boot either.
        if "route" in ret["changes"]:
            __salt__["tunnel64d_route.set_live"](route)
        for path in stale:
            os.remove(path)
        for path, (text, mode) in writes.items():
            _write(path, text, mode)
        __salt__["tunnel64d_route.after_files"]([*writes, *stale])
        _settle(route)
    except CommandExecutionError as error:
        return _failed(ret, error)
    ret["comment"] = f"The route was set; after a boot: {manager}."
    return ret


def route_absent(name, table=None, **_):
    """
    The kernel has no route to exactly the prefix ``name``, and none after a boot.
    """
    ret = _ret(name, "There is no such route.")
    try:
        old = _live(name, table)
        files = __salt__["tunnel64d_route.boot_files_there"](name, table)
        if old:
            ret["changes"]["route"] = {"old": old, "new": None}
        ret["changes"].update(dict.fromkeys(files, "removed"))
        if not ret["changes"]:
            return ret
        if __opts__["test"]:
            return _foreseen(ret, "The route would be removed.")
        for path in files:
            os.remove(path)
            drop_ins = os.path.dirname(path)
            if drop_ins.endswith(".network.d") and not os.listdir(drop_ins):
                os.rmdir(drop_ins)
        __salt__["tunnel64d_route.after_files"](files)
        __salt__["tunnel64d_route.unset_live"](name, table)
    except CommandExecutionError as error:
        return _failed(ret, error)
    ret["comment"] = "The route was removed."
    return ret


def _key_kept(name, group, mode):
    ret = _ret(name, "The key is there.")
    try:
        if _has_daemon():
            __salt__["tunnel64d.pubkey_of"](name)
    except CommandExecutionError as error:
        return _failed(ret, error)
    kept = __states__["file.managed"](
        name, replace=False, user="root", group=group, mode=mode, show_changes=False
    )
    ret.update(result=kept["result"], changes=kept["changes"])
    if kept["changes"] or not kept["result"]:
        ret["comment"] = kept["comment"]
    return ret


def _change(ret, act, wait_connected, wait):
    """Changes a tunnel by ``act``, which says what it did, and waits for the peer."""
    name = ret["name"]
    try:
        before = __salt__["tunnel64d.status"](name)
        _demand_valid(name)
        ret["changes"] = {name: act()}
        if int(wait_connected) and (wait == "always" or before["connected"]):
            __salt__["tunnel64d.wait_connected"](name, wait_connected)
    except CommandExecutionError as error:
        # Salt would have mod_watch try again, which finds nothing left to do and calls it well.
        ret.update(result=False, comment=str(error), skip_watch=True)
        return ret
    says = __salt__["tunnel64d.status"](name)["says"]
    ret["comment"] = f"The tunnel was {ret['changes'][name]}. {says}"
    return ret


def _has_daemon():
    """Whether it is installed. If not, a test goes on, for the run will install it."""
    try:
        __salt__["tunnel64d.binary"]()
    except CommandExecutionError:
        if not __opts__["test"]:
            raise
        return False
    return True


def _apply(name, apply):
    if apply != "restart":
        asked = __salt__["tunnel64d.try_reload"](name)
        if not asked["reasons"]:
            _touch(_stamp(name))
            return f"reloaded ({', '.join(asked['changed']) or 'nothing changed'})"
        if apply == "reload" or not asked["restart_helps"]:
            raise CommandExecutionError("\n".join(["not reloaded:", *asked["reasons"]]))
    _restart(name)
    return "restarted"


def _start(name):
    _systemctl(name, "start")


def _restart(name):
    _systemctl(name, "restart")


def _systemctl(name, verb):
    unit = __salt__["tunnel64d.unit"](name)
    before = __salt__["tunnel64d.status"](name)["pid"] if verb == "restart" else 0
    # Without waiting: with link.ready = "connected" a start lasts until the peer is there.
    _command(["systemctl", "--no-block", verb, unit])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = __salt__["tunnel64d.status"](name)
        if found["pid"] not in (0, before) and _runs(found):
            return
        if found["state"] == "failed":
            break
        time.sleep(0.1)
    log = __salt__["cmd.run_stdout"](
        ["journalctl", "--no-pager", "-o", "cat", "-n", "5", "-u", unit], python_shell=False
    )
    raise CommandExecutionError(f"{unit} is {found['state']}. Its log ends with:\n{log}")


def _command(arguments):
    ended = __salt__["cmd.run_all"](arguments, python_shell=False, ignore_retcode=True)
    if ended["retcode"] != 0:
        raise CommandExecutionError(f"{' '.join(arguments)}: {ended['stderr'] or ended['stdout']}")


def _runs(found):
    """One that ends and is started again, over and over, is activating as well."""
    if found["state"] == "activating":
        # With link.ready = "connected" it may wait for the peer for long.
        return found["daemon"].get("state") != "not_running"
    return found["state"] in ("active", "reloading")


def _demand_valid(name):
    """With drop-ins and the common file, which the pillar knows nothing of."""
    mistakes = __salt__["tunnel64d.check"](name)
    if mistakes:
        raise CommandExecutionError("the tunnel is left as it is:\n" + "\n".join(mistakes))


def _settle(route):
    """systemd-networkd, told to read its files again, may take addresses away for a moment."""
    deadline = time.monotonic() + 5
    while not __salt__["tunnel64d_route.is_live"](route):
        try:
            __salt__["tunnel64d_route.set_live"](route)
        except CommandExecutionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _live(destination, table):
    routes = __salt__["tunnel64d_route.live"](destination, table)
    return ", ".join(__salt__["tunnel64d_route.text"](route) for route in routes) or None


def _write(path, text, mode):
    written = __states__["file.managed"](
        path, contents=text, user="root", group="root", mode=mode, makedirs=True
    )
    if not written["result"]:
        raise CommandExecutionError(written["comment"])


def _is_file(path, text, mode):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == text and os.stat(path).st_mode & 0o777 == int(mode, 8)
    except FileNotFoundError:
        return False


def _rejected(ret, problems, path):
    lines = [f"pillar tunnel64d:tunnels:{ret['name']}: {problem}" for problem in problems]
    return _failed(ret, "\n".join([*lines, f"{path} is left as it was."]))


def _stamp(name):
    return os.path.join(STAMPS, name)


def _touch(path):
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "w", encoding="ascii"):
        os.utime(path)


def _ret(name, comment):
    return {"name": name, "result": True, "changes": {}, "comment": comment}


def _foreseen(ret, comment):
    ret.update(result=None, comment=comment)
    return ret


def _failed(ret, comment):
    ret.update(result=False, changes={}, comment=str(comment))
    return ret
