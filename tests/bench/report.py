"""Results as text: tables of medians, and the criteria."""

import textwrap

import figures
import machine
from criteria import criteria
from plan import LINE_TITLES
from results import LOADS

CLEAN_COLUMNS = (
    # title, measure, format
    ("1 flow", "tcp1", "{:.0f}"),
    ("reverse", "tcp1_reverse", "{:.0f}"),
    ("4 flows", "tcp4", "{:.0f}"),
    ("reverse", "tcp4_reverse", "{:.0f}"),
    ("CPU s/GB", "cpu", "{:.2f}"),
    ("64 B k/s", "udp64", "{:.1f}"),
    ("1200 B k/s", "udp1200", "{:.1f}"),
    ("idle ms", "idle_p50", "{:.3f}"),
    ("loaded p50", "loaded_p50", "{:.2f}"),
    ("p95", "loaded_p95", "{:.2f}"),
    ("p99", "loaded_p99", "{:.2f}"),
    ("RSS MiB", "rss", "{:.1f}"),
)
IN_THOUSANDS = ("udp64", "udp1200")


def text(results, ours):
    """The whole report. `ours`: the ways whose criteria are listed."""
    parts = [*wrapped(machine.sentence(results.machine)), *wrapped(versions(results)), ""]
    for name, value in results.plan.get("altered", {}).items():
        parts += [f"Not what ships: {name}={value}", ""]
    if results.clean:
        parts += ["Clean path, TCP in Mbit/s, medians", table(*clean_table(results)), ""]
    for line in results.lines:
        parts += [LINE_TITLES[line] + ", medians", table(*line_table(results, line)), ""]
    if results.busy:
        parts.append("processor used by others between measurements: median "
                     f"{figures.median(results.busy):.0%}, at most {max(results.busy):.0%}")
    if results.stolen:
        parts.append("taken away by the host during measurements: median "
                     f"{figures.median(results.stolen):.1%}, at most {max(results.stolen):.1%}")
    for way, why in results.missing.items():
        parts.append(f"not measured: {way}: {why}")
    for failure in results.failures:
        parts.append(f"failed: {failure['way']}, {failure['measure']}: {failure['why']}")
    for way in ours:
        parts += ["", f"Criteria, {way}", verdicts(results, way)]
    return "\n".join(parts)


def markdown(text):
    """The report as a page beside the plot."""
    return f"# Results of `make bench`\n\n![the medians](plot.svg)\n\n```text\n{text}\n```\n"


def versions(results):
    named = {}
    for way, version in results.versions.items():
        named.setdefault(version, []).append(way)
    return "; ".join(f"{', '.join(ways)}: {version}" for version, ways in named.items())


def wrapped(sentence):
    return textwrap.wrap(sentence, 100, subsequent_indent="  ")


def clean_table(results):
    head = ["", *(title for title, _, _ in CLEAN_COLUMNS)]
    rows = []
    for way in results.plan["ways"]:
        if way not in results.clean:
            rows.append([way, "not measured"])
            continue
        rows.append([way] + [
            shown(results.of(way, measure), form, 1000 if measure in IN_THOUSANDS else 1)
            for _, measure, form in CLEAN_COLUMNS])
    return head, rows


def line_table(results, line):
    head = [""]
    for load in LOADS:
        head += [f"{load} flow{'s' * (load > 1)}", "p50 ms", "p95", "p99", "lost %"]
    rows = []
    for way in results.plan["line_ways"]:
        if way not in results.lines[line]:
            rows.append([way, "not measured"])
            continue
        row = [way]
        for load in LOADS:
            row.append(shown(results.on_line(line, way, "mbit", load), "{:.1f}"))
            row += [shown(results.on_line(line, way, measure, load), "{:.0f}")
                    for measure in ("p50", "p95", "p99")]
            row.append(shown(results.on_line(line, way, "lost", load), "{:.1f}"))
        rows.append(row)
    return head, rows


def shown(value, form, scale=1):
    return "-" if value is None else form.format(value / scale)


def table(head, rows):
    """Columns as wide as they need to be; the first to the left, figures to the right. A row that is
    shorter than the head is a remark."""
    full = [row for row in rows if len(row) == len(head)]
    width = [max(len(row[column]) for row in [head, *full]) for column in range(len(head))]
    width[0] = max(len(row[0]) for row in [head, *rows])

    def line(row):
        cells = [row[0].ljust(width[0])]
        if len(row) < len(head):
            return "  ".join(cells + row[1:])
        return "  ".join(cells + [cell.rjust(w) for cell, w in zip(row[1:], width[1:])]).rstrip()

    return "\n".join(line(row) for row in [head, *rows])


def verdicts(results, way):
    rows = []
    for one in criteria(results, way):
        if one.measured is None and not results.plan["whole"]:
            continue
        sense = "≤" if one.at_most else "≥"
        measured = "-" if one.measured is None else f"{one.measured:.3g} {one.unit}"
        rows.append([one.sentence, f"{sense} {one.bound:g} {one.unit}", measured, one.verdict])
    return table(["", "asked", "measured", ""], rows)
