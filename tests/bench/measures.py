"""What is measured of a way, by the tools that do it. One run each; the caller repeats.

    VM1-6  iperf3, ping, datagrams ───▶ VM3-6  iperf3 -s, a UDP port that nobody reads

Inner flows are cubic everywhere, whatever the machine's default is; the tunnels' own connections
use what each of them chooses.
"""

import json
import math
import os
import subprocess
import time
from pathlib import Path

import figures
from lab import Failed, Lab, end

DATAGRAMS = Path(__file__).resolve().parents[2] / "target/release/examples/datagrams"
UDP_PORT = 9000
IPERF3_PORT = 5201
TICKS = os.sysconf("SC_CLK_TCK")

# The pause of a ping between its packets, and what a flow is given to get going, in seconds.
PING_PAUSE = 0.01
RUN_UP = 0.5


class Station:
    """A way that is up in a lab, ready to be measured again and again."""

    def __init__(self, way, line=None):
        self.way = way
        self.lab = Lab()
        try:
            if line:
                self.lab.tool("emulate", *line)
            self.tunnel = way.start(self.lab)
            self.sink = self.lab.spawn("VM3-6", [DATAGRAMS, "sink", UDP_PORT], "sink")
            self.lab.await_ping(way.target)
        except BaseException:
            self.lab.remove()
            raise

    def remove(self):
        self.lab.remove()

    # --- without load, and beside it ---------------------------------------------------------

    def idle(self, seconds):
        """Round trips with nothing else on the way: ms."""
        return figures.latency(self.ping(seconds))

    def loaded(self, seconds, flows=1, omit=0):
        """Bulk flows and the round trips beside them. The first `omit` seconds don't count."""
        client = self.start_flows(flows, seconds + RUN_UP, omit)
        try:
            time.sleep(omit + RUN_UP)
            latency = figures.latency(self.ping(seconds))
        except BaseException:
            self.end_all(client, self.server)
            raise
        rate, _ = self.finish_flows(client, seconds + omit)
        return latency | {"mbit": rate}

    def ping(self, seconds):
        count = max(int(seconds / PING_PAUSE), 1)
        # It ends with 1 when nothing came back, which is a result.
        command = ["sh", "-c", f"ping -n -i {PING_PAUSE} -c {count} -W 2 {self.way.target} || true"]
        return self.lab.run("VM1-6", command, seconds * 3 + 30)

    # --- TCP ---------------------------------------------------------------------------------

    def flows(self, count, seconds, reverse=False):
        """TCP flows: Mbit/s received, and the tunnel's processor seconds per 10^9 bytes."""
        before = self.processor_seconds()
        client = self.start_flows(count, seconds, reverse=reverse)
        rate, size = self.finish_flows(client, seconds)
        spent = self.processor_seconds() - before
        return {"mbit": rate, "cpu": spent / (size / 1e9) if self.tunnel and size else None}

    def start_flows(self, count, seconds, omit=0, reverse=False):
        command = ["iperf3", "-c", self.way.target, "-J", "-C", "cubic", "-P", count,
                   "-t", math.ceil(seconds), "-O", omit]
        command += ["-R"] if reverse else []
        # One for each: the next client would meet one that is not done with the last.
        self.server = self.lab.spawn("VM3-6", ["iperf3", "-s", "-1"], "iperf3")
        try:
            self.lab.eventually("iperf3 listens", 10, self.listens)
        except BaseException:
            self.end_all(self.server)
            raise
        self.report = self.lab.directory / "flow.log"
        self.report.unlink(missing_ok=True)
        return self.lab.spawn("VM1-6", command, "flow")

    def finish_flows(self, client, seconds):
        try:
            client.wait(seconds + 30)
            return figures.received(json.loads(self.report.read_text()))
        except subprocess.TimeoutExpired as late:
            raise Failed(f"iperf3 did not end within {seconds + 30} s") from late
        except (ValueError, KeyError) as wrong:
            raise Failed(f"iperf3: {wrong}") from wrong
        finally:
            self.end_all(client, self.server)

    def end_all(self, *processes):
        for process in processes:
            end(process)
            self.lab.processes.remove(process)

    def listens(self):
        """Whether a socket of VM3-6 listens on iperf3's port: state 0A in /proc/net/tcp6."""
        sockets = Path(f"/proc/{self.server.pid}/net/tcp6").read_text().splitlines()[1:]
        words = [line.split() for line in sockets]
        return any(word[1].endswith(f":{IPERF3_PORT:04X}") and word[3] == "0A" for word in words)

    # --- UDP ---------------------------------------------------------------------------------

    def datagrams(self, length, seconds):
        """Datagrams a second that arrive in VM3-6's UDP layer, while one core sends what it can."""
        sender = self.lab.spawn("VM1-6", [
            DATAGRAMS, "send", f"[{self.way.target}]:{UDP_PORT}", length, seconds + 2 * RUN_UP],
            "datagrams")
        try:
            time.sleep(RUN_UP)
            start, before = time.monotonic(), self.arrived()
            time.sleep(seconds)
            after, stop = self.arrived(), time.monotonic()
            if sender.wait(10):
                raise Failed(self.lab.log("datagrams"))
        finally:
            self.end_all(sender)
        return (after - before) / (stop - start)

    def arrived(self):
        return figures.datagrams(Path(f"/proc/{self.sink.pid}/net/snmp6").read_text())

    # --- the tunnel's processes --------------------------------------------------------------

    def processor_seconds(self):
        """User and system time of the tunnel's processes at both ends, all threads."""
        return sum(figures.processor_ticks(Path(f"/proc/{pid}/stat").read_text())
                   for process in self.living() for pid in family(process.pid)) / TICKS

    def resident(self):
        """Resident MiB of the end that has more."""
        ends = [sum(figures.resident_mib(Path(f"/proc/{pid}/status").read_text())
                    for pid in family(process.pid)) for process in self.living()]
        return max(ends, default=None)

    def living(self):
        for process in self.tunnel:
            if process.poll() is not None:
                raise Failed(f"a process of the tunnel has ended with {process.returncode}")
        return self.tunnel


def family(ancestor):
    """A process and its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = figures.parent(stat.read_text())
        except (OSError, ValueError):
            continue
    found = [ancestor]
    for pid in found:
        found += [child for child, of in parents.items() if of == pid]
    return found
