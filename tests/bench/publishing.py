"""Publishers: the requests for the control port, which are built before a time is measured, and the connections."""

import http.client
import json
import select
import socket
import time

from processes import Failed

# The size of a message, with its stamp and its line end.
MESSAGE_BYTES = 100
ANSWER_SECONDS = 10
# The placeholder for the time of publication in nanoseconds, with the marks by which the clients find that time.
STAMP = "@" + "0" * 20 + "#"


def text_for(kind):
    """Returns a message for clients of a kind, with the placeholder for its stamp."""
    filling = "x" * (MESSAGE_BYTES - len(kind.begins) - len(STAMP) - len(kind.ends))
    return kind.begins + STAMP + filling + kind.ends


class Message:
    """A request that publishes a message. The stamp, which is the time of publication, is filled in at sending."""

    def __init__(self, request):
        stamp = STAMP.encode()
        if request.count(stamp) != 1:
            raise ValueError("a message must have exactly one placeholder for its stamp")
        self._before, self._after = request.split(stamp)

    def stamped(self):
        """Returns the request with the current time as its stamp."""
        return b"%b@%020d#%b" % (self._before, time.monotonic_ns(), self._after)


class Publisher:
    """A connection to the control port, which is replaced if the server closes it after a reply.

    A request can be sent without waiting for the reply, so that a client can be watched before the reply is read.
    """

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
        """Waits for the reply to a request that was sent, and returns its body."""
        response = http.client.HTTPResponse(self._sock, method="POST")
        response.begin()
        body = response.read()
        if not 200 <= response.status < 300:
            raise Failed(f"a publish was answered with {response.status}: {body[:200]!r}")
        if response.will_close:
            self._sock.close()
            self._connect()
        return body

    def has_reply(self):
        """Returns whether a reply has arrived that was not read yet."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))


class Publishers:
    """Connections to the control port that publish in turn, so that several requests are in flight at a time."""

    def __init__(self, control, count):
        self._all = [Publisher(control) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for publisher in self._all:
            publisher.__exit__()

    def publish_all(self, messages):
        """Publishes messages. Each connection sends its next message when it has the reply to its previous one."""
        for number, message in enumerate(messages):
            publisher = self._all[number % len(self._all)]
            if number >= len(self._all):
                publisher.reply()
            publisher.send(message.stamped())
        for publisher in self._all[:len(messages)]:
            publisher.reply()


def post(path, body, media="application/json", accept="text/plain"):
    """Returns a whole request. If it accepts JSON, gripd sends its reply only when the message is delivered."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def publish(item, accept="text/plain"):
    """Returns the request that publishes one item, in the format of GRIP."""
    return post("/publish/", json.dumps({"items": [item]}), accept=accept)


def closed(reply):
    """Returns the number of closed connections in the receipt of a kick."""
    return sum(item.get("closed", 0) for item in json.loads(reply)["items"])
