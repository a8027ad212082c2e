#!/usr/bin/env python3
"""Autobahn's fuzzing client against gripd: what RFC 6455 and RFC 7692 ask of a server.

It prints a line for each class of cases in each setup. The counts, and every case that is not as it must be, are in
target/interop/autobahn/summary.txt; Autobahn's own reports, with all bytes, in target/interop/autobahn/reports.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from harness import ROOT, Client, Failed, Gripd, Process, check, outcome, report, same, stop

HERE = Path(__file__).resolve().parent
HOME = ROOT / "target" / "interop" / "autobahn"
TOOL, CLIENT, NODE = HOME / "tool", HOME / "client", HOME / "node"
WSTEST = [str(CLIENT / "bin" / "python"), "-u", "-W", "ignore", str(CLIENT / "bin" / "wstest")]
SUMMARY = HOME / "summary.txt"

WS = "8.23.0"
# The last virtualenv that makes environments of Python 2.7, and what it needs.
VIRTUALENV = ["virtualenv==20.21.1", "distlib==0.4.4", "filelock==3.32.7", "platformdirs==3.11.0"]
# The last releases for Python 2.7, but for autobahn, of which the suite takes no other.
LIBRARIES = """
    autobahntestsuite==0.8.2 autobahn==0.10.9 txaio==2.1.0 Twisted==20.3.0 zope.interface==5.4.0 six==1.17.0
    attrs==21.4.0 Automat==22.10.0 PyHamcrest==1.10.1 constantly==15.1.0 hyperlink==21.0.0 idna==2.10
    incremental==22.10.0 typing==3.10.0.0 klein==20.6.0 Tubes==0.2.1 Werkzeug==1.0.1 Jinja2==2.11.3 MarkupSafe==1.1.1
    pyOpenSSL==21.0.0 cryptography==3.3.2 cffi==1.15.1 pycparser==2.21 enum34==1.1.10 ipaddress==1.0.23
    pyasn1==0.5.1 pyasn1-modules==0.3.0 service-identity==21.1.0 ujson==2.0.3
    unittest2==1.1.0 argparse==1.4.0 linecache2==1.0.0 traceback2==1.4.0
""".split()
# Masks and checks UTF-8 in C. It has to be compiled; without it the client is only slow.
ACCELERATOR = "wsaccel==0.6.6"
# Seconds for one step of the installation.
INSTALL_LIMIT = 300

GOOD = ("OK", "INFORMATIONAL")
# What Autobahn says of a case, and what is said here of one that it did not come to.
BEHAVIORS = ("OK", "INFORMATIONAL", "NON-STRICT", "FAILED", "UNIMPLEMENTED", "MISSING")
# Cases of a setup in which NON-STRICT is good enough, as sets of their ids.
NON_STRICT_IS_GOOD = {}

FRAMES = ("1", "2", "3", "4", "5", "6", "7", "9", "10")
COMPRESSION = ("12", "13")
# The case of 16 bytes, and one of 8,192 bytes in frames of 256: the others differ from them only in size.
QUICK_COMPRESSION = ("1", "11")
# Seconds that a case may take on the average, by class: what works takes a tenth of it.
CASE_LIMIT = {"9": 10, "12": 30, "13": 30}
OTHER_LIMIT = 5
START_LIMIT = 30

# As Autobahn writes it: the capitals of `WebSocket` mean nothing.
HANDSHAKE = {
    "Upgrade": "WebSocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}

CONFIG = """[[route]]
target = "{target}"

[websocket]
max_message = 20000000
{websocket}
[delivery]
client_buffer = 64000000
"""


class Setup(NamedTuple):
    """What gripd is put before, and which classes of cases are run."""

    name: str
    classes: tuple
    target: str
    # Which of the origins in autobahn_origins.mjs.
    origin: str = None
    websocket: str = ""


SETUPS = [
    Setup("test", FRAMES, "test"),
    Setup("relayed", FRAMES, "127.0.0.1:{port}", "websocket"),
    Setup("over_http", FRAMES, "127.0.0.1:{port},over_http", "events"),
    Setup("compressed", COMPRESSION, "test", websocket="compression = true\n"),
]


class Result(NamedTuple):
    """What became of a case."""

    case: str
    behavior: str
    close: str = "MISSING"
    code: int = None
    why: str = ""

    def good(self, enough):
        behavior = self.behavior in GOOD or self.behavior == "NON-STRICT" and self.case in enough
        return behavior and self.close in GOOD

    def __str__(self):
        return f"{self.case} {self.behavior}, close {self.close}" + (f" ({self.code})" if self.code else "")


class Outcome(NamedTuple):
    """What became of a class of cases in a setup."""

    setup: str
    number: str
    seconds: float
    results: list

    def bad(self):
        enough = NON_STRICT_IS_GOOD.get(self.setup, ())
        return [result for result in self.results if not result.good(enough)]


def step(*command):
    """Runs a step of the installation quietly."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=INSTALL_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"setup: {error}") from None
    check(done.returncode == 0, f"setup: {' '.join(map(str, command))[:200]}: {done.stdout[-400:]}")


