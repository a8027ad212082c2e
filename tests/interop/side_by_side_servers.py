"""Pushpin and gripd as processes, each with its routes, on free ports."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from string import Template

from harness import GRIPD, ROOT, Failed, Process, check, eventually, exchange, free_ports

PUSHPIN_CONF = Template((ROOT / "tests/pushpin.conf").read_text())
# Connections of clients. No scene has as many.
CONNECTIONS = 1000


class Server:
    """A server with its addresses: `client` and `control`."""

    def __init__(self, routes, ready):
        self._home = tempfile.TemporaryDirectory(prefix="side-by-side-")
        home = Path(self._home.name)
        # Says that all parts of the server, and its way to origins, are there.
        # Some rules hold if any target has over_http: one always has, whatever scenes are played.
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
            # The test target may have its own idea of the path; 502 is what must not be.
            return exchange(self.client, "GET", path, seconds=1)[0] < 500 and exchange(self.control, "GET", "/")
        except (OSError, ValueError):
            return False

    def is_up(self):
        return self.process.child.poll() is None

    def end(self):
        """Ends it, and returns its exit code. Once is enough."""
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
        check(os.access(GRIPD, os.X_OK), f"there is no {GRIPD}")
        config = 'listen = "127.0.0.1:0"\nroutes = "routes"\n\n[origin]\nx_forwarded_for = ""\n\n[control]\nlisten = "127.0.0.1:0"\n'
        (home / "gripd.toml").write_text(config)
        self.process = Process([GRIPD, "--config", str(home / "gripd.toml")], "stderr")
        started = self.process.find(r"started .*clients=([\d.]+):(\d+) control=([\d.]+):(\d+)")
        self.client, self.control = (started[1], int(started[2])), (started[3], int(started[4]))


def install_pushpin():
    """Installs Debian's Pushpin if it is not there."""
    if shutil.which("pushpin") and shutil.which("zurl") and shutil.which("condure"):
        return
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "pushpin", "zurl"]]:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
