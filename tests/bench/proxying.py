"""What gripd costs as a plain reverse proxy, beside nginx on the same machine in the same minute."""

import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from processes import Child, Failed, Gripd

CONNECTIONS = 64
SECONDS = 5
WARM_UP_SECONDS = 1
GRACE_SECONDS = 30

NGINX = """
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
}}
"""

ORIGIN = """
    default_type text/plain;
    server {{ listen 127.0.0.1:{port}; location /plain {{ return 200 "{body}"; }} }}
"""

PROXY = """
    upstream origin {{ server 127.0.0.1:{origin}; keepalive {connections}; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""


class Nginx(Child):
    """An nginx in the foreground, in a directory of its own that goes when it ends."""

    def __init__(self, workers, http, **names):
        self.port = free_port()
        self._home = tempfile.TemporaryDirectory()
        config = Path(self._home.name) / "nginx.conf"
        config.write_text(NGINX.format(workers=workers, http=http.format(port=self.port, **names)))
        super().__init__([find("nginx"), "-p", self._home.name, "-c", str(config)])

    def ready(self):
        self.listens(self.port)

    def stop(self):
        super().stop()
        self._home.cleanup()


def proxy(bench):
    """Requests of /plain through gripd; with nginx installed, also through nginx."""
    if not find("wrk"):
        return {"skipped": "wrk is not installed"}
    if not find("nginx"):
        note = "nginx is not installed: the rate is that of the origin in Python, and there is no ratio"
        return {**through_gripd(bench, bench.origin.port), "note": note}
    with Nginx(1, ORIGIN, body="x" * 1000) as origin:
        return beside_nginx(bench, origin.port)


def beside_nginx(bench, origin_port):
    figures = through_gripd(bench, origin_port)
    with Nginx("auto", PROXY, origin=origin_port, connections=CONNECTIONS) as nginx:
        rate, cpu, faults = load(nginx)
    figures["faults"] += [f"nginx: {fault}" for fault in faults]
    return {
        **figures,
        "nginx_requests_per_s": rate,
        "nginx_cpu_us_per_request": cpu,
        "rate_to_nginx": round(figures["requests_per_s"] / rate, 2) if rate else None,
    }


def through_gripd(bench, origin_port):
    with Gripd(bench.gripd, origin_port) as gripd:
        rate, cpu, faults = load(gripd)
    return {"requests_per_s": rate, "cpu_us_per_request": cpu, "faults": faults}


def load(server):
    """Warms a server up and loads it: requests per second, CPU us per request, and what went wrong."""
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
    command = [find("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}/plain"]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS).stdout


def find_in(report, pattern):
    found = re.search(pattern, report)
    if not found:
        raise Failed(f"wrk did not report '{pattern}': {report[:500]}")
    return found.group(1)


def find(program):
    """The path of a program, also where only an administrator's PATH leads."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
