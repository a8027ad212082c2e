"""gripd behind nginx, HAProxy, Caddy and Apache, with the configurations of docs/deploy.md.

Each proxy terminates TLS, and reaches its gripd over TCP or over a Unix socket. The clients are curl, over HTTP/1.1 and
HTTP/2, and Python's `websockets`. They connect from an address of their own, so that it can be told from the proxy's.
"""

import hashlib
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import DEADLINE, Answer, Failed, Origin, Process, check, eventually, free_ports, report, run, same
from proxies_nodes import SCENES as NODES
from proxies_servers import HOST, Certificate, Gripd, Proxy, curl_options, open_folder, recipe
from websockets_origins import Chat, OverHttp, message

PROXIES, TRANSPORTS = ("nginx", "haproxy", "caddy", "apache"), ("unix", "tcp")
HTTP = {"http1": ("--http1.1", "HTTP/1.1 200"), "http2": ("--http2", "HTTP/2 200")}
# The address from which the clients connect, and an address that a client claims to have.
CLIENT, FORGED = "127.0.0.5", "192.0.2.66"
# The time, in seconds, for which nothing is sent on connections in one scene. nginx and HAProxy would end them earlier
# with the timeouts that they have by default. The scene does not sleep, but waits for a long-poll with this timeout.
SILENCE = 65
# The size of a body that no buffer holds as a whole.
LARGE = 5_000_000
# A proxy that notices only when it writes to a client that the client has left.
WRITES_TO_NOTICE = ("apache",)


def origin(request):
    """Holds a request as its path says, or answers with the headers or the body that came."""
    kind, _, name = request.path[1:].partition("/")
    hold = {"Grip-Channel": f"user-{name}", "Content-Type": "text/event-stream"}
    match kind:
        case "events":
            return Answer(headers=hold | {"Grip-Hold": "stream"}, body=b"data: hello\n\n")
        # A stream of another type, into which gripd puts nothing to keep it alive.
        case "silent":
            plain = {"Grip-Hold": "stream", "Content-Type": "text/plain"}
            return Answer(headers=hold | plain, body=b"hello\n")
        case "poll":
            timeout = request.query.get("timeout", "55")
            return Answer(headers=hold | {"Grip-Hold": "response", "Grip-Timeout": timeout}, body=b"nothing new\n")
        case "large":
            return Answer(body=bytes(LARGE))
    return Answer(body=hashlib.sha256(request.body).hexdigest().encode())


def stream_item(channel, text):
    return {"channel": channel, "formats": {"http-stream": {"content": f"data: {text}\n\n"}}}


