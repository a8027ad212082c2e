"""The crowds of clients: the process of load_client.c that holds them, and the kinds that there are."""

import json
import os
import select
import subprocess
import time

from processes import Failed

# The time that an answer may take beyond that of its command.
GRACE_SECONDS = 10
READ_BYTES = 1 << 20
NANOSECONDS = 1e9
# The time between two looks whether the origin has got the polls.
LOOK_EVERY = 0.005


class LoadClient:
    """The process that holds the clients. A line tells it what to do, a line of JSON answers."""

    def __init__(self, program, port, kind, headers):
        command = [program, str(port), kind, *headers]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # Its own session: an interrupt from the terminal is for this program, which then stops the others in order.
        self._process = subprocess.Popen(command, bufsize=0, start_new_session=True, **pipes)
        self._unread = b""

    def stop(self):
        """Ends the process, and all connections with it."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def tell(self, *lines):
        """Gives it a command."""
        unsent = memoryview("".join(f"{line}\n" for line in lines).encode())
        try:
            while unsent:
                unsent = unsent[self._process.stdin.write(unsent):]
        except BrokenPipeError:
            raise Failed("the load client has ended") from None

    def answer(self, seconds):
        """Returns the answer to a command that takes at most so long."""
        deadline = time.monotonic() + seconds + GRACE_SECONDS
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise Failed("the load client does not answer")
            data = os.read(self._process.stdout.fileno(), READ_BYTES)
            if not data:
                raise Failed("the load client has ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if answer["complaint"]:
            raise Failed(answer["complaint"])
        return answer


class Crowd:
    """Clients of one kind. They are read only while a command runs, which `begin` starts and `finish` ends."""

    # The path that they ask for, their headers, and the word by which load_client.c knows them.
    path = ""
    headers = ()
    load_kind = "stream"
    # The format of an item for them, the name of the content in it, and the beginning and the end of each message.
    form = ""
    content = "content"
    begins = ""
    ends = "\n"
    # The options of a route for them, and the lines of gripd's configuration.
    route_options = ""
    config = ""
    says_goodbye = False
    is_compressed = False

    def __init__(self, program, port, headers=()):
        self._client = LoadClient(program, port, self.load_kind, [*self.headers, *headers])
        self._last = {}
        self._seconds = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.stop()

    def hold(self, targets, inflight, seconds):
        """Opens a connection for each target, `inflight` at a time, and returns the seconds it took."""
        targets = list(targets)
        self.begin(seconds, f"open {len(targets)} {inflight} {seconds}", *targets)
        began = time.monotonic()
        if not self.finish()["done"]:
            raise Failed("connections are not held in time")
        return time.monotonic() - began

    def begin(self, seconds, *lines):
        """Starts a command that takes at most so long."""
        self._client.tell(*lines)
        self._seconds = seconds

    def finish(self):
        """Waits for the end of the command, and returns its answer."""
        self._last = self._client.answer(self._seconds)
        return self._last

    def run(self, seconds, line):
        """Runs a command from its start to its end."""
        self.begin(seconds, line)
        return self.finish()

    def begin_messages(self, total, seconds):
        """Begins to read until `total` messages have come since the start, or the time is over."""
        self.begin(seconds, f"messages {total} {seconds}")

    def begin_end(self, place, seconds):
        """Begins to read until one client has ended, or the time is over."""
        self.begin(seconds, f"end {place} {seconds}")

    def linger(self, seconds):
        """Reads for a while, so that what should not come may come."""
        return self.run(seconds, f"linger {seconds}")

    def forget_latencies(self):
        """Begins the latencies anew."""
        self.run(0, "forget")

    def counts(self):
        """Returns the messages of each client."""
        self.begin(0, "counts")
        return self._client.answer(0)["counts"]

    def messages(self):
        """Returns the messages of all clients, as of the last command."""
        return self._last["messages"]

    def alive(self):
        """Returns the number of open connections, as of the last command."""
        return self._last["open"]

    def agreed(self, size):
        """Returns how many of so many got the extensions of the protocol that they should have."""
        compressed = self._last["compressed"]
        return compressed if self.is_compressed else size - compressed


class Streams(Crowd):
    """Streams of HTTP."""

    path = "/stream"
    form = "http-stream"


class Events(Crowd):
    """Streams of server-sent events."""

    path = "/events"
    form = "http-stream"
    headers = ("Accept: text/event-stream",)
    begins = "data: "
    ends = "\n\n"


class Polls(Crowd):
    """Long-polls, each on a connection that is kept for the next one."""

    path = "/poll"
    load_kind = "poll"
    form = "http-response"
    content = "body"

    def ask(self, origin, at_once, seconds):
        """Lets all clients poll that rest, some at once: the next ones when the origin has got those before."""
        deadline = time.monotonic() + seconds
        ahead = origin.polls() - self._last["asked"]
        is_done = False
        while not is_done:
            answer = self.run(0, f"ask {at_once}")
            is_done = answer["done"]
            while origin.polls() < ahead + answer["asked"]:
                if time.monotonic() > deadline:
                    raise Failed("the polls do not come to the origin in time")
                self.linger(LOOK_EVERY)


class WebSockets(Crowd):
    """WebSockets whose origin speaks WebSocket-over-HTTP."""

    path = "/ws"
    load_kind = "websocket"
    form = "ws-message"
    route_options = ",over_http"
    says_goodbye = True


class RelayedWebSockets(WebSockets):
    """WebSockets whose origin has a WebSocket with gripd for each of them."""

    route_options = ""
    config = "[origin]\nconnections = 30000\n"


class CompressedWebSockets(WebSockets):
    """WebSockets that offer compression as browsers do."""

    headers = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)
    config = "[websocket]\ncompression = true\n"
    is_compressed = True


def seconds_of(nanoseconds):
    """Returns a time of the clients as seconds of Python's monotonic clock; None if it has not come."""
    return nanoseconds / NANOSECONDS if nanoseconds else None
