"""
Tells the master when a tunnel goes down, and when it is back.

.. code-block:: yaml

    beacons:
      tunnel64d:
        - interval: 30

The events are ``salt/beacon/MINION/tunnel64d/TUNNEL/down``, with the reason, and ``…/up``.
"""

__virtualname__ = "tunnel64d"

# What was down at the last look: the loader keeps a beacon's module from one look to the next.
LAST = {}


def __virtual__():
    return __virtualname__


def validate(config):
    """
    There is nothing to configure but the interval.
    """
    if not isinstance(config, list):
        return False, "Configuration for tunnel64d beacon must be a list."
    return True, "Valid beacon configuration"


def beacon(config):
    """
    One event for each tunnel that went down or came back since the last look.
    """
    down = __salt__["tunnel64d.down"]()
    before = dict(LAST)
    LAST.clear()
    LAST.update(down)
    gone = [
        {"tag": f"{name}/down", "tunnel": name, "reason": reason}
        for name, reason in down.items()
        if name not in before
    ]
    back = [{"tag": f"{name}/up", "tunnel": name} for name in before if name not in down]
    return gone + back
