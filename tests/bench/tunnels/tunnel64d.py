"""tunnel64d from this tree, its configuration that of tests/lab/config but for what is varied."""

import os
import subprocess
from pathlib import Path

from lab import GATEWAYS, INNER, ISLAND, OTHER, OUTER, TUNNELLED, Failed, environment, run
from packages import Unavailable, reason

BUILT = Path(__file__).resolve().parents[3] / "target/release/tunnel64d"
BINARY = Path(os.environ.get("TUNNEL64D_BIN", BUILT)).resolve()


def altered():
    """What the environment makes different from what ships."""
    return {name: os.environ[name] for name in ("TUNNEL64D_BIN", "BENCH_SET") if os.environ.get(name)}


CONFIG = """
[interface]
addresses = ["{inner}/64"]
offload = "{offload}"
[interface.routes]
"{far_island}" = {{ via = "{far_inner}" }}
[link]
listen = "{outer}:4641"
connect = "{far_outer}:4641"
streams = {streams}
[security]
mode = "{mode}"
peer_addresses = ["{far_outer}/32"]
"""


class Tunnel64d:
    target = TUNNELLED

    def __init__(self, mode, streams='"auto"', offload="auto"):
        self.mode = mode
        self.streams = streams
        self.offload = offload

    def prepare(self, store):
        if not os.access(BINARY, os.X_OK):
            raise Unavailable("not built; `make build` builds it")
        self.version = run([BINARY, "--version"]).split()[-1]
        if self.mode == "tls":
            try:
                run([BINARY, "genkey"])
            except Failed as failure:
                raise Unavailable(f"genkey: {reason(failure)}") from failure

    def start(self, lab):
        keys = {host: self.key(lab, host) for host in GATEWAYS} if self.mode == "tls" else {}
        return [self.daemon(lab, host, keys) for host in GATEWAYS]

    def key(self, lab, host):
        """A private key in a file that only root can read; returns the public one."""
        private = run([BINARY, "genkey"])
        file = lab.directory / f"{host}.key"
        file.touch(mode=0o600)
        file.write_text(private)
        done = subprocess.run([BINARY, "pubkey"], input=private, capture_output=True, text=True,
                              env=environment(), check=False)
        if done.returncode:
            raise Failed(f"pubkey: {done.stderr}")
        return done.stdout.strip()

    def daemon(self, lab, host, keys):
        directory = lab.directory / host
        (directory / "run").mkdir(parents=True)
        far = OTHER[host]
        config = CONFIG.format(
            inner=INNER[host], outer=OUTER[host], offload=self.offload, mode=self.mode,
            far_inner=INNER[far], far_outer=OUTER[far], far_island=ISLAND[far],
            streams=self.streams)
        if keys:
            config += f'private_key_file = "{lab.directory / host}.key"\n'
            config += f'peer_public_keys = ["{keys[far]}"]\n'
        (directory / "tun0.toml").write_text(config)
        # Things to try in every tunnel of a run, in the configuration's own words.
        more = [word for setting in os.environ.get("BENCH_SET", "").split()
                for word in ("--set", setting)]
        return lab.spawn(host, [BINARY, "run", "tun0", "--config-dir", directory,
                                "--runtime-dir", directory / "run", *more], host)
