"""WebSocket frames, HTTP heads and events as bytes. Scenes may write invalid ones, and see exactly what they read."""

import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import time
import zlib

from harness import Failed

# The longest time to wait for something, in seconds, unless a scene says otherwise. What works takes milliseconds.
WAIT = 5.0
# The time to wait for something that must not arrive, in seconds.
QUIET = 0.3

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONTINUATION: "CONTINUATION", TEXT: "TEXT", BINARY: "BINARY", CLOSE: "CLOSE", PING: "PING", PONG: "PONG"}
EVENTS = "application/websocket-events"
# The beginning of the texts that are published to find out whether a client is subscribed. Transcripts never contain
# these texts.
PROBE = b"probe "


class Over(Exception):
    """The connection ended, cleanly or not."""


def frame(opcode, payload=b"", *, fin=True, mask=True, rsv=0):
    """Returns a frame as bytes. Nothing is checked, because scenes send invalid frames as well."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size = len(payload)
    bit = mask << 7
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += struct.pack("!BH", bit | 126, size)
    else:
        head += struct.pack("!BQ", bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    stream = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + key + masked.to_bytes(size, "big")


def closing(code=None, reason=""):
    """Returns the payload of a Close frame."""
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


def show(payload):
    """Returns a payload as text for a transcript. Of more than 80 bytes, only the number and a checksum are shown."""
    if len(payload) > 80:
        return f"<{len(payload)} bytes, crc {zlib.crc32(payload):08x}>"
    try:
        return repr(payload.decode())
    except UnicodeDecodeError:
        return f"0x{payload.hex()}"


def show_close(payload):
    if len(payload) < 2:
        return "CLOSE" if not payload else f"CLOSE with the payload {show(payload)}"
    code = int.from_bytes(payload[:2], "big")
    return f"CLOSE {code} {show(payload[2:])}" if payload[2:] else f"CLOSE {code}"


def event(name, content=None):
    """Returns an event as bytes, for a response to a request with events."""
    if content is None:
        return name.encode() + b"\r\n"
    content = content.encode() if isinstance(content, str) else content
    return f"{name} {len(content):x}\r\n".encode() + content + b"\r\n"


def control(kind, **fields):
    """Returns the payload of a control message. The names of `fields` have underscores in place of hyphens."""
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    return b"c:" + json.dumps({"type": kind} | fields).encode()


def subscribe(channel, **more):
    """Returns an event that subscribes a client."""
    return event("TEXT", control("subscribe", channel=channel, **more))


def set_meta(name, value):
    """Returns an event that sets a value in the meta of a client, which filters look at."""
    return event("TEXT", control("set-meta", name=name, value=value))


def show_events(body):
    """Returns the events of a request as text. If they are not encoded as Pushpin does, the whole body is shown."""
    shown = []
    rest = body
    while rest:
        head, found, rest = rest.partition(b"\r\n")
        name, space, size = head.decode("latin-1").partition(" ")
        content = None
        if space:
            try:
                count = int(size, 16)
            except ValueError:
                count = -1
            if count < 0 or size != f"{count:x}" or rest[count : count + 2] != b"\r\n":
                return f"the malformed {show(body)}"
            content, rest = rest[:count], rest[count + 2 :]
        if not found:
            return f"the malformed {show(body)}"
        if name == "CLOSE":
            shown.append(show_close(content or b"") if content != b"" else "CLOSE with a length of 0")
        else:
            shown.append(name if content is None else f"{name} {show(content)}")
    return ", ".join(shown) or "no event"


def accept_for(key):
    """Returns the value of Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key (RFC 6455 4.2.2)."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()


