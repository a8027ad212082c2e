#!/usr/bin/env python3
"""Shows that one abusive crowd does not harm a second, well-behaved client.

    python3 tests/bench/abuse.py [--scene slow_body,slow_read,...] [--n 1100] [--seconds 10] [--limit 100]
                                 [--same-address] [--gripd FILE]

Each scene starts a gripd with the default limits, and an origin. A crowd of sockets from 127.0.0.1, in a process of its
own, misbehaves. Meanwhile a second client, from 127.0.0.2, makes a request every 10 ms, each on a new connection.
The report shows how many of these requests failed, and how long they took.

The report, in Markdown, goes to standard output. Notes go to standard error. The exit status is 0 only if, in every
scene, all requests of the second client were answered with 200, 99 of 100 within the limit, and all held streams could
be closed.
"""

import argparse
import asyncio
import json
import math
import re
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

# Python must not write compiled modules into the repository.
sys.dont_write_bytecode = True

from bench import FAILURES, fitting, machine, names_of, note, parsed, positive
from figures import millis, spread
from messages import BROKEN, read_message, status
from origin import BACKLOG, HELLO, answer, channels, response
from processes import HERE, Child, Failed, orphaned
from publishing import closed
from servers import Gripd

SERVER = "127.0.0.1"
CROWD_ADDRESS = "127.0.0.1"
OTHER_ADDRESS = "127.0.0.2"

# The seconds between two requests of the second client.
EVERY = 0.01
# A request of the second client that takes more than this many seconds has failed.
PATIENCE = 3
# The seconds between the time at which the crowd is ready and the first request of the second client.
SETTLE_SECONDS = 1

RECONNECT_SECONDS = 1
HASTY_SECONDS = 0.1
READ_BYTES = 65536
# The number of pieces in the origin's response to /large, and the content of each.
PIECES = 100
PIECE = b"x" * 30_000
# The size of the kernel's send buffer for each connection of the origin, in bytes. It is small, because a thousand
# responses that nobody reads must not fill the memory.
SEND_BUFFER = 65536

# The seconds that the origin takes to answer the report that a client has gone.
GONE_SECONDS = 0.5
# The responses with a hold by their path: the body, and the headers with a placeholder for the channel.
HELD = {
    "/document": (json.dumps(["x" * 20] * 3500).encode(), "Grip-Hold: response\r\nGrip-Channel: {}\r\n"),
    "/filtered": (
        HELLO,
        "Grip-Hold: stream\r\nGrip-Channel: {}; filter=var-subst\r\nGrip-Set-Meta: m=" + "y" * 3000 + "\r\n",
    ),
    "/leaves": (HELLO, "Grip-Hold: stream\r\nGrip-Channel: {}\r\nGrip-Link: </gone>; rel=gone\r\n"),
}

CONTROL_IDLE = 1030
GUESSERS = 200
FILE_TAKERS = 200
FEW_FILES = 64
STREAMS = 2
USER = "user1"

SECRET = "s3cret"
TOKEN = f'[[control.token]]\nname = "t"\nsecret = "{SECRET}"\nscopes = ["admin"]\n'
LOG_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\S* +([A-Z]+) ", re.MULTILINE)


class Scene(NamedTuple):
    """A crowd, and the port on which the second client must be served nevertheless."""

    title: str
    # The number of abusers of each kind. None stands for the number in the option --n.
    crowd: dict
    # The names of the attributes of `Gripd` with the ports to which the crowd and the second client connect.
    abused: str = "port"
    asked: str = "port"
    token: bool = False
    few_files: bool = False
    # Whether gripd has a folder (`state_dir`) in which it keeps denials.
    keeps: bool = False
    # The seconds after which an abuser whose connection has ended connects again.
    pause: float = RECONNECT_SECONDS