class Stack:
    """A proxy, the gripd behind it, its origin, and clients that are ended with the stack."""

    def __init__(self, proxy, transport, closing):
        self.proxy, self.transport, self.name = proxy, transport, f"{proxy}_{transport}"
        self.folder = closing.enter_context(open_folder())
        self.certificate = Certificate(self.folder)
        self.web = closing.enter_context(Origin(origin))
        self.chat = Chat()
        chat = closing.enter_context(OverHttp(self.chat))
        routes = [f"target = '{self.web.address}'", f"proto = 'ws'\ntarget = '{chat.address},over_http'"]
        self.gripd = Gripd(self.folder, transport, "".join(f"[[route]]\n{route}\n" for route in routes))
        closing.callback(self.gripd.process.end)
        self.chat.gripd = self.gripd
        [self.port] = free_ports(1)
        text = recipe(proxy, self.gripd, transport, self.certificate, self.port)
        closing.callback(Proxy(proxy, text, self.folder, self.port).end)
        self._closing = closing

    def curl(self, path, *options):
        """Returns the command of a curl that requests a path through the proxy."""
        return ["curl", "-sSN", *curl_options(self), "--interface", CLIENT, *options, f"https://{HOST}:{self.port}{path}"]

    def open(self, path, http, *options):
        """Starts a curl that shows the head and the body of a response as they come."""
        version, head = HTTP[http]
        client = Process(self.curl(path, "-i", version, *options), "stdout")
        self._closing.callback(client.end)
        client.head = re.escape(head)
        return client

    def ask(self, path, *options):
        """Requests a path, and returns the status and the body."""
        done = subprocess.run(self.curl(path, "-w", "%{http_code}", *options), capture_output=True, timeout=DEADLINE)
        check(done.returncode == 0, f"curl exits with {done.returncode}: {done.stderr.decode()[-300:]}")
        return int(done.stdout[-3:]), done.stdout[:-3]

    def stream(self, name, http="http2"):
        """Opens a stream, and waits for its beginning, which arrives while the stream goes on."""
        client = self.open(f"/events/{name}", http)
        client.find(client.head)
        client.find("^data: hello$")
        self.gripd.wait_for(f"user-{name}", 1)
        return client

    def talk(self, name):
        """Opens a WebSocket, and reads its welcome."""
        tls = ssl.create_default_context(cafile=self.certificate.file)
        # The library reads in one thread and writes in another. Python's module ssl can lose a request then if the
        # server sends something at the same moment, as it does after a handshake of TLS 1.3.
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = socket.create_connection(("127.0.0.1", self.port), DEADLINE, source_address=(CLIENT, 0))
        url = f"wss://{HOST}:{self.port}/chat?user={name}"
        options = {"ssl": tls, "sock": plain, "ping_interval": None, "open_timeout": DEADLINE, "proxy": None}
        client = self._closing.enter_context(connect(url, **options))
        same(client.recv(timeout=DEADLINE), f"welcome {name}", "the first message")
        return client

    def kick(self, name, **more):
        [receipt] = self.gripd.publish({"channel": f"user-{name}", "action": "close", **more})
        same(receipt, {"channel": f"user-{name}", "closed": 1, "cut": 0}, "the receipt of a kick")


def ended(client):
    """Waits until a curl has seen the end of the response, and checks that the end was a clean one."""
    eventually("curl has ended", lambda: client.child.poll() is not None)
    same(client.end(), 0, "curl's exit code")
    return client.lines


def events(lines):
    """Returns the events among the lines that a curl has shown."""
    return [line.strip() for line in lines if line.startswith("data: ")]


def closed(websocket):
    """Reads to the end of a WebSocket, and returns the code and the reason of its Close frame."""
    try:
        while True:
            websocket.recv(timeout=DEADLINE)
    except TimeoutError:
        raise Failed("the WebSocket did not end") from None
    except ConnectionClosed as end:
        return end.rcvd and (end.rcvd.code, end.rcvd.reason)


def streams(stack, http):
    client = stack.stream("alice", http)
    for number in range(10):
        stack.gripd.publish(stream_item("user-alice", number))
        client.find(f"^data: {number}$")
    stack.kick("alice")
    same(events(ended(client)), ["data: hello", *(f"data: {number}" for number in range(10))], "the stream")


def long_polls(stack, http):
    client = stack.open("/poll/alice", http)
    stack.gripd.wait_for("user-alice", 1)
    item = {"channel": "user-alice", "formats": {"http-response": {"body": "news\n"}}}
    same(stack.gripd.publish(item)[0]["delivered"], 1, "the long-polls that the item has answered")
    lines = ended(client)
    check(re.match(client.head, lines[0]), f"the head is {lines[0]!r}")
    same(lines[-1], "news\n", "the body")


def a_websocket(stack):
    client = stack.talk("alice")
    for number in range(10):
        client.send(f"echo {number}")
        same(client.recv(timeout=DEADLINE), str(number), "the answer of the origin")
        stack.gripd.publish(message("user-alice", f"item {number}"))
        same(client.recv(timeout=DEADLINE), f"item {number}", "the message that was published")
    client.close()
    eventually("the origin knows that the client is gone", lambda: stack.chat.has_lost("alice"))


