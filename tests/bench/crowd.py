"""The crowd that misbehaves in abuse.py, a process of its own:

    python3 tests/bench/crowd.py '[PORT, CONTROL, {"SlowBody": 1000}, SECONDS]'

The first port is the one on which it misbehaves, the second the control port for those that publish. The numbers are
those of abusers of each kind; one whose connection has ended is back after so many seconds. A line of JSON on standard
output tells what became of them.
"""

import asyncio
import json
import os
import socket
import sys
from itertools import repeat

from abuser import Abuser, Tally
from greedy import GREEDY
from processes import orphaned

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
        guess = b"GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n"
        await self._converse(sock, repeat(guess))


KINDS = {kind.__name__: kind for kind in (SlowBody, FilledBody, SlowRead, DripRead, Silent, Keeper, Guesser, *GREEDY)}


async def gather(port, control, kinds, pause):
    """Lets the crowd come, and tells of it until the parent has ended."""
    os.nice(NICENESS)
    tally = Tally(sum(kinds.values()))
    abusers = [KINDS[kind](tally) for kind, count in kinds.items() for _ in range(count)]
    lives = [
        asyncio.create_task(abuser.live(control if abuser.publishes else port, pause, number * STAGGER))
        for number, abuser in enumerate(abusers)
    ]
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
