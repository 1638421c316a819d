"""
Kernel settings in a file of their own under ``/etc/sysctl.d``, which remembers what was before, so
that taking it away leaves the host as it was found.
"""

import os
import re

from salt.exceptions import CommandExecutionError

HEADER = "# Written by Salt, state tunnel64d_sysctl.present. Its removal puts `before` back.\n"
ENTRY = re.compile(r"# before: (?P<before>.*)\n(?P<key>\S+) = (?P<value>.*)\n")


def value(key):
    """
    What the kernel has now; an error when there is no such setting.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.value net.ipv6.conf.all.forwarding
    """
    try:
        with open(_path(key), encoding="ascii") as file:
            return " ".join(file.read().split())
    except FileNotFoundError as error:
        raise CommandExecutionError(f"{key}: this host has no such setting") from error


def assign(key, new):
    """
    Set it in the running kernel.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.assign net.ipv6.conf.all.forwarding 1
    """
    try:
        with open(_path(key), "w", encoding="ascii") as file:
            file.write(f"{new}\n")
    except OSError as error:
        raise CommandExecutionError(f"{key}: can't be set to {new}: {error.strerror}") from error


def stored(path):
    """
    What the file says: key to value and the value before.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.stored /etc/sysctl.d/60-tunnel64d.conf
    """
    return {
        found["key"]: {"value": found["value"], "before": found["before"]}
        for found in ENTRY.finditer(text_of(path))
    }


def text_of(path):
    """
    The text of a file; empty when it is not there.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.text_of /etc/sysctl.d/60-tunnel64d.conf
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def text(entries):
    """
    The file for these entries.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.text '{net.ipv4.ip_forward: {value: 1, before: 0}}'
    """
    return HEADER + "".join(
        f"# before: {entries[key]['before']}\n{key} = {entries[key]['value']}\n"
        for key in in_order(entries)
    )


def in_order(keys):
    """
    Keys in the order in which to set them: before forwarding is on, an interface has to know that
    it goes on listening to router advertisements.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_sysctl.in_order '[net.ipv4.ip_forward]'
    """
    return sorted(keys, key=lambda key: (not key.endswith("accept_ra"), key))


def _path(key):
    # As sysctl(8): the first separator decides which of the two it is.
    first = re.search(r"[./]", key)
    dotted = first and first.group() == "."
    path = key.translate(str.maketrans("./", "/.")) if dotted else key
    parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise CommandExecutionError(f"{key}: no name of a kernel setting")
    return os.path.join("/proc/sys", path)
