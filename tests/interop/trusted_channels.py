"""Types the commands of docs/trusted-channels.md into a shell, and compares their output with the page."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from harness import DEADLINE, ROOT, Failed, Gripd, Process, check, eventually, exchange, free_ports, run

PAGE = "docs/trusted-channels.md"
POINTS = 8
# The commands with which the page starts the servers. They are not typed, because the servers need free ports here.
STARTED = ["python3 examples/origin.py &", "target/release/gripd --config examples/members.toml &"]
OPS = {"Authorization": "Bearer ops-secret"}
# The parts of the output that differ from run to run. Each has one pattern for the page, and one for the actual output.
VARIES = [
    (r"\b\d+-\d+-\d+\b", r"(\d+-\d+-\d+)"),
    (r"127\.0\.0\.1:\d+", r"127\.0\.0\.1:\d+"),
    (r'(?<="id": )"\w+-\d+"', r'"[\w-]+"'),
    (r'(?<="(?:since|bytes)":)\d+', r"\d+"),
    (r'(?<="seconds":)\d+', r"(?:29\d|300)"),
    (r'(?<="(?:time)": )[\d.]+', r"\d{10}\.\d+"),
    (r'(?<="duration": )[\d.]+', r"[\d.]+"),
    (r'(?<="bytes": )\d+', r"\d+"),
]
# After each command the shell prints a line that begins with this character, with the exit code of the command.
DONE = "\x1e"


class Typed(NamedTuple):
    """A command, and its output on the page."""

    command: str
    output: str


class Point(NamedTuple):
    """One of the numbered points of the page."""

    name: str
    typed: list


def page():
    """Returns the text of the page."""
    return (ROOT / PAGE).read_text()


def points(text):
    """Returns the points of the page."""
    found = []
    for part in re.split(r"^(?=\d\. \*\*)", text, flags=re.M)[1:]:
        number, title = re.match(r"(\d)\. \*\*(.+?)\*\*", part, re.S).groups()
        block = re.search(r"^   ```\n(.*?)^   ```$", part, re.M | re.S)
        check(block, f"point {number} has no example")
        words = re.sub(r"\W+", "_", title).strip("_").lower()
        found.append(Point(f"trusted_{number}_{words}", list(typed(block[1]))))
    return found


def typed(block):
    """Yields the commands of an example. A line that ends with a backslash is continued in the next line."""
    text = "".join(line.removeprefix("   ") for line in block.splitlines(keepends=True))
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, output = re.match(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)\Z", part, re.S).groups()
        yield Typed(command.rstrip("\n"), output)


def pattern(expected):
    """Returns a pattern for an output on the page, and the ids of connections in this output, in their order."""
    varies = re.compile("|".join(f"({looks})" for looks, _ in VARIES))
    made, names, end = "", [], 0
    for found in varies.finditer(expected):
        if found.lastindex == 1:
            names.append(found[0])
        made += re.escape(expected[end : found.start()]) + VARIES[found.lastindex - 1][1]
        end = found.end()
    return made + re.escape(expected[end:]), names


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Shell:
    """A shell in a folder that looks like the root of the repository."""

    def __init__(self, folder):
        (folder / "target").mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        # This limits the time of curl, so that no command hangs.
        (folder / ".curlrc").write_text(f"max-time = {DEADLINE:g}\n")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # curl writes its progress to standard error, which is discarded.
        pipes["stderr"] = subprocess.DEVNULL
        self._child = subprocess.Popen(["bash"], cwd=folder, env=os.environ | {"CURL_HOME": folder}, text=True, **pipes)

    def type(self, command):
        """Runs a command, and returns its output."""
        self._child.stdin.write(f"{command}\nprintf '\\n%b%s\\n' '\\x1e' $?\n")
        self._child.stdin.flush()
        lines = []
        while not (line := self._child.stdout.readline()).startswith(DONE):
            check(line, f"the shell ended at {command!r}")
            lines.append(line)
        # The last line break was printed before `DONE`, and does not belong to the output.
        return "".join(lines)[:-1]

    def end(self):
        self._child.stdin.close()
        try:
            self._child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Stage:
    """The servers that the page starts, and the shell in which its commands are typed."""

    def __init__(self, closing):
        self._closing = closing
        # The ids of connections on the page, each with the id of the connection in this run.
        self._names = {}

    def start(self, text):
        commands = re.findall(r"^    (\S.*)$", text, re.M)
        check([c for c in commands if c.endswith("&")] == STARTED, f"the servers start otherwise: {commands}")
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        [origin] = free_ports(1)
        program = Process([sys.executable, str(ROOT / "examples/origin.py"), str(origin)], "stdout")
        self._closing.callback(program.end)
        eventually("the origin listens", lambda: answers(origin))
        config = (ROOT / "examples/members.toml").read_text().replace("localhost:8000", f"localhost:{origin}")
        state = re.compile(r'^state_dir = "[^"]+"', re.M)
        check(state.search(config), "examples/members.toml does not set state_dir")
        self._gripd = Gripd(config=state.sub(f'state_dir = "{folder / "state"}"', config))
        self._closing.callback(self._gripd.process.end)
        self._ports = {"7999": self._gripd.client[1], "5561": self._gripd.control[1], "8000": origin}
        self._shell = Shell(folder)
        self._closing.callback(self._shell.end)

    def play(self, point):
        check(point.typed, "the point has no commands")
        for command, output in point.typed:
            self._type(command, output)

    def _type(self, command, output):
        for name, real in self._names.items():
            command = command.replace(f"connections/{name} ", f"connections/{real} ")
        command = re.sub(r"localhost:(\d+)", lambda found: f"localhost:{self._ports[found[1]]}", command)
        if command.endswith("&"):
            held = self._held()
            self._shell.type(command)
            eventually(f"gripd holds the connection of {command}", lambda: self._held() > held)
            return
        expected, names = pattern(output)
        looks_again = not re.search(r" -[dX] |=\$\(", command)
        until = eventually if looks_again else lambda _, probe: probe()
        got = []

        def comes():
            got.append(self._shell.type(command))
            return re.fullmatch(expected, got[-1])

        try:
            found = until(command, comes)
        except Failed:
            found = None
        check(found, f"{command}: got {got[-1]!r}, expected {output!r}")
        self._names.update(zip(names, found.groups()))

    def _held(self):
        status, body = exchange(self._gripd.control, "GET", "/connections", headers=OPS)
        check(status == 200, f"the response to /connections is {status}: {body}")
        return len(json.loads(body)["connections"])


def scenes(text, stage):
    """Yields a scene that starts the servers, and then a scene for each point of the page."""

    def trusted_servers_start():
        stage.start(text)
        check(len(points(text)) == POINTS, f"there are {len(points(text))} points instead of {POINTS}")

    yield trusted_servers_start
    for point in points(text):

        def scene(point=point):
            stage.play(point)

        scene.__name__ = point.name
        yield scene


if __name__ == "__main__":
    with ExitStack() as closing:
        failures = run(list(scenes(page(), Stage(closing))), story=True)
    sys.exit(1 if failures else 0)
