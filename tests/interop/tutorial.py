"""Types docs/tutorial.md into terminals, as a newcomer would: once for Flask, once for Express and once for Django.

The programs are copies of those in examples/, with other ports. The libraries are installed by the commands of the page.
They stay below target/interop/tutorial, so that the next run finds them there. A browser shows the page of the chat.
"""

import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from demo_page import Browser
from harness import DEADLINE, DRAIN, GRIPD, ROOT, ControlPort, check, eventually, exchange, free_ports, run, same

PAGE = "docs/tutorial.md"
FRAMEWORKS = ["Flask", "Express", "Django"]
# The kinds of blocks that are not excerpts from a file: commands, and their outputs.
TYPED = ("commands", "text")
# The folder that looks like the root of the repository. It is always the same one, because a venv cannot be moved.
HOME = (ROOT / "target/interop").resolve() / "tutorial"
# The folders of installed libraries, which are kept between runs.
KEPT = (".venv", "node_modules")
# The time limit of a command that installs something, in seconds.
INSTALL = 150.0
# The prompt of a shell, which tells the exit code of the last command.
PROMPT = re.compile("\x1e(\\d+)\x1e")


class Block(NamedTuple):
    """A block of code on the page, and the frameworks for which it is."""

    # One of `TYPED`, or the path of the file from which the block is an excerpt.
    kind: str
    lines: list
    frameworks: list


def blocks():
    """Yields the blocks of the page. A paragraph that begins with **NAMES:** says for which frameworks they are."""
    frameworks, before = FRAMEWORKS, ""
    kind, found = None, []
    for line in [*(ROOT / PAGE).read_text().splitlines(), "# The end"]:
        is_fence, is_command = line.startswith("```"), line.startswith("    ")
        if kind == "commands" and not is_command:
            yield Block(kind, found, frameworks)
            kind = None
        if kind not in (None, "commands"):
            if is_fence:
                yield Block(kind, found, frameworks)
                kind = None
            else:
                found.append(line)
        elif is_fence or is_command:
            if kind is None:
                kind, found = "commands" if is_command else line.split()[-1].strip("`"), []
            if is_command:
                found.append(line.removeprefix("    "))
        elif line and not before:
            named = re.match(r"\*\*([\w ]+):\*\*", line)
            frameworks = re.findall("|".join(FRAMEWORKS), named[1]) if named else FRAMEWORKS
        before = line


class Terminal:
    """A terminal with an interactive shell, at whose prompt the exit code of each command can be read."""

    def __init__(self, env):
        self._output = ""
        self._begin = 0
        self._side, shells_side = pty.openpty()
        # `setsid --ctty` makes this the shell's own terminal, so that Ctrl-C ends the program that runs in it.
        command = ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]
        pipes = {"stdin": shells_side, "stdout": shells_side, "stderr": shells_side}
        self._child = subprocess.Popen(command, cwd=HOME, env=env, **pipes)
        os.close(shells_side)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write("stty -echo; PS1=$'\\x1e$?\\x1e'; PS2=\n")
        self.ends()

    def _read(self):
        # The terminal ends with this error when the last program has closed it.
        try:
            while data := os.read(self._side, 65536):
                self._output += data.decode(errors="replace").replace("\r", "")
        except OSError:
            pass

    def _write(self, text):
        os.write(self._side, text.encode())

    @property
    def output(self):
        """The output since the last command was started."""
        return self._output[self._begin :]

    def start(self, command):
        """Types a command, and does not wait for its end."""
        self._begin = len(self._output)
        self._write(command + "\n")

    def ends(self, seconds=DEADLINE):
        """Waits until the command has ended, and returns its exit code."""
        what = lambda: f"the command ends; its output so far is {self.output[-400:]!r}"
        return int(waits(what, lambda: PROMPT.search(self.output), seconds)[1])

    def type(self, command, seconds=DEADLINE):
        """Types a command, and waits until it has succeeded."""
        self.start(command)
        code = self.ends(seconds)
        check(code == 0, f"'{command}' exits with {code}: {self.output[-400:]}")

    def enter(self, text):
        """Types a line for the program that runs in the terminal."""
        self._write(text + "\n")

    def press_ctrl_c(self):
        self._begin = len(self._output)
        self._write("\x03")
        self.ends(DRAIN)

    def shows(self, lines):
        """Waits until the output contains lines that match these patterns, in this order."""
        pattern = re.compile(".*\n(?:.*\n)*?.*".join(lines))
        what = lambda: f"{lines} in the output {compact(self.output)[-400:]!r}"
        waits(what, lambda: pattern.search(compact(self.output)))

    def close(self):
        """Ends the program in the terminal, and then the shell."""
        try:
            if not PROMPT.search(self.output):
                self.press_ctrl_c()
            self._write("exit\n")
            self._child.wait(DEADLINE)
        finally:
            if self._child.poll() is None:
                os.kill(self._child.pid, signal.SIGKILL)
                self._child.wait()
            self._reader.join(DEADLINE)
            os.close(self._side)


