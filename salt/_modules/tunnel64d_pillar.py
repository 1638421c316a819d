"""
What may stand in the formula's pillar, and what it means for the daemon.

The sections of a tunnel are not known here: the daemon's own ``check`` judges those, and knows
better. These are the keys that the formula itself reads.
"""

import ipaddress
import re

# The name is that of a file and of a unit; tunnel64d.toml is the file of all tunnels.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")

ROUTE = {"via": str, "dev": str, "metric": int, "table": int, "source": str, "absent": bool,
         "persist": str}  # fmt: skip
PERSIST = ("auto", "networkd", "ifupdown", "unit", "none")
PACKAGE = {
    "name": str,
    "version": str,
    "from": str,
    "source": str,
    "source_hash": str,
    "path": str,
    "repository": str,
    "repository_key": str,
    "restart_on_upgrade": bool,
}
SYSCTL = {"forward_ipv6": bool, "forward_ipv4": bool, "accept_ra": list, "values": dict}
SERVICE = {"wait": str, "wait_connected": int, "roll_timeout": int}
TUNNEL = {
    "absent": bool,
    "apply": str,
    "credential": bool,
    "enabled": bool,
    "peers": list,
    "private_key": str,
    "purge": bool,
    "wait_connected": int,
}
HASH = re.compile(r"(sha1|sha224|sha256|sha384|sha512)=[0-9a-fA-F]{40,128}\Z")
NOUNS = {bool: "true or false", int: "a whole number", str: "a text", list: "a list",
         dict: "a mapping"}  # fmt: skip


def mistakes(pillar):
    """
    What is wrong with the pillar ``tunnel64d``, one sentence each, with its place.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_pillar.mistakes '{tunels: {}}'
    """
    found = []
    sections = {"package": PACKAGE, "sysctl": SYSCTL, "service": SERVICE}
    known = dict.fromkeys([*sections, "tunnels", "routes"], dict)
    known["purge"] = bool
    _judge(found, "tunnel64d", pillar, known)
    if not isinstance(pillar, dict):
        return found
    for section, keys in sections.items():
        _judge(found, f"tunnel64d:{section}", pillar.get(section), keys)
    _judge_package(found, pillar.get("package"))
    for name, tunnel in _items(pillar.get("tunnels")):
        place = f"tunnel64d:tunnels:{name}"
        if not NAME.match(str(name)) or name == "tunnel64d":
            found.append(f"{place}: no name for a tunnel (letters, digits, '.', '-', '_': tun0)")
            continue
        if not isinstance(tunnel, dict):
            found.append(f"{place}: expected a mapping, as in pillar.example")
            continue
        mine = {key: value for key, value in tunnel.items() if key in TUNNEL}
        _judge(found, place, mine, TUNNEL)
        _choice(found, f"{place}:apply", tunnel.get("apply"), ("auto", "reload", "restart", "none"))
        for number, peer in enumerate(tunnel.get("peers") or []):
            _judge(found, f"{place}:peers:{number}", peer, {"minion": str, "tunnel": str})
            if peer is None:
                found.append(f"{place}:peers:{number}: expected a mapping, as in pillar.example")
            if isinstance(peer, dict) and "minion" not in peer:
                found.append(f"{place}:peers:{number}: names no minion")
    for destination, route in _items(pillar.get("routes")):
        _judge_route(found, destination, route)
    _choice(
        found,
        "tunnel64d:service:wait",
        (pillar.get("service") or {}).get("wait"),
        ("always", "returning"),
    )
    return found


def valued(pillar):
    """
    A pillar without the keys that have no value: with such a one, another pillar takes back what
    has been set.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_pillar.valued '{service: {wait: }}'
    """
    if isinstance(pillar, dict):
        return {key: valued(each) for key, each in pillar.items() if each is not None}
    return pillar


def key_file(name, tunnel):
    """
    Where the private key of a tunnel lies; nothing when the formula has no business with it.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_pillar.key_file tun0 '{}'
    """
    tunnel = valued(tunnel)
    security = tunnel.get("security", {})
    if not isinstance(security, dict) or tunnel.get("credential"):
        return None
    if security.get("mode", "tls") != "tls":
        return None
    return security.get("private_key_file", f"/etc/tunnel64d/{name}.key")


