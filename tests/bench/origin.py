"""The origin of the servers. It answers streams and long-polls with a hold, and /plain with 1,000 bytes.

It also accepts WebSockets. A server that speaks WebSocket-over-HTTP reports them by requests. If gripd relays them,
this origin is a WebSocket server, which subscribes each client and then sends nothing until a Close frame comes.

The origin is a process of its own, so that its CPU time is not part of any other figure. It prints `port=N` once it
listens. It ends when its standard input ends, which happens when the parent process ends.
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
# The GUID of the handshake, by RFC 6455, 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EVENTS = "application/websocket-events"
# Messages for the client have no prefix. Messages with the prefix `c:` are control messages for the proxy.
GRIP = 'Sec-WebSocket-Extensions: grip; message-prefix=""\r\n'


class Polls:
    """The number of long-polls so far. /polls returns it, as clients cannot see whether a poll reached the origin."""

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
    """Returns the response to a POST of WebSocket events: subscriptions for OPEN, and the same CLOSE for CLOSE."""
    if events.startswith(b"OPEN\r\n"):
        texts = (b"TEXT %x\r\n%s\r\n" % (len(text), text) for text in subscriptions(target))
        return response(b"OPEN\r\n" + b"".join(texts), GRIP, media=EVENTS)
    _, close, content = events.partition(b"CLOSE")
    return response(close + content, media=EVENTS)


def answer_handshake(target, key):
    """Returns the response to a WebSocket handshake, and the frames that subscribe the client to its channels."""
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{GRIP}\r\n"
    )
    return head.encode() + b"".join(bytes([0x81, len(text)]) + text for text in subscriptions(target))


def channels(target):
    return parse_qs(urlsplit(target).query).get("ch", [""])[0]


def subscriptions(target):
    """Yields the control messages that subscribe a WebSocket.

    Each has fewer than 126 bytes, so that its length takes one byte of the frame's head.
    """
    for channel in channels(target).split(","):
        yield b"c:" + json.dumps({"type": "subscribe", "channel": channel}).encode()


def response(body, headers="", status="200 OK", media="text/plain"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class Origin(asyncio.Protocol):
    """A connection. It carries requests one after the other, and is a WebSocket after a handshake."""

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
        """Answers a Close frame. The clients send so little that each read is taken to begin with a new frame."""
        if data[0] & 0x0F == 8:
            self.transport.write(b"\x88\x00")
            self.transport.close()


def body_length(head):
    """Returns the length of a request's body. No program here sends a chunked body."""
    found = LENGTH.search(head) if head.startswith(b"POST") else None
    return int(found.group(1)) if found else 0


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", 0, backlog=BACKLOG)
    print(f"port={server.sockets[0].getsockname()[1]}", flush=True)
    await orphaned()


if __name__ == "__main__":
    asyncio.run(main())
