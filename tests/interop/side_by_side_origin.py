"""The origin of a scene. The scene decides when the origin takes each request, and what it answers."""

import base64
import hashlib
import hmac
import json
import queue
import re
import socket
import threading

from harness import Failed
from side_by_side_wire import (
    EVENTS,
    WAIT,
    Over,
    Peer,
    Wire,
    accept_for,
    event,
    reset,
    show,
    show_events,
)

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The response header that turns on control messages. Because of the empty prefix, messages for clients need none.
GRIP = {"Sec-WebSocket-Extensions": 'grip; message-prefix=""'}
REASONS = {101: "Switching Protocols", 200: "OK", 302: "Found", 403: "Forbidden", 500: "Internal Server Error"}


def signed(token):
    """Returns whether a Grip-Sig is signed with the default key, and names the default issuer."""
    try:
        head, claims, signature = token.split(".")
        made = hmac.new(b"changeme", f"{head}.{claims}".encode(), hashlib.sha256).digest()
        good = base64.urlsafe_b64encode(made).rstrip(b"=").decode() == signature.rstrip("=")
        return good and json.loads(base64.urlsafe_b64decode(claims + "==")).get("iss") == "pushpin"
    except (ValueError, AttributeError):
        return False


class Request:
    """A request that the origin has got: one that carries events, or any other one without an upgrade."""

    def __init__(self, wire, head, body, answered):
        self.wire, self.head, self.body, self._answered = wire, head, body, answered
        self.method, self.target = head.line.split(" ")[:2]

    def answer(self, *events, status=200, headers=None, kind=EVENTS, body=None, close=False, chunked=False):
        """Sends a response whose body is `body`, or else consists of events. `kind` is its Content-Type."""
        body = b"".join(event(one) if isinstance(one, str) else one for one in events) if body is None else body
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}"]
        lines += [
            f"{name}: {value}"
            for name, value in ({"Content-Type": kind} | (headers or {})).items()
            if value is not None
        ]
        length = f"Content-Length: {len(body)}"
        if chunked:
            # The chunks do not begin and end where the events do.
            chunks = [body[at : at + 10] for at in range(0, len(body), 10)] + [b""]
            length, body = "Transfer-Encoding: chunked", b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks)
        lines += [length, *(["Connection: close"] if close else []), "", ""]
        self.wire.send("\r\n".join(lines).encode() + body)
        self._answered.put(not close)
        return self

    def reset(self):
        """Resets the connection without a response."""
        reset(self.wire.socket)
        self._answered.put(False)

    def shown(self, ids):
        """Returns the request as a line for the transcript.

        Of a request with events, the line contains the headers `Meta-*`, `Content-Bytes-*` and `Keep-Alive*`, and those
        that are wrong.
        """
        notes = []
        if self.head.get("Content-Type") == EVENTS or self.head.get("Connection-Id"):
            expected = {"Accept": EVENTS, "Content-Type": EVENTS, "Content-Length": str(len(self.body))}
            for name, value in expected.items():
                if self.head.all(name) != [value]:
                    notes.append(f"{name}: {' and '.join(self.head.all(name)) or 'none'}")
            notes += ids.look(self.head.get("Connection-Id"))
        else:
            return f"{self.method} {self.target} {show(self.body)}"
        if not signed(self.head.get("Grip-Sig")):
            notes.append("a missing or invalid Grip-Sig")
        for name, value in sorted(self.head.headers):
            if name.lower().startswith(("meta-", "content-bytes", "keep-alive")):
                notes.append(f"{name.title()}: {value}")
        method = "" if self.method == "POST" else f"{self.method} "
        return f"{method}{show_events(self.body)}" + (f" [{'; '.join(notes)}]" if notes else "")