def waits(what, probe, seconds=DEADLINE):
    """Does the same as `eventually`, but asks for the description when the time is over, which then says more."""
    try:
        return eventually("", probe, seconds)
    except Exception as error:
        raise type(error)(f"{error}{what()}") from None


def compact(text):
    """Returns a text without the spaces by which the JSON of Python differs from that of Express."""
    return re.sub(r'(?<=[:,]) (?=["\d])', "", text)


def install(ports):
    """Copies the examples. Replaces in them the ports of the page."""
    examples = HOME / "examples"
    for path in examples.glob("**/*.*"):
        if path.is_file() and not any(part in KEPT for part in path.parts):
            path.unlink()
    ignored = shutil.ignore_patterns(*(ROOT / "examples/.gitignore").read_text().split())
    shutil.copytree(ROOT / "examples", examples, ignore=ignored, dirs_exist_ok=True)
    for path in [*examples.glob("*/*.py"), *examples.glob("*/*.js")]:
        path.write_text(with_ports(path.read_text(), ports))


def with_ports(text, ports):
    return re.sub(r"\b(8000|7999|5561)\b", lambda written: str(ports[written[1]]), text)


class Tour(ControlPort):
    """A newcomer who follows the page with one framework, and has a terminal for each program and each user."""

    def __init__(self, framework, closing):
        self.framework = framework
        # The lines that the page in the browser should show, as far as they are known.
        self.said = []
        self._left = [block for block in blocks() if framework in block.frameworks and block.kind in TYPED]
        self._closing = closing
        self._terminals = {}
        self._ports = dict(zip(("8000", "7999", "5561"), free_ports(3)))
        self.control = ("127.0.0.1", self._ports["5561"])
        self.folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "gripd").symlink_to(GRIPD)
        install(self._ports)
        # The Python of this script may belong to a venv, which a newcomer does not have.
        path = [part for part in os.environ["PATH"].split(":") if part != str(Path(sys.executable).parent)]
        self._env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {
            "PATH": ":".join([str(self.folder), *path]),
            "TERM": "dumb",
            "GRIP_URL": f"http://localhost:{self.control[1]}",
            "npm_config_audit": "false",
            "npm_config_fund": "false",
            "npm_config_update_notifier": "false",
        }

    def at(self, name):
        """Returns the terminal with this name, which is opened if necessary."""
        if name not in self._terminals:
            self._terminals[name] = Terminal(self._env)
            self._closing.callback(self._terminals[name].close)
        return self._terminals[name]

    def is_over(self):
        """Checks that nothing of the page is left."""
        check(not self._left, f"these blocks of the page were not used: {[block.lines for block in self._left]}")

    def _next(self, kind):
        check(self._left and self._left[0].kind == kind, f"the page does not go on with {kind}: {self._left[:1]}")
        return self._left.pop(0).lines

    def commands(self, beginning):
        """Returns the next commands of the page, with the ports of this tour. The first one begins with these words."""
        text = re.sub(r" *\\\n *", " ", "\n".join(self._next("commands")))
        check(text.startswith(beginning), f"the next command is not '{beginning}' but '{text}'")
        return with_ports(text, self._ports).replace("/tmp", str(self.folder)).split("\n")

    def command(self, beginning):
        """Returns the next command of the page, which must be the only one of its block."""
        [command] = self.commands(beginning)
        return command

    def shown(self):
        """Returns patterns for the lines of the next output on the page."""
        lines = [re.escape(compact(line)) for line in self._next("text")]
        if self.framework == "Django":
            # django-eventstream puts the channel into the id, and counts the lines of the earlier steps as well.
            lines = [re.sub(r'"id":\d+,', "", re.sub(r"^id:\d+$", r"id: conversation123:\\d+", line)) for line in lines]
        return lines

    def say(self, beginning):
        """Says a line by the next command of the page."""
        self.at("alice").type(self.command(beginning))

    def start_gripd(self, command):
        addresses = f"--listen 127.0.0.1:{self._ports['7999']} --control 127.0.0.1:{self.control[1]}"
        self.at("gripd").start(f"{command} {addresses}")
        self.at("gripd").shows(["started .*clients="])

    def backend_listens(self):
        def answers():
            try:
                return exchange(("127.0.0.1", self._ports["8000"]), "GET", "/")[0] == 200
            except OSError:
                return False

        eventually(f"the backend in {self.framework} listens", answers)

    def open_page(self, name):
        return ChatPage(Browser(self._closing), f"http://localhost:{self._ports['7999']}/?name={name}")


