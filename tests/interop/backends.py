"""Runs the Python programs of docs/concepts.md and docs/websockets.md, on other ports, as origins of a gripd."""

import re
import socket
import sys
from contextlib import ExitStack

from harness import DEADLINE, ROOT, Gripd, Process, check, eventually, exchange, free_ports, run, same
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

# The ports that the programs in the documentation use: that of the backend, and that of gripd's control API.
BACKEND, CONTROL = "8000", "5561"


def backend(page, control, port, closing):
    """Starts the Python program of a page, with its two ports replaced. Waits until the program listens."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    check(len(blocks) == 1, f"{page} has {len(blocks)} Python programs instead of one")
    [program] = blocks
    for written, real in [(BACKEND, port), (CONTROL, control)]:
        check(written in program, f"the program of {page} does not name the port {written}")
        program = program.replace(written, str(real))
    process = Process([sys.executable, "-c", program], "stdout")
    closing.callback(process.end)

    def listens():
        check(process.child.poll() is None, f"the program of {page} has ended")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(f"the program of {page} listens", listens)


def start(page, options, closing):
    """Starts a gripd whose origin is the program of a page, and the program."""
    [port] = free_ports(1)
    gripd = closing.enter_context(Gripd(f"* localhost:{port}{options}"))
    backend(page, gripd.control[1], port, closing)
    return gripd


def concepts_backend_streams_to_everybody():
    with ExitStack() as closing:
        gripd = start("docs/concepts.md", "", closing)
        client = closing.enter_context(socket.create_connection(gripd.client, DEADLINE))
        client.sendall(b"GET /events/456 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gripd.wait_for("user456", 1)
        same(exchange(gripd.client, "POST", "/say", "hello")[0], 204, "the status of the POST")
        got = b""
        while b"data: hello\n\n" not in got:
            part = client.recv(4096)
            check(part, f"the stream ended after {got!r}")
            got += part
        [outcome] = gripd.publish({"channel": "user456", "action": "close"})
        same(outcome["closed"], 1, "the number of closed connections")


def websockets_backend_sends_to_all_and_one_client_is_closed():
    with ExitStack() as closing:
        gripd = start("docs/websockets.md", ",over_http,one_event", closing)
        url = "ws://{}:{}/events/".format(*gripd.client)
        amy, bob = (closing.enter_context(connect(url + user, open_timeout=DEADLINE)) for user in ["456", "7"])
        gripd.wait_for("conversation123", 2)
        amy.send("hello")
        for client in [amy, bob]:
            same(client.recv(timeout=DEADLINE), "hello", "the message to everybody")
        [outcome] = gripd.publish({"channel": "user456", "action": "close", "code": 4001, "reason": "out"})
        same(outcome["closed"], 1, "the number of closed connections")
        try:
            amy.recv(timeout=DEADLINE)
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4001, "out"), "the code and the reason of the close")
        else:
            check(False, "a message came after the close")
        amy.close()
        bob.close()


if __name__ == "__main__":
    failures = run([concepts_backend_streams_to_everybody, websockets_backend_sends_to_all_and_one_client_is_closed])
    sys.exit(1 if failures else 0)
