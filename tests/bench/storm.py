#!/usr/bin/env python3
"""Shows what reaches the origin when thousands of streams each have a link to be asked every so often.

    python3 tests/bench/storm.py --distinct|--same [--n 5000] [--seconds 65] [--timeout 20] [--delay 0] [--gripd FILE]

Every stream is held with `Grip-Link: <URI>; rel=next; timeout=T`, and so is the empty answer to each link. The streams
are opened as fast as they can be, so their links are due as closely together: the figures tell how gripd spreads them.

The report, in Markdown, goes to standard output, notes go to standard error. The status is 0 only if every stream was
held to the end and, where each has a link of its own, every link was asked.
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

# A benchmark leaves nothing behind in the repository.
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
# Past its timeout a link may wait for its turn this share of the timeout before it counts as forgotten.
PATIENCE = 0.5
BAR_WIDTH = 50
# A burst shorter than a second is one, too.
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
    parser = argparse.ArgumentParser(description="Shows what reaches the origin when thousands of streams have a link.")
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
        raise argparse.ArgumentTypeError("0 or more")
    return seconds


# The origin, a process of its own.


class LinkOrigin(Child):
    """This file as the backend."""

    def __init__(self, args):
        options = {"shared": args.same, "timeout": args.timeout, "delay": args.delay}
        super().__init__([sys.executable, "-B", __file__, "--origin", json.dumps(options)])
        self.name = "the origin"

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))

    def figures(self):
        """Returns the figures of what has arrived so far; the origin is asked directly, not through gripd."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/figures")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Arrivals:
    """The requests that came, by kind: from clients and for links."""

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
        """The response that holds a stream, with a link to be asked if it stays silent."""
        link = "/events" if self.shared else f"/events?user={user}"
        follow = f"<{link}>; rel=next; timeout={self.timeout}"
        return response(body, f"Grip-Hold: stream\r\nGrip-Channel: {ROOM}\r\nGrip-Link: {follow}\r\n")

    def figures(self):
        names = ("clients", "links", "most_connections", "most_in_flight")
        return json.dumps({name: getattr(self, name) for name in names}).encode()


class LinkProtocol(asyncio.Protocol):
    """One kept-alive connection. Only GET is spoken here, so a request is no more than its head."""

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
            # Once all is read that had arrived by now: only so is it seen what was under way together.
            loop.call_soon(self.answered, whole)

    def answered(self, whole):
        # After a lost connection nothing is pending.
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
    """Holds the streams for as long as is wanted, and returns the load that it was for gripd and for the origin."""
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
    """Of links that belong to one stream each: how many were asked, and the seconds from one time to the next."""
    times = {}
    for at, user in links:
        times.setdefault(user, []).append(at)
    gaps = [later - earlier for ats in times.values() for earlier, later in zip(ats, ats[1:])]
    return {"asked": len(times), "shortest": min(gaps, default=None), "longest": max(gaps, default=None)}


def faults(args, figures):
    """Returns what must not be, in words."""
    found = []
    if figures["alive"] < args.n:
        found.append(f"{args.n - figures['alive']} streams ended before their time")
    if args.seconds < args.timeout * (1 + PATIENCE):
        return found
    if not figures["links"]:
        found.append("no link was ever asked")
    elif figures["turns"] and figures["turns"]["asked"] < args.n:
        found.append(f"{args.n - figures['turns']['asked']} links were never asked")
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
        yield "the same for each link request", f"{figures['keeping_cpu'] * 1e6 / len(links):.0f} µs"
    yield "gripd's memory at the end", f"{figures['memory_kib'] / 1024:.1f} MiB"


def rates(args, figures, links):
    """The mean is from the first link request on: before that nothing was due."""
    if not links:
        return
    for window in WINDOWS:
        yield f"the most link requests within {window:g} s", f"{busiest(links, window):,}"
    mean = len(links) / max(figures["length"] - links[0], 1)
    yield "link requests per second, mean", f"{mean:,.1f}"
    if not args.same:
        yield "the same if spread evenly, streams / timeout", f"{args.n / args.timeout:,.1f}"
    yield "the first link request after", f"{links[0]:.1f} s"


def intervals(found):
    if not found:
        return
    yield "links that were asked", f"{found['asked']:,}"
    if found["shortest"] is not None:
        yield "from one request of a link to its next", f"{found['shortest']:.1f} to {found['longest']:.1f} s"


def busiest(times, window):
    """The most of `times`, which are in order, that lie within any `window` seconds."""
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


def plot(clients, links, length):
    """A row for each second; bars are relative to the busiest."""
    by_client, by_link = (Counter(map(int, times)) for times in (clients, links))
    top = max(by_link.values(), default=1)
    for second in range(math.ceil(length)):
        count = by_link[second]
        bar = "#" * math.ceil(count / top * BAR_WIDTH)
        yield f"| {second} | {by_client[second]:,} | {count:,} | {bar} |"


if __name__ == "__main__":
    # The way in for the origin alone: see LinkOrigin.
    if sys.argv[1:2] == ["--origin"]:
        asyncio.run(serve(json.loads(sys.argv[2])))
    else:
        main()
