"""Abusers that give gripd as much work as they can. Some are clients, and some publish items."""

import asyncio
import json
from itertools import repeat

from abuser import Abuser

# These items give gripd nearly as much work as one item may: gripd refuses items that are above its limits.
PATCH = [{"op": "add", "path": "/0", "value": 0}] * 256
DIRECTIVES = "%(m)s" * 20
LARGE = "x" * 900_000
# gripd refuses a `Connection` with so many names, but has to read it first, as it is not too large for a head.
NAMES = ",".join(f"x{number}" for number in range(9_000))
# The largest number of denials that gripd keeps.
DENIALS = 100_000
DENIALS_AT_ONCE = 5_000
REST_SECONDS = 0.05


class Patched(Abuser):
    """An abuser that long-polls for a large document. gripd patches the document for each of them on its own."""

    async def misbehave(self, sock):
        await self._converse(sock, repeat(b"GET /document?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n"))


class Filtered(Abuser):
    """An abuser that holds a stream and reads everything. A filter fills values of its own into each item."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /filtered?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await self._receive(sock):
            pass


class Unread(Abuser):
    """An abuser that holds a stream and reads nothing."""

    is_narrow = True

    async def misbehave(self, sock):
        await self._send(sock, b"GET /stream?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while sock.fileno() >= 0:
            await asyncio.sleep(1)
            # This fails if the connection was reset.
            sock.getpeername()


class Leaver(Abuser):
    """An abuser that holds a stream and ends it at once. gripd has to report this to a slow origin."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /leaves?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self._receive(sock)


class Lister(Abuser):
    """An abuser that names thousands of headers in `Connection`."""

    async def misbehave(self, sock):
        headers = "".join(f"h{number}: 1\r\n" for number in range(100))
        request = f"GET /small HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: {NAMES}\r\n\r\n".encode()
        await self._send(sock, request)
        self._count(await self._receive(sock))


def publish(items):
    body = json.dumps({"items": items}).encode()
    return f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Publisher(Abuser):
    """An abuser that publishes batches of items, each REST_SECONDS after the reply to the previous batch."""

    publishes = True

    async def misbehave(self, sock):
        await self._converse(sock, map(publish, self.batches()), REST_SECONDS)

    def batches(self):
        while True:
            yield [{"channel": "abuse", **self.item()}]

    def item(self):
        """Returns the formats of an item."""
        raise NotImplementedError


class Patcher(Publisher):
    def item(self):
        return {"http-response": {"body-patch": PATCH}}


class Filler(Publisher):
    def item(self):
        return {"http-stream": {"content": DIRECTIVES}}


class Flooder(Publisher):
    def item(self):
        return {"http-stream": {"content": LARGE}}


class Denier(Publisher):
    """A publisher that denies as many channels as gripd allows, and then denies each of them again, one by one."""

    def batches(self):
        deny = lambda number: {"channel": f"user{number}", "action": "close", "deny-for": 3600}
        for first in range(0, DENIALS, DENIALS_AT_ONCE):
            yield [deny(number) for number in range(first, first + DENIALS_AT_ONCE)]
        while True:
            for number in range(DENIALS):
                yield [deny(number)]


GREEDY = (Patched, Filtered, Unread, Leaver, Lister, Patcher, Filler, Flooder, Denier)
