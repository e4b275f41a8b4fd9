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

    def __init__(self, url, output, rate=50.0):
        self.url, self.output, self.rate = url, Path(output), rate
        self.process, self.requests = None, []

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "downtime.prober", self.url, str(self.rate), self.output],
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
