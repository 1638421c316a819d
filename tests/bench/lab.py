"""A lab of one's own (tests/lab/lab): six hosts, VM2-6 dead, islands joined by what is measured.

    VM1-6 ──── VM1 ═══ the tunnel, or kernel routing, or an emulated line ═══ VM3 ──── VM3-6
"""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tests/lab/lab"
EMULATOR = ROOT / "target/release/examples/emulator"

# VM3-6 through a tunnel, and along the native IPv6 path.
TUNNELLED = "fc00:1234:4::36"
DIRECT = "fd00:1234:4::36"

# The addresses of the gateways towards each other, without and within a tunnel, and the island
# behind each.
OUTER = {"VM1": "172.16.2.131", "VM3": "172.16.2.163"}
INNER = {"VM1": "fc00:1234:ffff::1", "VM3": "fc00:1234:ffff::10"}
ISLAND = {"VM1": "fc00:1234:3::/64", "VM3": "fc00:1234:4::/64"}
OTHER = {"VM1": "VM3", "VM3": "VM1"}
GATEWAYS = ("VM1", "VM3")


class Failed(Exception):
    """A command that did not do what it was for."""


class Lab:
    """Six hosts; `remove` ends everything in them. Files in `directory` go with it."""

    def __init__(self):
        self.id = run([TOOL, "up", "--owner", str(os.getpid())]).strip()
        self.processes = []
        try:
            self.directory = Path(self.tool("dir").strip())
            for command in ("kill-router", "takeover", "direct"):
                self.tool(command)
        except BaseException:
            self.remove()
            raise

    def tool(self, *arguments):
        return run([TOOL, "--id", self.id, *arguments])

    def namespace(self, host):
        return f"t64-{self.id}-{host.lower()}"

    def inside(self, host, command):
        """The command that runs a command in a host. The process it becomes is that command's."""
        return ["ip", "netns", "exec", self.namespace(host), *map(str, command)]

    def run(self, host, command, seconds=60, **more):
        return run(self.inside(host, command), seconds, **more)

    def spawn(self, host, command, name, **more):
        """Starts what runs until it is ended; its outputs go to NAME.log."""
        log = open(self.directory / f"{name}.log", "ab")
        with log:
            process = subprocess.Popen(self.inside(host, command), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, env=environment(), **more)
        self.processes.append(process)
        return process

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def await_interface(self, host, interface):
        self.eventually(f"{host} has {interface}", 15,
                        lambda: self.succeeds(host, ["ip", "link", "show", interface]))

    def join(self, interfaces):
        """Gives each gateway's tunnel interface its address and the other island's route."""
        for host, interface in interfaces.items():
            self.await_interface(host, interface)
            for command in (["address", "replace", f"{INNER[host]}/64", "dev", interface, "nodad"],
                            ["link", "set", interface, "up"],
                            ["route", "replace", ISLAND[OTHER[host]], "dev", interface]):
                self.run(host, ["ip", "-6", *command] if command[0] == "route" else ["ip", *command])

    def await_ping(self, target):
        self.eventually(f"a ping reaches {target}", 20, lambda: self.succeeds(
            "VM1-6", ["ping", "-c", "1", "-W", "1", target]))

    def succeeds(self, host, command):
        try:
            self.run(host, command)
            return True
        except Failed:
            return False

    def eventually(self, what, seconds, condition):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-2000:]}"
                               for log in sorted(self.directory.glob("*.log")))
                raise Failed(f"not within {seconds} s: {what}{logs}")
            time.sleep(0.1)

    def remove(self):
        for process in self.processes:
            end(process)
        self.processes = []
        self.tool("down")


def end(process, patience=2):
    """SIGTERM, so that it can clean up; SIGKILL when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def run(command, seconds=60, **more):
    """Runs a command to its end and returns what it printed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=seconds, check=False, env=environment(), **more)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(map(str, command))}\nnot done after {seconds} s") from late
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}".strip())
    return done.stdout


def environment():
    """The caller's, but: the daemon reads TUNNEL64D_* as configuration, so none of it must reach it."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("TUNNEL64D_")}
    return ours | {"LAB_EMULATOR": str(EMULATOR)}
