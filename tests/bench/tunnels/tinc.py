"""tinc 1.0 as a router: UDP as soon as it has probed the path, or TCP only."""

from lab import GATEWAYS, ISLAND, OTHER, OUTER, TUNNELLED, run
from packages import program

INTERFACE = "tinc0"


class Tinc:
    target = TUNNELLED

    def __init__(self, tcp_only=False):
        self.tcp_only = tcp_only

    def prepare(self, store):
        self.program = program("tincd", "tinc", store)
        self.version = self.program.version

    def start(self, lab):
        for host in GATEWAYS:
            directory = lab.directory / host
            (directory / "hosts").mkdir(parents=True)
            (directory / "tinc.conf").write_text(
                f"Name = {host}\nConnectTo = {OTHER[host]}\nAddressFamily = ipv4\n"
                f"Mode = router\nInterface = {INTERFACE}\nDevice = /dev/net/tun\n")
            (directory / "hosts" / host).write_text(
                f"Address = {OUTER[host]}\nSubnet = {ISLAND[host]}\n"
                + ("TCPOnly = yes\n" if self.tcp_only else ""))
            run(self.program.command("-c", directory, "-K", "2048"))
        for host in GATEWAYS:
            description = (lab.directory / host / "hosts" / host).read_text()
            (lab.directory / OTHER[host] / "hosts" / host).write_text(description)
        daemons = [
            lab.spawn(host, self.program.command(
                "-c", lab.directory / host, "-D", f"--pidfile={lab.directory / host}.pid"), host)
            for host in GATEWAYS]
        lab.join({host: INTERFACE for host in GATEWAYS})
        return daemons
