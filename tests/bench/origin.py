"""The backend of the servers: it holds clients that ask for a stream or poll, and answers /plain with 1,000 bytes.

It holds WebSockets as well, told of them by requests (WebSocket-over-HTTP) or, where gripd relays them, as a WebSocket
server that subscribes the client and is silent from then on.

A process of its own, so that its work is not in the figures of the client. It prints `port=N` once it listens, and
ends with its parent: the end of its standard input is the end of the parent.
"""

import asyncio
import base64
import hashlib
import json
import re
from urllib.parse import parse_qs, urlsplit

from processes import orphaned

PLAIN = b"x" * 1000
HELLO = b"hello\n"
COMMENT = b": hello\n\n"
BACKLOG = 1024

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r ]+)", re.IGNORECASE)
# RFC 6455, 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EVENTS = "application/websocket-events"
# Messages to the client begin with nothing; those that begin with `c:` are for gripd.
GRIP = 'Sec-WebSocket-Extensions: grip; message-prefix=""\r\n'


class Polls:
    """The count of the polls so far, which /polls tells: a client cannot see whether its poll has come here."""

    count = 0


def answer(target):
    """Returns the response to a GET of `target`."""
    url = urlsplit(target)
    held = f"Grip-Channel: {channels(target)}\r\nGrip-Hold: "
    if url.path == "/stream":
        return response(HELLO, held + "stream\r\n")
    if url.path == "/events":
        return response(COMMENT, held + "stream\r\n", media="text/event-stream")
    if url.path == "/poll":
        Polls.count += 1
        return response(HELLO, held + "response\r\n")
    if url.path == "/polls":
        return response(str(Polls.count).encode())
    if url.path == "/plain":
        return response(PLAIN)
    return response(b"no such page\n", status="404 Not Found")


def answer_events(target, events):
    """The response to a POST of WebSocket events: OPEN is answered with subscriptions, CLOSE with itself."""
    if events.startswith(b"OPEN\r\n"):
        texts = (b"TEXT %x\r\n%s\r\n" % (len(text), text) for text in subscriptions(target))
        return response(b"OPEN\r\n" + b"".join(texts), GRIP, media=EVENTS)
    _, close, content = events.partition(b"CLOSE")
    return response(close + content, media=EVENTS)


def answer_handshake(target, key):
    """Returns the answer to the handshake for `target`, and all that a WebSocket server here says before a Close."""
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{GRIP}\r\n"
    )
    return head.encode() + b"".join(bytes([0x81, len(text)]) + text for text in subscriptions(target))


def channels(target):
    return parse_qs(urlsplit(target).query).get("ch", [""])[0]


def subscriptions(target):
    """The control messages that subscribe a WebSocket; short enough for the length of a frame to be one byte."""
    for channel in channels(target).split(","):
        yield b"c:" + json.dumps({"type": "subscribe", "channel": channel}).encode()


def response(body, headers="", status="200 OK", media="text/plain"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class Origin(asyncio.Protocol):
    """One connection: kept alive for requests, or a WebSocket from its handshake on."""

    def connection_made(self, transport):
        self.transport = transport
        self.unread = b""
        self.is_websocket = False

    def data_received(self, data):
        if self.is_websocket:
            self.read_frame(data)
            return
        self.unread += data
        while HEAD_END in self.unread:
            head, rest = self.unread.split(HEAD_END, 1)
            length = body_length(head)
            if len(rest) < length:
                return
            self.unread = rest[length:]
            self.respond(head, rest[:length])

    def respond(self, head, body):
        method, target, _ = head.split(b" ", 2)
        target = target.decode()
        if method == b"POST":
            self.transport.write(answer_events(target, body))
        elif key := target.startswith("/ws") and KEY.search(head):
            self.is_websocket = True
            self.transport.write(answer_handshake(target, key.group(1)))
        else:
            self.transport.write(answer(target))

    def read_frame(self, data):
        """Answers a Close, in the one read that it comes in. The clients of this bench say nothing else."""
        if data[0] & 0x0F == 8:
            self.transport.write(b"\x88\x00")
            self.transport.close()


def body_length(head):
    """Nobody here sends a body of unknown length."""
    found = LENGTH.search(head) if head.startswith(b"POST") else None
    return int(found.group(1)) if found else 0


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", 0, backlog=BACKLOG)
    print(f"port={server.sockets[0].getsockname()[1]}", flush=True)
    await orphaned()


if __name__ == "__main__":
    asyncio.run(main())
