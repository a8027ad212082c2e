"""nginx, HAProxy, Caddy and Apache as processes, with the configurations of docs/deploy.md.

Of a configuration on the page, only the addresses, the paths of the certificate and the Unix socket are replaced. The
rest of the configuration that each proxy needs, such as temporary folders, is added here.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import GRIPD, ROOT, ControlPort, Process, check, eventually, free_ports, same

PAGE = "docs/deploy.md"
HOST = "chat.example.com"
# The paths on the page: of the Unix socket, and of the certificate, of its key, and of both in one file.
SOCKET, CERTIFICATE = "/run/gripd/client.sock", f"/etc/ssl/{HOST}"
# The address on the page on which gripd listens if it does not use the Unix socket.
ADDRESS = "127.0.0.1:7999"
# The user and the group as which the proxies run if the scenes run as root, so that none of them needs root.
NOBODY = 65534
PROGRAMS = {"nginx": "nginx", "haproxy": "haproxy", "caddy": "caddy", "apache": "apache2"}


def blocks(language):
    """Returns the blocks of code on the page that are marked with this language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / PAGE).read_text(), re.M | re.S)
    return [text for marked, text in found if marked == language]


def replaced(text, replacements):
    """Returns a text in which everything that is to be replaced is there, and is replaced."""
    for written, real in replacements:
        check(written in text, f"'{written}' is missing in this part of {PAGE}: {text}")
        text = text.replace(written, real)
    return text


def open_folder():
    """Creates a temporary folder in which the proxies may write, and which everybody may enter."""
    folder = tempfile.TemporaryDirectory(prefix="proxies-")
    os.chmod(folder.name, 0o755)
    if os.geteuid() == 0:
        os.chown(folder.name, NOBODY, NOBODY)
    return folder


def unprivileged(command):
    """Returns the command with which a program runs without the rights of root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


class Certificate:
    """A self-signed certificate of the host on the page, for all proxies."""

    def __init__(self, folder):
        self.file, self.key, self.both = (f"{folder}/{HOST}.{ending}" for ending in ("pem", "key", "both"))
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2"]
        subprocess.run([*request, *names, "-out", self.file, "-keyout", self.key], check=True, capture_output=True)
        Path(self.both).write_text(Path(self.file).read_text() + Path(self.key).read_text())
        for file in (self.key, self.both):
            os.chmod(file, 0o644)

    def paths(self, *endings):
        """Returns the replacements of the paths on the page with these endings."""
        return [(f"{CERTIFICATE}.{ending}", getattr(self, {"pem": "file"}.get(ending, ending))) for ending in endings]


class Gripd(ControlPort):
    """A gripd with the configuration of the page, on a Unix socket or on a TCP port."""

    def __init__(self, folder, transport, routes):
        self.socket = f"{folder}/client.sock"
        client, control = free_ports(2)
        self.address = f"127.0.0.1:{client}"
        self.control = ("127.0.0.1", control)
        [config] = blocks("toml")
        listen = {"unix": (SOCKET, self.socket), "tcp": (f"unix:{SOCKET}", self.address)}[transport]
        control = f"[control]\nlisten = '127.0.0.1:{control}'\n"
        config = f"drain = 1\n{replaced(config, [listen])}\n{routes}\n{control}"
        file = Path(folder) / "gripd.toml"
        file.write_text(config)
        self.process = Process([GRIPD, "--config", str(file)], "stderr")
        self.process.find("started .*clients=")

    def end(self):
        same(self.process.end(), 0, "gripd's exit code after SIGTERM")


class Proxy:
    """One of the four proxies as a process. It reaches the gripd over TCP, or over its Unix socket."""

    def __init__(self, name, recipe, folder, port):
        self.name, self.port = name, port
        command, env = getattr(self, f"_{name}")(recipe, Path(folder))
        self.process = Process(unprivileged(command), "stderr", os.environ | env)
        eventually(f"{name} listens", self._listens)

    def _listens(self):
        check(self.process.child.poll() is None, f"{self.name} ended: {''.join(self.process.lines)[-500:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _nginx(self, recipe, folder):
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        process = f"daemon off;\npid {folder}/nginx.pid;\nevents {{ worker_connections 10000; }}\n"
        (folder / "nginx.conf").write_text(f"{process}http {{\naccess_log off;\n{temporary}{recipe}}}\n")
        return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")], {}

    def _haproxy(self, recipe, folder):
        # These are the timeouts of the configuration that Debian installs.
        defaults = "defaults\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\n\n"
        (folder / "haproxy.cfg").write_text(defaults + recipe)
        return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], {}

    def _caddy(self, recipe, folder):
        options = "{\n    admin off\n    auto_https disable_redirects\n    default_bind 127.0.0.1\n}\n"
        (folder / "Caddyfile").write_text(options + recipe)
        homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        return [program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], homes

    def _apache(self, recipe, folder):
        [named] = re.findall(r"^    a2enmod (.*)$", (ROOT / PAGE).read_text(), re.M)
        # Debian enables the first of these itself, and those of `ssl` with it.
        modules = ["mpm_event", "authz_core", "socache_shmcb", "setenvif", *named.split()]
        loaded = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules)
        config = (
            f"ServerRoot {folder}\nPidFile {folder}/apache.pid\nErrorLog {folder}/apache.log\nServerName {HOST}\n"
            f"DefaultRuntimeDir {folder}\nMutex file:{folder} default\n{loaded}"
            f"Listen 127.0.0.1:{self.port}\nTimeout 300\n"
        )
        (folder / "apache.conf").write_text(config + recipe)
        return [program("apache"), "-f", str(folder / "apache.conf"), "-DFOREGROUND"], {}

    def end(self):
        self.process.end()


def program(name):
    """Returns the path of a proxy's program, which may be in a folder that is only in the PATH of root."""
    found = shutil.which(PROGRAMS[name], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    check(found, f"{PROGRAMS[name]} is not installed: tests/interop/run installs it")
    return found


def curl_options(stack):
    """Returns the options with which curl finds the host of the page on the port of a stack, and trusts it."""
    return ["--resolve", f"{HOST}:{stack.port}:127.0.0.1", "--cacert", stack.certificate.file]


def recipe(name, gripd, transport, certificate, port, text=None, number=""):
    """Returns the configuration of a proxy on the page, with the real addresses and paths.

    `text` is another text than the first block for this proxy, and `number` is that of the gripd in the path of its
    socket on the page.
    """
    socket_file = SOCKET.replace("/client", f"{number}/client")
    servers = {
        "nginx": (f"unix:{socket_file}", gripd.address),
        "haproxy": (f"unix@{socket_file}", gripd.address),
        "caddy": (f"unix/{socket_file}", gripd.address),
        "apache": (f"unix:{socket_file}|http://gripd/", f"http://{gripd.address}/"),
    }
    listeners = {
        "nginx": ("listen 443", f"listen 127.0.0.1:{port}"),
        "haproxy": ("bind :443", f"bind 127.0.0.1:{port}"),
        "caddy": (f"{HOST} {{", f"https://{HOST}:{port} {{"),
        "apache": ("*:443", f"127.0.0.1:{port}"),
    }
    server = (socket_file, gripd.socket) if transport == "unix" else servers[name]
    paths = certificate.paths(*(["both"] if name == "haproxy" else ["pem", "key"]))
    return replaced(text or blocks(name)[0], [server, listeners[name], *paths])
