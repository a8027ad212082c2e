"""Members of the crowd that have gripd do as much as they can: those that are held, and those that publish."""

import asyncio
import json
from itertools import repeat

from abuser import Abuser

# The most that one request may have gripd do: more is refused, and costs nothing.
PATCH = [{"op": "add", "path": "/0", "value": 0}] * 256
DIRECTIVES = "%(m)s" * 20
LARGE = "x" * 900_000
NAMES = ",".join(f"x{number}" for number in range(9_000))
DENIALS = 100_000
DENIALS_AT_ONCE = 5_000
REST_SECONDS = 0.05


class Patched(Abuser):
    """Polls for a large document, which is patched for each of those who poll."""

    async def misbehave(self, sock):
        await self._converse(sock, repeat(b"GET /document?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n"))


class Filtered(Abuser):
    """Is held, reads all that comes, and has content filled in for it alone."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /filtered?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await self._receive(sock):
            pass


class Unread(Abuser):
    """Is held, and reads nothing."""

    is_narrow = True

    async def misbehave(self, sock):
        await self._send(sock, b"GET /stream?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while sock.fileno() >= 0:
            await asyncio.sleep(1)
            # Fails when the connection was reset.
            sock.getpeername()


class Leaver(Abuser):
    """Is held, and leaves at once, of which its slow origin is to be told."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /leaves?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self._receive(sock)


class Lister(Abuser):
    """Names thousands of headers in `Connection`."""

    async def misbehave(self, sock):
        headers = "".join(f"h{number}: 1\r\n" for number in range(100))
        request = f"GET /small HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: {NAMES}\r\n\r\n".encode()
        await self._send(sock, request)
        self._count(await self._receive(sock))


def publish(items):
    body = json.dumps({"items": items}).encode()
    return f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Publisher(Abuser):
    """Publishes items, each a moment after the one before was answered."""

    publishes = True

    async def misbehave(self, sock):
        await self._converse(sock, map(publish, self.batches()), REST_SECONDS)

    def batches(self):
        while True:
            yield [{"channel": "abuse", **self.item()}]

    def item(self):
        """The formats of an item."""
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
    """Denies as many channels as there may be, and then one after the other once more."""

    def batches(self):
        deny = lambda number: {"channel": f"user{number}", "action": "close", "deny-for": 3600}
        for first in range(0, DENIALS, DENIALS_AT_ONCE):
            yield [deny(number) for number in range(first, first + DENIALS_AT_ONCE)]
        while True:
            for number in range(DENIALS):
                yield [deny(number)]


GREEDY = (Patched, Filtered, Unread, Leaver, Lister, Patcher, Filler, Flooder, Denier)