def reset(connection):
    """Resets a connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Head:
    """The first line and the headers of a request or of a response."""

    def __init__(self, raw):
        lines = raw.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]

    def all(self, name):
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def get(self, name):
        return ", ".join(self.all(name)) or None


class Wire:
    """A socket with a buffer for bytes that have arrived and that the scene has not taken yet."""

    def __init__(self, connection):
        self.socket = connection
        self.buffer = bytearray()
        self.over = False

    def send(self, data):
        """Sends bytes. An error is ignored, because reading will show that the connection has ended."""
        try:
            self.socket.settimeout(WAIT)
            self.socket.sendall(data)
        except OSError:
            pass

    def fill(self, seconds):
        """Reads bytes into the buffer, and waits up to `seconds` for them. Returns whether any have arrived.

        Raises `Over` if the connection has ended.
        """
        if self.over:
            raise Over
        try:
            if not select.select([self.socket], [], [], max(seconds, 0))[0]:
                return False
            data = self.socket.recv(65536)
        except (OSError, ValueError):
            data = b""
        if not data:
            self.over = True
            raise Over
        self.buffer += data
        return True

    def exactly(self, count, seconds=WAIT):
        """Waits for `count` bytes, and takes them from the buffer."""
        until = time.monotonic() + seconds
        while len(self.buffer) < count:
            if not self.fill(until - time.monotonic()) and time.monotonic() >= until:
                raise TimeoutError
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def until(self, mark, seconds=WAIT):
        """Returns all bytes before a mark. They and the mark are taken from the buffer."""
        end = time.monotonic() + seconds
        while mark not in self.buffer:
            if not self.fill(end - time.monotonic()) and time.monotonic() >= end:
                raise TimeoutError
        return self.exactly(self.buffer.index(mark) + len(mark))[: -len(mark)]

    def head(self, seconds=WAIT):
        return Head(self.until(b"\r\n\r\n", seconds))

    def body(self, head, to_the_end=False):
        """Reads the body that belongs to a head.

        If the head does not say how long the body is, it is empty, or with `to_the_end` everything up to the end of the
        connection.
        """
        if "chunked" in (head.get("Transfer-Encoding") or ""):
            body = b""
            while True:
                size = int(self.until(b"\r\n"), 16)
                body += self.exactly(size)
                self.until(b"\r\n")
                if not size:
                    return body
        if (size := head.get("Content-Length")) is not None:
            return self.exactly(int(size.split(",")[0]))
        if not to_the_end:
            return b""
        try:
            while self.fill(WAIT):
                pass
        except Over:
            pass
        body = bytes(self.buffer)
        self.buffer.clear()
        return body

    def take_frame(self):
        """Takes a complete frame and returns its fin, rsv, opcode, masked and payload, or None if there is none yet."""
        data = self.buffer
        if len(data) < 2:
            return None
        fin, rsv, opcode = data[0] >> 7, data[0] >> 4 & 7, data[0] & 15
        masked, size, at = data[1] >> 7, data[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        key_at, at = at, at + 4 * masked
        if len(data) < at + size or len(data) < at:
            return None
        payload = bytes(data[at : at + size])
        if masked and size:
            stream = (bytes(data[key_at:at]) * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
        del data[: at + size]
        return bool(fin), rsv, opcode, bool(masked), payload

    def close(self):
        self.socket.close()


class Peer(Wire):
    """One end of a WebSocket, which adds what it gets to the transcript.

    Messages that a proxy has split into several frames are joined again.
    """

    def __init__(self, connection, who, note, masks):
        super().__init__(connection)
        self.who, self.note, self.masks = who, note, masks
        self.sent_close = self.got_close = False
        self.close_payload = b""
        # Whether the connection has ended, and the transcript contains everything that arrived before.
        self.done = False
        self._parts = None

    def frame(self, opcode, payload=b"", **how):
        """Sends a frame."""
        self.sent_close |= opcode == CLOSE
        payload = payload.encode() if isinstance(payload, str) else payload
        self.send(frame(opcode, payload, **({"mask": self.masks} | how)))

    def text(self, payload, **how):
        self.frame(TEXT, payload, **how)

    def bye(self, code=None, reason=""):
        """Sends a Close frame."""
        self.frame(CLOSE, closing(code, reason))

    def gets(self, count=1, seconds=WAIT):
        """Waits for `count` messages or control frames, and adds them to the transcript."""
        for _ in range(count):
            self._get(self._message, seconds)
        return self

    def gets_frame(self, count=1, seconds=WAIT):
        """Waits for `count` frames, and adds them to the transcript without joining the frames of a message."""
        for _ in range(count):
            self._get(self._frame, seconds)
        return self

    def _get(self, read, seconds):
        until = time.monotonic() + seconds
        try:
            while True:
                found = read()
                if found is None:
                    if not self.fill(until - time.monotonic()) and time.monotonic() >= until:
                        raise Failed(f"{self.who} got nothing for {seconds:g} s")
                elif found:
                    self.note(f"{self.who} gets {found}")
                    return
        except Over:
            self._note_end()
            raise Failed(f"the connection of {self.who} ended") from None

    def step(self):
        """Adds what has arrived to the transcript, and answers a Close frame.

        Returns whether something has arrived, or the connection has ended.
        """
        if self.done:
            return False
        with contextlib.suppress(Over):
            while self.fill(0):
                pass
        some = False
        while (found := self._message()) is not None:
            some = True
            if found:
                self.note(f"{self.who} gets {found}")
        if self.got_close and not self.sent_close and not self.over:
            self.frame(CLOSE, self.close_payload)
        if self.got_close and not self.masks:
            # The server is the side that ends the connection. A client waits for that (RFC 6455 7.1.1).
            self.close()
            self.over = self.done = True
        elif self.over:
            self._note_end()
        return some or self.over

    def _note_end(self):
        self.done = True
        self.note(f"{self.who}'s connection ends" + ("" if self.got_close else " without a Close frame"))

    def _frame(self):
        found = self.take_frame()
        if found is None:
            return None
        fin, rsv, opcode, masked, payload = found
        if opcode == TEXT and payload.startswith(PROBE):
            return ""
        if opcode < CLOSE:
            # The following frames may be read by `_message`. They are then the rest of the message that begins here.
            self._parts = None if fin else (opcode, bytearray())
        return self._show(opcode, payload, masked, rsv) + ("" if fin else " and more")

    def _message(self):
        """Returns the next message as a line, "" if the transcript must not contain it, or None if it is incomplete."""
        while (found := self.take_frame()) is not None:
            fin, rsv, opcode, masked, payload = found
            if opcode >= CLOSE:
                return self._show(opcode, payload, masked, rsv)
            if (opcode == CONTINUATION) == (self._parts is None):
                return f"out of order: {self._show(opcode, payload, masked, rsv)}"
            if self._parts is None:
                self._parts = (opcode, bytearray())
            self._parts[1].extend(payload)
            if fin:
                (opcode, whole), self._parts = self._parts, None
                if opcode == TEXT and whole.startswith(PROBE):
                    return ""
                return self._show(opcode, bytes(whole), masked, rsv)
        return None

    def _show(self, opcode, payload, masked, rsv):
        shown = f"{NAMES.get(opcode, f'opcode {opcode}')} {show(payload)}"
        if opcode == CLOSE:
            self.got_close, self.close_payload = True, payload
            shown = show_close(payload)
        if masked == self.masks:
            shown += ", which must not be masked" if masked else ", which must be masked"
        return shown + (f" with reserved bits {rsv}" if rsv else "")
