"""The figures of one part as SVG: bars are medians, dots the single runs, one panel for each group."""

from __future__ import annotations

from xml.sax.saxutils import escape

from . import figures

WIDTH, LABEL, VALUE, ROW, BAR, HEAD, CURVE = 860, 290, 150, 24, 14, 40, 130
# The colours that text and lines have on a light and on a dark page; the background is the page's.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; } .small { font-size: 12px; fill: #59636e; }
.ours { fill: #1a7f37; } .other { fill: #8c959f; } .run { fill: #1f2328; fill-opacity: 0.6; }
.axis { stroke: #d1d9e0; } .curve { fill: none; stroke: #1a7f37; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; }
  .ours { fill: #3fb950; } .other { fill: #656c76; } .run { fill: #f0f6fc; fill-opacity: 0.7; }
  .axis { stroke: #3d444d; } .curve { stroke: #3fb950; }
}
"""


def panel(group, rows, top):
    """The lines of SVG of one group, and where the next begins. Each panel has a scale of its own, from 0."""
    most = max((row["summary"]["most"] for row in rows if row["summary"]), default=1) or 1
    room = WIDTH - LABEL - VALUE

    def across(seconds):
        return LABEL + room * max(0, seconds) / most

    found = [f'<text class="title" x="0" y="{top + 18}">{escape(group)}</text>']
    y = top + 30
    for row in rows:
        middle = y + BAR / 2 + 1
        found.append(f'<text x="{LABEL - 10}" y="{middle + 4}" text-anchor="end">{escape(row["name"])}</text>')
        told = row["summary"]
        if told:
            kind = "ours" if row["ours"] else "other"
            length = max(1, across(told["median"]) - LABEL)
            found.append(f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
            for seconds in told["values"]:
                found.append(f'<circle class="run" cx="{across(seconds):.1f}" cy="{middle - 1}" r="2.5"/>')
            ratio = f" · {row['times']:.2f} ×" if row["times"] else ""
            found.append(
                f'<text class="small" x="{across(told["most"]) + 10:.1f}" y="{middle + 4}">{figures.digits(told["median"])} s{ratio}</text>'
            )
        else:
            reason = figures.short(row["reason"] or "not run", 75)
            found.append(f'<text class="small" x="{LABEL + 4}" y="{middle + 4}">{escape(reason)}</text>')
        y += ROW
    found.append(f'<line class="axis" x1="{LABEL}" y1="{top + 26}" x2="{LABEL}" y2="{y - 4}"/>')
    return found, y + 8


def by_group(results):
    groups = {}
    for row in figures.rows(results):
        groups.setdefault(row["group"], []).append(row)
    return groups


def bars(results):
    """Seconds: a panel for each group."""
    found, top = [], HEAD
    for group, rows in by_group(results).items():
        lines, top = panel(group, rows, top)
        found += lines
    head = f"{results['title']}: seconds, medians of {figures.rounds(results)} (dots), shorter is better"
    return picture(head, found, top)


def curve(points, left, top, width):
    """`points`: pairs of a name and a value, or None for one that is not known. They have the same distance, the scale begins at 0."""
    most = max((value for _, value in points if value), default=1)
    step = width / max(1, len(points))
    there = [
        (left + step * (number + 0.5), top + CURVE * (1 - value / most), value)
        for number, (_, value) in enumerate(points)
        if value is not None
    ]
    found = [f'<line class="axis" x1="{left}" y1="{top + CURVE}" x2="{left + width:.1f}" y2="{top + CURVE}"/>']
    found.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in there)}"/>')
    for x, y, value in there:
        found.append(f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        found.append(f'<text class="small" x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{figures.digits(value)}</text>')
    for number, (name, _) in enumerate(points):
        found.append(
            f'<text class="small" x="{left + step * (number + 0.5):.1f}" y="{top + CURVE + 18}" text-anchor="middle">{escape(name)}</text>'
        )
    return found


def curves(results):
    """Beside each other, for each group: seconds, and below it the first of the columns."""
    heading, key, _ = results["columns"][0]
    groups = by_group(results)
    width = WIDTH / max(1, len(groups))
    found, second = [], HEAD + CURVE + 100
    for number, (group, rows) in enumerate(groups.items()):
        left = width * number
        medians = [(row["name"], row["summary"] and row["summary"]["median"]) for row in rows]
        more = [(row["name"], told and told["median"]) for row in rows for told in [figures.summary(row["runs"], key)]]
        for top, what, points in ((HEAD + 50, "seconds", medians), (second + 50, heading, more)):
            found.append(f'<text class="title" x="{left:.1f}" y="{top - 36}">{escape(what)}</text>')
            found.append(f'<text class="small" x="{left:.1f}" y="{top - 20}">{escape(group)}</text>')
            found += curve(points, left, top + 10, width - 20)
    head = f"{results['title']}: medians of {figures.rounds(results)}, lower is better"
    return picture(head, found, second + CURVE + 100)


KINDS = {"bars": (bars, "medians as bars, runs as dots"), "curves": (curves, "medians as curves")}


def draw(results):
    """The plot of a part's results (as `figures.rows` takes them)."""
    return KINDS[results.get("plot", "bars")][0](results)


def picture(head, found, top):
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img">',
            f"<title>{escape(head)}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="0" y="20">{escape(head)}</text>',
            *found,
            "</svg>",
            "",
        ]
    )
