"""Clients that are WebSockets: a crowd as that of streams, of which each reads frames and answers a Close."""

import time
import zlib

from clients import MARK, MESSAGE, Crowd, Held
from processes import Failed

# Those of RFC 6455's example.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEAD_END = b"\r\n\r\n"
DEFLATE = b"permessage-deflate"
# What permessage-deflate cuts off the end of each message.
DEFLATE_END = b"\x00\x00\xff\xff"

FIN, RSV1, OPCODE = 0x80, 0x40, 0x0F
CONTINUATION, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9
MASKED = 0x80
# A mask that changes nothing is a mask, too.
MASK = bytes(4)
# A published message as one frame, so often that a read has no more of them: most reads need no parser.
FRAME = bytes([FIN | TEXT, len(MESSAGE)]) + MESSAGE.encode()
READ_FRAMES = 100
FRAMES = FRAME * READ_FRAMES


class Session(Held):
    """One WebSocket. Only the clients that offer compression need an `inflate`, and that with their first message."""

    __slots__ = ("is_compressed", "inflate")

    def __init__(self, sock):
        super().__init__(sock)
        self.is_compressed = False
        self.inflate = None


class WebSockets(Crowd):
    """WebSockets whose origin speaks WebSocket-over-HTTP."""

    path = "/ws"
    form = "ws-message"
    route_options = ",over_http"
    says_goodbye = True
    # Headers of the handshake that only some have.
    offer = ""

    def agreed(self):
        return sum(held.is_compressed == bool(self.offer) for held in self.all)

    def _new(self, sock):
        return Session(sock)

    def _request(self, target):
        return (
            f"GET {target} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{self.offer}\r\n"
        )

    def _read_opening(self, held, data):
        held.tail += data
        head, end, frames = held.tail.partition(HEAD_END)
        is_good = held.tail.startswith(b"HTTP/1.1 101 "[:len(held.tail)])
        if not data or not is_good or (end and ACCEPT not in head):
            raise Failed(f"a WebSocket was not opened; its answer: {held.tail[:200]!r}")
        if end:
            held.is_held = True
            held.is_compressed = DEFLATE in head
            held.tail = b""
            self._opening -= 1
            if frames:
                self._take(held, frames)

    def _take(self, held, data):
        if not data:
            self._end(held)
            return
        data = held.tail + data
        count = len(data) // len(FRAME)
        known = count * len(FRAME)
        if data[:known] == FRAMES[:known]:
            self._count(held, count)
            data = data[known:]
        held.tail = self._take_frames(held, data)

    def _take_frames(self, held, data):
        """Takes all frames that are whole, and returns what is left."""
        at = 0
        while frame := frame_at(data, at):
            first, payload, at = frame
            opcode = first & OPCODE
            if opcode in (TEXT, BINARY, CONTINUATION):
                self._count(held, content(held, first, payload).count(MARK))
            elif opcode == CLOSE:
                held.goodbye_at = held.goodbye_at or time.monotonic()
                answer(held, payload)
            elif opcode == PING:
                raise Failed("a WebSocket was pinged, which no scenario expects")
        return data[at:]


class RelayedWebSockets(WebSockets):
    """WebSockets whose origin has a WebSocket with gripd for each of them."""

    route_options = ""
    config = "[origin]\nconnections = 30000\n"


class CompressedWebSockets(WebSockets):
    """WebSockets that offer compression as browsers do."""

    config = "[websocket]\ncompression = true\n"
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def frame_at(data, at):
    """The first byte and the payload of the frame that begins there, and where it ends; None if it is not whole."""
    if len(data) < at + 2:
        return None
    first, length = data[at], data[at + 1]
    at += 2
    if length & MASKED:
        raise Failed("a frame for a client is masked")
    if length >= 126:
        wide = 2 if length == 126 else 8
        if len(data) < at + wide:
            return None
        length = int.from_bytes(data[at:at + wide], "big")
        at += wide
    end = at + length
    return (first, data[at:end], end) if len(data) >= end else None


def content(held, first, payload):
    """A message's text. A compressed one is not fragmented: it is too short."""
    if not first & RSV1:
        return payload
    if not held.is_compressed or not first & FIN:
        raise Failed("a frame is compressed that must not be")
    held.inflate = held.inflate or zlib.decompressobj(-zlib.MAX_WBITS)
    return held.inflate.decompress(payload + DEFLATE_END)


def answer(held, payload):
    """The Close that answers a Close. After it there is only the end of the connection to wait for."""
    try:
        held.sock.send(bytes([FIN | CLOSE, MASKED | len(payload)]) + MASK + payload)
    except OSError:
        pass
