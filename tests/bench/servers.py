"""The base class of all servers that are measured, and gripd. The other servers are in `peers.py`."""

import tempfile

from processes import Child
from publishing import Message, publish, text_for


class Server(Child):
    """A server whose cost is measured, with its `port` for clients and its `control` port for publishers.

    A class of another server than gripd names the scenarios that can measure it, and the programs that it needs.
    """

    title = ""
    # The names of the scenarios that can measure the server. All scenarios can measure gripd.
    scenes = frozenset()
    # The Debian packages that install the server, separated by spaces.
    packages = ""
    # Whether the server can reply with a receipt: it says how many connections got an item or were closed, and it is
    # sent only after that has happened.
    gives_receipts = False
    # The headers that clients need besides those of their kind.
    client_headers = ()

    @classmethod
    def start(cls, bench, kind):
        """Starts a server of this class, configured for clients of the class `kind`, and returns it."""
        raise NotImplementedError

    @classmethod
    def missing(cls):
        """Returns the name of a program or module that is not installed, or None if the server can be started."""
        return None

    def message(self, kind, channel, receipt=False):
        """Returns the `Message` that publishes to clients of the class `kind`. `receipt` asks gripd for a receipt."""
        raise NotImplementedError

    def kick(self, kind, channel):
        """Returns the request that closes the connections of a channel."""
        raise NotImplementedError


class Gripd(Server):
    """A gripd with one route, on ports that the system chooses. The TOML in `config` changes its default settings."""

    title = "gripd"
    gives_receipts = True

    def __init__(self, program, origin_port, route_options="", config=""):
        command = [program, "--route", f"* 127.0.0.1:{origin_port}{route_options}"]
        command += ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
        self._config = tempfile.NamedTemporaryFile("w", suffix=".toml")
        if config:
            self._config.write(config)
            self._config.flush()
            command += ["--config", self._config.name]
        # gripd must not find a configuration file in the current directory of the benchmark.
        super().__init__(command, cwd="/")

    @classmethod
    def start(cls, bench, kind):
        return cls(bench.gripd, bench.origin.port, kind.route_options, kind.config)

    def ready(self):
        ports = self.said(r"clients=\S+:(\d+) control=\S+:(\d+)\s")
        self.port, self.control = map(int, ports.groups())

    def stop(self):
        super().stop()
        self._config.close()

    def message(self, kind, channel, receipt=False):
        item = {"channel": channel, "formats": {kind.form: {kind.content: text_for(kind)}}}
        return Message(publish(item, "application/json" if receipt else "text/plain"))

    def kick(self, kind, channel):
        return publish({"channel": channel, "action": "close"}, "application/json")
