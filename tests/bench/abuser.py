"""The base class of all abusers, which are the members of the crowd, and the counts of what became of them."""

import asyncio
import json
import socket
import time
from collections import Counter

from messages import BROKEN, read_message, status

SERVER = "127.0.0.1"
READ_BYTES = 65536
# The crowd is ready when all abusers have tried to connect, or after this many seconds.
GATHER_SECONDS = 6


class Tally:
    """The counts of the connections of all abusers so far, and of the responses to them."""

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
    """A member of the crowd. It has one connection, and opens another when that has ended."""

    # Whether the kernel's receive buffer is as small as possible. It holds the bytes that the abuser has not read.
    is_narrow = False
    # Whether the abuser connects to the control port.
    publishes = False

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

    async def _converse(self, sock, requests, rest=0):
        """Makes requests in turn, each `rest` seconds after the response to the previous one. Counts the responses."""
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            for request in requests:
                writer.write(request)
                head, _ = await read_message(reader)
                self._count(head)
                await asyncio.sleep(rest)
        finally:
            writer.transport.abort()

    def _count(self, answered):
        self._tally.answers[status(answered)] += 1
