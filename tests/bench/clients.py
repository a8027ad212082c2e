"""Both kinds of gripd's clients: those that are held, in thousands, and the publisher. WebSockets: `websockets.py`."""

import http.client
import json
import select
import socket
import time

from processes import Failed

# In every message once and in nothing else that gripd sends: a single byte is never split between two reads.
MARK = b"@"
MESSAGE = MARK.decode() + "x" * 98 + "\n"
HELLO = b"hello\n"
LAST_CHUNK = b"0\r\n\r\n"
READ_BYTES = 8192
EVENTS = 512
ANSWER_SECONDS = 10


class Held:
    """One held connection: what came on it, when it was told goodbye (WebSockets only), and when it ended."""

    __slots__ = ("sock", "is_held", "tail", "messages", "goodbye_at", "ended_at")

    def __init__(self, sock):
        self.sock = sock
        self.is_held = False
        self.tail = b""
        self.messages = 0
        self.goodbye_at = None
        self.ended_at = None


class Crowd:
    """Held streams in one epoll. They are read only while a method here waits."""

    # How they are asked for, what is published to them, and what gripd's route and configuration say for them.
    path = "/stream"
    form = "http-stream"
    route_options = ""
    config = ""
    says_goodbye = False

    def __init__(self, port):
        self.all = []
        self.messages = 0
        self.last_message_at = 0.0
        self._port = port
        self._epoll = select.epoll()
        self._open = {}
        self._opening = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for held in list(self._open.values()):
            self._drop(held)
        self._epoll.close()

    def hold(self, targets, inflight, seconds):
        """Opens a connection for each target, `inflight` at a time, and returns the seconds it took."""
        began = time.monotonic()
        for target in targets:
            self._wait(lambda: self._opening < inflight, began + seconds, "connections are not held in time")
            self._connect(target)
        self._wait(lambda: not self._opening, began + seconds, "connections are not held in time")
        return time.monotonic() - began

    def wait_messages(self, total, seconds):
        """Reads until `total` messages have come since the start, or the time is over: the caller counts."""
        self._until(lambda: self.messages >= total, time.monotonic() + seconds)

    def wait_end(self, held, seconds):
        """Reads until a connection has ended; tells whether it has."""
        return self._until(lambda: held.ended_at is not None, time.monotonic() + seconds)

    def linger(self, seconds):
        """Reads for a while, so that what should not come may come."""
        self._until(lambda: False, time.monotonic() + seconds)

    def alive(self):
        return len(self._open)

    def agreed(self):
        """How many got the extensions of the protocol that they should have. HTTP has none."""
        return len(self.all)

    def _connect(self, target):
        sock = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS)
        held = self._new(sock)
        self.all.append(held)
        self._open[sock.fileno()] = held
        sock.sendall(self._request(target).encode())
        sock.setblocking(False)
        self._epoll.register(sock, select.EPOLLIN)
        self._opening += 1

    def _new(self, sock):
        return Held(sock)

    def _request(self, target):
        return f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n"

    def _wait(self, done, deadline, complaint):
        if not self._until(done, deadline):
            raise Failed(complaint)

    def _until(self, done, deadline):
        """Reads until `done` or the deadline; tells which."""
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._pump(left)
        return True

    def _pump(self, seconds):
        before = self.messages
        for fd, _ in self._epoll.poll(seconds, EVENTS):
            self._read(self._open[fd])
        if self.messages != before:
            self.last_message_at = time.monotonic()

    def _read(self, held):
        try:
            data = held.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if held.is_held:
            self._take(held, data)
        else:
            self._read_opening(held, data)

    def _take(self, held, data):
        """What came on a held connection; nothing is its end."""
        self._count(held, data.count(MARK))
        # The last chunk may come in two reads, hence with the bytes before it.
        tail = held.tail + data
        if not data or tail.endswith(LAST_CHUNK):
            self._end(held)
        held.tail = tail[-len(LAST_CHUNK) + 1:]

    def _read_opening(self, held, data):
        held.tail += data
        is_good = held.tail.startswith(b"HTTP/1.1 200 "[:len(held.tail)])
        if not data or not is_good:
            raise Failed(f"a connection was not held; its answer: {held.tail[:200]!r}")
        if HELLO in held.tail:
            held.is_held = True
            held.tail = b""
            self._opening -= 1

    def _count(self, held, messages):
        held.messages += messages
        self.messages += messages

    def _end(self, held):
        held.ended_at = time.monotonic()
        self._drop(held)

    def _drop(self, held):
        del self._open[held.sock.fileno()]
        self._epoll.unregister(held.sock)
        held.sock.close()


class Publisher:
    """A kept-alive connection to the control port. Sending and the reply are apart: a client is watched in between."""

    def __init__(self, control):
        self._sock = socket.create_connection(("127.0.0.1", control), ANSWER_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.close()

    def publish(self, request):
        self.send(request)
        return self.reply()

    def send(self, request):
        self._sock.sendall(request)

    def reply(self):
        """The body of the reply."""
        response = http.client.HTTPResponse(self._sock, method="POST")
        response.begin()
        body = response.read()
        if response.status != 200:
            raise Failed(f"a publish was answered {response.status}: {body[:200]!r}")
        return body

    def has_reply(self):
        """Whether a reply waits to be read."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))


def message(channel, form, media="text/plain"):
    """The request that publishes MESSAGE. A reply in JSON comes only when the message is delivered."""
    return post({"channel": channel, "formats": {form: {"content": MESSAGE}}}, media)


def kick(channel):
    """The request that closes the connections of a channel, and is told how many there were."""
    return post({"channel": channel, "action": "close"}, "application/json")


def post(item, media):
    """A whole request, made before the clock starts."""
    body = json.dumps({"items": [item]}).encode()
    head = (
        "POST /publish/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def closed(reply):
    """How many connections a kick closed, by its receipt."""
    return sum(item.get("closed", 0) for item in json.loads(reply)["items"])
