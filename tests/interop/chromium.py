"""A headless Chromium, driven over WebDriver."""

import json
import os
import signal
import tempfile
from pathlib import Path

from harness import Failed, Process, eventually, exchange

CHROMEDRIVER = os.environ.get("CHROMEDRIVER") or "/usr/bin/chromedriver"
CHROMIUM = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
    "--lang=en-GB",
]
# The key under which WebDriver names an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class DriverError(Exception):
    """The error of a command that WebDriver refused."""


class Browser:
    """A Chromium with a profile of its own."""

    def __init__(self, closing):
        self._pid = None
        home = closing.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        # Files that Chromium keeps outside of its profile are in the same folder, which is removed in the end.
        env = os.environ | {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        closing.callback(self._see_off)
        driver = Process([CHROMEDRIVER, "--port=0"], "stdout", env)
        closing.callback(driver.end)
        self._address = ("127.0.0.1", int(driver.find(r"successfully on port (\d+)")[1]))
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={home}/profile"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = self._send("POST", "/session", wanted)
        self._pid = session["capabilities"].get("goog:processID")
        self._session = f"/session/{session['sessionId']}"
        closing.callback(self._send, "DELETE", self._session)

    def tell(self, command, body=None):
        """Sends a command of the session to WebDriver, and returns the result."""
        return self._send("POST", f"{self._session}/{command}", body or {})

    def new_tab(self):
        return self.tell("window/new", {"type": "tab"})["handle"]

    def devtools(self, command, parameters):
        """Sends a command of the Chrome DevTools Protocol to the tab that is in front, and returns the result."""
        return self.tell("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _see_off(self):
        """Waits until Chromium has ended, a moment after its driver. If it does not end, kills it and fails."""
        if self._pid is None:
            return
        try:
            eventually("Chromium ends", lambda: not is_running(self._pid))
        except Failed:
            os.kill(self._pid, signal.SIGKILL)
            raise

    def _send(self, method, path, body=None):
        status, answer = exchange(self._address, method, path, None if body is None else json.dumps(body), seconds=60)
        value = json.loads(answer)["value"]
        if status != 200:
            raise DriverError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # A process that has ended stays listed, with the state Z, until its parent has read its exit code.
    return state != "Z"
