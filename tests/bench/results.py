"""The results of a run: every single figure, and its median.

    {"version": 1, "machine": {…}, "plan": {…},
     "ways":  {NAME: {"version": …, "clean": {MEASURE: FIGURE}, "lines": {LINE: {MEASURE: FIGURE}}}},
     "missing": {NAME: why}, "failures": […], "busy": [0.01, …], "stolen": [0, …]}
    FIGURE = {"median": 1.5, "runs": [1, 1.5, null]}        null: that run failed, see "failures", or was endless
"""

import math

import figures

# Measures of the clean path: unit and title.
CLEAN = {
    "tcp1": ("Mbit/s", "1 flow"),
    "tcp1_reverse": ("Mbit/s", "1 flow, reverse"),
    "tcp4": ("Mbit/s", "4 flows"),
    "tcp4_reverse": ("Mbit/s", "4 flows, reverse"),
    "cpu": ("s/GB", "processor time, both ends"),
    "udp64": ("packets/s", "UDP 64 B"),
    "udp1200": ("packets/s", "UDP 1200 B"),
    "idle_p50": ("ms", "idle RTT p50"),
    "loaded_p50": ("ms", "loaded RTT p50"),
    "loaded_p95": ("ms", "loaded RTT p95"),
    "loaded_p99": ("ms", "loaded RTT p99"),
    "rss": ("MiB", "resident memory"),
}

# Measures of a line, beside one and four flows.
LINE = ("mbit", "p50", "p95", "p99", "lost")
LOADS = (1, 4)


class Results:
    def __init__(self, machine, plan):
        self.machine = machine
        self.plan = plan
        self.versions = {}
        self.missing = {}
        self.failures = []
        # How busy others kept the processor just before each measurement, 0 to 1.
        self.busy = []
        # How much of it the host took away during each measurement, 0 to 1.
        self.stolen = []
        self.clean = {}
        self.lines = {}

    def add_clean(self, way, measure, value):
        self.clean.setdefault(way, {}).setdefault(measure, []).append(value)

    def add_line(self, line, way, load, sample):
        for measure in LINE:
            runs = self.lines.setdefault(line, {}).setdefault(way, {})
            runs.setdefault(f"{measure}_{load}", []).append(sample.get(measure))

    def fail(self, way, what, why):
        self.failures.append({"way": way, "measure": what, "why": str(why)})

    def of(self, way, measure):
        """The median on the clean path, or None."""
        return figures.median(self.clean.get(way, {}).get(measure, []))

    def on_line(self, line, way, measure, load):
        """The median on a line beside so many flows, or None."""
        return figures.median(self.lines.get(line, {}).get(way, {}).get(f"{measure}_{load}", []))

    def names(self):
        """All ways in the order of the run, also those that were not measured."""
        seen = [*self.plan["ways"], *self.plan["line_ways"]]
        return list(dict.fromkeys(seen))

    def as_json(self):
        def summary(measures):
            return {name: {"median": rounded(figures.median(runs)),
                           "runs": [rounded(run) for run in runs]}
                    for name, runs in measures.items()}
        ways = {}
        for name in self.names():
            if name not in self.clean and not any(name in line for line in self.lines.values()):
                continue
            ways[name] = {
                "version": self.versions.get(name),
                "clean": summary(self.clean.get(name, {})),
                "lines": {line: summary(measured[name])
                          for line, measured in self.lines.items() if name in measured},
            }
        return {"version": 1, "machine": self.machine, "plan": self.plan, "ways": ways,
                "missing": self.missing, "failures": self.failures,
                "busy": [rounded(share) for share in self.busy],
                "stolen": [rounded(share) for share in self.stolen]}


def rounded(value):
    """Four significant digits; more were never measured."""
    return None if value is None or math.isinf(value) else float(f"{value:.4g}")
