"""The processes that are measured: how they are started, what they cost, and that they end."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECONDS = 10
STOP_SECONDS = 20
LOOK_EVERY = 0.02
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
        """Waits for a line that `pattern` matches: the place where servers tell their ports."""
        return self._until(lambda: re.search(pattern, self.log()), f"it never said '{pattern}'")

    def listens(self, port):
        """Waits until `port` takes connections, for servers that tell nothing."""
        self._until(lambda: accepts(port), f"nobody listens on port {port}")

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
        """The process and its children, which do the work in a server with workers."""
        others = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [self.pid, *(pid for pid in others if parent(pid) == self.pid)]

    def cpu(self):
        """Seconds of CPU that the process and its children have used."""
        return sum(map(cpu_seconds, self.pids()))

    def memory_kib(self):
        """The process's share of memory: pages that it shares with others count in part."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE).group(1))

    def stop(self):
        """Asks the process to end, and makes it end if it does not."""
        if self._process.poll() is None:
            pids = self.pids()
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill(pids)
                self._process.wait()
        self._process.stdin.close()
        self._log.close()


class Gripd(Child):
    """A gripd with one route, on ports that the system chose, with what `config` changes in its defaults."""

    def __init__(self, program, origin_port, route_options="", config=""):
        command = [program, "--route", f"* 127.0.0.1:{origin_port}{route_options}"]
        command += ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
        self._config = tempfile.NamedTemporaryFile("w", suffix=".toml")
        if config:
            self._config.write(config)
            self._config.flush()
            command += ["--config", self._config.name]
        # Away from any configuration file that lies in the directory of the caller.
        super().__init__(command, cwd="/")

    def ready(self):
        ports = self.said(r"clients=\S+:(\d+) control=\S+:(\d+)\s")
        self.port, self.control = map(int, ports.groups())

    def stop(self):
        super().stop()
        self._config.close()


class PythonOrigin(Child):
    """The origin of `origin.py`."""

    def __init__(self):
        super().__init__([sys.executable, "-B", str(HERE / "origin.py")])

    def ready(self):
        self.port = int(self.said(r"port=(\d+)\n").group(1))


def cpu_seconds(pid):
    """User and system time of one process.

    The kernel's clock of the process is asked first: it is the sum that /proc tells, in nanoseconds where /proc counts
    hundredths of a second, which are too coarse for a few hundred kicks.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        user, system = stat(pid)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def parent(pid):
    """The parent of a process; None if it has ended meanwhile."""
    try:
        return int(stat(pid)[1])
    except OSError:
        return None


def stat(pid):
    """What /proc tells of a process after its name, which may have any characters in it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
