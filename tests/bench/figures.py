"""From what tools print to figures, and from figures to medians. No input or output here."""

import math
import re
import statistics


def percentile(values, percent):
    """The smallest value that at least this percentage of the values does not exceed."""
    ordered = sorted(values)
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


def median(values):
    """The median of the values that are there, or None; None as well when it is endless."""
    present = [value for value in values if value is not None]
    middle = statistics.median(present) if present else math.inf
    return None if math.isinf(middle) else middle


def ratio(value, other):
    """One figure beside another, or None when either is missing."""
    return value / other if value is not None and other else None


def round_trips(text):
    """ping's output: the times of the answers in ms, and the percentage that was not answered."""
    sent = re.search(r"(\d+) packets transmitted", text)
    if not sent or sent.group(1) == "0":
        raise ValueError(f"ping said nothing of what it has sent: {text!r}")
    sent = int(sent.group(1))
    times = {}
    for number, time in re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms(?! \(DUP)", text):
        times.setdefault(number, float(time))
    return list(times.values()), 100 * (1 - len(times) / sent)


def latency(text):
    """ping's output as {"p50", "p95", "p99", "lost"}: ms and percent. What was not answered took
    longest of all: a percentile that falls on it is endless."""
    times, lost = round_trips(text)
    unanswered = round(len(times) * lost / (100 - lost)) if times else 1
    every = times + [math.inf] * unanswered
    return {f"p{percent}": percentile(every, percent) for percent in (50, 95, 99)} | {"lost": lost}


def received(report):
    """An iperf3 report (parsed JSON): (Mbit/s, bytes) at the receivers of all flows together."""
    if "error" in report:
        raise ValueError(report["error"])
    total = report["end"]["sum_received"]
    return total["bits_per_second"] / 1e6, total["bytes"]


def datagrams(snmp6):
    """/proc/net/snmp6: the datagrams that have reached UDP unharmed, whether somebody read them or
    the socket's buffer was full."""
    counters = dict(line.split() for line in snmp6.splitlines())
    count = {key: int(counters[f"Udp6{key}"]) for key in ("InDatagrams", "InErrors", "InCsumErrors")}
    return count["InDatagrams"] + count["InErrors"] - count["InCsumErrors"]


def busy_share(before, after):
    """Two readings of /proc/stat: the share of the processor that was not idle, stolen included."""
    _, _, _, idle, waiting, *_ = shares(before, after)
    return 1 - (idle + waiting)


def stolen_share(before, after):
    """Two readings of /proc/stat: the share of the processor that the host gave to others."""
    return shares(before, after)[7]


def shares(before, after):
    """What the time between two readings of /proc/stat was spent on, of 1, in the order of
    proc_stat(5); idle when there was none."""
    first, second = ([int(ticks) for ticks in text.split("\n")[0].split()[1:9]]
                     for text in (before, after))
    spent = [late - early for early, late in zip(first, second)]
    return [ticks / sum(spent) for ticks in spent] if sum(spent) else [0, 0, 0, 1, 0, 0, 0, 0]


def processor_ticks(stat):
    """/proc/PID/stat: user and system time of all its threads."""
    fields = stat.rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def parent(stat):
    """/proc/PID/stat: the process's parent."""
    return int(stat.rsplit(")", 1)[1].split()[1])


def resident_mib(status):
    """/proc/PID/status: resident memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    if not found:
        raise ValueError("a process that has no memory any more")
    return int(found.group(1)) / 1024
