"""The machine a run was made on, as far as it explains the figures. Nothing names it."""

import contextlib
import os
import platform
import re
import time
from pathlib import Path

import figures
from lab import Failed, run


def describe():
    return {
        "processor": field("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(field("/proc/meminfo", r"^MemTotal:\s+(\d+)") or 0) / 1024**2),
        "kernel": re.match(r"[\d.]+", platform.release()).group(),
        "system": field("/etc/os-release", r'^PRETTY_NAME="(.*)"$'),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "iperf3": version(["iperf3", "--version"], r"iperf ([\d.]+)"),
        "ping": version(["ping", "-V"], r"iputils[ -](\S+)"),
    }


def sentence(machine):
    return (f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
            f"Linux {machine['kernel']}, {machine['system']}; "
            f"outer congestion control by default: {machine['congestion_control']}; "
            f"iperf3 {machine['iperf3']}, ping {machine['ping']}")


def busy(seconds=0.3):
    """How much of the processor others use while nothing is measured, 0 to 1."""
    before = Path("/proc/stat").read_text()
    time.sleep(seconds)
    return figures.busy_share(before, Path("/proc/stat").read_text())


@contextlib.contextmanager
def stolen(shares):
    """Adds to `shares` how much of the processor the host gave to others meanwhile, 0 to 1."""
    before = Path("/proc/stat").read_text()
    yield
    shares.append(figures.stolen_share(before, Path("/proc/stat").read_text()))


def field(file, pattern):
    found = re.search(pattern, Path(file).read_text(), re.MULTILINE)
    return found.group(1) if found else None


def version(command, pattern):
    try:
        found = re.search(pattern, run(command))
    except (Failed, OSError):
        return None
    return found.group(1) if found else None