def is_python2(python):
    """Whether it runs: a shim of pyenv is there even where the version behind it is not chosen."""
    # The extensions are those that an interpreter which was compiled without their libraries lacks.
    probe = "import sys, ssl, zlib, ctypes; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        return subprocess.run([python, "-c", probe], capture_output=True, timeout=INSTALL_LIMIT).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def python2_candidates():
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    named = [os.environ.get("PYTHON2"), shutil.which("python2.7")]
    return [*filter(None, named), *sorted(versions.glob("2.7*/bin/python2.7")), "/usr/bin/python2.7"]


def find_python2():
    found = next(filter(is_python2, python2_candidates()), None)
    if not found and shutil.which("apt-get") and os.geteuid() == 0:
        # Not every release of Debian has it; that it fails says nothing new.
        with contextlib.suppress(Failed):
            step("apt-get", "update")
            step("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends",
                 "python2.7")
        found = next(filter(is_python2, python2_candidates()), None)
    check(found, "there is no Python 2.7, and Autobahn's client runs under no other: install one, by pyenv or as a"
                 " package of the system, or name it in PYTHON2")
    return found


@contextlib.contextmanager
def once(folder, wanted):
    """Gives a fresh folder to fill, or None if it has what is wanted already."""
    marker = folder / "installed"
    if marker.is_file() and marker.read_text() == wanted:
        yield None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    yield folder
    # Written last, so that an installation that broke off is done again.
    marker.write_text(wanted)


def install_client():
    with once(CLIENT, " ".join([*VIRTUALENV, *LIBRARIES, ACCELERATOR])) as missing:
        if not missing:
            return
        python2 = find_python2()
        step(sys.executable, "-m", "venv", "--clear", TOOL)
        step(TOOL / "bin" / "pip", "install", "--disable-pip-version-check", *VIRTUALENV)
        step(TOOL / "bin" / "virtualenv", "--no-download", "--python", python2, CLIENT)
        pip = [CLIENT / "bin" / "pip", "install", "--disable-pip-version-check", "--no-deps"]
        step(*pip, "--only-binary=cryptography,cffi", *LIBRARIES)
        try:
            step(*pip, ACCELERATOR)
        except Failed as why:
            print(f"without {ACCELERATOR}, which makes the client slow: {why}", file=sys.stderr)


def install_ws():
    with once(NODE, WS) as missing:
        if missing:
            missing.mkdir()
            (missing / "package.json").write_text('{"private": true}\n')
            step("npm", "install", "--prefix", missing, "--no-audit", "--no-fund", f"ws@{WS}")


def all_cases():
    """The ids of all cases that the suite has, in its order."""
    listing = "from autobahntestsuite.case import Cases; print ' '.join(c.__name__[4:] for c in Cases)"
    done = subprocess.run([*WSTEST[:-1], "-c", listing], capture_output=True, text=True, timeout=INSTALL_LIMIT)
    check(done.returncode == 0, f"Autobahn does not start: {done.stderr[-400:]}")
    return done.stdout.replace("_", ".").split()


def class_of(case):
    return case.partition(".")[0]


def is_quick(case):
    number, last = class_of(case), case.rpartition(".")[2]
    return number != "9" and (number not in COMPRESSION or last in QUICK_COMPRESSION)


class Run:
    """One run of the script: its results, as they come."""

    def __init__(self, cases):
        self.cases = cases
        self.outcomes = []
        self.failures = 0

    def play(self, setup):
        """Runs a setup, and prints a line for each of its classes."""
        wanted = {number: [case for case in self.cases if class_of(case) == number] for number in setup.classes}
        if any(wanted.values()):
            why = outcome(lambda: self._play(setup, {number: cases for number, cases in wanted.items() if cases}))
            if why is not None:
                self._report(setup.name, why)

    def _play(self, setup, wanted):
        folder = HOME / "reports" / setup.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with contextlib.ExitStack() as started:
            port = started.enter_context(origin(setup.origin)) if setup.origin else None
            config = CONFIG.format(target=setup.target.format(port=port), websocket=setup.websocket)
            gripd = started.enter_context(Gripd(config=config))
            # Without this, hundreds of cases would wait for a handshake in vain.
            with Client(gripd.client, "/ws", HANDSHAKE) as client:
                same(client.head().status, 101, "the status of a WebSocket handshake")
            for number, cases in wanted.items():
                why = outcome(lambda: self._play_class(setup.name, number, cases, gripd, folder / number))
                self._report(f"{setup.name} {number}", why)

    def _play_class(self, setup, number, cases, gripd, folder):
        since = time.monotonic()
        fuzz(cases, "ws://{}:{}/ws".format(*gripd.client), setup, folder)
        done = Outcome(setup, number, time.monotonic() - since, read_results(cases, setup, folder))
        self.outcomes.append(done)
        bad = done.bad()
        check(not bad, f"{len(bad)} of {len(cases)}: {'; '.join(map(str, bad))}")

    def _report(self, name, why):
        self.failures += why is not None
        report(name, why)


