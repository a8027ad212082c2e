"""The process of the crowd that misbehaves in abuse.py.

    python3 tests/bench/crowd.py '[PORT, CONTROL, {"SlowBody": 1000}, SECONDS]'

The abusers connect to PORT; those that publish connect to CONTROL, which is the control port. The object has the number
of abusers of each kind. An abuser whose connection has ended connects again after SECONDS. A line of JSON on standard
output, again and again, says how many connections are open and have ended, and how requests were answered.
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

# The seconds between the first connections of two abusers. If all connected at once, the kernel's queue of connections
# for the port would overflow.
STAGGER = 0.001
TELL_EVERY = 0.1
# The crowd has a low priority. A real crowd would run on other machines, and take no CPU time from gripd.
NICENESS = 10

DRIP_SECONDS = 2
SIP_SECONDS = 1
SIP_BYTES = 100
UPLOAD_BYTES = 1_000_000
# The beginning of a request body that is larger than gripd's buffer for it (64 KiB).
FILLING = b"x" * 70_000
TCP_ESTABLISHED = 1


class SlowBody(Abuser):
    """An abuser that sends a request body byte by byte. If a response comes before the end, it ends the connection."""

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
    """An abuser that first sends more of a request body than gripd buffers, and then sends it byte by byte."""

    beginning = FILLING


class SlowRead(Abuser):
    """An abuser that asks for a large response and reads nothing of it."""

    is_narrow = True

    async def misbehave(self, sock):
        await self._send(sock, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # As nothing is read, only the state of the connection in the kernel shows that it has ended.
        while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED:
            await asyncio.sleep(SIP_SECONDS)
            self.read(sock)

    def read(self, sock):
        """Reads nothing."""


class DripRead(SlowRead):
    """An abuser that asks for a large response and reads a few bytes of it every second."""

    def read(self, sock):
        try:
            sock.recv(SIP_BYTES)
        except BlockingIOError:
            pass


class Silent(Abuser):
    """An abuser that connects and sends nothing."""

    async def misbehave(self, sock):
        while await self._receive(sock):
            pass


class Keeper(Silent):
    """An abuser that makes one request and keeps the connection open."""

    async def misbehave(self, sock):
        await self._send(sock, b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await super().misbehave(sock)


class Guesser(Abuser):
    """An abuser that guesses tokens, one as soon as the previous one was answered."""

    async def misbehave(self, sock):
        guess = b"GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n"
        await self._converse(sock, repeat(guess))


KINDS = {kind.__name__: kind for kind in (SlowBody, FilledBody, SlowRead, DripRead, Silent, Keeper, Guesser, *GREEDY)}


async def gather(port, control, kinds, pause):
    """Runs the abusers and reports on them, until the parent process has ended."""
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