def config(name, tunnel):
    """
    The daemon's configuration of a tunnel: its pillar without what is the formula's, with the key
    file, and with the public keys that the mine knows of ``peers``. Beside it the problems: peers
    whose key is not known.

    CLI Example:

    .. code-block:: bash

        salt '*' tunnel64d_pillar.config tun0 '{peers: [{minion: gw2}]}'
    """
    tunnel = valued(tunnel)
    sections = {key: value for key, value in tunnel.items() if key not in TUNNEL}
    path = key_file(name, tunnel)
    keys, problems = [], []
    for peer in tunnel.get("peers", []):
        theirs = peer.get("tunnel", name)
        mined = __salt__["mine.get"](peer["minion"], "tunnel64d.pubkeys", tgt_type="list")
        key = ((mined or {}).get(peer["minion"]) or {}).get(theirs)
        if key:
            keys.append(key)
        else:
            problems.append(
                f"peers: the mine has no public key of {peer['minion']}'s {theirs} (apply "
                f"tunnel64d.keys there, then run mine.send tunnel64d.pubkeys on it)"
            )
    if path or keys:
        security = dict(sections.get("security", {}))
        if path:
            security.setdefault("private_key_file", path)
        if keys:
            given = list(security.get("peer_public_keys") or [])
            security["peer_public_keys"] = given + [key for key in keys if key not in given]
        sections["security"] = security
    return {"config": sections, "problems": problems}


def _judge(found, place, given, known):
    if given is None:
        return
    if not isinstance(given, dict):
        found.append(f"{place}: expected a mapping, as in pillar.example")
        return
    for key, value in given.items():
        if key not in known:
            names = ", ".join(sorted(known))
            found.append(f"{place}:{key}: unknown key (there are: {names})")
        elif value is not None and not _fits(value, known[key]):
            found.append(f"{place}:{key}: {value!r} is not accepted (expected {NOUNS[known[key]]})")


def _judge_package(found, package):
    if not isinstance(package, dict):
        return
    given = [key for key in ("source", "path", "repository") if package.get(key)]
    where = package.get("from")
    _choice(found, "tunnel64d:package:from", where, ("source", "path", "repository"))
    if where in ("source", "path") and not package.get(where):
        found.append(f"tunnel64d:package:{where}: missing, and `from: {where}` needs it")
    if where is None and len(given) > 1:
        found.append(f"tunnel64d:package: {' and '.join(given)} are given (say which with `from`)")
    source = str(package.get("source") or "salt://")
    if not source.startswith("salt://") and not package.get("source_hash"):
        found.append("tunnel64d:package:source_hash: missing (sha256=… of the file)")
    given_hash = package.get("source_hash")
    if given_hash and not HASH.match(str(given_hash)):
        found.append("tunnel64d:package:source_hash: expected sha256=… and 64 hexadecimal digits")
    if package.get("path") and not str(package["path"]).startswith("/"):
        found.append("tunnel64d:package:path: expected an absolute path on the minion")


def _judge_route(found, destination, route):
    place = f"tunnel64d:routes:{destination}"
    _judge(found, place, route, ROUTE)
    try:
        family = ipaddress.ip_network(destination).version
    except ValueError as error:
        found.append(f"{place}: {error} (expected a prefix, such as fc00:1234:4::/64)")
        return
    if not isinstance(route, dict):
        return
    for key in ("via", "source"):
        if route.get(key) is None:
            continue
        try:
            if ipaddress.ip_address(route[key]).version != family:
                found.append(f"{place}:{key}: {route[key]} is of the other family")
        except ValueError:
            found.append(f"{place}:{key}: {route[key]!r} is no IP address")
    if not route.get("absent") and not route.get("dev"):
        found.append(f"{place}:dev: missing (the interface that the route leads to)")
    _choice(found, f"{place}:persist", route.get("persist"), PERSIST)


def _choice(found, place, value, choices):
    if value is not None and value not in choices:
        found.append(f"{place}: {value!r} is not accepted (expected {' or '.join(choices)})")


def _items(mapping):
    return mapping.items() if isinstance(mapping, dict) else ()


def _fits(value, kind):
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
