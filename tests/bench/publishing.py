"""The publisher: requests for the control port, made before the clock starts, and the connection that takes them."""

import http.client
import json
import select
import socket
import time

from processes import Failed

# The size of a message, with its stamp and its line end.
MESSAGE_BYTES = 100
ANSWER_SECONDS = 10
# A place for the time of the publication, in nanoseconds, between the marks by which the clients find it.
STAMP = "@" + "0" * 20 + "#"


def text_for(kind):
    """Returns a message for clients of a kind, with a place for its stamp."""
    filling = "x" * (MESSAGE_BYTES - len(kind.begins) - len(STAMP) - len(kind.ends))
    return kind.begins + STAMP + filling + kind.ends


class Message:
    """A request that publishes a message. It is stamped when it is sent."""

    def __init__(self, request):
        stamp = STAMP.encode()
        if request.count(stamp) != 1:
            raise ValueError("a message needs the place of one stamp")
        self._before, self._after = request.split(stamp)

    def stamped(self):
        """Returns the request with the time that it is now."""
        return b"%b@%020d#%b" % (self._before, time.monotonic_ns(), self._after)


class Publisher:
    """A connection to the control port, kept alive if the server does. Sending and the reply are apart: a client is
    watched in between."""

    def __init__(self, control):
        self._control = control
        self._connect()

    def _connect(self):
        self._sock = socket.create_connection(("127.0.0.1", self._control), ANSWER_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.close()

    def publish(self, message):
        """Sends a message and returns the body of its reply."""
        self.send(message.stamped())
        return self.reply()

    def send(self, request):
        """Sends the bytes of a request."""
        self._sock.sendall(request)

    def reply(self):
        """Returns the body of the reply that is due."""
        response = http.client.HTTPResponse(self._sock, method="POST")
        response.begin()
        body = response.read()
        if not 200 <= response.status < 300:
            raise Failed(f"a publish was answered {response.status}: {body[:200]!r}")
        if response.will_close:
            self._sock.close()
            self._connect()
        return body

    def has_reply(self):
        """Tells whether a reply waits to be read."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))


class Publishers:
    """Several connections that publish in turn, so that as many requests are under way."""

    def __init__(self, control, count):
        self._all = [Publisher(control) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for publisher in self._all:
            publisher.__exit__()

    def publish_all(self, messages):
        """Publishes messages, each as soon as one of the connections has the reply to the one before."""
        for number, message in enumerate(messages):
            publisher = self._all[number % len(self._all)]
            if number >= len(self._all):
                publisher.reply()
            publisher.send(message.stamped())
        for publisher in self._all[:len(messages)]:
            publisher.reply()


def post(path, body, media="application/json", accept="text/plain"):
    """Returns a whole request. A reply in JSON comes only when the message is delivered."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def publish(item, accept="text/plain"):
    """Returns the request that publishes one item, as GRIP has it."""
    return post("/publish/", json.dumps({"items": [item]}), accept=accept)


def closed(reply):
    """Returns the number of connections that a kick closed, by its receipt."""
    return sum(item.get("closed", 0) for item in json.loads(reply)["items"])
