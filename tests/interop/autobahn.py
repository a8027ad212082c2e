#!/usr/bin/env python3
"""Autobahn's fuzzing client against gripd: checks of what RFC 6455 and RFC 7692 require of a server.

The script prints a line for each class of cases in each setup. The counts, and every case with another result than OK
or INFORMATIONAL, are in target/interop/autobahn/summary.txt. Autobahn's own reports, with all bytes, are in
target/interop/autobahn/reports.
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
# The last version of virtualenv that can create environments for Python 2.7, and its dependencies.
VIRTUALENV = ["virtualenv==20.21.1", "distlib==0.4.4", "filelock==3.32.7", "platformdirs==3.11.0"]
# The last releases that support Python 2.7. Only autobahn is older, because the test suite accepts no other version
# of it.
LIBRARIES = """
    autobahntestsuite==0.8.2 autobahn==0.10.9 txaio==2.1.0 Twisted==20.3.0 zope.interface==5.4.0 six==1.17.0
    attrs==21.4.0 Automat==22.10.0 PyHamcrest==1.10.1 constantly==15.1.0 hyperlink==21.0.0 idna==2.10
    incremental==22.10.0 typing==3.10.0.0 klein==20.6.0 Tubes==0.2.1 Werkzeug==1.0.1 Jinja2==2.11.3 MarkupSafe==1.1.1
    pyOpenSSL==21.0.0 cryptography==3.3.2 cffi==1.15.1 pycparser==2.21 enum34==1.1.10 ipaddress==1.0.23
    pyasn1==0.5.1 pyasn1-modules==0.3.0 service-identity==21.1.0 ujson==2.0.3
    unittest2==1.1.0 argparse==1.4.0 linecache2==1.0.0 traceback2==1.4.0
""".split()
# A C extension with which Autobahn masks frames and checks UTF-8. It has to be compiled. Without it the client works,
# but is slow.
ACCELERATOR = "wsaccel==0.6.6"
# The time limit of one step of the installation, in seconds.
INSTALL_LIMIT = 300

GOOD = ("OK", "INFORMATIONAL")
# The results that Autobahn gives to a case, and MISSING for a case that Autobahn has not run.
BEHAVIORS = ("OK", "INFORMATIONAL", "NON-STRICT", "FAILED", "UNIMPLEMENTED", "MISSING")
# For each setup, the set of the ids of those cases in which NON-STRICT is accepted. At present there are none.
NON_STRICT_IS_GOOD = {}

FRAMES = ("1", "2", "3", "4", "5", "6", "7", "9", "10")
COMPRESSION = ("12", "13")
# The last parts of the ids of those cases of compression that --quick runs: messages of 16 bytes, and messages of
# 8,192 bytes in frames of 256 bytes. The other cases differ from them only in size.
QUICK_COMPRESSION = ("1", "11")
# The time limit of a case in seconds, on average, by class. A server that works needs a tenth of it.
CASE_LIMIT = {"9": 10, "12": 30, "13": 30}
OTHER_LIMIT = 5
START_LIMIT = 30

# The handshake as Autobahn sends it. In `WebSocket`, upper and lower case make no difference.
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
    """A target for gripd, and the classes of cases that are run with it."""

    name: str
    classes: tuple
    target: str
    # The argument that selects an origin of autobahn_origins.mjs, or None if gripd needs no origin.
    origin: str = None
    websocket: str = ""


SETUPS = [
    Setup("test", FRAMES, "test"),
    Setup("relayed", FRAMES, "127.0.0.1:{port}", "websocket"),
    Setup("over_http", FRAMES, "127.0.0.1:{port},over_http", "events"),
    Setup("compressed", COMPRESSION, "test", websocket="compression = true\n"),
]


class Result(NamedTuple):
    """The result of one case."""

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
    """The results of one class of cases in one setup."""

    setup: str
    number: str
    seconds: float
    results: list

    def bad(self):
        enough = NON_STRICT_IS_GOOD.get(self.setup, ())
        return [result for result in self.results if not result.good(enough)]


def step(*command):
    """Runs a command of the installation. If it fails or takes too long, raises `Failed` with the end of its output."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=INSTALL_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"setup: {error}") from None
    check(done.returncode == 0, f"setup: {' '.join(map(str, command))[:200]}: {done.stdout[-400:]}")


