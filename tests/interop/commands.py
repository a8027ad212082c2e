"""Types the shell commands of README.md and docs/ as they stand there, and compares their output with the page.

A command that no scene of this script types is a failure, unless `ELSEWHERE` names the test that runs it.
"""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from backends import backend
from harness import (
    DEADLINE,
    GRIPD,
    ROOT,
    Answer,
    ControlPort,
    Origin,
    Process,
    check,
    eventually,
    exchange,
    free_ports,
    run,
    same,
)

# The first words of a command, in a block of code.
PROGRAMS = ("cargo", "curl", "gripd", "python3")
# The beginnings of commands that something else runs.
ELSEWHERE = {
    "cargo run --release": "tests/it/demo.rs and demo_page.py, for the demo that it starts",
    "cargo test": ".ci/run",
    "cargo install --path .": ".ci/run, which builds the same program",
    "cargo build --release": ".ci/run",
    "python3 tests/bench/": "check_load_client.py, for the client; the figures are measured by hand",
}
# Pages whose commands another script types.
TYPED_BY = {"docs/trusted-channels.md": "trusted_channels.py", "docs/tutorial.md": "tutorial.py"}
# The addresses on the pages: of the backend, of gripd's clients, and of its control port.
BACKEND, CLIENTS, CONTROL = "localhost:8000", "localhost:7999", "localhost:5561"


def pages():
    """Returns the names of all pages that may have commands."""
    return ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


def text_of(page):
    """Returns the text of a page."""
    return (ROOT / page).read_text()


def commands(page):
    """Returns the commands of a page with their outputs. A line that ends with a backslash continues in the next."""
    found = []
    fenced = shows_output = False
    lines = iter(text_of(page).splitlines())
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
            shows_output = False
            continue
        code = line if fenced else line.removeprefix("    ") if line.startswith("    ") else ""
        command = code.removeprefix("$ ")
        if command.split(" ")[0] in PROGRAMS:
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
            found.append([re.split(r"\s{2,}# ", command)[0], ""])
            shows_output = fenced
        elif shows_output:
            found[-1][1] += code + "\n"
    return [(command, output) for command, output in found]


def is_run_elsewhere(command):
    """Returns whether another test runs this command."""
    return any(command.startswith(beginning) for beginning in ELSEWHERE)


class Stage(ControlPort):
    """A folder in which the commands of a page are typed, with free ports instead of those on the page.

    When it is left, everything that runs is ended, and every command must have been typed.
    """

    def __init__(self, page):
        self.page = page
        self.closing = ExitStack()
        self._left = [typed for typed in commands(page) if not is_run_elsewhere(typed[0])]
        self.folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "gripd").symlink_to(GRIPD)
        self.backend, self.clients, control = free_ports(3)
        self.control = ("127.0.0.1", control)
        # The Python of this script has the module `websockets`.
        path = f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = os.environ | {"PATH": path, "CHAT_KEY": "a key that is long enough"}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.closing.close()
        # If the scene has failed, its own error says more than the commands that are left.
        if kind is None:
            check(not self._left, f"these commands were not typed: {self._left}")

    def _next(self, beginning):
        """Takes the next command of the page, which must begin with these words, and puts in the real addresses."""
        check(self._left, f"the page has no command '{beginning}'")
        command, output = self._left.pop(0)
        check(command.startswith(beginning), f"the next command is not '{beginning}' but '{command}'")
        for written, real in [(BACKEND, self.backend), (CLIENTS, self.clients), (CONTROL, self.control[1])]:
            command = command.replace(written, f"localhost:{real}")
        command = command.replace("0.0.0.0:7999", f"127.0.0.1:{self.clients}")
        return command.replace("/etc/gripd/gripd.toml", "gripd.toml"), output

    def start_gripd(self, config=None):
        """Types the next command, which starts gripd. `config` is the content of gripd.toml."""
        command, _ = self._next("gripd ")
        if config is not None:
            (self.folder / "gripd.toml").write_text(config)
        self.run_gripd(command)

    def run_gripd(self, command):
        """Runs a gripd until the scene ends, on the addresses of the stage."""
        if "--listen" not in command:
            command += f" --listen 127.0.0.1:{self.clients}"
        gripd = self.run(f"{command} --control 127.0.0.1:{self.control[1]}", "stderr")
        gripd.find("started .*clients=")
        return gripd

    def run(self, command, output="stdout"):
        """Runs a program until the scene ends."""
        process = Process(["bash", "-c", f"cd {self.folder} && exec {command}"], output, self._env)
        self.closing.callback(process.end)
        return process

    def start(self, beginning, redirection=""):
        """Types the next command, which runs until the scene ends."""
        return self.run(self._next(beginning)[0] + redirection)

    def type(self, beginning):
        """Types the next command, and returns its output. If the page shows an output, it must be the same."""
        command, expected = self._next(beginning)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=DEADLINE
        )
        check(done.returncode == 0, f"'{command}' exits with {done.returncode}: {done.stderr[-300:]}")
        if expected:
            same(done.stdout.strip(), expected.strip(), f"the output of '{command}'")
        return done.stdout

    def start_origin(self):
        """Starts a backend that holds every request. The stage uses its address from then on."""
        origin = self.closing.enter_context(Origin(hold))
        self.backend = origin.address.split(":")[1]

    def start_backend(self):
        """Starts the Python program of the page."""
        backend(self.page, self.control[1], self.backend, self.closing)