@contextlib.contextmanager
def origin(kind):
    """An origin on a free port, which it gives."""
    process = Process(["node", str(HERE / "autobahn_origins.mjs"), kind, str(NODE)], "stdout")
    try:
        yield process.find(r"listening (\d+)")[1]
    finally:
        process.end()


def fuzz(cases, url, agent, folder):
    """Runs Autobahn's client, which writes its reports into the folder."""
    folder.mkdir()
    server = {"agent": agent, "url": url}
    spec = {"outdir": str(folder), "servers": [server], "cases": cases, "options": {"failByDrop": False}}
    (folder / "spec.json").write_text(json.dumps(spec))
    limit = START_LIMIT + sum(CASE_LIMIT.get(class_of(case), OTHER_LIMIT) for case in cases)
    log = folder / "client.log"
    with log.open("wb") as output:
        code = wait([*WSTEST, "-m", "fuzzingclient", "-s", str(folder / "spec.json")], output, limit)
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    check(code is not None, f"Autobahn did not end within {limit} s; it was at: {last}")
    check(code == 0, f"Autobahn ended with {code}: {last}")


def wait(command, output, limit):
    """Runs a program to its end, and returns its exit code; None if it had to be killed when the time was over."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        return child.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        child.kill()
        child.wait()


def read_results(cases, agent, folder):
    """Reads what became of each case that was wanted: Autobahn stops without a word when it cannot connect."""
    index = folder / "index.json"
    known = json.loads(index.read_text()).get(agent, {}) if index.is_file() else {}
    return [read_result(case, known[case], folder) if case in known else Result(case, "MISSING") for case in cases]


def read_result(case, known, folder):
    detail = json.loads((folder / known["reportfile"]).read_text())
    why = f"{detail['result']} {detail['resultClose']}"
    return Result(case, known["behavior"], known["behaviorClose"], known["remoteCloseCode"], " ".join(why.split()))


def summarize(outcomes, left_out):
    """The counts of each class, and all that is not as it must be."""
    columns = "".join(f"{name:>15}" for name in BEHAVIORS)
    lines = [f"{'setup':<11}{'class':>5}{'cases':>6}{columns}{'seconds':>9}"]
    for done in outcomes:
        counts = Counter(result.behavior for result in done.results)
        columns = "".join(f"{counts[name]:>15}" for name in BEHAVIORS)
        lines.append(f"{done.setup:<11}{done.number:>5}{len(done.results):>6}{columns}{done.seconds:>9.1f}")
    for done in outcomes:
        odd = [result for result in done.results if not result.good(())]
        lines += [f"{done.setup} {result}: {result.why}" for result in odd]
    if left_out:
        lines.append(f"left out by --quick: {left_out}")
    return "\n".join(lines) + "\n"


def arguments():
    names = [setup.name for setup in SETUPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--cases", default="*", help="patterns of case ids, as 1.*,9.1.6")
    parser.add_argument("--quick", action="store_true",
                        help="leave out class 9, and of 12 and 13 all but X.Y.1 and X.Y.11")
    given = parser.parse_args()
    given.setup, given.cases = given.setup.split(","), given.cases.split(",")
    unknown = set(given.setup) - set(names)
    if unknown:
        parser.error(f"unknown setup {', '.join(sorted(unknown))}")
    return given


def choose(given):
    """The setups and the cases that are wanted, and how many `--quick` leaves out of these."""
    setups = [setup for setup in SETUPS if setup.name in given.setup]
    known = all_cases()
    for pattern in given.cases:
        check(any(fnmatchcase(case, pattern) for case in known), f"no case is called {pattern}")
    classes = {number for setup in setups for number in setup.classes}
    cases = [case for case in known if class_of(case) in classes
             and any(fnmatchcase(case, pattern) for pattern in given.cases)]
    check(cases, "the setups have none of these cases")
    return setups, cases


def play(given):
    """Installs what is missing and runs what is wanted; returns how many lines say FAILED."""
    install_client()
    install_ws()
    setups, cases = choose(given)
    quick = [case for case in cases if is_quick(case)] if given.quick else cases
    omitted = Counter(class_of(case) for case in set(cases) - set(quick))
    left_out = ", ".join(f"{omitted[number]} cases of class {number}" for number in sorted(omitted, key=int))
    run = Run(quick)
    try:
        for setup in setups:
            run.play(setup)
    finally:
        SUMMARY.write_text(summarize(run.outcomes, left_out))
    if left_out:
        print(f"left out by --quick: {left_out}")
    print(f"summary: {SUMMARY.relative_to(ROOT)}")
    check(run.outcomes or run.failures, "no case was run")
    return run.failures


def main():
    # As SIGTERM: everything started is ended on the way out.
    signal.signal(signal.SIGHUP, stop)
    given = arguments()
    try:
        return 1 if play(given) else 0
    except Failed as why:
        report("autobahn", why)
        return 1


if __name__ == "__main__":
    sys.exit(main())
