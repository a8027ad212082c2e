"""A member of the crowd that misbehaves, and the counts of what becomes of all of them."""

import asyncio
import json
import socket
import time
from collections import Counter

from messages import BROKEN, read_message, status

SERVER = "127.0.0.1"
READ_BYTES = 65536
# The crowd is there when all have tried to connect, or after this time.
GATHER_SECONDS = 6


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
    # Whether it connects to the control port.
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
        """Makes requests in turn, each so many seconds after the one before was answered, and counts the answers."""
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