def hold(request):
    """Answers as the backend of README.md does."""
    channels = f"conversation123, user{request.path.rsplit('/')[-1]}"
    return Answer(headers={"Content-Type": "text/event-stream", "Grip-Hold": "stream", "Grip-Channel": channels})


def readme():
    with Stage("README.md") as stage:
        stage.start_origin()
        stage.start_gripd()
        client = stage.start("curl -N")
        stage.wait_for("user456", 1)
        stage.type("curl")
        client.find("data: hello")
        stage.type("curl")
        eventually("the client has ended", lambda: client.child.poll() is not None)


def concepts():
    with Stage("docs/concepts.md") as stage:
        stage.start_gripd()
        stage.start_backend()
        client = stage.start("curl -N")
        stage.wait_for("user456", 1)
        stage.type("curl")
        client.find("data: hello")


def websockets():
    with Stage("docs/websockets.md") as stage:
        stage.start_gripd()
        stage.start_backend()
        # The client ends with its standard input, which therefore stays open for longer than the scene takes.
        client = stage.start("python3 -m websockets", f" < <(sleep {2 * DEADLINE:g})")
        stage.wait_for("user456", 1)
        stage.type("curl")
        client.find("4001.*out")


def kicking():
    with Stage("docs/kicking.md") as stage:
        stage.start_origin()
        stage.run_gripd(f"gripd --route '* localhost:{stage.backend}'")
        stage.run(f"curl -N localhost:{stage.clients}/events/456")
        stage.wait_for("user456", 1)
        stage.type("curl")
        same(stage.type("curl").strip(), "Published", "the reply to a close with deny-for")
        status, _ = exchange(("127.0.0.1", stage.clients), "GET", "/events/456")
        same(status, 403, "the status for a user who is kept out")


def control_api():
    with Stage("docs/control-api.md") as stage:
        [config] = re.findall(r"^```toml\n(.*?)^```$", text_of("docs/control-api.md"), re.M | re.S)
        # The first command needs no token, so it is for a gripd without tokens.
        without_tokens = stage.run_gripd("gripd --route '* localhost:1'")
        check('"message":"Published"' in stage.type("curl"), "nothing was published")
        without_tokens.end()
        (stage.folder / "ops.token").write_text("a-secret-of-many-characters\n")
        (stage.folder / "gripd.toml").write_text(config)
        stage.run_gripd("gripd --config gripd.toml --route '* localhost:1'")
        same(stage.type("curl").strip(), "Published", "the reply to a close with a secret")
        check('"channels"' in stage.type("curl --unix-socket"), "the list of channels has no channels")
        same(stage.type("gripd close").strip(), "Closed 0 connections: nobody holds 'user456'", "the output of gripd close")


def configuration():
    with Stage("docs/configuration.md") as stage:
        stage.start_gripd()


def operate():
    with Stage("docs/operate.md") as stage:
        stage.start_gripd("[[route]]\ntarget = 'localhost:1'\n")
        stage.type("gripd check")


SCENES = {
    "README.md": readme,
    "docs/concepts.md": concepts,
    "docs/configuration.md": configuration,
    "docs/control-api.md": control_api,
    "docs/kicking.md": kicking,
    "docs/operate.md": operate,
    "docs/websockets.md": websockets,
}


def every_command_is_run_by_a_test():
    for page in pages():
        typed = [command for command, _ in commands(page) if not is_run_elsewhere(command)]
        check(page in SCENES or page in TYPED_BY or not typed, f"no scene types the commands of {page}: {typed}")


if __name__ == "__main__":
    sys.exit(1 if run([every_command_is_run_by_a_test, *SCENES.values()]) else 0)