class ChatPage:
    """chat.html in a browser."""

    def __init__(self, browser, url):
        self._browser = browser
        browser.tell("url", {"url": url})

    def _js(self, script, *arguments):
        return self._browser.tell("execute/sync", {"script": script, "args": arguments})

    def say(self, text):
        self._js("document.querySelector('input').value = arguments[0]; document.forms[0].requestSubmit()", text)

    def shows(self, lines):
        probe = lambda: self._js("return [...document.querySelectorAll('li')].map((line) => line.textContent)")
        eventually(f"the page shows {lines[-1]}", lambda: lines[-1] in probe(), DRAIN)
        same(probe(), lines, "the lines that the page shows")


def starts(tour):
    tour.gripd_command = tour.command("gripd --route")
    tour.start_gripd(tour.gripd_command)
    *installing, start = tour.commands(f"cd examples/{tour.framework.lower()}")
    for command in installing:
        tour.at("backend").type(command, INSTALL)
    tour.at("backend").start(start)
    tour.backend_listens()


def streams(tour):
    tour.at("bob").start(tour.command("curl -N"))
    tour.wait_for("user-bob", 1)
    tour.say("curl localhost:7999/say")
    tour.at("bob").shows(tour.shown())
    tour.page = tour.open_page("alice")
    tour.wait_for("user-alice", 1)
    tour.page.say("<b>é</b>, & more")
    tour.said = ["alice: <b>é</b>, & more"]
    tour.page.shows(tour.said)
    tour.at("bob").shows(["data:.*more"])


def polls(tour):
    tour.at("carol").start(tour.command("while curl"))
    tour.wait_for("user-carol", 1)
    tour.say("curl localhost:7999/say")
    shown = tour.shown()
    for name in ("bob", "carol"):
        tour.at(name).shows(shown)
    # The loop has begun its next poll.
    tour.wait_for("user-carol", 1)


def speaks_websocket(tour):
    *preparing, connect = tour.commands("cd " if tour.framework == "Express" else ". ")
    for command in preparing:
        tour.at("dave").type(command)
    tour.at("dave").start(connect)
    tour.wait_for("user-dave", 1)
    tour.at("dave").enter("me, too")
    for name in ("bob", "carol", "dave"):
        tour.at(name).shows(['"name":"dave","text":"me, too"'])
    tour.said += ["alice: again", "dave: me, too"]
    tour.page.shows(tour.said)


def kicks(tour):
    bob = tour.at("bob")
    tour.say("gripd close")
    tour.at("alice").shows(tour.shown())
    same(bob.ends(), 0, "the exit code of the client that was kicked")
    bob.type(tour.command("curl -i"))
    bob.shows(tour.shown())
    tour.wait_for("user-bob", 0)
    # Nobody else has left.
    for user in ("alice", "carol", "dave"):
        tour.wait_for(f"user-{user}", 1)
    for user in ("carol", "dave"):
        tour.at(user).press_ctrl_c()


def misses_nothing_while_away(tour):
    if tour.framework != "Django":
        tour.at("backend").press_ctrl_c()
        tour.at("backend").start(tour.command("flask" if tour.framework == "Flask" else "node"))
        tour.backend_listens()
    erin = tour.at("erin")
    erin.start(tour.command("curl -sN"))
    tour.wait_for("user-erin", 1)
    tour.say("curl localhost:7999/say")
    erin.shows(tour.shown())
    erin.press_ctrl_c()
    tour.wait_for("user-erin", 0)
    tour.say("curl localhost:7999/say")
    tour.erins_command = tour.command("curl -sN")
    erin.start(tour.erins_command)
    erin.shows(tour.shown())
    tour.said += ["alice: one", "alice: two"]
    tour.page.shows(tour.said)


