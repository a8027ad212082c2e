"""The scenario that measures plain requests, which a server passes on to the origin."""

import re
import subprocess

from clients import Streams
from nginx import nginx_origin
from processes import Failed, find

CONNECTIONS = 64
SECONDS = 5
WARM_UP_SECONDS = 1
GRACE_SECONDS = 30


def proxy(bench):
    """Measures requests for /plain. The origin is nginx if it is installed, and otherwise the origin in Python."""
    if not find("wrk"):
        return {"skipped": "wrk is not installed (apt-get install wrk)"}
    if not find("nginx"):
        note = "nginx is not installed (apt-get install nginx), so the origin in Python limits the rate"
        return {**through(bench), "note": note}
    with nginx_origin() as origin:
        return through(bench._replace(origin=origin))


def through(bench):
    """Starts a fresh server, loads it, and returns its figures."""
    with bench.server.start(bench, Streams) as server:
        rate, cpu, faults = load(server)
    return {"requests_per_s": rate, "cpu_us_per_request": cpu, "faults": faults}


def load(server):
    """Loads a server, after a warm-up. Returns the requests per second, the CPU µs per request, and the faults."""
    wrk(server.port, WARM_UP_SECONDS)
    before = server.cpu()
    report = wrk(server.port, SECONDS)
    cpu = server.cpu() - before
    requests = int(find_in(report, r"(\d+) requests in"))
    rate = float(find_in(report, r"Requests/sec:\s+([\d.]+)"))
    faults = re.findall(r"Socket errors: .*|Non-2xx or 3xx responses: .*", report)
    if not requests:
        faults.append("no request was answered")
    return round(rate), round(cpu * 1e6 / requests, 2) if requests else None, faults


def wrk(port, seconds):
    """Runs wrk, and returns its report."""
    command = [find("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}/plain"]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS).stdout


def find_in(report, pattern):
    """Returns the part of wrk's report that the group in a pattern matches."""
    found = re.search(pattern, report)
    if not found:
        raise Failed(f"wrk did not report '{pattern}': {report[:500]}")
    return found.group(1)
