"""Tables and plots, in a directory and in docs/benchmarks.md."""

from __future__ import annotations

import json
import re
import shutil

from . import figures, plot
from .process import Missing


def read(directory, name):
    """The results of a part; None if there are none."""
    path = directory / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def text(data, heading="## "):
    """Title, table, what was noted, command and machine, as Markdown."""
    found = f"{heading}{data['title']}\n\n{figures.table(data)}\n"
    for what, rows in data["notes"].items():
        found += f"{what}: " + "; ".join(f"{name} {value}" for name, value in rows.items()) + ".\n\n"
    told = [f"`{data['command']}`, {data['date']}, {figures.rounds(data)} each", data["release"], data["machine"]]
    return found + ". ".join(each for each in told if each) + ".\n"


def write(directory, data):
    """PART.svg and PART.md beside the JSON."""
    (directory / f"{data['part']}.svg").write_text(plot.draw(data))
    (directory / f"{data['part']}.md").write_text(text(data))


def between(name):
    """What the figures of a part replace in docs/benchmarks.md."""
    return re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- end of bench:{name} -->)", re.S)


def insert(page, data):
    """`page` with the figures of one part in their place. Raises Missing if there is none."""
    name = data["part"]
    told = plot.KINDS[data.get("plot", "bars")][1]
    picture = f"![{data['title']}: {told}](benchmarks/{name}.svg)"
    new = f"{picture}\n\n{text(data).split(chr(10), 2)[2]}"
    found, count = between(name).subn(lambda match: f"{match[1]}{new}{match[2]}", page)
    if count != 1:
        raise Missing(f"docs/benchmarks.md has no place for the part {name}: '<!-- bench:{name} -->' and '<!-- end of bench:{name} -->'")
    return found


def write_docs(docs, directory, results):
    page = docs / "benchmarks.md"
    told = page.read_text()
    for data in results:
        told = insert(told, data)
    (docs / "benchmarks").mkdir(exist_ok=True)
    for data in results:
        for suffix in ("json", "svg"):
            shutil.copyfile(directory / f"{data['part']}.{suffix}", docs / "benchmarks" / f"{data['part']}.{suffix}")
    page.write_text(told)
