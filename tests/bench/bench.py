#!/usr/bin/env python3
"""Measures what gripd costs: the memory, CPU time and delays of held connections, and the rate of plain proxying.

    python3 tests/bench/bench.py [--n 5000] [--gripd FILE] [--scenario memory,fanout,...] [--peer pushpin,nginx,...]
                                 [--inflight 32] [--markdown]

For each scenario and server, a line of JSON goes to standard output. Notes go to standard error. The exit status is 0
only if gripd failed in no scenario and had no faults, such as lost messages. It is no failure if a scenario is skipped
because a program is not installed.
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

# Python must not write compiled modules into the repository.
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
# The number of files and ports that are needed besides those of the held connections: for gripd's connections to the
# origin, for listeners, and for publishers.
SPARE = 200
# The exceptions that end a scenario, but not the whole run.
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
        """Returns clients of a kind, which connect to a running server."""
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
        help=f"also measure these servers, if they are installed: {','.join(PEERS)}",
    )
    parser.add_argument("--inflight", type=positive, default=32, help="connections opened at a time (32)")
    parser.add_argument("--markdown", action="store_true", help="also print tables")
    return parsed(parser)


def installed(names, scenarios):
    """Returns the peers that can be measured. Prints a note about each of the others."""
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
    """Returns whether a scenario can measure servers of this class."""
    return server is Gripd or scenario in server.scenes


def parsed(parser):
    """Adds the option --gripd to a parser, and returns the options of the command line."""
    parser.add_argument("--gripd", type=Path, default=DEFAULT_GRIPD, help="the program (target/release/gripd)")
    args = parser.parse_args()
    args.gripd = str(args.gripd.resolve())
    if not os.access(args.gripd, os.X_OK):
        parser.error(f"there is no gripd at {args.gripd}: build it with 'cargo build --release'")
    return args


def positive(text):
    """Returns the integer in a text. It must be at least 2, because some scenarios use half of the connections."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("it must be at least 2")
    return number


def names_of(kind, known):
    """Returns a function that splits a list of names at commas, for argparse. It refuses names that are not `known`."""

    def names(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {kind} '{name}', only {', '.join(known)}")
        return chosen

    return names


def fitting(n):
    """Returns the number of connections to use: `n`, or fewer if the limits of this system do not allow so many.

    Raises the limit of open files for this process, and for gripd, which inherits it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    limits = [(last - first + 1, "local ports")]
    if hard != resource.RLIM_INFINITY:
        limits.append((hard, "open files"))
    most, what = min(limits)
    fits = min(n, most - SPARE)
    if fits < 2:
        sys.exit(f"Nothing can be measured: this system allows only {most} {what}.")
    if fits < n:
        note(f"{fits} connections are used instead of {n}: this system allows only {most} {what}.")
    return fits


def run(bench, name, server):
    """Runs a scenario with a server, and prints and returns its result.

    If the scenario fails, its result has the error instead of figures, and the next scenarios still run.
    """
    note(f"{name} with {server.title} ...")
    result = {"scenario": name, "server": server.title, "n": bench.n}
    try:
        result.update(SCENARIOS[name](bench._replace(server=server)))
    except FAILURES as error:
        result["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(result), flush=True)
    return result


def machine(gripd, n):
    """Returns a text about the circumstances of the measurement: the versions, connections and cores."""
    version = subprocess.run([gripd, "--version"], capture_output=True, text=True, timeout=10).stdout.strip()
    kernel = platform.release().split("-")[0]
    return f"{version}, {n:,} connections, {os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}"


def note(text):
    """Prints a text on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
