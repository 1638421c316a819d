"""
The formula's modules as Salt itself loads them, for the tests beside this file.

They need root, a network to change, and a tunnel64d on PATH: tests/e2e runs them in a booted
machine, with every version of Salt.
"""

import os

import salt.config
import salt.state

FORMULA = os.environ.get("FORMULA", "/srv/formula")


def load(test=False, pillar=None):
    """The execution modules and the states, in test mode or not."""
    opts = salt.config.minion_config(None)
    opts.update(
        file_client="local",
        file_roots={"base": [FORMULA]},
        module_dirs=[f"{FORMULA}/_modules"],
        states_dirs=[f"{FORMULA}/_states"],
        test=test,
        grains={"os": "Debian", "os_family": "Debian", "kernel": "Linux"},
        cachedir="/tmp/salt-tests",
        extension_modules="/tmp/salt-tests/extmods",
    )
    state = salt.state.State(opts, initial_pillar=pillar or {})
    return state.functions, States(state)


class States:
    """State functions, called as a run calls them."""

    def __init__(self, state):
        self.state = state

    def __getitem__(self, path):
        module, function = path.split(".")
        low = {"state": module, "fun": function, "__sls__": "tests", "__env__": "base", "order": 1}
        return lambda name, **given: self.state.call({**low, "name": name, "__id__": name, **given})
