"""nginx, which is the origin of plain requests and the base of some peers."""

import tempfile
from pathlib import Path

from processes import Child, find, free_ports

CONFIG = """
{load}
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
}}
"""

# Requests for /stream are answered with a hold, because some servers count as ready once they hold a stream.
ORIGIN = """
    default_type text/plain;
    server {{
        listen 127.0.0.1:{port};
        location /plain {{ return 200 "{body}"; }}
        location /stream {{ add_header Grip-Hold stream; add_header Grip-Channel $arg_ch; return 200 "hello\n"; }}
    }}
"""
PLAIN_BYTES = 1000
# The default number of connections of each worker.
CONNECTIONS = 1024


class Nginx(Child):
    """An nginx that runs in the foreground, in a temporary directory of its own."""

    def __init__(self, workers, http, load="", connections=CONNECTIONS, **names):
        self.port, self.control = free_ports(2)
        # If root starts nginx, its workers run as another user, who must be allowed to enter this directory.
        self._home = tempfile.TemporaryDirectory()
        Path(self._home.name).chmod(0o755)
        config = Path(self._home.name) / "nginx.conf"
        http = http.format(port=self.port, control=self.control, **names)
        config.write_text(CONFIG.format(workers=workers, http=http, load=load, connections=connections))
        super().__init__([find("nginx"), "-p", self._home.name, "-c", str(config)])

    def ready(self):
        self.listens(self.port)

    def stop(self):
        super().stop()
        self._home.cleanup()


def nginx_origin():
    """Starts an nginx with one worker that answers /plain, as the origin of servers that `wrk` loads. Returns it."""
    return Nginx(1, ORIGIN, body="x" * PLAIN_BYTES)
