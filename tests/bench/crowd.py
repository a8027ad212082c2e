"""The crowd that misbehaves in abuse.py, a process of its own:

    python3 tests/bench/crowd.py '[PORT, {"SlowBody": 1000}, SECONDS]'

The numbers are those of abusers of each kind; one whose connection has ended is back after so many seconds. What became
of them is told on standard output, as a line of JSON.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter

from messages import BROKEN, read_message, status
from processes import orphaned

SERVER = "127.0.0.1"
READ_BYTES = 65536

# The crowd is there when all have tried to connect, or after this time.
GATHER_SECONDS = 6
# The time between the first connections of two abusers: all at once would overrun the kernel's queue of a port.
STAGGER = 0.001
TELL_EVERY = 0.1
# The crowd gives way to the other processes: a real one runs elsewhere and takes no processor time of theirs.
NICENESS = 10

DRIP_SECONDS = 2
SIP_SECONDS = 1
SIP_BYTES = 100
UPLOAD_BYTES = 1_000_000
# More of a request body than a proxy buffers.
FILLING = b"x" * 70_000
TCP_ESTABLISHED = 1


class Tally:
    """The counts of what became of all abusers so far."""

    def __init__(self, members):
        self.members = members
        self.began = time.monotonic()
        self.tried = 0
        self.open = 0
        self.ended = 0
        self.answers = Counter()

    def report(self):
        now = time.monotonic()
        is_ready = self.tried >= self.members or now > self.began + GATHER_SECONDS
        figures = {"at": now, "open": self.open, "ended": self.ended, "answers": self.answers}
        return json.dumps({**figures, "ready": is_ready})


class Abuser:
    """One place in the crowd: a connection, and another one when that has ended."""

    # Whether the kernel is to take as little as possible that the abuser has not read.
    is_narrow = False

    def __init__(self, tally):
        self._tally = tally

    async def live(self, port, pause, delay):
        await asyncio.sleep(delay)
        is_first = True
        while True:
            with socket.socket() as sock:
                sock.setblocking(False)
                if self.is_narrow:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                try:
                    await self._connect(sock, port, is_first)
                    await self._visit(sock)
                except BROKEN:
                    self._tally.ended += 1
            is_first = False
            await asyncio.sleep(pause)

    async def _connect(self, sock, port, is_first):
        try:
            await asyncio.get_running_loop().sock_connect(sock, (SERVER, port))
        finally:
            self._tally.tried += is_first

    async def _visit(self, sock):
        self._tally.open += 1
        try:
            await self.misbehave(sock)
            raise EOFError
        finally:
            self._tally.open -= 1

    async def misbehave(self, sock):
        """Misbehaves until gripd ends the connection."""
        raise NotImplementedError

    async def _send(self, sock, data):
        await asyncio.get_running_loop().sock_sendall(sock, data)

    async def _receive(self, sock):
        return await asyncio.get_running_loop().sock_recv(sock, READ_BYTES)

    def _count(self, answered):
        self._tally.answers[status(answered)] += 1


class SlowBody(Abuser):
    """Sends a request body byte by byte. An answer before its end is taken for the end of the connection."""

    beginning = b""

    async def misbehave(self, sock):
        head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
        await self._send(sock, head.encode() + self.beginning)
        while True:
            try:
                answered = await asyncio.wait_for(self._receive(sock), DRIP_SECONDS)
            except asyncio.TimeoutError:
                await self._send(sock, b"x")
            else:
                if answered:
                    self._count(answered)
                return


class FilledBody(SlowBody):
    """Begins with more than a proxy buffers."""

    beginning = FILLING


class SlowRead(Abuser):
    """Asks for much and reads nothing of it."""

    is_narrow = True

    async def misbehave(self, sock):
        await self._send(sock, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # As nothing is read, only the state of the connection tells its end.
        while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED:
            await asyncio.sleep(SIP_SECONDS)
            self.read(sock)

    def read(self, sock):
        """Reads nothing."""


class DripRead(SlowRead):
    """Reads a few bytes every second."""

    def read(self, sock):
        try:
            sock.recv(SIP_BYTES)
        except BlockingIOError:
            pass


class Silent(Abuser):
    """Says nothing."""

    async def misbehave(self, sock):
        while await self._receive(sock):
            pass


class Keeper(Silent):
    """Makes one request, and keeps the connection."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await super().misbehave(sock)


class Guesser(Abuser):
    """Guesses tokens, each as soon as the one before was answered."""

    async def misbehave(self, sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            while True:
                writer.write(b"GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n")
                head, _ = await read_message(reader)
                self._count(head)
        finally:
            writer.transport.abort()


KINDS = {kind.__name__: kind for kind in (SlowBody, FilledBody, SlowRead, DripRead, Silent, Keeper, Guesser)}


async def gather(port, kinds, pause):
    """Lets the crowd come, and tells of it until the parent has ended."""
    os.nice(NICENESS)
    tally = Tally(sum(kinds.values()))
    abusers = [KINDS[kind](tally) for kind, count in kinds.items() for _ in range(count)]
    lives = [asyncio.create_task(abuser.live(port, pause, i * STAGGER)) for i, abuser in enumerate(abusers)]
    telling = asyncio.create_task(tell(tally))
    await orphaned()
    for task in (telling, *lives):
        task.cancel()


async def tell(tally):
    while True:
        print(tally.report(), flush=True)
        await asyncio.sleep(TELL_EVERY)


if __name__ == "__main__":
    asyncio.run(gather(*json.loads(sys.argv[1])))
