"""
Kernel settings of a gateway, in a file of their own.

.. code-block:: yaml

    /etc/sysctl.d/60-tunnel64d.conf:
      tunnel64d_sysctl.present:
        - values:
            net.ipv6.conf.all.forwarding: 1
"""

import os

from salt.exceptions import CommandExecutionError


def present(name, values):
    """
    These settings, and no others, are in the file ``name`` and in the running kernel. What was
    taken out of the file goes back to what it was before.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "All is set."}
    stored = __salt__["tunnel64d_sysctl.stored"](name)
    wanted = {str(key): " ".join(str(value).split()) for key, value in values.items()}
    entries, assignments, missing = {}, {}, []
    for key, value in wanted.items():
        try:
            now = __salt__["tunnel64d_sysctl.value"](key)
        except CommandExecutionError as error:
            missing.append(str(error))
            continue
        before = stored.get(key, {}).get("before", now)
        entries[key] = {"value": value, "before": before}
        if now != value:
            assignments[key] = {"old": now, "new": value}
    if missing:
        return _failed(ret, "; ".join(missing))
    for key in sorted(set(stored) - set(wanted)):
        assignments.update(_put_back(key, stored[key]))
    text = __salt__["tunnel64d_sysctl.text"](entries)
    ret["changes"] = dict(assignments)
    if __salt__["tunnel64d_sysctl.text_of"](name) != text:
        ret["changes"][name] = "written" if stored == {} else "updated"
    if __opts__["test"] or not ret["changes"]:
        return _foreseen(ret)
    # The file first: a host that fails now is right after a boot.
    written = __states__["file.managed"](
        name, contents=text, user="root", group="root", mode="0644", makedirs=True
    )
    if not written["result"]:
        return _failed(ret, written["comment"])
    return _assign(ret, assignments)


def absent(name):
    """
    The file ``name`` is gone, and what it set is as it was before.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Nothing is set."}
    if not os.path.exists(name):
        return ret
    assignments = {}
    for key, entry in __salt__["tunnel64d_sysctl.stored"](name).items():
        assignments.update(_put_back(key, entry))
    ret["changes"] = {**assignments, name: "removed"}
    if __opts__["test"]:
        return _foreseen(ret)
    os.remove(name)
    return _assign(ret, assignments)


def _put_back(key, entry):
    """What somebody else has set meanwhile stays."""
    try:
        now = __salt__["tunnel64d_sysctl.value"](key)
    except CommandExecutionError:
        return {}
    if now != entry["value"] or now == entry["before"]:
        return {}
    return {key: {"old": now, "new": entry["before"]}}


def _assign(ret, assignments):
    try:
        for key in __salt__["tunnel64d_sysctl.in_order"](assignments):
            __salt__["tunnel64d_sysctl.assign"](key, assignments[key]["new"])
    except CommandExecutionError as error:
        return _failed(ret, str(error))
    ret["comment"] = "Changed: " + ", ".join(ret["changes"])
    return ret


def _foreseen(ret):
    if ret["changes"]:
        ret["result"] = None
        ret["comment"] = "Would be changed: " + ", ".join(ret["changes"])
    return ret


def _failed(ret, comment):
    ret.update(result=False, changes={}, comment=comment)
    return ret
