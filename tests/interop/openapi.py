"""Checks the control API against docs/openapi.json with schemathesis.

schemathesis sends the examples of the description and many generated requests. Every reply must match the description.
"""

import re
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from harness import DEADLINE, ROOT, Failed, Gripd, check, exchange, run, same

DESCRIPTION = ROOT / "docs/openapi.json"
# The program schemathesis, which is installed in the same folder as the Python that runs this script.
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]
# The largest number of requests that schemathesis generates for each operation.
EXAMPLES = 40
SEED = 1
# The longest time that one run may take, in seconds.
LONGEST = 60
SECRET = "secret-of-the-test"
CONFIG = f"""
[[route]]
id = "chat"
target = "test"
channels = ["test", "conversation{{id}}"]

[[control.token]]
name = "ops"
secret = "{SECRET}"
scopes = ["admin"]
"""
TOKEN = {"Authorization": f"Bearer {SECRET}"}


def play(gripd, accept, *options):
    """Runs schemathesis, and returns the number of requests that it has generated and sent."""
    url = "http://{}:{}".format(*gripd.control)
    command = [SCHEMATHESIS, "run", DESCRIPTION, "--url", url, "--seed", str(SEED), "--no-color", "--continue-on-failure"]
    for name, value in {**TOKEN, "Accept": accept}.items():
        command += ["-H", f"{name}: {value}"]
    # schemathesis leaves a folder with failures in its working directory.
    with tempfile.TemporaryDirectory() as folder:
        kept = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run([*command, *options], cwd=folder, timeout=LONGEST, **kept)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise Failed(f"schemathesis ended with exit code {done.returncode} for Accept: {accept}")
    found = re.search(r"(\d+) generated", done.stdout)
    check(found, f"schemathesis does not say how many requests it has sent: {done.stdout[-500:]}")
    return int(found[1])


def hold(gripd, closing):
    """Opens a stream that gripd holds, so that the lists of connections and channels are not empty."""
    client = closing.enter_context(socket.create_connection(gripd.client, DEADLINE))
    client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    check(client.recv(4096).startswith(b"HTTP/1.1 200 "), "the stream is not held")


def scenes(gripd, closing):
    def openapi_examples_are_accepted():
        hold(gripd, closing)
        status, body = exchange(gripd.control, "GET", "/connections", headers=TOKEN)
        check(status == 200 and '"kind":"stream"' in body, f"no connection is listed: {body}")
        checks = ",".join([*CHECKS, "positive_data_acceptance"])
        sent = play(gripd, "application/json", "--phases", "examples", "--checks", checks)
        check(sent >= 5, f"only {sent} examples were sent")

    def openapi_describes_all_replies_in_json():
        describes_all_replies("application/json")

    def openapi_describes_all_replies_in_text():
        describes_all_replies("text/plain")

    def describes_all_replies(accept):
        # Items have rules that a schema cannot express, so gripd may refuse a request that matches the schema.
        # Therefore the check `positive_data_acceptance` is left out.
        options = ["--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES)]
        sent = play(gripd, accept, *options)
        check(sent > 300, f"only {sent} requests were sent")
        same(exchange(gripd.control, "GET", "/healthz")[0], 200, "the status of /healthz after the requests")

    yield openapi_examples_are_accepted
    yield openapi_describes_all_replies_in_json
    yield openapi_describes_all_replies_in_text


if __name__ == "__main__":
    with ExitStack() as everything:
        daemon = Gripd(config=CONFIG)
        everything.callback(daemon.process.end)
        failures = run(list(scenes(daemon, everything)), story=True)
    sys.exit(1 if failures else 0)
