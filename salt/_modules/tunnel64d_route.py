"""
Routes of hosts that have no tunnel themselves: in the kernel now, and again after a boot.

Who brings the route back depends on who configures its interface:

- ``networkd``: a drop-in for the interface's ``.network`` file;
- ``ifupdown``: a script in ``/etc/network/if-up.d``;
- ``unit``: neither does; a small systemd unit of the route's own;
- ``none``: nobody.
"""

import glob
import ipaddress
import json
import os
import re
import shlex

import salt.utils.path
from salt.exceptions import CommandExecutionError

NETWORKD_DIR = "/etc/systemd/network"
IFUP_DIR = "/etc/network/if-up.d"
UNIT_DIR = "/etc/systemd/system"
ORIGIN = "# Written by Salt, state tunnel64d.route_present."
MAIN_TABLE = 254


def wanted(destination, via=None, dev=None, metric=None, table=None, source=None):
    """
    A route as ``ip -json route`` would show it; an error for what can be none.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.wanted fc00:1234:4::/64 via=fc00:1234:3::1 dev=eth2
    """
    try:
        destination = str(ipaddress.ip_network(destination))
    except ValueError as error:
        raise CommandExecutionError(f"{destination}: {error}") from error
    if not dev:
        raise CommandExecutionError(f"{destination}: dev is missing, the interface it leads to")
    route = {"dst": destination, "dev": dev}
    for key, address in (("gateway", via), ("prefsrc", source)):
        if address:
            try:
                route[key] = str(ipaddress.ip_address(address))
            except ValueError as error:
                raise CommandExecutionError(f"{destination}: {error}") from error
    if metric is not None:
        route["metric"] = metric
    if table is not None and table != MAIN_TABLE:
        route["table"] = table
    return route


def live(destination, table=None):
    """
    The routes to exactly this destination that somebody has set; not those of routing daemons and
    of the kernel itself.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.live fc00:1234:4::/64
    """
    destination = str(ipaddress.ip_network(destination))
    shown = _ip(destination, ["-json", "route", "show", "table", str(table or MAIN_TABLE),
                              "exact", destination])  # fmt: skip
    # A table that has never had a route does not exist, which is no error here.
    routes = json.loads(shown["stdout"] or "[]") if shown["retcode"] == 0 else []
    kept = ("gateway", "dev", "metric", "prefsrc")
    return [
        {"dst": destination, **{key: route[key] for key in kept if key in route}}
        for route in routes
        # ip does not tell of `boot`, which is what it gives to routes itself.
        if route.get("protocol", "boot") in ("static", "boot")
    ]


def is_live(route):
    """
    Whether the kernel has the route that :py:func:`wanted` describes, and no other one to the same
    destination.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.is_live '{dst: "fc00:1234:4::/64", dev: eth2}'
    """
    found = live(route["dst"], route.get("table"))
    return len(found) == 1 and _agree(found[0], route)


def text(route):
    """
    A route in the words of ``ip route``.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.text '{dst: "fc00:1234:4::/64", dev: eth2}'
    """
    words = {"gateway": "via", "dev": "dev", "metric": "metric", "table": "table", "prefsrc": "src"}
    parts = [f"{word} {route[key]}" for key, word in words.items() if key in route]
    return " ".join([route["dst"], *parts])


def set_live(route):
    """
    Put a route into the kernel, in place of another one to the same destination.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.set_live '{dst: "fc00:1234:4::/64", dev: eth2}'
    """
    arguments = text(route).split()
    for other in live(route["dst"], route.get("table")):
        if not _agree(other, route):
            _ip(route["dst"], ["route", "del", *_located(other, route.get("table"))])
    ended = _ip(route["dst"], ["route", "replace", *arguments, "proto", "static"])
    if ended["retcode"] != 0:
        raise CommandExecutionError(f"ip route replace {' '.join(arguments)}: {ended['stderr']}")


def unset_live(destination, table=None):
    """
    Take the routes to exactly this destination from the kernel.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.unset_live fc00:1234:4::/64
    """
    for route in live(destination, table):
        ended = _ip(route["dst"], ["route", "del", *_located(route, table)])
        if ended["retcode"] != 0:
            raise CommandExecutionError(f"ip route del {text(route)}: {ended['stderr']}")


def manager_of(dev):
    """
    Who configures an interface at boot: ``networkd``, ``ifupdown``, or nobody that is known here:
    ``unit``.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.manager_of eth2
    """
    if network_file(dev):
        return "networkd"
    asked = salt.utils.path.which("ifquery") and _run(["ifquery", dev])
    return "ifupdown" if asked and asked["retcode"] == 0 else "unit"


