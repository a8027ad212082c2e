"""The common parts of the scenes in Python: a gripd process, an origin made of a function, clients on bare sockets."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
GRIPD = str(ROOT / (os.environ.get("GRIPD") or "target/release/gripd"))
# The time limit of a single step, in seconds. A step that works takes milliseconds.
DEADLINE = 10.0
# The time limit of gripd's end, in seconds. A drain may take ten seconds and then the grace of a slow client.
DRAIN = 30.0
LOOK_EVERY = 0.02

# All servers are on this machine: a proxy set in the environment must not see their traffic.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


class Failed(Exception):
    """The failure of a scene, with its reason as the message."""


def check(condition, why):
    if not condition:
        raise Failed(why)


def same(got, expected, what):
    """Checks that `got` equals `expected`. If not, the message shows at most 300 characters of each."""
    if got != expected:
        raise Failed(f"{what}: got {repr(got)[:300]}, expected {repr(expected)[:300]}")


def eventually(what, probe, seconds=DEADLINE):
    """Calls `probe` until its result is true, and returns the result. Fails when the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        check(time.monotonic() < until, f"timed out after {seconds:g} s: {what}")
        time.sleep(LOOK_EVERY)


def exchange(address, method, path, body=None, headers=None, seconds=DEADLINE):
    """Sends a request on a connection of its own. Returns the status, and the body as text."""
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def free_ports(number):
    """Returns free ports, all of them below those that the kernel gives to outgoing connections.

    So no connection of another program takes such a port before the program of a scene listens on it.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = []
    with ExitStack() as bound:
        while len(found) < number:
            listener = bound.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", random.randrange(end - 10_000, end)))
            except OSError:
                continue
            found.append(listener.getsockname()[1])
    return found


class Process:
    """A running program, and the lines that it writes to one of its outputs."""

    def __init__(self, command, output, env=None):
        other = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, output: subprocess.PIPE}
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env, text=True, **other)
        self.name = Path(command[0]).name
        self._asked_to_end = False
        self.lines = []
        self._reader = threading.Thread(target=self._read, args=(getattr(self.child, output),), daemon=True)
        self._reader.start()

    def _read(self, stream):
        with stream:
            self.lines.extend(stream)

    def find(self, pattern):
        """Waits for a line that matches, and returns the match. Fails if the program ends without such a line."""
        return eventually(f"{self.name} writes {pattern!r}", lambda: self._search(pattern))

    def _search(self, pattern):
        ended = self.child.poll() is not None
        found = next(filter(None, (re.search(pattern, line) for line in list(self.lines))), None)
        check(found or not ended, f"{self.name} ended with {self.child.returncode}: {''.join(self.lines)[-500:]}")
        return found

    def ask_to_end(self):
        """Sends SIGTERM, but only once, because a second one would cut gripd's drain short."""
        if not self._asked_to_end and self.child.poll() is None:
            self.child.terminate()
        self._asked_to_end = True

    def end(self):
        """Ends the program, and returns its exit code. Kills it and fails if it does not end in time."""
        self.ask_to_end()
        try:
            return self.child.wait(DRAIN)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Failed(f"{self.name} did not end within {DRAIN:g} s") from None
        finally:
            self._reader.join(DEADLINE)


