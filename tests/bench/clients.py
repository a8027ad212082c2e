"""The clients of the benchmarks: the process of load_client.c that holds them, and their kinds."""

import json
import os
import select
import subprocess
import time

from processes import Failed

# The seconds that the answer to a command may take in addition to the time of the command.
GRACE_SECONDS = 10
READ_BYTES = 1 << 20
NANOSECONDS = 1e9
# The seconds between two checks of whether the origin has received the long-polls.
LOOK_EVERY = 0.005


class LoadClient:
    """The process that holds the clients. It reads commands as lines of text, and answers each with a line of JSON."""

    def __init__(self, program, port, kind, headers):
        command = [program, str(port), kind, *headers]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # In a session of its own, the process gets no interrupt from the terminal. Only this program gets it, and then
        # stops the other processes in order.
        self._process = subprocess.Popen(command, bufsize=0, start_new_session=True, **pipes)
        self._unread = b""

    def stop(self):
        """Ends the process, and all connections with it."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def tell(self, *lines):
        """Sends the lines of a command to the process."""
        unsent = memoryview("".join(f"{line}\n" for line in lines).encode())
        try:
            while unsent:
                unsent = unsent[self._process.stdin.write(unsent):]
        except BrokenPipeError:
            raise Failed("the load client has ended") from None

    def answer(self, seconds):
        """Waits for the answer to a command that takes at most so many seconds, and returns it."""
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
    """Clients of one kind. They read only while a command runs: `begin` starts it, and `finish` waits for its end."""

    # The path and the headers of the clients' requests, and the name of their kind in load_client.c.
    path = ""
    headers = ()
    load_kind = "stream"
    # The format of an item for these clients, the name of the content in that format, and the text with which each
    # message begins and ends.
    form = ""
    content = "content"
    begins = ""
    ends = "\n"
    # The options of gripd's route for these clients, and lines for gripd's configuration file.
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
        """Opens a connection for each target, `inflight` at a time, and returns the seconds that this took."""
        targets = list(targets)
        self.begin(seconds, f"open {len(targets)} {inflight} {seconds}", *targets)
        began = time.monotonic()
        if not self.finish()["done"]:
            raise Failed("some connections were not held in time")
        return time.monotonic() - began

    def begin(self, seconds, *lines):
        """Starts a command that takes at most so many seconds."""
        self._client.tell(*lines)
        self._seconds = seconds

    def finish(self):
        """Waits for the end of the command, and returns its answer."""
        self._last = self._client.answer(self._seconds)
        return self._last

    def run(self, seconds, line):
        """Runs a command, and returns its answer."""
        self.begin(seconds, line)
        return self.finish()

    def begin_messages(self, total, seconds):
        """Starts to read until `total` messages have arrived since the clients were created, or the time is over."""
        self.begin(seconds, f"messages {total} {seconds}")

    def begin_end(self, place, seconds):
        """Starts to read until the connection of one client has ended, or the time is over."""
        self.begin(seconds, f"end {place} {seconds}")

    def linger(self, seconds):
        """Reads for so many seconds, so that messages that should not come can arrive. Returns the answer."""
        return self.run(seconds, f"linger {seconds}")

    def forget_latencies(self):
        """Discards the latencies that were measured so far."""
        self.run(0, "forget")

    def counts(self):
        """Returns the number of messages of each client, in the order of the targets."""
        self.begin(0, "counts")
        return self._client.answer(0)["counts"]

    def messages(self):
        """Returns the number of messages of all clients together at the end of the last command."""
        return self._last["messages"]

    def alive(self):
        """Returns the number of open connections at the end of the last command."""
        return self._last["open"]

    def agreed(self, size):
        """Returns how many of `size` clients negotiated what their kind should: compression, or no compression."""
        compressed = self._last["compressed"]
        return compressed if self.is_compressed else size - compressed


class Streams(Crowd):
    """Streams over HTTP."""

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
    """Long-polls. Each client uses the same connection for all its polls."""

    path = "/poll"
    load_kind = "poll"
    form = "http-response"
    content = "body"

    def ask(self, origin, at_once, seconds):
        """Makes all idle clients poll, `at_once` at a time.

        The next clients poll when the origin has received the polls of the previous ones.
        """
        deadline = time.monotonic() + seconds
        ahead = origin.polls() - self._last["asked"]
        is_done = False
        while not is_done:
            answer = self.run(0, f"ask {at_once}")
            is_done = answer["done"]
            while origin.polls() < ahead + answer["asked"]:
                if time.monotonic() > deadline:
                    raise Failed("the polls did not reach the origin in time")
                self.linger(LOOK_EVERY)


class WebSockets(Crowd):
    """WebSockets whose origin speaks WebSocket-over-HTTP."""

    path = "/ws"
    load_kind = "websocket"
    form = "ws-message"
    route_options = ",over_http"
    says_goodbye = True


class RelayedWebSockets(WebSockets):
    """WebSockets that gripd relays: each has a WebSocket between gripd and the origin."""

    route_options = ""
    config = "[origin]\nconnections = 30000\n"


class CompressedWebSockets(WebSockets):
    """WebSockets that offer compression as browsers do."""

    headers = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)
    config = "[websocket]\ncompression = true\n"
    is_compressed = True


def seconds_of(nanoseconds):
    """Converts a time of the load client to seconds of Python's monotonic clock; returns None if there is no time."""
    return nanoseconds / NANOSECONDS if nanoseconds else None
