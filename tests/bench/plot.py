"""Results as a picture: panels of horizontal bars, written as SVG by hand."""

from xml.sax.saxutils import escape

import machine

WIDTH, PANELS_A_ROW, MARGIN = 1080, 2, 24
PANEL = (WIDTH - MARGIN) // PANELS_A_ROW - MARGIN
LABELS, BAR, GAP, HEAD = 168, 16, 6, 44

OURS, THEIRS, NOTHING = "#1f6f8b", "#b8b8b8", "#6d6d6d"

CLEAN_PANELS = (
    # measure, scale, title, more is better
    ("tcp1", 1000, "One TCP flow, Gbit/s", True),
    ("cpu", 1, "Processor seconds per GB, both ends", False),
    ("udp64", 1000, "UDP, 64 bytes, 1000 packets/s", True),
    ("idle_p50", 0.001, "Idle round trip, p50, µs", False),
    ("loaded_p95", 1, "Round trip beside one flow, p95, ms", False),
    ("rss", 1, "Resident memory, MiB", False),
)
LINE_PANELS = (
    ("20mbit", "p95", 1, "20 Mbit/s line: ping p95 beside one flow, ms", False),
    ("20mbit", "p95", 4, "20 Mbit/s line: ping p95 beside four flows, ms", False),
    ("100mbit-loss", "mbit", 1, "100 Mbit/s, 1 % loss: one flow, Mbit/s", True),
    ("100mbit-loss", "p95", 1, "100 Mbit/s, 1 % loss: ping p95 beside it, ms", False),
)


def svg(results):
    panels = []
    for measure, scale, title, more in CLEAN_PANELS:
        bars = [(way, results.of(way, measure)) for way in results.plan["ways"]]
        panels.append((title, more, scaled(bars, scale)))
    for line, measure, load, title, more in LINE_PANELS:
        bars = [(way, results.on_line(line, way, measure, load))
                for way in results.plan["line_ways"]]
        panels.append((title, more, scaled(bars, 1)))
    panels = [panel for panel in panels if panel[2]]

    drawn, top = [], 64
    for first in range(0, len(panels), PANELS_A_ROW):
        row = panels[first:first + PANELS_A_ROW]
        for column, panel in enumerate(row):
            drawn += draw(panel, MARGIN + column * (PANEL + MARGIN), top)
        top += HEAD + max(len(bars) for _, _, bars in row) * (BAR + GAP) + MARGIN
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
        text(MARGIN, 28, "tunnel64d beside its peers, medians", size=17, weight="bold"),
        text(MARGIN, 48, machine.sentence(results.machine), size=11, fill=NOTHING),
    ]
    return "\n".join([*head, *drawn, "</svg>"]) + "\n"


def scaled(bars, scale):
    return [(way, value / scale) for way, value in bars if value is not None]


def draw(panel, left, top):
    title, more, bars = panel
    better = "more is better" if more else "less is better"
    longest = max(value for _, value in bars) or 1
    room = PANEL - LABELS - 56
    parts = [text(left, top + 16, title, size=13, weight="bold"),
             text(left, top + 32, better, size=11, fill=NOTHING)]
    for number, (way, value) in enumerate(bars):
        y = top + HEAD + number * (BAR + GAP)
        length = max(room * value / longest, 1)
        colour = OURS if way.startswith("tunnel64d") else NOTHING if way == "direct" else THEIRS
        parts += [
            text(left + LABELS - 8, y + BAR - 4, way, anchor="end"),
            f'<rect x="{left + LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" '
            f'fill="{colour}"/>',
            text(left + LABELS + length + 5, y + BAR - 4, three_digits(value)),
        ]
    return parts


def text(x, y, content, size=12, weight="normal", fill="#222", anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
            f'fill="{fill}" text-anchor="{anchor}">{escape(content)}</text>')


def three_digits(value):
    """Three significant digits, never as a power of ten."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{float(f'{value:.3g}'):g}"
