"""The instrument, tried on servers whose behaviour is known.

.build/test-unit/bin/python -m pytest -q tests/downtime
"""

from __future__ import annotations

import http.server
import socketserver
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from . import figures
from .probing import Ordering, Probing

PAGE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<p>This is version v1 in release v1</p>"
CLOSED = b"HTTP/1.1 503 x\r\nConnection: close\r\n\r\n<title>Error 503: Service Unavailable</title>"


class Server(socketserver.ThreadingTCPServer):
    """Answers as `behaviour(seconds since the start)` says: bytes, after as many seconds; b"" hangs up."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 1000

    def __init__(self, behaviour):
        self.started = time.monotonic()

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler):
                wait, answer = behaviour(time.monotonic() - self.started)
                handler.request.recv(4096)
                time.sleep(wait)
                handler.wfile.write(answer)

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def probe(tmp_path):
    def run(behaviour, seconds, rate=50):
        server = Server(behaviour)
        with Probing(f"http://127.0.0.1:{server.port}", tmp_path / "probes", rate) as probing:
            time.sleep(seconds)
        server.shutdown()
        server.server_close()
        return probing.requests

    return run


def test_a_steady_rate_of_good_answers(probe):
    requests = probe(lambda _: (0, PAGE), 2)
    assert {request["kind"] for request in requests} == {"good"} and 60 < len(requests) <= 101
    gaps = [b["due"] - a["due"] for a, b in zip(requests, requests[1:])]
    assert max(gaps) == pytest.approx(0.02, abs=0.001)


def test_a_stall_is_seen_by_every_request_that_was_due_in_it(probe):
    requests = probe(lambda at: (max(0, 1.5 - at) if at > 1 else 0, PAGE), 3)
    late = [request["seconds"] for request in requests if request["seconds"] > 0.05]
    # Half a second at 50/s: not one slow request, as a closed loop would have it, but two dozen.
    assert 15 <= len(late) <= 30 and max(late) == pytest.approx(0.5, abs=0.15)


def test_kinds_of_failure_and_the_outage(probe):
    def behaviour(at):
        if 1.0 < at < 1.4:
            return 0, CLOSED
        if 1.8 < at < 1.9:
            return 0, b""
        if 1.9 < at < 2.0:
            return 0, b"HTTP/1.1 502 Bad\r\n\r\nbad"
        if 2.0 < at < 2.1:
            return 0, b"HTTP/1.1 200 OK\r\n\r\nanother page"
        return 0, PAGE

    requests = probe(behaviour, 3)
    start, end = requests[0]["due"] + 0.5, requests[-1]["due"]
    found = figures.of_run(requests, start, end, upgrade=0.5)
    assert set(found["kinds"]) == {"503 without Retry-After", "connection broken", "status 502", "wrong page"}
    assert found["failed"] == sum(found["kinds"].values())
    assert found["outage"] == pytest.approx(1.1, abs=0.08) and found["failing"] == pytest.approx(0.7, abs=0.08)
    assert found["beyond"] == pytest.approx(found["outage"] - 0.5) and found["version"] == "v1"


class Orders:
    """A shop that places orders, and some of them wrongly: `placed` is what it has done, each with a number of pieces."""

    def __init__(self):
        self.placed, self.lock = [], threading.Lock()

    def place(self, token, qty):
        with self.lock:
            wrong = {"t2": [], "t3": [qty, qty], "t4": [qty + 1]}.get(token, [qty])
            self.placed += [(token, qty) for qty in wrong]

    def handler(orders):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                orders.place(asked["token"], int(asked["qty"]))
                if asked["token"] == "t5":
                    self.send_error(502)
                    return
                self.say(f"order {asked['token']}: it is placed as 1.")

            def do_GET(self):
                token = dict(parse_qsl(urlsplit(self.path).query))["token"]
                self.say(f"order {token}: it has {', '.join(f'{qty} anvil for {10 * qty}' for t, qty in orders.placed if t == token)}.")

            def say(self, text):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"This is version v1 of {text}\n".encode())

            def log_message(self, *_):
                pass

        return Handler

    def query(self, sql):
        if "sales_sold" in sql:
            return [["1"]]
        if "SUM" in sql:
            return [[str(sum(qty for _, qty in self.placed))]]
        return [[token, str(qty if "i.qty" in sql else 10 * qty)] for token, qty in self.placed]


def test_orders_that_are_lost_doubled_changed_or_placed_in_spite_of_a_failure(tmp_path):
    orders = Orders()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), orders.handler())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Ordering(f"http://127.0.0.1:{server.server_port}", tmp_path / "orders", rate=10) as ordering:
        time.sleep(1.2)
    server.shutdown()
    server.server_close()
    wrong = ordering.compared(orders)
    assert len(ordering.requests) > 6 and len(ordering.failed) == 1
    for says in (
        "t2 is lost",
        "t3 is there 2 times",
        "t4 is another one",
        "t5 is placed, and the answer was status 502",
        "t3 was read as '4 anvil for 40, 4 anvil for 40'",
        "counted as sold",
    ):
        assert any(says in sentence for sentence in wrong), (says, wrong)
    assert not any(f"order t{good} " in sentence for good in (0, 1, 6) for sentence in wrong), wrong


def request(due, kind="good", seconds=0.01):
    return {"due": due, "kind": kind, "seconds": seconds, "version": "v1"}


def test_an_outage_that_has_not_ended():
    requests = [request(0), request(1, "status 500"), request(2, "status 500"), request(3, "status 500")]
    assert figures.failing_spans(requests) == [(1, 3)]


def test_the_first_failure_after_requests_began_to_be_held():
    requests = [request(1), request(2, "status 503", 20), request(3, "status 503", 19.5), request(30)]
    assert figures.first_failure(requests, 1.5) == pytest.approx(20.5)
    assert figures.first_failure(requests, None) is None and figures.first_failure([request(1)], 1) is None


def test_percentiles():
    values = list(range(1, 101))
    assert [figures.percentile(values, part) for part in (0.5, 0.99, 1)] == [50, 99, 100]
    assert figures.percentile([7], 0.99) == 7 and figures.percentile([], 0.5) is None


def test_rounds_add_failures_and_take_medians():
    def run(failures, outage):
        requests = [request(number / 10) for number in range(50)]
        return figures.of_run(requests, 1, 4, 0) | {"failed": failures, "kinds": {"x": failures}, "outage": outage}

    found = figures.of_rounds([run(0, 0.0), run(3, 5.0), run(0, 0.1)])
    assert (found["failed"], found["kinds"], found["outage"], found["worst"]) == (3, {"x": 3}, 0.1, 5.0)
    assert found["requests"] == 150 and found["before"]["p99"] == pytest.approx(10)
