"""Pushpin and gripd as processes, each with its routes, on free ports."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from string import Template

from harness import GRIPD, ROOT, Failed, Process, check, eventually, exchange, free_ports

PUSHPIN_CONF = Template((ROOT / "tests/pushpin.conf").read_text())
# The number of client connections for which Pushpin is configured. The scenes need fewer.
CONNECTIONS = 1000


class Server:
    """A running server, with its addresses for clients (`client`) and for publishers (`control`)."""

    def __init__(self, routes, ready):
        self._home = tempfile.TemporaryDirectory(prefix="side-by-side-")
        home = Path(self._home.name)
        # Responses to /ready-test and /ready-origin show that all parts of the server run, and that it reaches origins.
        # Some rules apply if any target has over_http. This route has such a target, whichever scenes are played.
        also = f"*,proto=ws,path_beg=/ready-events 127.0.0.1:{ready},over_http"
        lines = [*routes, also, "*,path_beg=/ready-test test", f"*,path_beg=/ready-origin 127.0.0.1:{ready}"]
        (home / "routes").write_text("\n".join(lines) + "\n")
        self.process = None
        try:
            self.start(home)
            for path in ["/ready-test", "/ready-origin"]:
                eventually(f"{self.name} answers", lambda path=path: self._answers(path))
        except BaseException:
            self.end()
            raise

    def _answers(self, path):
        check(self.is_up(), f"{self.name} ended: {''.join(self.process.lines)[-800:]}")
        try:
            # The test target may answer this path with 404. Only a 5xx status means that the server is not ready.
            return exchange(self.client, "GET", path, seconds=1)[0] < 500 and exchange(self.control, "GET", "/")
        except (OSError, ValueError):
            return False

    def is_up(self):
        return self.process.child.poll() is None

    def end(self):
        """Ends the server, and returns its exit code, or None if it was never started. May be called again."""
        try:
            return self.process and self.process.end()
        finally:
            self._home.cleanup()


class Pushpin(Server):
    name = "pushpin"

    def start(self, home):
        self.client, self.control = (("127.0.0.1", port) for port in free_ports(2))
        ports = {"client": self.client[1], "control": self.control[1]}
        programs = {"condure": "condure", "zurl": "zurl"}
        config = PUSHPIN_CONF.substitute(home=home, connections=CONNECTIONS, **ports, **programs)
        (home / "pushpin.conf").write_text(config)
        command = ["pushpin", "--merge-output", f"--config={home / 'pushpin.conf'}"]
        self.process = Process(command, "stdout")


class Gripd(Server):
    name = "gripd"

    def start(self, home):
        check(os.access(GRIPD, os.X_OK), f"{GRIPD} does not exist, or is not executable")
        config = 'listen = "127.0.0.1:0"\nroutes = "routes"\n\n[origin]\nx_forwarded_for = ""\n\n[control]\nlisten = "127.0.0.1:0"\n'
        (home / "gripd.toml").write_text(config)
        self.process = Process([GRIPD, "--config", str(home / "gripd.toml")], "stderr")
        started = self.process.find(r"started .*clients=([\d.]+):(\d+) control=([\d.]+):(\d+)")
        self.client, self.control = (started[1], int(started[2])), (started[3], int(started[4]))


def install_pushpin():
    """Installs Debian's Pushpin if one of its programs is missing."""
    if shutil.which("pushpin") and shutil.which("zurl") and shutil.which("condure"):
        return
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "pushpin", "zurl"]]:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
