"""The peers: other servers that are measured in the same run as gripd, if they are installed."""

import tempfile
from pathlib import Path
from string import Template

from nginx import Nginx
from processes import find, free_ports
from publishing import Message, post, publish, text_for
from servers import Server

HELD_SCENES = frozenset({"memory", "fanout", "kick", "kickburst", "rooms", "poll"})
WEBSOCKET_SCENES = frozenset({"wsmemory", "wsfanout", "wskick", "wskickburst"})
# The number of connections that a server may have besides those of the clients.
SPARE = 1000

PUSHPIN = Template((Path(__file__).parents[1] / "pushpin.conf").read_text())

PROXY = """
    upstream origin {{ server 127.0.0.1:{origin}; keepalive {kept}; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""
# The number of connections to the origin that each worker keeps open: as many as `wrk` opens to the proxy.
KEPT = 64

# The buffers are large, so that nchan drops no message of a burst before all clients have read it.
NCHAN = """
    nchan_message_buffer_length 10000;
    nchan_message_timeout 10m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /stream {{ nchan_subscriber http-chunked; {channels} }}
        location /events {{ nchan_subscriber eventsource; {channels} }}
        location /ws {{ nchan_subscriber websocket; {channels} }}
    }}
    server {{
        listen 127.0.0.1:{control};
        location / {{ nchan_publisher; nchan_channel_id $arg_ch; }}
    }}
"""
NCHAN_CHANNELS = 'nchan_channel_id "$arg_ch"; nchan_channel_id_split_delimiter ",";'
NCHAN_MODULES = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/local/lib/nginx/modules/ngx_nchan_module.so",
)


class Pushpin(Server):
    """Pushpin as Debian packages it. Its runner starts four processes, whose CPU time and memory count, too."""

    title = "pushpin"
    scenes = HELD_SCENES | WEBSOCKET_SCENES | {"proxy"}
    packages = "pushpin zurl"

    def __init__(self, bench, kind):
        self._home = tempfile.TemporaryDirectory(prefix="pushpin-")
        home = Path(self._home.name)
        self.port, self.control = free_ports(2)
        (home / "routes").write_text(f"* 127.0.0.1:{bench.origin.port}{kind.route_options}\n")
        programs = {"condure": find("condure"), "zurl": find("zurl")}
        ports = {"client": self.port, "control": self.control}
        config = home / "pushpin.conf"
        config.write_text(PUSHPIN.substitute(home=home, connections=bench.n + SPARE, **ports, **programs))
        super().__init__([find("pushpin"), "--merge-output", f"--config={config}"])

    @classmethod
    def start(cls, bench, kind):
        return cls(bench, kind)

    @classmethod
    def missing(cls):
        return next((name for name in ("pushpin", "zurl", "condure") if not find(name)), None)

    def ready(self):
        # Pushpin's processes connect to each other one by one. Once a stream can be held, all are connected.
        self.answers(self.port, "/stream?ch=ready")
        self.listens(self.control)

    def stop(self):
        super().stop()
        self._home.cleanup()

    def message(self, kind, channel, receipt=False):
        return Message(publish({"channel": channel, "formats": {kind.form: {kind.content: text_for(kind)}}}))

    def kick(self, kind, channel):
        return publish({"channel": channel, "formats": {kind.form: {"action": "close"}}})


class NginxProxy(Nginx, Server):
    """An nginx as a plain reverse proxy, with a worker for each core."""

    title = "nginx"
    scenes = frozenset({"proxy"})
    packages = "nginx"

    @classmethod
    def start(cls, bench, _kind):
        return cls("auto", PROXY, origin=bench.origin.port, kept=KEPT)

    @classmethod
    def missing(cls):
        return None if find("nginx") else "nginx"


class Nchan(Nginx, Server):
    """An nginx with the module nchan and a worker for each core. It needs no origin, as clients name their channels."""

    title = "nchan"
    scenes = frozenset({"memory", "fanout", "rooms", "wsfanout"})
    packages = "nginx libnginx-mod-nchan"
    # nchan sends a chunked stream only to clients that ask for it with this header.
    client_headers = ("TE: chunked",)

    @classmethod
    def start(cls, bench, _kind):
        load = f"worker_rlimit_nofile {bench.n + SPARE}; load_module {cls._module()};"
        return cls("auto", NCHAN, load, bench.n + SPARE, channels=NCHAN_CHANNELS)

    @classmethod
    def missing(cls):
        return "nginx" if not find("nginx") else None if cls._module() else "nchan"

    @classmethod
    def _module(cls):
        return next((module for module in NCHAN_MODULES if Path(module).exists()), None)

    def message(self, kind, channel, receipt=False):
        return Message(post(f"/?ch={channel}", text_for(kind).strip(), "text/plain"))


class Floor(Server):
    """The server of floor.c, which only writes: each message to each client, by one system call."""

    title = "floor"
    scenes = frozenset({"fanout"})

    @classmethod
    def start(cls, bench, _kind):
        return cls([bench.programs.floor()])

    def ready(self):
        ports = self.said(r"clients=(\d+) control=(\d+)\n")
        self.port, self.control = map(int, ports.groups())

    def message(self, kind, channel, receipt=False):
        return Message(post("/", text_for(kind), "text/plain"))


PEERS = {peer.title: peer for peer in (Pushpin, NginxProxy, Nchan, Floor)}