def is_python2(python):
    """Returns whether a program is a Python 2.7 that runs. A shim of pyenv may exist although it cannot run."""
    # These modules are missing in an interpreter that was compiled without the libraries that they need.
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
        # Not every release of Debian has the package. If the installation fails, the check below says what to do.
        with contextlib.suppress(Failed):
            step("apt-get", "update")
            step("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends",
                 "python2.7")
        found = next(filter(is_python2, python2_candidates()), None)
    check(found, "there is no Python 2.7, which Autobahn's client needs: install one with pyenv or as a package of the"
                 " system, or set PYTHON2 to the path of its interpreter")
    return found


@contextlib.contextmanager
def once(folder, wanted):
    """Removes the folder and yields it for the installation of `wanted`. Yields None if this is installed already."""
    marker = folder / "installed"
    if marker.is_file() and marker.read_text() == wanted:
        yield None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    yield folder
    # The marker is written last, so that an interrupted installation is repeated.
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
            print(f"{ACCELERATOR} is not installed, so the client is slow: {why}", file=sys.stderr)


def install_ws():
    with once(NODE, WS) as missing:
        if missing:
            missing.mkdir()
            (missing / "package.json").write_text('{"private": true}\n')
            step("npm", "install", "--prefix", missing, "--no-audit", "--no-fund", f"ws@{WS}")


def all_cases():
    """Returns the ids of all cases of the suite, in the suite's order."""
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
    """One run of the script. It collects the results."""

    def __init__(self, cases):
        self.cases = cases
        self.outcomes = []
        self.failures = 0

    def play(self, setup):
        """Runs the cases of a setup, and prints a line for each class."""
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
            # If gripd does not accept WebSockets, this check ends the setup before hundreds of cases time out.
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
        check(not bad, f"{len(bad)} of {len(cases)} cases failed: {'; '.join(map(str, bad))}")

    def _report(self, name, why):
        self.failures += why is not None
        report(name, why)


@contextlib.contextmanager
def origin(kind):
    """Starts an origin on a free port, and yields the port."""
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
    check(code is not None, f"Autobahn did not end within {limit} s; its last output was: {last}")
    check(code == 0, f"Autobahn ended with exit code {code}: {last}")


def wait(command, output, limit):
    """Runs a program. Returns its exit code, or None if it was killed because it took more than `limit` seconds."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        return child.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        child.kill()
        child.wait()


def read_results(cases, agent, folder):
    """Returns the result of each case, or MISSING if there is none: Autobahn stops silently if it cannot connect."""
    index = folder / "index.json"
    known = json.loads(index.read_text()).get(agent, {}) if index.is_file() else {}
    return [read_result(case, known[case], folder) if case in known else Result(case, "MISSING") for case in cases]


def read_result(case, known, folder):
    detail = json.loads((folder / known["reportfile"]).read_text())
    why = f"{detail['result']} {detail['resultClose']}"
    return Result(case, known["behavior"], known["behaviorClose"], known["remoteCloseCode"], " ".join(why.split()))


def summarize(outcomes, left_out):
    """Returns a text with the counts of each class, and with each case that is neither OK nor INFORMATIONAL."""
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
    """Returns the setups and the cases that the arguments select. The option `--quick` is not applied here."""
    setups = [setup for setup in SETUPS if setup.name in given.setup]
    known = all_cases()
    for pattern in given.cases:
        check(any(fnmatchcase(case, pattern) for case in known), f"no case matches the pattern {pattern}")
    classes = {number for setup in setups for number in setup.classes}
    cases = [case for case in known if class_of(case) in classes
             and any(fnmatchcase(case, pattern) for pattern in given.cases)]
    check(cases, "the selected setups have none of the selected cases")
    return setups, cases


def play(given):
    """Installs what is missing, and runs the selected cases. Returns how many lines say FAILED."""
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
    # SIGHUP ends the script like SIGTERM, so that everything that was started is ended, too.
    signal.signal(signal.SIGHUP, stop)
    given = arguments()
    try:
        return 1 if play(given) else 0
    except Failed as why:
        report("autobahn", why)
        return 1


if __name__ == "__main__":
    sys.exit(main())
