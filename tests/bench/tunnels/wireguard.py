"""wireguard-go in Debian 13's build: Debian 12's is from before it used the kernel's offloads."""

import subprocess

from lab import GATEWAYS, OTHER, OUTER, TUNNELLED, run
from packages import program

SUITE = "trixie"
PORT = 51820


class WireguardGo:
    target = TUNNELLED

    def prepare(self, store):
        self.program = program("wireguard-go", "wireguard-go", store, SUITE)
        self.wg = program("wg", "wireguard-tools", store)
        self.version = self.program.version

    def start(self, lab):
        # It is configured through a socket named after the interface, in a directory that all hosts
        # share.
        interfaces = {host: f"wg{lab.id[:8]}{host[-1]}" for host in GATEWAYS}
        public = {host: self.key(lab, host) for host in GATEWAYS}
        daemons = []
        for host, interface in interfaces.items():
            daemons.append(lab.spawn(host, self.program.command("-f", interface), host))
            lab.eventually(f"{interface} can be configured", 10, lambda: lab.succeeds(
                host, self.wg.command("show", interface)))
            far = OTHER[host]
            lab.run(host, self.wg.command(
                "set", interface, "listen-port", PORT, "private-key", lab.directory / f"{host}.key",
                "peer", public[far], "endpoint", f"{OUTER[far]}:{PORT}", "allowed-ips", "::/0"))
        lab.join(interfaces)
        return daemons

    def key(self, lab, host):
        """A private key in a file that only root can read; returns the public one."""
        private = run(self.wg.command("genkey"))
        file = lab.directory / f"{host}.key"
        file.touch(mode=0o600)
        file.write_text(private)
        done = subprocess.run(self.wg.command("pubkey"), input=private, capture_output=True,
                              text=True, check=True)
        return done.stdout.strip()