class Relayed(Peer):
    """The origin's end of a relayed WebSocket."""

    def __init__(self, wire, head, who, note):
        super().__init__(wire.socket, who, note, masks=False)
        self.buffer, self.head = wire.buffer, head

    def accept(self, *lines):
        """Accepts the handshake. `lines` are further header lines of the response."""
        key = self.head.get("Sec-WebSocket-Key") or ""
        answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        answer += [f"Sec-WebSocket-Accept: {accept_for(key)}", *lines, "", ""]
        self.send("\r\n".join(answer).encode())
        return self

    def accept_grip(self):
        """Accepts the handshake, and turns on control messages. Messages for the client then need no prefix."""
        return self.accept('Sec-WebSocket-Extensions: grip; message-prefix=""')

    def refuse(self, status, *lines, body=b""):
        answer = [f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}", *lines]
        answer += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        self.send("\r\n".join(answer).encode() + body)
        self.close()

    def reset(self):
        reset(self.socket)

    def shown(self, _ids):
        return f"the handshake {self.head.line.rsplit(' ', 1)[0]}"


class Ids:
    """The Connection-Ids that an origin has got, in the order of their first appearance.

    Their values are random. A transcript contains their numbers, and only if the origin has got more than one.
    """

    def __init__(self):
        self._seen = []

    def look(self, value):
        if value is None:
            return ["no Connection-Id"]
        if not UUID.fullmatch(value):
            return ["a Connection-Id that is no UUID"]
        if value not in self._seen:
            self._seen.append(value)
            return ["another Connection-Id"] if len(self._seen) > 1 else []
        return [f"Connection-Id {self._seen.index(value) + 1}"] if len(self._seen) > 1 else []


class Origin:
    """An origin with a port of its own. Connections are refused until `listen` is called."""

    def __init__(self):
        # This socket never listens. It keeps the port while the listening socket is closed and opened again.
        self._keeper = self._bound(0)
        self.port = self._keeper.getsockname()[1]
        self._listener = None
        self._arrived = queue.Queue()
        self._wires = []
        self.relayed = []
        self.note = None
        self.ids = Ids()

    def _bound(self, port):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    def listen(self):
        self._listener = self._bound(self.port)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop_listening(self):
        """Stops listening, so that further connections are refused."""
        listener, self._listener = self._listener, None
        if listener:
            # This wakes the thread in `_accept`. Closing the socket does not.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener):
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            wire = Wire(connection)
            self._wires.append(wire)
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire):
        answered = queue.Queue()
        try:
            while True:
                head = wire.head(60)
                if (head.get("Upgrade") or "").lower() == "websocket" and head.line.startswith("GET "):
                    self._arrived.put(Relayed(wire, head, "origin", self.note))
                    return
                self._arrived.put(Request(wire, head, wire.body(head), answered))
                if not answered.get(timeout=60):
                    break
        except (Over, OSError, queue.Empty):
            pass
        wire.close()

    def next(self, seconds=WAIT):
        """Waits for a request or a relayed handshake, adds it to the transcript and returns it."""
        try:
            found = self._arrived.get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"the origin got no request for {seconds:g} s") from None
        if found is None:
            raise Failed("the scene was aborted")
        self.note(f"origin gets {found.shown(self.ids)}")
        if isinstance(found, Relayed):
            self.relayed.append(found)
        return found

    def is_asked(self):
        """Returns whether a request has arrived that was not taken yet."""
        return not self._arrived.empty()

    def step(self):
        """Takes a request that has arrived, and returns whether there was one.

        An OPEN is answered with OPEN, and a CLOSE with the same CLOSE. The response to other events contains no event.
        A relayed handshake is taken, but not answered.
        """
        try:
            found = self._arrived.get_nowait()
        except queue.Empty:
            return False
        if found is None:
            raise Failed("the scene was aborted")
        self.note(f"origin gets {found.shown(self.ids)}")
        if isinstance(found, Request):
            # CLOSE is the last event of a request. The response contains it unchanged.
            close = found.body.find(b"CLOSE")
            bye = [found.body[close:]] if close >= 0 else []
            found.answer(*(["OPEN"] if found.body.startswith(b"OPEN") else []), *bye)
        else:
            self.relayed.append(found)
        return True

    def close(self):
        """Closes all sockets of the origin. If the scene is waiting for a request, that wait fails."""
        self._arrived.put(None)
        self.stop_listening()
        self._keeper.close()
        for wire in self._wires:
            wire.close()
