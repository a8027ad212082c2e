#!/usr/bin/env python3
"""Shows how many requests reach the origin when thousands of streams have a link that gripd requests periodically.

    python3 tests/bench/storm.py --distinct|--same [--n 5000] [--seconds 65] [--timeout 20] [--delay 0] [--gripd FILE]

The origin holds every stream with `Grip-Link: <URI>; rel=next; timeout=T`. It answers each request for a link with the
same headers and no content. The streams are opened as fast as possible, so that all links would be due within a short
time. The figures show how gripd spreads its requests for them.

The report, in Markdown, goes to standard output. Notes go to standard error. The exit status is 0 only if every stream
was held to the end and every link was requested. Whether links were requested is checked only if the streams are kept
for at least 1.5 times the timeout.
"""

import argparse
import asyncio
import http.client
import json
import math
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from urllib.parse import urlsplit

# Python must not write compiled modules into the repository.
sys.dont_write_bytecode = True

from bench import FAILURES, fitting, machine, note, parsed, positive
from clients import Streams
from compiling import Programs
from origin import BACKLOG, HELLO, response
from processes import Child, orphaned
from servers import Gripd

ROOM = "room0"
OPEN_SECONDS = 120
OPENING = 200
ANSWER_SECONDS = 30
# A request for a link may come later than the link's timeout, by at most this share of the timeout.
PATIENCE = 0.5
BAR_WIDTH = 50
# The largest number of link requests is shown for windows of so many seconds. The short one shows short bursts.
WINDOWS = (1.0, 0.1)


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    args.n = fitting(args.n)
    try:
        with Programs() as programs:
            figures = measure(args, programs.load_client())
    except FAILURES as error:
        sys.exit(f"Nothing was measured: {type(error).__name__}: {error}")
    print(report(args, figures))
    sys.exit(bool(figures["faults"]))


def arguments():
    parser = argparse.ArgumentParser(description="Shows how many requests reach the origin for streams with links.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--distinct", action="store_true", help="every stream has a link of its own")
    mode.add_argument("--same", action="store_true", help="all streams have the same link")
    parser.add_argument("--n", type=positive, default=5000, help="streams (5000)")
    parser.add_argument("--seconds", type=positive, default=65, help="how long they are kept once all are open (65)")
    parser.add_argument("--timeout", type=positive, default=20, help="the timeout of the links in seconds (20)")
    parser.add_argument("--delay", type=delay, default=0.0, help="seconds until the origin answers a link (0)")
    return parsed(parser)


def delay(text):
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError("it must be 0 or more")
    return seconds


# The origin, which is a process of its own.