class ControlPort:
    """Requests to the control port of a gripd, whose address a subclass sets as `control`."""

    def publish(self, *items):
        """Publishes items, and returns the outcomes of the items from the receipt."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        status, body = exchange(self.control, "POST", "/publish", json.dumps({"items": items}), headers)
        same(status, 200, f"the status of a publish ({body.strip()})")
        return json.loads(body)["items"]

    def connections(self, channel):
        """Returns how many connections hold a channel."""
        status, body = exchange(self.control, "GET", "/channels/" + quote(channel, safe=""))
        same(status, 200, "the status of /channels")
        return json.loads(body)["connections"]

    def wait_for(self, channel, connections):
        """Waits until exactly this number of connections holds a channel."""
        what = f"{channel} is held by {connections} connections"
        eventually(what, lambda: self.connections(channel) == connections)


class Gripd(ControlPort):
    """A gripd on free ports. Without a route it serves its demo. `config` is the text of a configuration.

    `ports` are the ports for clients and for publishers, if they must be certain ones.
    """

    def __init__(self, route=None, config=None, ports=(0, 0)):
        routes = ["--route", route] if route else []
        addresses = ["--listen", f"127.0.0.1:{ports[0]}", "--control", f"127.0.0.1:{ports[1]}"]
        # The file can be removed then, because gripd reads it before it logs that it has started.
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(config or "")
            file.flush()
            configs = ["--config", file.name] if config else []
            self.process = Process([GRIPD, *configs, *routes, *addresses, "--log", "info"], "stderr")
            try:
                started = self.process.find(r"started .*clients=([\d.]+):(\d+) control=([\d.]+):(\d+)")
            except BaseException:
                self.process.end()
                raise
        self.client = (started[1], int(started[2]))
        self.control = (started[3], int(started[4]))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.process.end()
        # If the scene has failed, its own error says more than the exit code.
        if kind is None:
            same(code, 0, "gripd's exit code after SIGTERM")


class Request(NamedTuple):
    """A request as the origin received it."""

    method: str
    path: str
    query: dict
    headers: object
    body: bytes


class Answer(NamedTuple):
    """A response of the origin."""

    status: int = 200
    headers: dict = {}
    body: bytes = b""


class Origin:
    """A web server on a free port, whose responses come from a function. It records the requests."""

    def __init__(self, script):
        self.requests = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(script))
        # A connection that gripd keeps open to use it again must not delay the end of the server.
        self._server.block_on_close = False
        self._server.daemon_threads = True
        self.address = "{}:{}".format(*self._server.server_address)
        threading.Thread(target=self._server.serve_forever, args=(LOOK_EVERY,), daemon=True).start()

    def _handler(self, script):
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_GET(self):
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                request = Request(self.command, url.path, query, self.headers, body)
                origin.requests.append(request)
                self._send(script(request))

            do_POST = do_GET

            def _send(self, answer):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        return Handler

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Head(NamedTuple):
    """The head of a response. The names of its headers are in lower case."""

    status: int
    reason: str
    headers: dict


class Client:
    """A client on a bare socket, which sees every byte of gripd and how gripd ends the connection."""

    def __init__(self, address, path, headers=None):
        self._socket = socket.create_connection(address, DEADLINE)
        self._file = self._socket.makefile("rb")
        self.body = b""
        self.ask(path, headers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def ask(self, path, headers=None):
        """Sends a request. All requests of a client use the same connection."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def head(self):
        version, status, reason = (self._line() + " ").split(" ", 2)
        same(version, "HTTP/1.1", "the HTTP version of the response")
        lines = iter(self._line, "")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Head(int(status), reason.rstrip(), headers)

    def whole(self):
        """Reads a response with a Content-Length, and returns its head and its body."""
        head = self.head()
        return head, self._exactly(int(head.headers["content-length"]))

    def stream(self):
        """Reads the head of a stream. When the head has come, the stream already holds its channels."""
        head = self.head()
        same(head.status, 200, "the status of a stream")
        same(head.headers.get("transfer-encoding"), "chunked", "the framing of a stream")
        return self

    def receive(self, expected):
        """Reads until the stream's body is as long as `expected`, and checks that both are equal."""
        until = time.monotonic() + DEADLINE
        while len(self.body) < len(expected):
            check(time.monotonic() < until, f"only {len(self.body)} of {len(expected)} bytes came")
            chunk = self._chunk()
            check(chunk, f"the stream ended after {self.body[-200:]!r}")
            self.body += chunk
        same(self.body, expected, "the body of the stream so far")

    def end(self, expected):
        """Reads the stream to the last chunk, and then to the end of the connection. Checks the whole body."""
        self.body += b"".join(iter(self._chunk, b""))
        same(self._read(self._file.read), b"", "the bytes after the last chunk")
        same(self.body, expected, "the whole body of the stream")

    def _chunk(self):
        size = self._line()
        check(re.fullmatch("[0-9a-fA-F]+", size), f"the stream broke off: {size!r} instead of the size of a chunk")
        chunk = self._exactly(int(size, 16))
        same(self._exactly(2), b"\r\n", "the end of a chunk")
        return chunk

    def _exactly(self, count):
        data = self._read(lambda: self._file.read(count))
        same(len(data), count, "the number of bytes before the connection ended")
        return data

    def _line(self):
        return self._read(self._file.readline).decode().removesuffix("\r\n")

    def _read(self, read):
        try:
            return read()
        except TimeoutError:
            raise Failed(f"no byte came for {DEADLINE:g} s") from None
        except OSError as error:
            raise Failed(f"the connection broke: {error}") from None


def run(scenes, story=False):
    """Runs the scenes and prints a line for each. Returns how many failed.

    In a story each scene needs those before it. So after a failure no scene runs any more, and all count as failed.
    """
    failures = 0
    for scene in scenes:
        why = "not run, because a scene before it failed" if story and failures else outcome(scene)
        failures += why is not None
        report(scene.__name__, why)
    return failures


def outcome(scene):
    """Runs a scene. Returns the reason why it failed, or None."""
    try:
        scene()
    except Exception as error:
        return error if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return None


def report(name, why):
    """Prints in one line whether a scene passed, or why it failed."""
    line = f"ok {name}" if why is None else f"FAILED {name}: {' '.join(str(why).split())[:600]}"
    print(line, flush=True)


def stop(*_):
    # This raises an exception, so that everything that was started is ended before the script ends.
    sys.exit(1)


signal.signal(signal.SIGTERM, stop)
