"""A slow line on loopback: a relay between the controller and sshd that limits rate and delay, and counts bytes.

The kernel of a small machine may have no netem. A relay cannot lose packets or reorder them, and does without TCP's slow
start: what is left of a line are its rate, shared by all connections in a direction, its delay, and the round trip with
which a connection begins.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import NamedTuple

CHUNK = 16 << 10
# Seconds that reading may be ahead of the line: a timer that is late does not leave it idle.
AHEAD = 0.005
# Chunks that a connection has on the way at most; beyond, the sender waits.
WINDOW = 256
# Bytes of one direction that the kernel holds on this side of the line; it doubles them.
BUFFER = 128 << 10


class Line(NamedTuple):
    """`mbit`: millions of bits in a second, in each direction; `trip`: seconds there and back."""

    mbit: float
    trip: float

    @classmethod
    def parse(cls, text):
        """ "100,20": Mbit/s and ms there and back. Raises ValueError."""
        mbit, trip = map(float, text.split(","))
        if mbit <= 0 or trip < 0:
            raise ValueError(text)
        return cls(mbit, trip / 1000)

    def __str__(self):
        return f"{self.mbit:g} Mbit/s, {1000 * self.trip:g} ms round trip" if self.mbit < float("inf") else "loopback"


LOOPBACK = Line(float("inf"), 0)


class Direction:
    """One direction of the line, for all connections."""

    def __init__(self, line):
        self.rate, self.delay = line.mbit * 1e6 / 8, line.trip / 2
        self.turn = asyncio.Lock()
        self.free = 0.0
        self.bytes = 0

    async def carry(self, size):
        """Waits for the line, in turn. Returns when the last byte arrives at the other end."""
        async with self.turn:
            now = asyncio.get_running_loop().time()
            self.free = max(now, self.free) + size / self.rate
            self.bytes += size
            arrives = self.free + self.delay
            if self.free - now > AHEAD:
                await asyncio.sleep(self.free - now - AHEAD)
        return arrives


async def until(time):
    if (left := time - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(left)


class Relay:
    """From `with` to its end, in a thread: `routes` are pairs of an address to listen at and one to lead to.

    Port 0 is any that is free; `addresses` are those that it listens at.
    """

    def __init__(self, routes, line=LOOPBACK):
        self.routes, self.line, self.addresses = list(routes), line, []
        self.before = {"up": 0, "down": 0}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.connections = set()

    def __enter__(self):
        self.thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result(10)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def counted(self):
        """Bytes of either direction since it was last called: "up" is from who connects."""
        now = {"up": self.up.bytes, "down": self.down.bytes}
        found = {name: value - self.before[name] for name, value in now.items()}
        self.before = now
        return found

    async def listen(self):
        self.up, self.down, self.servers = Direction(self.line), Direction(self.line), []
        for at, to in self.routes:
            listening = socket.create_server(at, backlog=128)
            # Those that it accepts have the same.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self.addresses.append(listening.getsockname()[:2])
            self.servers.append(
                await asyncio.start_server(lambda reader, writer, to=to: self.accept(reader, writer, to), sock=listening, limit=CHUNK)
            )

    async def end(self):
        for server in getattr(self, "servers", []):
            server.close()
        for task in self.connections:
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def accept(self, reader, writer, to):
        task = asyncio.current_task()
        self.connections.add(task)
        writers = [writer]
        try:
            # Until the client has its answer; then it sends, and the other side has its connection with the first byte.
            await asyncio.sleep(self.line.trip)
            away = asyncio.get_running_loop().create_task(self.open(to, writers))
            there = asyncio.gather(self.pump(reader, away, self.up), self.answer(away, writer))
            try:
                await there
            finally:
                there.cancel()
                away.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            for each in writers:
                each.transport.abort()

    async def open(self, to, writers):
        await asyncio.sleep(self.line.trip / 2)
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        opened.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(opened, to)
        except BaseException:
            opened.close()
            raise
        reader, writer = await asyncio.open_connection(sock=opened, limit=CHUNK)
        writers.append(writer)
        return reader, writer

    async def answer(self, away, writer):
        reader, _ = await asyncio.shield(away)
        await self.pump(reader, writer, self.down)

    async def pump(self, reader, to, direction):
        """`to`: a writer, or what becomes one. The end of one side is carried to the other as well."""
        way = asyncio.Queue(WINDOW)
        delivering = asyncio.get_running_loop().create_task(self.deliver(way, to))
        try:
            while True:
                data = await reader.read(CHUNK)
                chunk = await direction.carry(len(data)), data
                put = asyncio.ensure_future(way.put(chunk))
                try:
                    # Who cannot deliver any more takes nothing out.
                    await asyncio.wait({put, delivering}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not put.done():
                        put.cancel()
                        await asyncio.wait({put})
                if not data or delivering.done():
                    break
            await delivering
        finally:
            delivering.cancel()

    @staticmethod
    async def deliver(way, to):
        writer = to if isinstance(to, asyncio.StreamWriter) else (await asyncio.shield(to))[1]
        while True:
            arrives, data = await way.get()
            await until(arrives)
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