ON_CONTROL = {"abused": "control", "asked": "control"}
# The names for the option --scene. Each stands for one scene or more.
SCENES = {
    "quiet": [Scene("quiet (no crowd)", {})],
    "slow_body": [Scene("slow_body", {"SlowBody": None})],
    "slow_body_filled": [Scene("slow_body_filled", {"FilledBody": None})],
    "slow_read": [Scene("slow_read", {"SlowRead": None})],
    "slow_drip_read": [Scene("slow_drip_read", {"DripRead": None})],
    "control_idle": [
        Scene("control_idle", {"Silent": CONTROL_IDLE}, **ON_CONTROL),
        Scene("control_idle with a token", {"Silent": CONTROL_IDLE}, token=True, **ON_CONTROL),
    ],
    "control_guess": [Scene("control_guess", {"Guesser": GUESSERS}, token=True, pause=0, **ON_CONTROL)],
    "descriptors": [
        Scene(
            "descriptors",
            {"Silent": FILE_TAKERS // 2, "Keeper": FILE_TAKERS // 2},
            asked="control",
            few_files=True,
            pause=HASTY_SECONDS,
        )
    ],
    "patch": [Scene("patch", {"Patched": 200, "Patcher": 1})],
    "fill": [Scene("fill", {"Filtered": 200, "Filler": 1})],
    "flood": [Scene("flood", {"Unread": 40, "Flooder": 1})],
    "leave": [Scene("leave", {"Leaver": 300}, pause=0)],
    "list": [Scene("list", {"Lister": 50}, pause=0)],
    "deny": [Scene("deny", {"Denier": 1}, asked="control", keeps=True)],
    "own": [Scene("own (slow_read and slow_body)", {"SlowRead": None, "SlowBody": None})],
}

COLUMNS = ["abusive sockets", "open at the end", "ended meanwhile", "requests", "not 200", "p50 ms", "p99 ms", "max ms"]


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    args.n = fitting(args.n)
    print(f"{machine(args.gripd, args.n)}; the second client comes from {args.source}\n")
    print(f"| scene | {' | '.join(COLUMNS)} | remarks |\n|---|{'---:|' * len(COLUMNS)}---|", flush=True)
    are_good = [run(args, scene) for name in args.scene for scene in SCENES[name]]
    sys.exit(not all(are_good))


def arguments():
    parser = argparse.ArgumentParser(description="Shows that one abusive crowd does not harm a second client.")
    parser.add_argument("--scene", type=names_of("scene", SCENES), default=list(SCENES), help=",".join(SCENES))
    parser.add_argument("--n", type=positive, default=1100, help="abusers, unless the scene has its own number (1100)")
    parser.add_argument("--seconds", type=positive, default=10, help="how long each scene is measured (10)")
    parser.add_argument("--limit", type=limit, default=100.0, help="the largest p99 that is no fault, in ms (100)")
    parser.add_argument(
        "--same-address",
        dest="source",
        action="store_const",
        const=CROWD_ADDRESS,
        default=OTHER_ADDRESS,
        help=f"the second client comes from {CROWD_ADDRESS} as the crowd does, instead of {OTHER_ADDRESS}",
    )
    return parsed(parser)


def limit(text):
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("it must be more than 0")
    return number


def run(args, scene):
    """Runs a scene, prints its row, and returns whether there was no fault. An error is a fault of this scene only."""
    note(f"{scene.title} ...")
    try:
        figures, remarks, faults = play(args, scene)
    except FAILURES as error:
        figures, remarks, faults = [""] * len(COLUMNS), [], [f"not measured: {type(error).__name__}: {error}"]
    remarks += [f"FAULT: {fault}" for fault in faults]
    print(row([scene.title, *figures, "; ".join(remarks)]), flush=True)
    return not faults


def row(cells):
    """Returns a row of a table. Line breaks and `|` in a cell, as some error messages have, do not break the table."""
    clean = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(clean)} |"


# The measurement.


class Answer(NamedTuple):
    """The result of a request: the status of the response, or the reason why there is none, and the seconds."""

    outcome: str
    seconds: float
    body: bytes = b""


