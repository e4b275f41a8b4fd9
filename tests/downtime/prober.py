"""Asks for a page at a steady rate, whatever becomes of the answers, until it is ended.

    python3 -m downtime.prober URL RATE OUTPUT

The n-th request is due at start + n / RATE. It is sent then even if earlier ones are still
waiting (an open loop), on a connection of its own, and its latency counts from the moment that
it was due: a stall of the shop, or of this program, is in the figures and not hidden by them.
Writes one line of JSON for each request to OUTPUT when it gets SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import sys
import time
from urllib.parse import urlsplit

# Long: a shop that answers late is slow, not down.
PATIENCE = 15.0
TEXT = b"This is version "


class Prober:
    def __init__(self, url, rate):
        address = urlsplit(url)
        self.host, self.port, self.rate = address.hostname, address.port, rate
        self.done = asyncio.Event()
        self.results = []

    async def run(self):
        waiting = set()
        # Lines of other programs carry the time of day; due times are exact.
        to_wall = time.time() - time.monotonic()
        start = time.monotonic()
        number = 0
        parent = os.getppid()
        # Nobody is left who could end it: then it ends itself.
        while not self.done.is_set() and os.getppid() == parent:
            due = start + number / self.rate
            delay = due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self.request(number, due, to_wall))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            number += 1
        await asyncio.gather(*waiting)
        return sorted(self.results, key=lambda result: result["due"])

    async def request(self, number, due, to_wall):
        version = None
        try:
            async with asyncio.timeout(PATIENCE):
                kind, version = await self.ask(number)
        except TimeoutError:
            kind = "no answer in time"
        except ConnectionRefusedError:
            kind = "connection refused"
        except OSError:
            kind = "connection broken"
        seconds = time.monotonic() - due
        self.results.append({"due": due + to_wall, "seconds": seconds, "kind": kind, "version": version})

    async def ask(self, number):
        """What came back: "good" or the kind of failure, and the version that answered."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            # No two addresses are the same: nothing on the way may answer from a cache.
            writer.write(f"GET /?probe={number} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 ") or not body:
            return "connection broken", None
        status = head[9:12].decode(errors="replace")
        if status == "200" and TEXT in body:
            return "good", body.split(TEXT)[1].split(b" ")[0].decode()
        if status == "503" and b"Service Unavailable" in body:
            return "503 maintenance", None
        return f"status {status}" if status != "200" else "wrong page", None


async def main(url, rate, output):
    prober = Prober(url, float(rate))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, prober.done.set)
    results = await prober.run()
    with open(output, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)


if __name__ == "__main__":
    # It shares the machine with what it measures, and must not be what is late.
    if os.getuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as autogroup:
            autogroup.write("-15")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    gc.disable()
    asyncio.run(main(*sys.argv[1:]))
