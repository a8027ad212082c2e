"""Processes that the benchmarks start and end, and their CPU time and memory."""

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
# A process is idle if it uses less than the share REST_SHARE of a core for REST_SECONDS.
REST_SECONDS = 0.3
REST_SHARE = 0.05
# Servers that cannot choose a port get one of this many below the range of outgoing connections, but none below
# FIRST_PORT.
PORTS_BELOW = 10_000
FIRST_PORT = 1024
HERE = Path(__file__).resolve().parent


async def orphaned():
    """Waits until standard input ends, as it does when the parent process ends. `Child` processes call this."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, gone.set)
    await gone.wait()


class Failed(Exception):
    """An error because of which something cannot be measured."""


class Child:
    """A process that is ended at the end of its `with` block, even if an exception leaves the block."""

    def __init__(self, command, cwd=None):
        self.name = Path(command[-1] if command[0] == sys.executable else command[0]).name
        self._log = tempfile.TemporaryFile()
        output = {"stdout": self._log, "stderr": self._log}
        # In a session of its own, the process gets no interrupt from the terminal. Only this program gets it, and then
        # stops the other processes in order.
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
        """Waits until the process can be used. By default it can be used at once."""

    def said(self, pattern):
        """Waits until the output matches `pattern`, and returns the match. Many servers print their ports."""
        return self._until(lambda: re.search(pattern, self.log()), f"its output never matched '{pattern}'")

    def listens(self, port):
        """Waits until `port` accepts connections, for servers that print nothing when they are ready."""
        self._until(lambda: accepts(port), f"nothing listens on port {port}")

    def answers(self, port, path):
        """Waits until a request for `path` is answered with 200.

        This is for servers of several processes, some of which are ready later than the one that listens.
        """
        self._until(lambda: is_answered(port, path), f"a request for {path} on port {port} is not answered with 200")

    def rests(self, seconds):
        """Waits until the process is idle. Fails if it is still busy after so many seconds."""
        deadline = time.monotonic() + seconds
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(REST_SECONDS)
            after = self.cpu()
            if after - before < REST_SECONDS * REST_SHARE:
                return
            before = after
        raise Failed(f"{self.name} is still busy after {seconds} s")

    def _until(self, probe, complaint):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            found = probe()
            if found:
                return found
            time.sleep(LOOK_EVERY)
        raise Failed(f"{self.name} did not start: {complaint}. Its output: {self.log()[-1000:]}")

    def log(self):
        """Returns the output of the process so far.

        The process writes at the position of the file that it shares with this program, so that must not be moved.
        """
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def pids(self):
        """Returns the ids of the process and of its descendants, as some servers consist of several processes."""
        return descendants(self.pid)

    def cpu(self):
        """Returns the CPU time in seconds that the process and its descendants have used."""
        return sum(map(cpu_seconds, self.pids()))

    def memory_kib(self):
        """Returns the memory of the process and its descendants in KiB. A page that n processes share counts 1/n."""
        return sum(map(share_of_memory_kib, self.pids()))

    def stop(self):
        """Asks the process to end, and kills it after STOP_SECONDS. Kills descendants that still run then."""
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
    """The process of `origin.py`."""

    def __init__(self):
        super().__init__([sys.executable, "-B", str(HERE / "origin.py")])

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))

    def polls(self):
        """Returns the number of long-polls that have reached the origin so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/polls")
            return int(connection.getresponse().read())
        finally:
            connection.close()


def cpu_seconds(pid):
    """Returns the user and system time of one process; 0 if it has ended meanwhile.

    The CPU clock of the process has a resolution of nanoseconds; the expression is its id, as clock_getcpuclockid(3)
    makes it. /proc is read only if this fails: it counts hundredths of a second, which is too coarse for a few hundred
    kicks.
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
    """Returns the ids of a process and of all its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(parent(int(entry.name)), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def parent(pid):
    """Returns the id of a process's parent; 0 if the process has ended meanwhile."""
    return int(stat(pid)[1])


def start_time(pid):
    """Returns the time at which a process started. A later process with the same id has another time."""
    return stat(pid)[19]


def stat(pid):
    """Returns the fields of /proc/PID/stat after the name of the process, or zeros if the process has ended.

    The name may contain spaces and parentheses. The fields are those after the last parenthesis.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20


def accepts(port):
    """Returns whether a port accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def is_answered(port, path):
    """Returns whether a request is answered with 200. Waits for at most a second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(number):
    """Returns free ports, for servers that cannot choose a port themselves.

    The ports are below the range that the kernel uses for outgoing connections, because a scenario opens thousands of
    those. If no port below the range is free, the kernel chooses the ports.
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
    """Returns the path of a program, or None. Searches PATH and the folders that only an administrator has in PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def kill(family):
    """Kills those processes of `family` that still run. It maps the id of each process to its start time."""
    for pid, started in family.items():
        if start_time(pid) == started != "0":
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
