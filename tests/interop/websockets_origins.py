"""The origins of a chat: one that speaks WebSocket over HTTP, and one that is a WebSocket server."""

import json
import socket
import struct
import threading
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.sync.server import serve

from harness import Answer, Origin

SUBPROTOCOL = "chat.v1"
# The interval, in seconds, at which the relayed origin pings each client.
PING_EVERY = 0.2
EVENTS = "application/websocket-events"


class Close(NamedTuple):
    """The code and the reason of a close, which the origin sends or receives."""

    code: int
    reason: str


class Break:
    """A reply that makes the origin fail for this client, by status 500 or by the end of the connection."""


def message(channel, content, **more):
    """Returns an item for WebSockets."""
    kind = "content" if isinstance(content, str) else "content-bin"
    return {"channel": channel, "formats": {"ws-message": {kind: content}}, **more}


def control(kind, **fields):
    return "c:" + json.dumps({"type": kind, **fields})


class Chat:
    """The chat, for either kind of origin. Its replies begin with `m:` for the client or `c:` for gripd."""

    def __init__(self):
        self.gripd = None
        self.banned = set()
        # The ended connections, as pairs of the user and the `Close` that the origin saw, or None if there was none.
        self.ended = []

    def open(self, user):
        """Returns the first replies to a client. They subscribe the client to its channels before they welcome it."""
        channels = ("room", f"user-{user}")
        return [control("subscribe", channel=channel) for channel in channels] + [f"m:welcome {user}"]

    def hear(self, user, said):
        """Returns the replies to a message."""
        if isinstance(said, bytes):
            return [b"m:" + said]
        command, _, rest = said.partition(" ")
        return getattr(self, "_" + command)(user, rest)

    def has_lost(self, user):
        return any(name == user for name, _ in self.ended)

    def _say(self, user, text):
        self.gripd.publish(message("room", f"{user}: {text}"))
        return []

    def _echo(self, _, text):
        return ["m:" + text]

    def _measure(self, _, text):
        return [f"m:{len(text)}"]

    def _close(self, _, text):
        code, _, reason = text.partition(" ")
        return [Close(int(code), reason)]

    def _break(self, *_):
        return [Break()]


class OverHttp(Origin):
    """The chat over HTTP. Each request has events of a client, and each response has events for this client."""

    name = "over_http"
    options = ",over_http"
    # The lengths of the largest messages to the origin and from it. gripd limits the bodies of requests, which may
    # have many events, and of responses.
    largest = {"up": 150_000, "down": 900_000}

    def __init__(self, chat):
        super().__init__(self._answer)
        self._chat = chat
        self.pings = 0

    def _answer(self, request):
        user = request.query["user"]
        arrived = list(decoded(request.body))
        is_new = arrived[:1] == [("OPEN", b"")]
        if is_new and user in self._chat.banned:
            return Answer(403, {"Content-Type": "text/plain"}, b"you are out\n")
        headers = {"Content-Type": EVENTS} | (accepted(request.headers) if is_new else {})
        events = [event for kind, content in arrived for event in self._react(user, kind, content)]
        if any(isinstance(event, Break) for event in events):
            return Answer(500)
        return Answer(200, headers, b"".join(events))

    def _react(self, user, kind, content):
        """Returns the events that answer one event."""
        if kind == "OPEN":
            return [encoded("OPEN"), *map(as_event, self._chat.open(user))]
        if kind in ("TEXT", "BINARY"):
            said = content.decode() if kind == "TEXT" else content
            return [as_event(reply) for reply in self._chat.hear(user, said)]
        if kind == "PING":
            self.pings += 1
            return [encoded("PONG", content)]
        if kind in ("CLOSE", "DISCONNECT"):
            self._chat.ended.append((user, closed_by(content) if kind == "CLOSE" else None))
        return [encoded("CLOSE", content)] if kind == "CLOSE" else []


def accepted(offer):
    """Returns the response headers with which the origin accepts a client."""
    headers = {"Sec-WebSocket-Extensions": "grip"}
    if SUBPROTOCOL in offer.get("Sec-WebSocket-Protocol", ""):
        headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
    return headers


def encoded(kind, content=b""):
    """Returns an event as it is written into a body."""
    if not content:
        return f"{kind}\r\n".encode()
    return b"%s %x\r\n%s\r\n" % (kind.encode(), len(content), content)


def as_event(reply):
    if isinstance(reply, Break):
        return reply
    if isinstance(reply, Close):
        return encoded("CLOSE", struct.pack(">H", reply.code) + reply.reason.encode())
    return encoded("TEXT", reply.encode()) if isinstance(reply, str) else encoded("BINARY", reply)


def closed_by(content):
    """Returns the `Close` in the content of an event. Its code is 1005 if there is none, as in WebSocket libraries."""
    return Close(struct.unpack(">H", content[:2])[0], content[2:].decode()) if content else Close(1005, "")


def decoded(body):
    """Yields the events of a body, as pairs of the kind and the content."""
    while body:
        line, _, body = body.partition(b"\r\n")
        kind, has_content, length = line.decode().partition(" ")
        size = int(length, 16) if has_content else 0
        yield kind, body[:size]
        body = body[size + 2 :] if has_content else body


class Grip(Extension):
    """The extension `grip`. It changes no frame, because the replies of the chat already have their prefixes."""

    name = "grip"

    def decode(self, frame, *, max_size=None):
        return frame

    def encode(self, frame):
        return frame


class GripFactory(ServerExtensionFactory):
    name = Grip.name

    def process_request_params(self, params, accepted_extensions):
        # A value with a colon must be quoted, and the library does not add quotes.
        return [("message-prefix", '"m:"')], Grip()


class Relayed:
    """The chat as a WebSocket server of the library, whose connections gripd relays."""

    name = "relayed"
    options = ""
    largest = {"up": 1_000_000, "down": 1_000_000}

    def __init__(self, chat):
        self._chat = chat
        self._server = serve(
            self._talk,
            "127.0.0.1",
            0,
            extensions=[GripFactory()],
            subprotocols=[SUBPROTOCOL],
            select_subprotocol=lambda _, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,
            process_request=self._gate,
            ping_interval=PING_EVERY,
            max_size=None,
        )
        self.address = "{}:{}".format(*self._server.socket.getsockname())
        # All connections that gripd has made for clients, including those that have ended.
        self.connections = []
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()

    def _gate(self, connection, request):
        if user_of(request) in self._chat.banned:
            return connection.respond(HTTPStatus.FORBIDDEN, "you are out\n")
        return None

    def _talk(self, client):
        user = user_of(client.request)
        self.connections.append(client)
        try:
            self._send(client, self._chat.open(user))
            for said in client:
                self._send(client, self._chat.hear(user, said))
        except ConnectionClosed:
            pass
        finally:
            end = client.protocol.close_rcvd
            self._chat.ended.append((user, end and Close(end.code, end.reason)))

    def _send(self, client, replies):
        for reply in replies:
            if isinstance(reply, Close):
                client.close(reply.code, reply.reason)
            elif isinstance(reply, Break):
                client.socket.shutdown(socket.SHUT_RDWR)
            else:
                client.send(reply)


def user_of(request):
    return parse_qs(urlsplit(request.path).query)["user"][0]
