"""Plays scenes of WebSockets against Debian's Pushpin and against gripd, and compares what clients and origins see.

    side_by_side.py [--only pushpin|gripd] [SCENE...]

The transcript of a scene lists what its clients, its origin and its publisher receive. A scene passes if the
transcripts of both servers are equal. A scene that declares an intended difference passes if gripd's transcript is the
declared one and Pushpin's is not. With --only, the transcripts of one server are printed, and nothing is compared.
If a server splits a message into several frames, they are joined again before the comparison, unless the scene looks at
single frames.
"""

import argparse
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import side_by_side_answers  # noqa: F401
import side_by_side_control  # noqa: F401
import side_by_side_filters  # noqa: F401
import side_by_side_frames  # noqa: F401
import side_by_side_handshakes  # noqa: F401
import side_by_side_messages  # noqa: F401
import side_by_side_publish  # noqa: F401
import side_by_side_relayed  # noqa: F401
import side_by_side_relayed_publish  # noqa: F401
from harness import Failed, report
from side_by_side_origin import Origin
from side_by_side_servers import Gripd, Pushpin, install_pushpin
from side_by_side_stage import SCENES, judge, play, route_lines

# The number of scenes that are played at the same time with each server. They spend most of their time waiting.
AT_ONCE = 12


class Ready(BaseHTTPRequestHandler):
    """An origin that answers every GET request with 200. A server that relays such a response is ready."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Played:
    """The scenes while they are played with one of the two servers, Pushpin or gripd.

    Most scenes share one process of that server. A scene that is declared as `alone` gets a process of its own.
    """

    def __init__(self, kind, scenes, ready, closing):
        self._kind, self._ready = kind, ready
        self._origins = {one.name: Origin() for one in scenes}
        pool = ThreadPoolExecutor(AT_ONCE)
        closing.callback(pool.shutdown, cancel_futures=True)
        self._server = self._start([one for one in scenes if not one.alone])
        # The exit stack calls `end` before it waits for the pool, so that scenes that are still playing lose their
        # server and their origin, and end as well.
        closing.callback(self.end)
        first = sorted(scenes, key=lambda one: not (one.slow or one.alone))
        self._results = {one.name: pool.submit(self._alone if one.alone else self._together, one) for one in first}

    def _start(self, scenes):
        routes = [line for one in scenes for line in route_lines(one, self._origins[one.name].port)]
        return self._kind(routes, self._ready)

    def _together(self, one):
        transcript = play(one, self._server, self._origins[one.name])
        return transcript if self._server.is_up() else [*transcript, "broken: the server has ended"]

    def _alone(self, one):
        server = self._start([one])
        try:
            return play(one, server, self._origins[one.name])
        finally:
            server.end()

    def transcript(self, one):
        return self._results[one.name].result()

    def end(self):
        """Closes all origins, ends the server that most scenes share, and returns its exit code."""
        for origin in self._origins.values():
            origin.close()
        return self._server.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["pushpin", "gripd"])
    parser.add_argument("scenes", nargs="*", metavar="SCENE")
    options = parser.parse_args()
    names = [one.name for one in SCENES]
    if len(set(names)) < len(names) or set(options.scenes) - set(names):
        parser.error(f"unknown scenes, or names declared twice: {sorted(set(options.scenes) - set(names)) or names}")
    scenes = [one for one in SCENES if not options.scenes or one.name in options.scenes]
    try:
        return run(scenes, options.only)
    except Failed as error:
        report("setup", error)
        return 1


def run(scenes, only):
    if only != "gripd":
        install_pushpin()
    with ExitStack() as closing:
        ready = ThreadingHTTPServer(("127.0.0.1", 0), Ready)
        threading.Thread(target=ready.serve_forever, args=(0.05,), daemon=True).start()
        closing.callback(ready.shutdown)
        kinds = [kind for kind in (Pushpin, Gripd) if only in (None, kind.name)]
        played = [Played(kind, scenes, ready.server_address[1], closing) for kind in kinds]
        failures = 0
        for one in scenes:
            shown = [each.transcript(one) for each in played]
            if only:
                print("\n    ".join([one.name, *shown[0]]), flush=True)
                failures += any(line.startswith("broken: ") for line in shown[0])
                continue
            why = judge(one, *shown)
            failures += why is not None
            report(one.name + (f" (differs: {one.differs.why})" if one.differs and why is None else ""), why)
        if only is None:
            code = played[1].end()
            failures += code != 0
            report("gripd_exits_with_0_after_all_scenes", f"its exit code is {code}" if code else None)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
