"""Members of the crowd that have gripd do as much as they can: those that are held, and those that publish."""

import asyncio
import json

from abuser import Abuser
from messages import read_message

# What one request may do at most, by the documented bounds: more is refused, and costs nothing.
PATCH = [{"op": "add", "path": "/0", "value": 0}] * 256
DIRECTIVES = "%(m)s" * 20
LARGE = "x" * 900_000
NAMES = ",".join(f"x{number}" for number in range(9_000))
DENIALS = 100_000
DENIALS_AT_ONCE = 5_000


class Holder(Abuser):
    """Is held, and reads all that comes; asks again when it is answered."""

    target = "/stream?ch=abuse"

    async def misbehave(self, sock):
        await self._send(sock, f"GET {self.target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while await self._receive(sock):
            pass


class Patched(Holder):
    """Polls for a large document, which is patched for each of those who poll."""

    async def misbehave(self, sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            while True:
                writer.write(b"GET /document?ch=abuse HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head, _ = await read_message(reader)
                self._count(head)
        finally:
            writer.transport.abort()


class Filtered(Holder):
    """Has content filled in for it alone."""

    target = "/filtered?ch=abuse"


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


class Publisher(Abuser):
    """Publishes items, each as soon as the one before was answered."""

    publishes = True

    async def misbehave(self, sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            for items in self.batches():
                body = json.dumps({"items": items}).encode()
                head = f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answered, _ = await read_message(reader)
                self._count(answered)
                await asyncio.sleep(self.rest)
        finally:
            writer.transport.abort()

    rest = 0.05

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


GREEDY = (Holder, Patched, Filtered, Unread, Leaver, Lister, Patcher, Filler, Flooder, Denier)