def misses_nothing_when_gripd_is_restarted(tour):
    erin = tour.at("erin")
    tour.wait_for("user-erin", 1)
    tour.at("gripd").press_ctrl_c()
    same(erin.ends(), 0, "the exit code of a client when gripd ends")
    tour.say("curl localhost:8000/say")
    tour.start_gripd(tour.gripd_command)
    erin.start(tour.erins_command)
    erin.shows(tour.shown())
    tour.said += ["alice: three"]
    tour.page.shows(tour.said)
    tour.wait_for("user-erin", 1)


def misses_nothing_by_long_polls(tour):
    if tour.framework != "Django":
        carol, poll = tour.at("carol"), tour.command("curl 'localhost:")
        carol.type(poll)
        carol.shows(tour.shown())
        carol.start(poll.replace("after=2", "after=3"))
        tour.wait_for("user-carol", 1)
    tour.is_over()


def misses_nothing_that_was_not_published(tour):
    lost = lose_a_line(tour)
    tour.page.say("the end")
    tour.said += [*lost, "alice: the end"]
    tour.page.shows(tour.said)
    texts = ["one", "two", "three", *(["lost"] if lost else []), "the end"]
    if tour.framework != "Django":
        same(tour.at("carol").ends(), 0, "the exit code of a long-poll")
        tour.at("carol").shows([".*".join(f'"text":"{text}"' for text in texts[3:])])
    tour.at("erin").shows(["data:.*the end"])
    received = (tour.folder / "erin.txt").read_text()
    got = [json.loads(data)["text"] for data in re.findall(r"^data: (\{.*)", received, re.M)]
    same(got, texts, "the lines that erin got")
    # gripd knows the id of the last line, so the backend has published it with this id.
    last = re.findall(r"^id: (?:\w+:)?(\d+)$", received, re.M)[-1]
    channel = "events-conversation123" if tour.framework == "Django" else "conversation123"
    [outcome] = tour.publish({"channel": channel, "id": last, "formats": {"http-stream": {"content": ":\n\n"}}})
    same(outcome.get("duplicate"), 1, f"the receipt for a second line with the id {last} ({outcome})")


def lose_a_line(tour):
    """Stores a line that is not published, as if its publish had failed. Returns it as the browser shows it.

    Only the database of the example in Flask allows this. reliability.py and serve_grip.mjs do the same with the
    other libraries.
    """
    if tour.framework != "Flask":
        return []
    with closing(sqlite3.connect(HOME / "examples/flask/chat.db")) as database, database:
        database.execute("INSERT INTO line (name, text) VALUES ('alice', 'lost')")
    return ["alice: lost"]


STEPS = [
    starts,
    streams,
    polls,
    speaks_websocket,
    kicks,
    misses_nothing_while_away,
    misses_nothing_when_gripd_is_restarted,
    misses_nothing_by_long_polls,
    misses_nothing_that_was_not_published,
]


def tutorial_shows_the_examples_as_they_are():
    """Checks that the code of the page is that of the examples. Empty lines do not count."""
    solid = lambda lines: [line for line in lines if line]
    shown = set()
    for block in blocks():
        if block.kind in TYPED:
            continue
        file, excerpt = solid((ROOT / block.kind).read_text().splitlines()), solid(block.lines)
        is_there = any(file[at : at + len(excerpt)] == excerpt for at in range(len(file)))
        check(excerpt and is_there, f"{block.kind} does not contain this: {block.lines}")
        shown.add(block.kind)
    expected = {"flask/chat.py", "flask/reliable.py", "express/chat.js", "django/settings.py", "django/urls.py"}
    same(shown, {f"examples/{name}" for name in expected}, "the files from which the page shows code")


def play(framework):
    """Plays the steps of the page with one framework. Returns how many failed."""
    with ExitStack() as closing:
        tour = Tour(framework, closing)
        return run([scene(tour, step) for step in STEPS], story=True)


def scene(tour, step):
    def tutorial():
        step(tour)

    tutorial.__name__ = f"tutorial_{tour.framework.lower()}_{step.__name__}"
    return tutorial


if __name__ == "__main__":
    HOME.mkdir(parents=True, exist_ok=True)
    # If the arguments name frameworks, only these are played.
    chosen = [name for name in FRAMEWORKS if name in sys.argv[1:] or not sys.argv[1:]]
    failures = run([tutorial_shows_the_examples_as_they_are]) + sum(map(play, chosen))
    sys.exit(1 if failures else 0)
