#!/usr/bin/env python3
"""Measures the memory that nginx, HAProxy and Caddy take for each stream if they terminate TLS in front of gripd.

The configurations are those of docs/deploy.md, over a Unix socket. The clients hold streams over HTTP/1.1 and read only
the beginning. The figure is the growth of the proportional set size (PSS) of all processes of the proxy.
"""

import argparse
import re
import resource
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path

# Python must not write compiled modules into the repository.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from harness import DEADLINE, Answer, Origin, check, free_ports  # noqa: E402
from proxies_servers import HOST, Certificate, Gripd, Proxy, open_folder, recipe  # noqa: E402

# The number of streams that are held before the measurement, so that what a proxy sets up once is not counted.
WARM = 100


def origin(_):
    return Answer(headers={"Content-Type": "text/event-stream", "Grip-Hold": "stream", "Grip-Channel": "all"})


def family(pid):
    """Yields a process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def memory(proxy):
    """Returns the proportional set size of a proxy in KiB."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in set(family(proxy.process.child.pid))]
    return sum(int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1]) for rollup in rollups)


def stream(port, tls):
    plain = socket.create_connection(("127.0.0.1", port), DEADLINE)
    client = tls.wrap_socket(plain, server_hostname=HOST)
    client.sendall(f"GET /events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = client.recv(4096)
    check(head.startswith(b"HTTP/1.1 200"), f"the head of a stream is {head!r}")
    return client


def measured(name, number):
    """Returns the memory of a proxy for one stream, in KiB."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        certificate = Certificate(folder)
        web = closing.enter_context(Origin(origin))
        gripd = Gripd(folder, "unix", f"[[route]]\ntarget = '{web.address}'\n")
        [port] = free_ports(1)
        proxy = Proxy(name, recipe(name, gripd, "unix", certificate, port), folder, port)
        closing.callback(proxy.end)
        # gripd ends first, and with it the streams, because Caddy waits for them.
        closing.callback(gripd.end)
        tls = ssl.create_default_context(cafile=certificate.file)
        clients = [closing.enter_context(stream(port, tls)) for _ in range(WARM)]
        before = memory(proxy)
        clients += [closing.enter_context(stream(port, tls)) for _ in range(number)]
        return (memory(proxy) - before) / number


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--n", type=int, default=2000, help="the number of streams (2000)")
    arguments.add_argument("proxies", nargs="*", default=["nginx", "haproxy", "caddy"], help="the proxies to measure")
    given = arguments.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in given.proxies:
        print(f"{name}: {measured(name, given.n):.1f} KiB per stream")


if __name__ == "__main__":
    main()
