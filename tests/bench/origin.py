"""The backend behind gripd: it holds every client that asks for a stream, and answers all else with 1,000 bytes.

A process of its own, so that its work is not in the figures of the client. It prints `port=N` once it listens, and
ends with its parent: the end of its standard input is the end of the parent.
"""

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

PLAIN = b"x" * 1000
HELLO = b"hello\n"
BACKLOG = 1024


def answer(target):
    """The response to a GET of `target`."""
    url = urlsplit(target)
    if url.path == "/stream":
        channels = parse_qs(url.query).get("ch", [""])[0]
        return response(HELLO, f"Grip-Hold: stream\r\nGrip-Channel: {channels}\r\n")
    if url.path == "/plain":
        return response(PLAIN)
    return response(b"no such page\n", status="404 Not Found")


def response(body, headers="", status="200 OK"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class Origin(asyncio.Protocol):
    """One kept-alive connection. Only GET is spoken here, so a request is no more than its head."""

    def connection_made(self, transport):
        self.transport = transport
        self.unread = b""

    def data_received(self, data):
        *heads, self.unread = (self.unread + data).split(b"\r\n\r\n")
        for head in heads:
            self.transport.write(answer(head.split(b" ", 2)[1].decode()))


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", 0, backlog=BACKLOG)
    print(f"port={server.sockets[0].getsockname()[1]}", flush=True)
    orphaned = asyncio.Event()
    loop.add_reader(sys.stdin, orphaned.set)
    await orphaned.wait()


if __name__ == "__main__":
    asyncio.run(main())
