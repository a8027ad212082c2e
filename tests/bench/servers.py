"""The servers that are measured: what they have in common, and gripd. Others: `peers.py`."""

import tempfile

from processes import Child
from publishing import Message, publish, text_for


class Server(Child):
    """A server whose cost is measured, with its `port` for clients and its `control` port for publishers.

    A kind that is not gripd tells in which scenes it can be measured, and what is missing for that.
    """

    title = ""
    # The names of the scenes.
    scenes = frozenset()
    # The Debian packages that install it.
    packages = ""
    # Whether the reply to a publish tells how many connections it reached, once it has reached them.
    gives_receipts = False
    # The headers that clients need besides those of their kind.
    client_headers = ()

    @classmethod
    def start(cls, bench, kind):
        """Returns a fresh server of this kind for clients of that kind."""
        raise NotImplementedError

    @classmethod
    def missing(cls):
        """Returns the name of a program that has to be installed first, or None."""
        return None

    def message(self, kind, channel, receipt=False):
        """Returns the request that publishes a message to clients of a kind."""
        raise NotImplementedError

    def kick(self, kind, channel):
        """Returns the request that closes the connections of a channel."""
        raise NotImplementedError


class Gripd(Server):
    """A gripd with one route, on ports that the system chose, with what `config` changes in its defaults."""

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
        # Away from any configuration file that lies in the directory of the caller.
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
