"""The relay keeps rate and delay, in both directions and for all connections together, and counts what it carries."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time

import pytest

from .relay import LOOPBACK, Direction, Line, Relay

MEGABYTE = 1 << 20
LATE = 0.1


class Server:
    """Answers on a port of its own: `serve` gets each connection in a thread."""

    def __init__(self, serve):
        self.serve, self.threads = serve, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with contextlib.suppress(OSError), connection:
            self.serve(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()


@contextlib.contextmanager
def line(serve, mbit=float("inf"), ms=0.0):
    with Server(serve) as server, Relay([(("127.0.0.1", 0), server.address)], Line(mbit, ms / 1000)) as relay:
        yield relay


def read_all(connection):
    found = b""
    while data := connection.recv(1 << 16):
        found += data
    return found


def sink(connection):
    """Says how much there was, when all has come."""
    connection.sendall(str(len(read_all(connection))).encode())


def source(size):
    def serve(connection):
        connection.sendall(bytes(size))

    return serve


def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def send(relay, data):
    with socket.create_connection(relay.addresses[0]) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def timed(function, *arguments):
    started = time.perf_counter()
    return function(*arguments), time.perf_counter() - started


def takes(least, function, *arguments, late=LATE):
    """Never less than `least` seconds, and little more in the quickest of several runs: a busy machine is late."""
    for _ in range(10):
        _, seconds = timed(function, *arguments)
        assert seconds > least - 0.01
        if seconds < least + late:
            return
    raise AssertionError(f"it took {seconds} s instead of {least} each time")


def at_once(count, function, *arguments):
    threads = [threading.Thread(target=function, args=arguments) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("connections", [1, 4])
def test_all_connections_share_the_rate_of_a_direction(up, connections):
    # 4 MB at 64 Mbit/s are half a second, whoever sends them.
    size = 4 * MEGABYTE // connections
    with line(sink if up else source(size), mbit=64) as relay:
        takes(4 * MEGABYTE * 8 / 64e6, at_once, connections, send, relay, bytes(size) if up else b"")
        assert relay.counted()["up" if up else "down"] % (4 * MEGABYTE) == 0


def test_what_follows_at_once_arrives_later_by_what_the_line_takes():
    async def arrivals():
        direction = Direction(Line(8, 0.02))
        return [await direction.carry(1000) for _ in range(20)]

    found = asyncio.run(arrivals())
    # More where this machine was late.
    assert min(later - earlier for earlier, later in itertools.pairwise(found)) == pytest.approx(0.001, rel=1e-3)


def test_both_directions_carry_at_once():
    with line(echo, mbit=64) as relay:

        def there_and_back():
            with socket.create_connection(relay.addresses[0]) as connection:
                threading.Thread(target=lambda: (connection.sendall(bytes(4 * MEGABYTE)), connection.shutdown(socket.SHUT_WR))).start()
                assert len(read_all(connection)) == 4 * MEGABYTE

        # One after the other they would take twice as long.
        takes(4 * MEGABYTE * 8 / 64e6, there_and_back, late=0.3)


def test_a_round_trip_takes_what_was_said():
    with line(echo, ms=60) as relay, socket.create_connection(relay.addresses[0]) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        takes(0.06, lambda: (connection.sendall(b"x"), connection.recv(1)), late=0.015)


def test_a_connection_begins_with_a_round_trip():
    with line(echo, ms=60) as relay:
        takes(0.12, send, relay, b"x", late=0.05)
    # Who speaks first, as sshd does, is heard when the client's last packet of the handshake has come, and half a trip.
    with line(source(1), ms=60) as relay:
        takes(0.12, send, relay, b"", late=0.05)


def test_the_line_saves_nothing_while_it_is_idle():
    with line(echo, mbit=8) as relay, socket.create_connection(relay.addresses[0]) as connection:
        time.sleep(0.5)

        def one():
            connection.sendall(bytes(100_000))
            left = 100_000
            while left:
                left -= len(connection.recv(left))

        # 0.1 s in either direction; the second begins with the first chunk of the first.
        assert timed(one)[1] > 0.1
        time.sleep(0.5)
        assert timed(one)[1] > 0.1


def test_bytes_arrive_as_they_were_sent_and_are_counted():
    text = bytes(range(256)) * 5000
    with line(echo) as relay:
        assert relay.line == LOOPBACK and str(relay.line) == "loopback"
        assert send(relay, text) == text
        assert relay.counted() == {"up": len(text), "down": len(text)}
        assert relay.counted() == {"up": 0, "down": 0}


def test_two_routes_share_the_line():
    with Server(sink) as one, Server(sink) as two:
        routes = [(("127.0.0.1", 0), server.address) for server in (one, two)]
        with Relay(routes, Line(64, 0)) as relay:

            def to(address):
                with socket.create_connection(address) as connection:
                    connection.sendall(bytes(2 * MEGABYTE))
                    connection.shutdown(socket.SHUT_WR)
                    assert read_all(connection) == b"%d" % (2 * MEGABYTE)

            threads = [threading.Thread(target=to, args=(address,)) for address in relay.addresses]
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.perf_counter() - started > 4 * MEGABYTE * 8 / 64e6 - 0.01


def test_a_refused_or_broken_connection_ends_the_other_side():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = probe.getsockname()
    with (
        Relay([(("127.0.0.1", 0), nobody)]) as relay,
        socket.create_connection(relay.addresses[0], 5) as connection,
        contextlib.suppress(ConnectionResetError),
    ):
        assert connection.recv(1) == b""
    with line(lambda connection: connection.recv(1)) as relay, socket.create_connection(relay.addresses[0], 5) as connection:
        connection.sendall(b"xx")
        with contextlib.suppress(OSError):
            while True:
                # The server reads no further: the sender is told, and does not wait for ever.
                connection.sendall(bytes(MEGABYTE))


def test_what_a_line_is():
    assert Line.parse("100,20") == (100, 0.02) and str(Line.parse("100,20")) == "100 Mbit/s, 20 ms round trip"
    for wrong in ("100", "0,20", "a,b", "100,-1"):
        with pytest.raises(ValueError):
            Line.parse(wrong)
