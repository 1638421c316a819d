"""What a run consists of: which ways, which measures, how long, how often."""

from dataclasses import asdict, dataclass

# The emulated lines: what `lab emulate` is told, both ways.
LINES = {
    "20mbit": ["--delay", "10ms", "--rate", "20mbit", "--buffer", "500kB"],
    "100mbit-loss": ["--delay", "10ms", "--rate", "100mbit", "--buffer", "1MB", "--loss", "1%"],
}

LINE_TITLES = {
    "20mbit": "20 Mbit/s, 500 kB buffer, 10 ms each way",
    "100mbit-loss": "100 Mbit/s, 1 % loss, 1 MB buffer, 10 ms each way",
}


@dataclass
class Plan:
    """Lengths in seconds."""

    ways: list
    line_ways: list
    lines: list
    clean: bool
    # Whether the ways were named, not those of a run unasked.
    chosen: bool
    # What makes it something else than what ships: another binary, settings.
    altered: dict
    rounds: int
    # How often one flow is measured in a round, each time all ways after one another.
    cycles: int
    flow: float
    ping: float
    datagrams: float
    # On a line: what a flow is given before it counts, and how long it counts.
    settle: int
    line: float

    @property
    def whole(self):
        """Whether this is all that belongs into the published results."""
        return (self.clean and self.lines == list(LINES) and self.rounds >= 3
                and not self.chosen and not self.altered)

    def as_json(self):
        return asdict(self) | {"whole": self.whole}


def plan(ways, only=(), lines=None, clean=True, rounds=None, quick=False, altered=None):
    """`ways`: name → (way, by default, by default on lines). `only`: names, or the beginnings of
    some (`tunnel64d`). Raises ValueError for names that are not there."""
    by_default = [name for name, (_, asked, _) in ways.items() if asked]
    on_lines = [name for name, (_, _, asked) in ways.items() if asked]
    if only:
        by_default = on_lines = chosen(ways, only)
    lines = list(LINES) if lines is None else lines
    for line in lines:
        if line not in LINES:
            raise ValueError(f"no such line: {line} ({', '.join(LINES)})")
    lengths = (1.0, 0.5, 1.0, 3, 5.0) if quick else (2.0, 1.0, 2.0, 3, 8.0)
    flow, ping, datagrams, settle, line = lengths
    return Plan(
        ways=by_default if clean else [], line_ways=on_lines if lines else [], lines=lines,
        clean=clean, chosen=bool(only), altered=altered or {}, rounds=rounds or (1 if quick else 3),
        cycles=1 if quick else 3, flow=flow, ping=ping, datagrams=datagrams, settle=settle, line=line)


def chosen(ways, only):
    """The ways of these names; a name that is none means those that begin with it."""
    names = []
    for word in only:
        found = [word] if word in ways else [
            name for name, (_, asked, _) in ways.items() if asked and name.startswith(word)]
        if not found:
            raise ValueError(f"no such way: {word} ({', '.join(ways)})")
        names += [name for name in found if name not in names]
    return names


def there_and_back(names, cycle):
    """The names, every other time from the last to the first: what drifts meanwhile evens out."""
    return names[::-1] if cycle % 2 else names


def turns(names, round_number):
    """The names in another order each round: nobody is always first."""
    start = round_number % len(names) if names else 0
    return names[start:] + names[:start]
