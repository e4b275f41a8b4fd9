"""Asks for a page at a steady rate, whatever becomes of the answers, until it is ended.

    python3 -m downtime.prober URL RATE OUTPUT [orders]

The n-th request is due at start + n / RATE. It is sent then even if earlier ones are still
waiting (an open loop), on a connection of its own, and its latency counts from the moment that
it was due: a stall of the shop, or of this program, is in the figures and not hidden by them.
Writes one line of JSON for each request to OUTPUT when it gets SIGTERM.

orders: each request places an order, and a second later what was placed is read. Nothing is sent twice.
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

# Long: a shop that answers late is slow, not down. Longer than requests are held.
PATIENCE = 45.0
TEXT = b"This is version "
# Seconds after an order's answer.
READ_AFTER = 1.0


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
        # No two addresses are the same: nothing on the way may answer from a cache.
        kind, version, _ = await self.ask(f"GET /?probe={number}")
        seconds = time.monotonic() - due
        self.results.append({"due": due + to_wall, "seconds": seconds, "kind": kind, "version": version})

    async def ask(self, line, content=""):
        """What came back: "good" or the kind of failure, the version that answered, and the text."""
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self.exchange(line, content)
        except TimeoutError:
            return "no answer in time", None, ""
        except ConnectionRefusedError:
            return "connection refused", None, ""
        except OSError:
            return "connection broken", None, ""
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 ") or not body:
            return "connection broken", None, ""
        status, text = head[9:12].decode(errors="replace"), body.decode(errors="replace")
        if status == "200" and TEXT in body:
            return "good", body.split(TEXT)[1].split(b" ")[0].decode(), text
        if status == "503":
            return "503 with Retry-After" if b"\r\nretry-after:" in head.lower() else "503 without Retry-After", None, text
        return f"status {status}" if status != "200" else "wrong page", None, text

    async def exchange(self, line, content):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            kind = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(content)}\r\n" if content else ""
            writer.write(f"{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{kind}\r\n{content}".encode())
            return await reader.read(-1)
        finally:
            writer.close()


class Shopper(Prober):
    async def request(self, number, due, to_wall):
        token, qty = f"t{number}", 1 + number % 5
        kind, version, text = await self.ask("POST /order", f"token={token}&qty={qty}")
        if kind == "good" and f"order {token}: it is placed as " not in text:
            kind = "wrong page"
        seconds = time.monotonic() - due
        read = said = None
        if kind == "good":
            await asyncio.sleep(READ_AFTER)
            read, _, text = await self.ask(f"GET /order?token={token}")
            # The body came in chunks.
            said = text.partition(": it has ")[2].partition(".")[0]
        self.results.append(
            {
                "due": due + to_wall,
                "seconds": seconds,
                "kind": kind,
                "version": version,
                "token": token,
                "qty": qty,
                "read": read,
                "said": said,
            }
        )


async def main(url, rate, output, what="pages"):
    prober = (Shopper if what == "orders" else Prober)(url, float(rate))
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