def a_kick_ends_one_client_and_keeps_it_out(stack):
    alice, mallory = stack.stream("alice", "http1"), stack.stream("mallory", "http1")
    stack.kick("mallory", **{"deny-for": 60})
    ended(mallory)
    same(stack.ask("/events/mallory")[0], 403, "the status when the client comes back")
    stack.gripd.publish(stream_item("user-alice", "on"))
    alice.find("^data: on$")
    stack.kick("alice")
    ended(alice)


def a_kick_ends_one_stream_of_an_http2_connection(stack):
    # One curl makes both transfers. At the end of each, it tells how many connections it had to open for it.
    opened = ["-w", "%{num_connects} opened\\n"]
    mallory = stack.curl("/events/one", "--http2", "-Z", "-o", f"{stack.folder}/one", *opened)
    both = Process([*mallory, "--next", *stack.curl("/events/other", "--http2", *opened)[1:]], "stdout")
    try:
        for name in ("one", "other"):
            stack.gripd.wait_for(f"user-{name}", 1)
        stack.kick("one")

        def one_has_ended():
            # curl writes out what it has told only when it writes an item as well.
            [receipt] = stack.gripd.publish(stream_item("user-other", "on"))
            same(receipt["delivered"], 1, "the streams that got an item")
            return any(line.endswith("opened\n") for line in both.lines)

        eventually("one stream ends while the other goes on", one_has_ended)
        stack.kick("other")
        told = sorted(line for line in ended(both) if line.endswith("opened\n"))
        same(told, ["0 opened\n", "1 opened\n"], "the connections that were opened for the two transfers")
    finally:
        both.end()


def a_kick_closes_a_websocket(stack):
    alice, bob = stack.talk("alice"), stack.talk("bob")
    stack.kick("bob", code=4001, reason="out")
    same(closed(bob), (4001, "out"), "the Close frame")
    stack.gripd.publish(message("user-alice", "on"))
    same(alice.recv(timeout=DEADLINE), "on", "the message to the other client")
    alice.close()
    stack.gripd.wait_for("user-alice", 0)


def a_client_that_leaves_is_noticed(stack, http):
    client = stack.stream("alice", http)
    client.child.send_signal(signal.SIGKILL)
    client.child.wait(DEADLINE)

    def is_gone():
        if stack.proxy in WRITES_TO_NOTICE:
            stack.gripd.publish(stream_item("user-alice", "still there?"))
        return stack.gripd.connections("user-alice") == 0

    eventually("gripd knows that the client is gone", is_gone)


def addresses_of_strangers_are_not_believed(stack):
    forged = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto"]
    headers = [part for name in forged for part in ("-H", f"{name}: {'for=' * (name == 'Forwarded')}{FORGED}")]
    same(stack.ask("/plain", *headers)[0], 200, "the status")
    [came] = [request.headers for request in stack.web.requests if request.path == "/plain"]
    same(came["X-Forwarded-For"], f"{CLIENT}, 127.0.0.1", "X-Forwarded-For at the origin")
    same(came["X-Forwarded-Proto"], "https", "X-Forwarded-Proto at the origin")
    same(came["Host"], f"{HOST}:{stack.port}", "Host at the origin")
    check(FORGED not in str(came), f"the origin got the address of a stranger: {came}")


