"""The prober as something to do other things under.

with Probing(shop.url, directory / "probes") as probing:
    deploy()
assert not [request for request in probing.requests if request["kind"] != "good"]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent


class Probing:
    """Asks from the beginning of the `with` to its end; `requests` are there after it.

    A request: due (time of day), seconds, kind ("good", or how it failed), version (that answered).
    """

    what = "pages"

    def __init__(self, url, output, rate=50.0):
        self.url, self.output, self.rate = url, Path(output), rate
        self.process, self.requests = None, []

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "downtime.prober", self.url, str(self.rate), self.output, self.what],
            env=os.environ | {"PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"},
            # Linux shares the processors out by session, so that a priority counts only in one of its own.
            start_new_session=True,
        )
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait()
        if code:
            raise RuntimeError(f"the prober of {self.url} ended with {code}")
        self.requests = [json.loads(line) for line in self.output.read_text().splitlines()]

    @property
    def failed(self):
        return [request for request in self.requests if request["kind"] != "good"]


class Ordering(Probing):
    """Places orders meanwhile, and reads each. A request has token, qty, read (a kind) and said as well."""

    what = "orders"

    def __init__(self, url, output, rate=5.0):
        super().__init__(url, output, rate)

    def compared(self, database):
        """What is wrong with the orders of a shop's database, in sentences; none is lost and none doubled if it is empty."""
        placed, items = {}, {}
        for token, total in database.query("SELECT token, ROUND(total) FROM sales_order WHERE token LIKE 't%'"):
            placed.setdefault(token, []).append(int(total))
        for token, qty in database.query(
            "SELECT token, i.qty FROM sales_order_item i JOIN sales_order o ON o.entity_id = order_id WHERE token LIKE 't%'"
        ):
            items.setdefault(token, []).append(int(qty))
        wrong = []
        for request in self.requests:
            token, qty, there = request["token"], request["qty"], placed.pop(request["token"], [])
            if request["kind"] == "good" and not there:
                wrong.append(f"order {token} is lost")
            elif request["kind"] != "good" and there:
                wrong.append(f"order {token} is placed, and the answer was {request['kind']}")
            if len(there) > 1:
                wrong.append(f"order {token} is there {len(there)} times")
            if any(total != 10 * qty for total in there) or items.get(token, []) != [qty] * len(there):
                wrong.append(f"order {token} is another one: {there}, {items.get(token)}, not {qty}")
            # Where the shop is closed nothing can be read.
            if request["read"] == "good" and request["said"] != f"{qty} anvil for {10 * qty}":
                wrong.append(f"order {token} was read as {request['said']!r}")
        wrong += [f"order {token} was placed by nobody" for token in placed]
        [[sold]] = database.query("SELECT qty FROM sales_sold")
        [[ordered]] = database.query("SELECT COALESCE(SUM(qty), 0) FROM sales_order_item")
        if sold != ordered:
            wrong.append(f"{sold} were counted as sold, and {ordered} were")
        return wrong