def network_file(dev):
    """
    The ``.network`` file by which systemd-networkd configures an interface, if it does.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.network_file eth2
    """
    # To ask networkd would start it where it does not run.
    if _run(["systemctl", "is-active", "--quiet", "systemd-networkd"])["retcode"] != 0:
        return None
    told = _run(["networkctl", "--json=short", "status", dev])
    return json.loads(told["stdout"]).get("NetworkFile") if told["retcode"] == 0 else None


def boot_files(route, manager):
    """
    The files that bring a route back after a boot, path: (text, mode).

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.boot_files '{dst: "fc00:1234:4::/64", dev: eth2}' unit
    """
    slug = _slug(route["dst"], route.get("table"))
    command = f"ip -{_family(route['dst'])} route replace {text(route)} proto static"
    if manager == "networkd":
        file = network_file(route["dev"])
        if file is None:
            raise CommandExecutionError(
                f"systemd-networkd does not configure {route['dev']} (see networkctl status)"
            )
        names = {"dst": "Destination", "gateway": "Gateway", "metric": "Metric", "table": "Table",
                 "prefsrc": "PreferredSource"}  # fmt: skip
        keys = [f"{name}={route[key]}" for key, name in names.items() if key in route]
        path = f"{NETWORKD_DIR}/{os.path.basename(file)}.d/60-tunnel64d-{slug}.conf"
        return {path: ("\n".join([ORIGIN, "[Route]", *keys]) + "\n", "0644")}
    if manager == "ifupdown":
        # ifup fails when a script does; for the first of two address families the gateway may not
        # be there yet.
        lines = [
            "#!/bin/sh",
            ORIGIN,
            f'[ "$IFACE" = {shlex.quote(route["dev"])} ] || exit 0',
            f"{command} || true",
        ]
        return {f"{IFUP_DIR}/tunnel64d-{slug}": ("\n".join(lines) + "\n", "0755")}
    if manager == "unit":
        lines = [
            ORIGIN,
            "[Unit]",
            f"Description=Route {text(route)}",
            "Wants=network-online.target",
            "After=network-online.target",
            "StartLimitIntervalSec=0",
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={salt.utils.path.which('ip')}{command[2:]}",
            "Restart=on-failure",
            "RestartSec=5s",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return {f"{UNIT_DIR}/{_unit(slug)}": ("\n".join(lines) + "\n", "0644")}
    return {}


def boot_files_there(destination, table=None):
    """
    The files on this minion that bring a route back after a boot, whoever reads them.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.boot_files_there fc00:1234:4::/64
    """
    slug = _slug(destination, table)
    drop_ins = glob.glob(f"{NETWORKD_DIR}/*.network.d/60-tunnel64d-{slug}.conf")
    others = [f"{IFUP_DIR}/tunnel64d-{slug}", f"{UNIT_DIR}/{_unit(slug)}"]
    return sorted([*drop_ins, *(path for path in others if os.path.exists(path))])


def after_files(changed):
    """
    Tell systemd and systemd-networkd of files that came, changed or went.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_route.after_files '[/etc/systemd/network/eth2.network.d/x.conf]'
    """
    if any(path.startswith(NETWORKD_DIR) for path in changed):
        _run(["networkctl", "reload"])
    units = [os.path.basename(path) for path in changed if path.startswith(UNIT_DIR)]
    for unit in units:
        there = os.path.exists(f"{UNIT_DIR}/{unit}")
        _run(["systemctl", "enable" if there else "disable", unit])
    if units:
        _run(["systemctl", "daemon-reload"])


def _agree(found, route):
    """The kernel gives a metric to a route that was set without one."""
    asked = {key: value for key, value in route.items() if key != "table"}
    return found == {**found, **asked} and found.get("gateway") == route.get("gateway")


def _located(route, table):
    parts = text(route).split()
    return [*parts, "table", str(table)] if table else parts


def _ip(destination, arguments):
    return _run(["ip", f"-{_family(destination)}", *arguments])


def _run(command):
    return __salt__["cmd.run_all"](command, python_shell=False, ignore_retcode=True)


def _family(destination):
    return ipaddress.ip_network(destination).version


def _slug(destination, table):
    slug = re.sub(r"[:./]", "-", str(ipaddress.ip_network(destination)))
    return f"{slug}-{table}" if table and table != MAIN_TABLE else slug


def _unit(slug):
    return f"tunnel64d-route-{slug}.service"