def play(args, scene):
    """Runs a scene. Returns the figures of its row, its remarks and its faults."""
    kinds = {kind: count or args.n for kind, count in scene.crowd.items()}
    kind_of_gripd = GripdWithFewFiles if scene.few_files else Gripd
    with ExitStack() as stack:
        origin = stack.enter_context(AbusedOrigin())
        config = TOKEN if scene.token else ""
        if scene.keeps:
            config = f'state_dir = "{stack.enter_context(tempfile.TemporaryDirectory())}"\n'
        gripd = stack.enter_context(kind_of_gripd(args.gripd, origin.port, config=config))
        if scene.few_files:
            stack.enter_context(streams(gripd.port, args.source))
        crowd = stack.enter_context(AbusiveCrowd(getattr(gripd, scene.abused), gripd.control, kinds, scene.pause))
        time.sleep(SETTLE_SECONDS)
        before = crowd.figures()
        answers = asyncio.run(ask_steadily(getattr(gripd, scene.asked), requests(scene), args.source, args.seconds))
        after = crowd.figures()
        remarks, faults = verdict(args, answers)
        remarks += [f"responses {answered} to the crowd: {count:,}" for answered, count in after["answers"].items()]
        if "Guesser" in kinds:
            remarks.append(f"{guesses_per_second(before, after):,.0f} guesses answered per second")
        if scene.few_files:
            end = asyncio.run(ask(gripd.control, kick(), args.source))
            (remarks if ended_streams(end) == STREAMS else faults).append(f"close of {STREAMS} streams: {told(end)}")
            remarks.append(busiest_second(gripd.log()))
    figures = [
        f"{sum(kinds.values()):,}",
        f"{after['open']:,}",
        f"{after['ended'] - before['ended']:,}",
        f"{len(answers):,}",
        f"{sum(each.outcome != '200' for each in answers):,}",
        *map("{:,.1f}".format, latencies(answers)),
    ]
    return figures, remarks, faults


async def ask_steadily(port, wanted, source, seconds):
    """Makes the requests in turn, one every 10 ms, even if earlier ones are unanswered. Returns all `Answer`s."""
    began = time.monotonic()
    asked = []
    for number, request in zip(range(round(seconds / EVERY)), cycle(wanted)):
        await asyncio.sleep(began + number * EVERY - time.monotonic())
        asked.append(asyncio.create_task(ask(port, request, source)))
    return await asyncio.gather(*asked)


async def ask(port, request, source):
    """Makes one request on a connection of its own."""
    began = time.monotonic()
    try:
        outcome, body = await asyncio.wait_for(converse(port, request, source), PATIENCE)
    except asyncio.TimeoutError:
        outcome, body = "timed out", b""
    except BROKEN as error:
        outcome, body = type(error).__name__, b""
    return Answer(outcome, time.monotonic() - began, body)


async def converse(port, request, source):
    reader, writer = await asyncio.open_connection(SERVER, port, local_addr=(source, 0))
    try:
        writer.write(request)
        head, body = await read_message(reader)
        return status(head), body
    finally:
        writer.transport.abort()


def requests(scene):
    """Returns the requests that the second client makes in turn."""
    if scene.asked == "port":
        return [request("GET", "/small")]
    publish = {"channel": "room", "formats": {"http-stream": {"content": "x\n"}}}
    token = f"Authorization: Bearer {SECRET}\r\n" if scene.token else ""
    return [request("GET", "/healthz", token), request("POST", "/publish", token, items(publish))]


def kick():
    """Returns the request that closes the user's streams and asks for a receipt with their number."""
    return request("POST", "/publish", "Accept: application/json\r\n", items({"channel": USER, "action": "close"}))


def items(*all_items):
    return json.dumps({"items": all_items}).encode()


def request(method, target, headers="", body=b""):
    if body:
        headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode() + body


