"""The processes that are measured: how they are started, what they cost, and that they end."""

import asyncio
import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

START_SECONDS = 10
STOP_SECONDS = 20
ANSWER_SECONDS = 10
LOOK_EVERY = 0.02
# A process rests if it uses less than this share of a core for so long.
REST_SECONDS = 0.3
REST_SHARE = 0.05
# Servers that are given a port get one of so many.
PORTS_BELOW = 10_000
FIRST_PORT = 1024
HERE = Path(__file__).resolve().parent


async def orphaned():
    """Waits for the end of standard input, which is the end of the parent. Called in a process that a `Child` is."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, gone.set)
    await gone.wait()


class Failed(Exception):
    """A measurement could not be made."""


class Child:
    """A process that ends when its `with` block does, by its pid, however the block is left."""

    def __init__(self, command, cwd=None):
        self.name = Path(command[-1] if command[0] == sys.executable else command[0]).name
        self._log = tempfile.TemporaryFile()
        output = {"stdout": self._log, "stderr": self._log}
        # Its own session: an interrupt from the terminal is for this program, which then stops the others in order.
        self._process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, start_new_session=True, **output)
        self.pid = self._process.pid

    def __enter__(self):
        try:
            self.ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def ready(self):
        """Returns once the process is of use."""

    def said(self, pattern):
        """Waits for a line that `pattern` matches: there servers tell their ports."""
        return self._until(lambda: re.search(pattern, self.log()), f"it never said '{pattern}'")

    def listens(self, port):
        """Waits until `port` takes connections, for servers that tell nothing."""
        self._until(lambda: accepts(port), f"nobody listens on port {port}")

    def answers(self, port, path):
        """Waits until a request for `path` is answered 200, for servers with parts that are ready one by one."""
        self._until(lambda: is_answered(port, path), f"{path} is not answered on port {port}")

    def rests(self, seconds):
        """Waits until the process has done all that it was given to do, at most so long."""
        deadline = time.monotonic() + seconds
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(REST_SECONDS)
            after = self.cpu()
            if after - before < REST_SECONDS * REST_SHARE:
                return
            before = after
        raise Failed(f"{self.name} does not come to rest")

    def _until(self, probe, complaint):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            found = probe()
            if found:
                return found
            time.sleep(LOOK_EVERY)
        raise Failed(f"{self.name} did not start: {complaint}. Its output: {self.log()[-1000:]}")

    def log(self):
        """All that the process wrote. Read at a place of its own: the process shares the file's position."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def pids(self):
        """Returns the process and its descendants, which do the work in a server of several processes."""
        return descendants(self.pid)

    def cpu(self):
        """Returns the seconds of CPU that the process and its descendants have used."""
        return sum(map(cpu_seconds, self.pids()))

    def memory_kib(self):
        """Returns their share of memory: pages that are shared with others count in part."""
        return sum(map(share_of_memory_kib, self.pids()))

    def stop(self):
        """Asks the process to end, and makes it and its descendants end if they do not."""
        if self._process.poll() is None:
            family = {pid: start_time(pid) for pid in self.pids()}
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            kill(family)
            self._process.wait()
        self._process.stdin.close()
        self._log.close()


class PythonOrigin(Child):
    """The origin of `origin.py`."""

    def __init__(self):
        super().__init__([sys.executable, "-B", str(HERE / "origin.py")])

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))

    def polls(self):
        """Returns the number of polls that have come so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/polls")
            return int(connection.getresponse().read())
        finally:
            connection.close()


def cpu_seconds(pid):
    """Returns the user and system time of one process; 0 if it has ended meanwhile.

    The kernel's clock of the process is asked first: it is the sum that /proc tells, in nanoseconds where /proc counts
    hundredths of a second, which are too coarse for a few hundred kicks.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        user, system = stat(pid)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def share_of_memory_kib(pid):
    """Returns the proportional set size of a process; 0 if it has ended meanwhile."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found.group(1)) if found else 0


def descendants(pid):
    """Returns a process and all that descend from it."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(parent(int(entry.name)), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def parent(pid):
    """Returns the parent of a process; 0 if it has ended meanwhile."""
    return int(stat(pid)[1])


def start_time(pid):
    """Returns the time at which a process started, by which it differs from a later one with the same number."""
    return stat(pid)[19]


def stat(pid):
    """Returns the fields of /proc behind a process's name, which may have any characters in it; zeros if it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20


def accepts(port):
    """Tells whether a port takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def is_answered(port, path):
    """Tells whether a request is answered 200 within a second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(number):
    """Returns free ports, for servers that need to be told a number.

    They are from below those that the kernel gives to outgoing connections, of which a scene opens thousands. If the
    kernel gives out all of them, so are these.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    below = range(max(FIRST_PORT, end - PORTS_BELOW), end)
    found = []
    with ExitStack() as bound:
        for port in [*random.sample(below, len(below)), *[0] * number]:
            listener = bound.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(listener.getsockname()[1])
            if len(found) == number:
                return found
    raise Failed("there are no free ports")


def find(program):
    """Returns the path of a program, also where only an administrator's PATH leads; None if there is none."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def kill(family):
    """Kills those of the processes, given with their start times, that still run."""
    for pid, started in family.items():
        if start_time(pid) == started != "0":
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
