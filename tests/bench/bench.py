#!/usr/bin/env python3
"""Measures the cost of gripd: memory, CPU and delay of held connections, and the rate of plain proxying.

    python3 tests/bench/bench.py [--n 5000] [--gripd FILE] [--scenario memory,fanout,...] [--peer pushpin,nginx,...]
                                 [--inflight 32] [--markdown]

A line of JSON for each scenario and server goes to standard output, notes go to standard error. The status is 0 only if
every scenario ran with gripd and nothing was lost.
"""

import argparse
import http.client
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

# A benchmark leaves nothing behind in the repository.
sys.dont_write_bytecode = True

from clients import WebSockets
from compiling import Programs
from memory import memory, websocket_memory
from peers import PEERS
from polling import poll
from processes import Failed, PythonOrigin
from proxying import proxy
from report import tables
from rooms import rooms
from scenarios import fanout, kick_in_burst, kick_one_by_one
from servers import Gripd

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_GRIPD = ROOT / "target" / "release" / "gripd"
SCENARIOS = {
    "memory": memory,
    "fanout": fanout,
    "kick": kick_one_by_one,
    "kickburst": kick_in_burst,
    "rooms": rooms,
    "poll": poll,
    "wsmemory": websocket_memory,
    "wsfanout": partial(fanout, kind=WebSockets),
    "wskick": partial(kick_one_by_one, kind=WebSockets),
    "wskickburst": partial(kick_in_burst, kind=WebSockets),
    "proxy": proxy,
}
# Files and ports beside the held connections: gripd's to the origin, listeners, publishers.
SPARE = 200
# The exceptions that end one scenario and not the run.
FAILURES = (Failed, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError)


class Bench(NamedTuple):
    """The settings that all scenarios share, and the kind of server that is measured."""

    gripd: str
    origin: Any
    programs: Programs
    n: int
    inflight: int
    server: type

    def crowd(self, kind, server):
        """Returns clients of a kind for a server that runs."""
        return kind(self.programs.load_client(), server.port, server.client_headers)


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    n = fitting(args.n)
    servers = [Gripd, *installed(args.peer, args.scenario)]
    with Programs() as programs, PythonOrigin() as origin:
        bench = Bench(args.gripd, origin, programs, n, min(args.inflight, n), Gripd)
        results = [run(bench, name, server) for name in args.scenario for server in servers if plays(server, name)]
    if args.markdown:
        print("\n" + tables(results, machine(args.gripd, n)))
    own = [result for result in results if result["server"] == Gripd.title]
    sys.exit(any(result.get("faults") or result.get("error") for result in own))


def arguments():
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description="Measures the cost of gripd.")
    parser.add_argument("--n", type=positive, default=5000, help="held connections (5000)")
    scenarios = names_of("scenario", SCENARIOS)
    parser.add_argument("--scenario", type=scenarios, default=list(SCENARIOS), help=",".join(SCENARIOS))
    parser.add_argument(
        "--peer",
        type=names_of("peer", PEERS),
        action="extend",
        default=[],
        help=f"also measure these where they are installed: {','.join(PEERS)}",
    )
    parser.add_argument("--inflight", type=positive, default=32, help="connections opened at a time (32)")
    parser.add_argument("--markdown", action="store_true", help="also print tables")
    return parsed(parser)


def installed(names, scenarios):
    """Returns the peers that can be measured, and says which cannot."""
    found = []
    for peer in (PEERS[name] for name in dict.fromkeys(names)):
        if peer.missing():
            note(f"{peer.title} is left out: {peer.missing()} is not installed (apt-get install {peer.packages})")
        elif peer.scenes.isdisjoint(scenarios):
            note(f"{peer.title} is left out: it can only be measured in {', '.join(sorted(peer.scenes))}")
        else:
            found.append(peer)
    return found


def plays(server, scenario):
    """Tells whether a scenario can be played with a server of this kind."""
    return server is Gripd or scenario in server.scenes


def parsed(parser):
    """Returns the options of the command line, and among them the program that is measured."""
    parser.add_argument("--gripd", type=Path, default=DEFAULT_GRIPD, help="the program (target/release/gripd)")
    args = parser.parse_args()
    args.gripd = str(args.gripd.resolve())
    if not os.access(args.gripd, os.X_OK):
        parser.error(f"there is no gripd at {args.gripd}: build it with 'cargo build --release'")
    return args


def positive(text):
    """Returns a number of at least two, of which the half is still something."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return number


def names_of(kind, known):
    """Returns the type of an option that lists names of this kind, all of which have to be known."""

    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {kind} '{name}'; there are {', '.join(known)}")
        return chosen

    return names


def fitting(n):
    """Returns as many connections as this process and gripd, with the same limits, may have; `n` if they suffice."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    limits = [(last - first + 1, "local ports")]
    if hard != resource.RLIM_INFINITY:
        limits.append((hard, "open files"))
    most, what = min(limits)
    fits = min(n, most - SPARE)
    if fits < 2:
        sys.exit(f"Nothing can be measured: this system allows {most} {what}.")
    if fits < n:
        note(f"{n} connections do not fit, {fits} are used instead: this system allows {most} {what}.")
    return fits


def run(bench, name, server):
    """Plays a scenario with a server and prints its line. One that fails keeps no other from being played."""
    note(f"{name} with {server.title} ...")
    result = {"scenario": name, "server": server.title, "n": bench.n}
    try:
        result.update(SCENARIOS[name](bench._replace(server=server)))
    except FAILURES as error:
        result["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(result), flush=True)
    return result


def machine(gripd, n):
    """Returns the circumstances for which the figures hold."""
    version = subprocess.run([gripd, "--version"], capture_output=True, text=True, timeout=10).stdout.strip()
    kernel = platform.release().split("-")[0]
    return f"{version}, {n:,} connections, {os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}"


def note(text):
    """Says something on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