@contextmanager
def streams(port, source):
    """Holds the streams of the user, which come from the address of the second client."""
    with ExitStack() as stack:
        for _ in range(STREAMS):
            sock = stack.enter_context(socket.create_connection((SERVER, port), PATIENCE, (source, 0)))
            sock.sendall(f"GET /stream?ch={USER} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answered = b""
            while HELLO not in answered:
                data = sock.recv(READ_BYTES)
                if not data:
                    raise Failed(f"a stream was not held; its answer: {answered[:200]!r}")
                answered += data
        yield


# The figures.


def verdict(args, answers):
    """Returns the remarks and the faults that follow from the answers."""
    outcomes = Counter(each.outcome for each in answers)
    failed = sum(outcomes.values()) - outcomes.pop("200", 0)
    remarks = [f"{outcome}: {count:,}" for outcome, count in outcomes.most_common()]
    faults = [f"{failed:,} requests failed"] if failed else []
    p99 = latencies(answers)[1]
    if p99 > args.limit:
        faults.append(f"p99 is above {args.limit:g} ms")
    return remarks, faults


def latencies(answers):
    """Returns the median, 99th percentile and maximum in milliseconds. Failed requests are included."""
    seconds = [each.seconds for each in answers]
    return [*spread(seconds).values(), millis(max(seconds))]


def guesses_per_second(before, after):
    return (sum(after["answers"].values()) - sum(before["answers"].values())) / (after["at"] - before["at"])


def ended_streams(end):
    """Returns the number of closed streams in the receipt; 0 if there is no receipt."""
    return closed(end.body) if end.outcome == "200" else 0


def told(end):
    return f'"closed":{ended_streams(end)}' if end.outcome == "200" else end.outcome


def busiest_second(log):
    """Returns a text with the largest number of log lines in one second: of all levels, and of warnings and errors."""
    lines = LOG_LINE.findall(log)
    every = Counter(second for second, _ in lines)
    serious = Counter(second for second, level in lines if level in ("WARN", "ERROR"))
    most, most_serious = (max(counts.values(), default=0) for counts in (every, serious))
    return f"at most {most:,} lines logged in a second, {most_serious:,} warnings and errors"


# The processes.


class AbusedOrigin(Child):
    """The process of the origin. It runs this file with the option --origin."""

    def __init__(self):
        super().__init__([sys.executable, "-B", __file__, "--origin"])
        self.name = "the origin"

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))


class AbusiveCrowd(Child):
    """The process of the crowd, with a number of abusers of each kind."""

    def __init__(self, port, control, kinds, pause):
        super().__init__([sys.executable, "-B", str(HERE / "crowd.py"), json.dumps([port, control, kinds, pause])])
        self.name = "the crowd"

    def ready(self):
        self.said(r'"ready": true')

    def figures(self):
        """Returns the figures in the last whole line that the crowd has printed."""
        return json.loads(self.log().rpartition("\n")[0].rpartition("\n")[2])


class FewFiles(Child):
    """A process that may have only FEW_FILES files open from its start on."""

    def __init__(self, command, cwd=None):
        super().__init__(["sh", "-c", f'ulimit -n {FEW_FILES}; exec "$0" "$@"', *command], cwd)
        self.name = Path(command[0]).name


class GripdWithFewFiles(Gripd, FewFiles):
    """A gripd that may have only FEW_FILES files open from its start on."""


# The origin.


async def serve():
    listener = socket.create_server((SERVER, 0), backlog=BACKLOG)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    await asyncio.start_server(serve_connection, sock=listener, backlog=BACKLOG)
    print(f"port={listener.getsockname()[1]}", flush=True)
    await orphaned()


async def serve_connection(reader, writer):
    """Answers the requests of one connection until it ends. It is no error if the connection is reset."""
    try:
        while True:
            head, _ = await read_message(reader)
            target = head.split(b" ", 2)[1].decode()
            if target == "/large":
                await send_large(writer)
                continue
            if target == "/gone":
                await asyncio.sleep(GONE_SECONDS)
            writer.write(answer_to(target))
            await writer.drain()
    except BROKEN:
        pass
    finally:
        writer.transport.abort()


def answer_to(target):
    """Returns the response to all targets but /large. Those that are not known here are answered as by `origin.py`."""
    path = target.partition("?")[0]
    if path in ("/small", "/upload", "/gone"):
        return response(b"x" * 10)
    if path not in HELD:
        return answer(target)
    body, headers = HELD[path]
    return response(body, headers.format(channels(target)))


async def send_large(writer):
    length = PIECES * len(PIECE)
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n".encode())
    for _ in range(PIECES):
        writer.write(PIECE)
        await writer.drain()


if __name__ == "__main__":
    # `AbusedOrigin` starts this file with this option, as the process of the origin.
    if sys.argv[1:2] == ["--origin"]:
        asyncio.run(serve())
    else:
        main()
