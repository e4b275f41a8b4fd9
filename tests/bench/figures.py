"""From single runs to medians, ratios and the rows of a table."""

from __future__ import annotations

import statistics


def summary(runs, key="seconds"):
    """Median, least and most of `key` over the runs; None where one has failed or none has it.

    A contestant that failed once has no figures: what did not do the work must not win.
    """
    values = [run[key] for run in runs if run.get(key) is not None]
    if not values or any("failed" in run for run in runs):
        return None
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": values}


def by_contestant(runs):
    """{(group, name): runs}, in the order of appearance."""
    found = {}
    for run in runs:
        found.setdefault((run["group"], run["name"]), []).append(run)
    return found


def rows(results):
    """One for each contestant: group, name, ours (a flag), summary, times (ours = 1), reason (why there is no
    summary), runs.

    `results` is what a part has written: `runs`, `left_out` ([group, name, reason]), and `order`, the
    pairs of group and name as they stand in the table; the first name of a group is ours.
    """
    runs = by_contestant(results["runs"])
    left_out = {(group, name): reason for group, name, reason in results["left_out"]}
    first = {}
    for group, name in results["order"]:
        first.setdefault(group, (group, name))
    found = []
    for group, name in results["order"]:
        own = runs.get((group, name), [])
        ours = summary(runs.get(first[group], []))
        told = summary(own)
        found.append(
            {
                "group": group,
                "name": name,
                "ours": first[group] == (group, name),
                "summary": told,
                "times": told["median"] / ours["median"] if told and ours and ours["median"] else None,
                "reason": left_out.get((group, name)) or next((run["failed"] for run in own if "failed" in run), None),
                "runs": own,
            }
        )
    return found


def digits(value):
    """A number of seconds, with as many digits as mean something."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def short(reason, length=100):
    """One line of it; the whole stands in the JSON."""
    told = " ".join(reason.split())
    return told if len(told) <= length else f"{told[: length - 3]}..."


def line(cells):
    return f"| {' | '.join(cells)} |\n"


def table(results):
    """Markdown. `columns` of the results: [heading, key, decimals] of what there is beside the seconds."""
    columns = results["columns"]
    text = line(["where", "how", "median s", "least to most", results.get("times", "times ours"), *(heading for heading, _, _ in columns)])
    text += "|" + " --- |" * (5 + len(columns)) + "\n"
    for row in rows(results):
        told = row["summary"]
        if told:
            cells = [digits(told["median"]), f"{digits(told['least'])} to {digits(told['most'])}"]
            cells.append(f"{row['times']:.2f}" if row["times"] else "–")
        else:
            cells = [short(row["reason"] or "not run").replace("|", "\\|"), "–", "–"]
        for _, key, decimals in columns:
            more = summary(row["runs"], key) if told else None
            cells.append(f"{more['median']:.{decimals}f}" if more else "–")
        text += line([row["group"], f"**{row['name']}**" if row["ours"] else row["name"], *cells])
    return text


def rounds(results):
    """How many runs a row is made of: "1 run", "3 runs", "2 to 3 runs"."""
    counts = {len(own) for own in by_contestant(results["runs"]).values()} or {0}
    least, most = min(counts), max(counts)
    return f"{most if least == most else f'{least} to {most}'} run{'s' if most != 1 else ''}"