def large_bodies_pass(stack):
    body = bytes(range(256)) * (LARGE // 256)
    file = f"{stack.folder}/body"
    with open(file, "wb") as out:
        out.write(body)
    for version, _ in HTTP.values():
        answer = stack.ask("/upload", version, "--data-binary", f"@{file}")
        same(answer, (200, hashlib.sha256(body).hexdigest().encode()), "the digest of an upload at the origin")
        status, got = stack.ask("/large", version)
        same((status, len(got)), (200, LARGE), "the status and the length of a download")


class Silence:
    """A stream, a WebSocket and a long-poll of a stack, on which nothing is sent for a long time."""

    def __init__(self, stack):
        self.stack = stack
        self.streams = [stack.open("/silent/quiet", http) for http in HTTP]
        self.polls = [stack.open(f"/poll/patient?timeout={SILENCE}", http) for http in HTTP]
        self.websocket = stack.talk("quiet")
        for client in self.streams:
            client.find("^hello$")
        stack.gripd.wait_for("user-patient", len(self.polls))

    def is_survived(self):
        for poll in self.polls:
            eventually("the long-poll has its answer", lambda poll=poll: poll.child.poll() is not None, 2 * SILENCE)
            lines = ended(poll)
            check(re.match(poll.head, lines[0]), f"the head of the long-poll is {lines[0]!r}")
            same(lines[-1], "nothing new\n", "the body of the long-poll")
        self.stack.gripd.publish(stream_item("user-quiet", "at last"), message("user-quiet", "at last"))
        for client in self.streams:
            client.find("^data: at last$")
        same(self.websocket.recv(timeout=DEADLINE), "at last", "the message after the silence")


def a_drain_ends_everything(stack):
    clients = [stack.stream(f"last-{http}", http) for http in HTTP]
    websocket = stack.talk("last")
    stack.gripd.process.ask_to_end()
    for client in clients:
        ended(client)
    same(closed(websocket)[0], 1001, "the code of the Close frame")
    stack.gripd.end()


def a_stock_nginx_delivers_at_once():
    """An nginx whose only line about gripd is proxy_pass buffers responses, unless they tell it not to."""
    with ExitStack() as closing:
        folder = closing.enter_context(open_folder())
        web = closing.enter_context(Origin(origin))
        gripd = Gripd(folder, "tcp", f"[[route]]\ntarget = '{web.address}'\n")
        closing.callback(gripd.end)
        [port] = free_ports(1)
        text = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{gripd.address}; }} }}\n"
        closing.callback(Proxy("nginx", text, folder, port).end)
        client = Process(["curl", "-sSN", f"http://127.0.0.1:{port}/events/alice"], "stdout")
        closing.callback(client.end)
        client.find("^data: hello$")
        for number in range(10):
            gripd.publish(stream_item("user-alice", number))
            client.find(f"^data: {number}$")


SCENES = [
    (streams, *HTTP),
    (long_polls, *HTTP),
    (a_websocket,),
    (a_kick_ends_one_client_and_keeps_it_out,),
    (a_kick_ends_one_stream_of_an_http2_connection,),
    (a_kick_closes_a_websocket,),
    (a_client_that_leaves_is_noticed, *HTTP),
    (addresses_of_strangers_are_not_believed,),
    (large_bodies_pass,),
]


def named(name, play, *arguments):
    """Returns a scene of this name, which calls a function with these arguments."""

    def scene():
        play(*arguments)

    scene.__name__ = name
    return scene


def scenes_of(stack):
    for play, *versions in SCENES:
        for version in versions or [None]:
            name = "_".join(filter(None, [play.__name__, version, "through", stack.name]))
            yield named(name, play, stack, *filter(None, [version]))


def main():
    failures = 0
    with ExitStack() as closing:
        silences = []
        for proxy in PROXIES:
            for transport in TRANSPORTS:
                try:
                    silences.append(Silence(Stack(proxy, transport, closing)))
                except Exception as error:
                    report(f"{proxy}_{transport}_starts", f"{type(error).__name__}: {error}")
                    failures += 1
        failures += run([scene for silence in silences for scene in scenes_of(silence.stack)])
        failures += run([named(f"silence_is_survived_through_{s.stack.name}", s.is_survived) for s in silences])
        failures += run([named(f"a_drain_through_{s.stack.name}", a_drain_ends_everything, s.stack) for s in silences])
    return failures + run([a_stock_nginx_delivers_at_once, *NODES])


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
