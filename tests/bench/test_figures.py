"""The figures' way from single runs to table and plot, and the readers of what is measured.

.build/test-unit/bin/python -m pytest -q tests/bench
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from . import figures, plot, report
from .__main__ import PARTS
from .contest import Contestant, Part, Results, hold, turn
from .plays import CHECKOUT, last_words, read_stamped
from .process import Failed, Missing, run

SVG = "{http://www.w3.org/2000/svg}"


def results(*runs, **more):
    data = {
        "part": "unpack",
        "title": "Unpacking & more",
        "columns": [["peak MB", "peak", 0]],
        "left_out": [],
        "notes": {},
        "order": [["disk", "ours"], ["disk", "theirs"], ["disk", "<others'>"], ["tmpfs", "ours"]],
        "command": "make bench",
        "date": "2026-01-01",
        "release": "3 files",
        "machine": "a machine",
        "runs": [{"group": group, "name": name, "round": number, **found} for group, name, number, found in runs],
    }
    return data | more


@pytest.fixture
def whole():
    return results(
        ("disk", "ours", 0, {"seconds": 2.0, "peak": 30.2}),
        ("disk", "ours", 1, {"seconds": 9.0, "peak": 31.4}),
        ("disk", "ours", 2, {"seconds": 3.0, "peak": 33.0}),
        ("disk", "theirs", 0, {"seconds": 12.0}),
        ("disk", "theirs", 1, {"seconds": 24.0}),
        ("tmpfs", "ours", 0, {"seconds": 0.0123}),
        left_out=[["disk", "<others'>", "no others here"]],
    )


def test_medians_and_ratios(whole):
    rows = {(row["group"], row["name"]): row for row in figures.rows(whole)}
    assert rows["disk", "ours"]["summary"] == {"median": 3.0, "least": 2.0, "most": 9.0, "values": [2.0, 9.0, 3.0]}
    assert rows["disk", "ours"]["times"] == 1 and rows["disk", "theirs"]["times"] == 6
    assert rows["disk", "<others'>"]["summary"] is None and rows["tmpfs", "ours"]["times"] == 1
    assert figures.rounds(whole) == "1 to 3 runs"


def test_the_table(whole):
    lines = figures.table(whole).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 7 and "peak MB" in lines[0]
    assert lines[2] == "| disk | **ours** | 3.00 | 2.00 to 9.00 | 1.00 | 31 |"
    assert lines[3] == "| disk | theirs | 18.0 | 12.0 to 24.0 | 6.00 | – |"
    assert lines[4] == "| disk | <others'> | no others here | – | – | – |"
    assert lines[5] == "| tmpfs | **ours** | 0.012 | 0.012 to 0.012 | 1.00 | – |"


def test_who_failed_once_does_not_win():
    data = results(
        ("disk", "ours", 0, {"seconds": 2.0}),
        ("disk", "theirs", 0, {"seconds": 0.1}),
        ("disk", "theirs", 1, {"failed": "wrong | owner\nof all"}),
    )
    row = figures.rows(data)[1]
    assert row["summary"] is None and row["times"] is None
    assert "| disk | theirs | wrong \\| owner of all | – | – | – |" in figures.table(data)
    # Nor is anybody compared with it.
    data["runs"][0] = data["runs"][0] | {"failed": "x"}
    assert [row["times"] for row in figures.rows(data)] == [None, None, None, None]


def test_the_plot_is_svg_with_a_bar_for_each_median_and_a_dot_for_each_run(whole):
    root = ElementTree.fromstring(plot.draw(whole))
    bars = {(bar.get("class"), float(bar.get("width"))) for bar in root.iter(f"{SVG}rect")}
    assert len(bars) == 3 and len(list(root.iter(f"{SVG}circle"))) == 6
    room = plot.WIDTH - plot.LABEL - plot.VALUE
    # The scale of a panel ends at its slowest run.
    assert ("other", room * 18 / 24) in bars and ("ours", room * 3 / 24) in bars and ("ours", float(room)) in bars
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"<others'>", "no others here", "18.0 s · 6.00 ×"} <= set(texts) and "Unpacking & more" in texts[0]
    for element in root.iter():
        for key in ("x", "cx"):
            assert 0 <= float(element.get(key, 0)) <= plot.WIDTH
        for key in ("y", "cy", "y2"):
            assert 0 <= float(element.get(key, 0)) <= float(root.get("height"))


def test_the_page_gets_figures_in_their_place_and_only_there(whole):
    rest = "<!-- end of bench:unpack -->\nafter\n<!-- bench:copy -->\n<!-- end of bench:copy -->\n"
    page = f"before\n<!-- bench:unpack -->\nold\n{rest}"
    told = report.insert(page, whole)
    assert told.startswith("before\n<!-- bench:unpack -->\n![") and "old" not in told
    assert "(benchmarks/unpack.svg)" in told and "| **ours** | 3.00 |" in told and "`make bench`" in told
    assert told.endswith(rest)
    # Again: the same.
    assert report.insert(told, whole) == told
    with pytest.raises(Missing, match="no place for the part unpack"):
        report.insert("nothing", whole)


def test_every_part_has_a_place_in_the_page():
    page = (CHECKOUT / "docs/benchmarks.md").read_text()
    missing = [name for name in PARTS if len(report.between(name).findall(page)) != 1]
    assert not missing, "--write-docs would fail after these were measured"


@pytest.fixture
def grown():
    order = [["files", "1,000"], ["files", "94,000"], ["files", "<all>"], ["hosts", "1"]]
    runs = [
        ("files", "1,000", 0, {"seconds": 1.0, "sent": 0.25}),
        ("files", "94,000", 0, {"seconds": 4.0, "sent": 0.5}),
        ("hosts", "1", 0, {"seconds": 2.0, "sent": 1.0}),
    ]
    return results(*runs, order=order, columns=[["sent MB", "sent", 2]], times="times the first", plot="curves")


def test_a_curve_has_a_point_for_each_median_and_none_for_what_is_not_known(grown):
    root = ElementTree.fromstring(plot.draw(grown))
    # Seconds and the first column, for each of the groups.
    lines = [line.get("points").split() for line in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [2, 2, 1, 1]
    (_, low), (_, high) = (map(float, point.split(",")) for point in lines[0])
    bottom = float(next(root.iter(f"{SVG}line")).get("y1"))
    # From 0: four times as long is four times as high.
    assert bottom - high == pytest.approx(4 * (bottom - low))
    assert {"1.00", "4.00", "<all>", "sent MB"} <= {text.text for text in root.iter(f"{SVG}text")}
    for element in root.iter():
        for key in ("x", "cx", "x2"):
            assert 0 <= float(element.get(key, 0)) <= plot.WIDTH
        for key in ("y", "cy", "y2"):
            assert 0 <= float(element.get(key, 0)) <= float(root.get("height"))


def test_a_part_says_what_its_ratio_and_its_picture_are(whole, grown):
    assert "| times the first |" in figures.table(grown) and "| times ours |" in figures.table(whole)
    page = "<!-- bench:unpack -->\n<!-- end of bench:unpack -->\n"
    assert "medians as curves]" in report.insert(page, grown) and "medians as bars, runs as dots]" in report.insert(page, whole)


def test_who_begins_changes_with_the_round():
    assert ["".join(turn("abc", number)) for number in range(4)] == ["abc", "bca", "cab", "abc"]


class Trial(Part):
    """Counts instead of measuring."""

    def __init__(self, fails=(), interrupted_after=None):
        super().__init__(None)
        self.order, self.fails, self.left = [], fails, interrupted_after

    def contestants(self):
        found = [Contestant("disk", name, lambda name=name: self.measure(name)) for name in ("ours", "theirs")]
        return [*found, Contestant("disk", "others", absent="not here")]

    def measure(self, name):
        if self.left is not None and len(self.order) == self.left:
            raise KeyboardInterrupt
        self.order.append(name)
        if name in self.fails:
            raise Failed("no owner")
        return {"seconds": float(len(self.order))}


def held(tmp_path, part, rounds, **settings):
    return hold(part, Results(tmp_path / "x.json", results(settings=settings)), rounds)


def test_rounds_alternate(tmp_path):
    part = Trial()
    data = held(tmp_path, part, 2)
    assert part.order == ["ours", "theirs", "theirs", "ours"] and data["left_out"] == [["disk", "others", "not here"]]


def test_what_failed_is_not_run_again(tmp_path):
    part = Trial(fails=("theirs",))
    data = held(tmp_path, part, 3)
    assert part.order == ["ours", "theirs", "ours", "ours"]
    assert [run.get("failed") for run in data["runs"]] == [None, "no owner", None, None]
    again, part = Results(tmp_path / "x.json", results(settings={})), Trial()
    again.forget_failures()
    assert len(hold(part, again, 3)["runs"]) == 6 and part.order == ["theirs"] * 3


def test_an_interrupted_bench_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        held(tmp_path, Trial(interrupted_after=3), 2, modules="a")
    part = Trial()
    data = held(tmp_path, part, 3, modules="a")
    # Of the second round only ours was missing.
    assert part.order == ["ours", "ours", "theirs"] and len(data["runs"]) == 6
    with pytest.raises(Missing, match="other settings .modules."):
        held(tmp_path, Trial(), 3, modules="b")


def test_times_of_tasks_from_the_output_of_a_play():
    told = read_stamped(
        [
            (0.0, "PLAY [all] ***"),
            (1.0, "TASK [one] ***"),
            (1.2, "ok: [web]"),
            (1.5, "TASK [role : two] ***"),
            (2.0, "skipping: [web]"),
            (2.5, "TASK [one] ***"),
            (2.6, "changed: [web] => (item=a)"),
            (4.0, "PLAY RECAP ***"),
            (4.1, "web : ok=2"),
        ]
    )
    assert told == {"play": 3.0, "tasks": 3, "executed": 2, "of_task": {"one": 2.0, "role : two": 1.0}}
    assert read_stamped([(0.0, "ERROR! no such file")]) is None


def test_the_message_of_a_failed_task_is_found():
    told = '{"changed": false, "msg": "the \\"disk\\" is full"}'
    assert last_words(f"TASK [x] ***\nok: [a]\nfatal: [a]: FAILED! => {told}\nPLAY RECAP") == 'the \\"disk\\" is full'
    assert last_words("one\ntwo\nthree\nfour\n") == "two three four"


def test_a_program_is_measured_and_its_failure_told():
    found = run(["sh", "-c", "sleep 0.2; cat; echo done"], input="in ")
    assert 0.2 <= found["seconds"] < 2 and found["output"] == "in done\n"
    with pytest.raises(Failed, match="sh ended with 3: no space"):
        run(["sh", "-c", "echo no space; exit 3"])