class LinkOrigin(Child):
    """The process of the origin. It runs this file with the option --origin."""

    def __init__(self, args):
        options = {"shared": args.same, "timeout": args.timeout, "delay": args.delay}
        super().__init__([sys.executable, "-B", __file__, "--origin", json.dumps(options)])
        self.name = "the origin"

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))

    def figures(self):
        """Returns the figures of the requests that have arrived so far. The request for them does not pass gripd."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/figures")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Arrivals:
    """The requests that have arrived at the origin: those of clients, and those for links."""

    def __init__(self, shared, timeout, delay):
        self.shared = shared
        self.timeout = timeout
        self.delay = delay
        self.clients = []
        self.links = []
        self.connections = 0
        self.most_connections = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def hold(self, user, body=b""):
        """Returns the response that holds a stream, with a link that gripd requests when the stream stays silent."""
        link = "/events" if self.shared else f"/events?user={user}"
        follow = f"<{link}>; rel=next; timeout={self.timeout}"
        return response(body, f"Grip-Hold: stream\r\nGrip-Channel: {ROOM}\r\nGrip-Link: {follow}\r\n")

    def figures(self):
        names = ("clients", "links", "most_connections", "most_in_flight")
        return json.dumps({name: getattr(self, name) for name in names}).encode()


class LinkProtocol(asyncio.Protocol):
    """A kept-alive connection to the origin. All requests are GET requests, which have a head and no body."""

    def __init__(self, arrivals):
        self.arrivals = arrivals
        self.unread = b""
        self.pending = 0

    def connection_made(self, transport):
        self.transport = transport
        self.arrivals.connections += 1
        self.arrivals.most_connections = max(self.arrivals.most_connections, self.arrivals.connections)

    def connection_lost(self, _):
        self.arrivals.connections -= 1
        self.arrivals.in_flight -= self.pending
        self.pending = 0

    def data_received(self, data):
        now = time.monotonic()
        *heads, self.unread = (self.unread + data).split(b"\r\n\r\n")
        for head in heads:
            self.answer(head.split(b" ", 2)[1].decode(), now)

    def answer(self, target, now):
        url = urlsplit(target)
        user = url.query.removeprefix("user=")
        if url.path == "/stream":
            self.arrivals.clients.append(now)
            self.transport.write(self.arrivals.hold(user, HELLO))
        elif url.path == "/events":
            self.arrivals.links.append((now, user))
            self.answer_link(self.arrivals.hold(user))
        elif url.path == "/figures":
            self.transport.write(response(self.arrivals.figures()))
        else:
            self.transport.write(response(b"no such page\n", status="404 Not Found"))

    def answer_link(self, whole):
        self.pending += 1
        self.arrivals.in_flight += 1
        self.arrivals.most_in_flight = max(self.arrivals.most_in_flight, self.arrivals.in_flight)
        loop = asyncio.get_running_loop()
        if self.arrivals.delay:
            loop.call_later(self.arrivals.delay, self.answered, whole)
        else:
            # All requests that have arrived by now are read before the first is answered. Otherwise it would not be
            # seen how many were in flight at the same time.
            loop.call_soon(self.answered, whole)

    def answered(self, whole):
        # If the connection was lost meanwhile, nothing is pending any more.
        if self.pending:
            self.pending -= 1
            self.arrivals.in_flight -= 1
            self.transport.write(whole)


async def serve(options):
    arrivals = Arrivals(**options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: LinkProtocol(arrivals), "127.0.0.1", 0, backlog=BACKLOG)
    print(f"port={server.sockets[0].getsockname()[1]}", flush=True)
    await orphaned()


# The measurement.


def measure(args, load_client):
    """Holds the streams for the time in the options, and returns the figures of the load on gripd and on the origin."""
    with ExitStack() as stack:
        origin = stack.enter_context(LinkOrigin(args))
        gripd = stack.enter_context(Gripd(args.gripd, origin.port))
        crowd = stack.enter_context(Streams(load_client, gripd.port))
        note(f"opening {args.n} streams ...")
        before, began = gripd.cpu(), time.monotonic()
        opening = crowd.hold((f"/stream?user={user}" for user in range(args.n)), OPENING, OPEN_SECONDS)
        opened = gripd.cpu()
        note(f"keeping them for {args.seconds} s ...")
        crowd.linger(args.seconds)
        ended, kept = time.monotonic(), gripd.cpu()
        alive, memory = crowd.alive(), gripd.memory_kib()
        arrived = origin.figures()
    clients = [at - began for at in arrived["clients"]]
    links = [(at - began, user) for at, user in arrived["links"] if at <= ended]
    figures = {
        "clients": clients,
        "links": [at for at, _ in links],
        "opening": opening,
        "length": ended - began,
        "alive": alive,
        "most_connections": arrived["most_connections"],
        "most_in_flight": arrived["most_in_flight"],
        "opening_cpu": opened - before,
        "keeping_cpu": kept - opened,
        "memory_kib": memory,
        "turns": None if args.same else turns(links),
    }
    return {**figures, "faults": faults(args, figures)}


def turns(links):
    """Returns how many links were requested, and the shortest and longest seconds between two requests for a link.

    Each link must belong to one stream.
    """
    times = {}
    for at, user in links:
        times.setdefault(user, []).append(at)
    gaps = [later - earlier for ats in times.values() for earlier, later in zip(ats, ats[1:])]
    return {"asked": len(times), "shortest": min(gaps, default=None), "longest": max(gaps, default=None)}


def faults(args, figures):
    """Returns a text for each fault."""
    found = []
    if figures["alive"] < args.n:
        found.append(f"{args.n - figures['alive']} streams ended too early")
    if args.seconds < args.timeout * (1 + PATIENCE):
        return found
    if not figures["links"]:
        found.append("no link was ever requested")
    elif figures["turns"] and figures["turns"]["asked"] < args.n:
        found.append(f"{args.n - figures['turns']['asked']} links were never requested")
    return found


# The report.


def report(args, figures):
    links = figures["links"]
    kind = "the same link for all" if args.same else "a link of its own for each"
    late = f", answered after {args.delay:g} s" if args.delay else ""
    lines = [
        f"{machine(args.gripd, args.n)}; {kind}, timeout {args.timeout} s{late}",
        "",
        "| measure | value |",
        "|---|---:|",
        *(f"| {text} | {value} |" for text, value in rows(args, figures, links)),
        *(f"| FAULT | {fault} |" for fault in figures["faults"]),
        "",
        "| second | client requests | link requests | links |",
        "|---:|---:|---:|:---|",
        *plot(figures["clients"], links, figures["length"]),
    ]
    return "\n".join(lines)


def rows(args, figures, links):
    yield "opening all streams took", f"{figures['opening']:.2f} s"
    yield "streams held to the end", f"{figures['alive']:,}"
    yield "client requests", f"{len(figures['clients']):,}"
    yield "the most client requests within a second", f"{busiest(figures['clients'], 1.0):,}"
    yield "link requests", f"{len(links):,}"
    yield from rates(args, figures, links)
    yield "the most link requests unanswered at once", f"{figures['most_in_flight']:,}"
    yield "the most connections to the origin at once", f"{figures['most_connections']:,}"
    yield from intervals(figures["turns"])
    yield "gripd's CPU while the streams were opened", f"{figures['opening_cpu']:.2f} s"
    seconds = figures["length"] - figures["opening"]
    share = figures["keeping_cpu"] / seconds
    yield "gripd's CPU after that", f"{figures['keeping_cpu']:.2f} s, {share:.1%} of a core"
    if links:
        yield "gripd's CPU after that, for each link request", f"{figures['keeping_cpu'] * 1e6 / len(links):.0f} µs"
    yield "gripd's memory at the end", f"{figures['memory_kib'] / 1024:.1f} MiB"


def rates(args, figures, links):
    """Yields the rows about link requests. Their mean rate begins with the first one, as no link was due before."""
    if not links:
        return
    for window in WINDOWS:
        yield f"the most link requests within {window:g} s", f"{busiest(links, window):,}"
    mean = len(links) / max(figures["length"] - links[0], 1)
    yield "link requests per second, mean", f"{mean:,.1f}"
    if not args.same:
        yield "the same if spread evenly, streams / timeout", f"{args.n / args.timeout:,.1f}"
    yield "time until the first link request", f"{links[0]:.1f} s"


def intervals(found):
    if not found:
        return
    yield "links that were requested", f"{found['asked']:,}"
    if found["shortest"] is not None:
        yield "time between two requests for the same link", f"{found['shortest']:.1f} to {found['longest']:.1f} s"


def busiest(times, window):
    """Returns the largest number of `times` within any `window` seconds. The times must be in ascending order."""
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def plot(clients, links, length):
    """Yields a row for each second. The second with the most link requests has the longest bar."""
    by_client, by_link = (Counter(map(int, times)) for times in (clients, links))
    top = max(by_link.values(), default=1)
    for second in range(math.ceil(length)):
        count = by_link[second]
        bar = "#" * math.ceil(count / top * BAR_WIDTH)
        yield f"| {second} | {by_client[second]:,} | {count:,} | {bar} |"


if __name__ == "__main__":
    # `LinkOrigin` starts this file with this option, as the process of the origin.
    if sys.argv[1:2] == ["--origin"]:
        asyncio.run(serve(json.loads(sys.argv[2])))
    else:
        main()
