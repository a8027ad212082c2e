"""Scenes: how they are declared, the clients, origin and publisher they use, and how transcripts are compared."""

import base64
import contextlib
import itertools
import json
import os
import socket
import time
from typing import NamedTuple

from harness import Failed, exchange
from side_by_side_origin import GRIP
from side_by_side_wire import PROBE, QUIET, WAIT, Over, Peer, accept_for, show, subscribe

# The beginnings of the names of response headers that the transcript contains. Other headers depend on how a server
# frames its responses.
NOTED = (
    "x-",
    "content-type",
    "location",
    "set-cookie",
    "allow",
    "sec-websocket-",
    "content-bytes",
    "keep-alive-",
    "set-meta",
    "grip-",
)


class Differs(NamedTuple):
    """An intended difference: the reason for it, and the transcript that gripd shows instead of Pushpin's."""

    why: str
    shows: list
    # Whether Pushpin may show the same, because its error is a race and does not occur each time.
    at_times: bool = False


class Scene(NamedTuple):
    name: str
    play: object
    # Further options of the route's condition.
    route: str
    # The options of the target, which is the scene's origin.
    target: str
    # The value of `proto` in the route's condition, or "" for all protocols.
    proto: str
    # The whole targets of the route, or "" if the origin is the target. "{port}" stands for the port of the origin.
    # The origin of a scene with such targets does not listen by itself.
    instead: str
    # Whether a host of its own selects the scene's route, and not a path.
    host: bool
    # Whether the scene takes long, so that it must begin before others.
    slow: bool
    # Whether the scene may end Pushpin, so that it needs a server of its own.
    alone: bool
    differs: Differs | None


SCENES = []
# The reason for many differences.
GENTLE = "gripd sends the client a Close frame; Pushpin ends the connection without one"


def lost(*before):
    """Returns the transcript that gripd shows if it cannot use a response of the origin.

    After `before`, the client gets a Close frame with 1011, and the origin gets a DISCONNECT.
    """
    return [*closes(1011, *before), "origin gets DISCONNECT"]


def closes(code, *before):
    """Returns a transcript in which `before` is followed by a Close frame for the client and the end of its connection.

    The Close frame must have the code, and may have any reason.
    """
    return [*before, f"client gets CLOSE {code}…", "client's connection ends"]


def scene(target="over_http", *, route="", proto="ws", instead="", host=False, slow=False, alone=False, differs=None):
    """Returns a decorator that declares a function as a scene.

    Both servers must show the same, unless `differs` says why and how gripd differs. Its members are the fields of
    `Differs`. The other parameters are fields of `Scene`.
    """

    def declare(play):
        declared = Differs(*differs) if differs else None
        found = Scene(play.__name__, play, route, target, proto, instead, host, slow, alone, declared)
        SCENES.append(found)
        return play

    return declare


def route_lines(one, port):
    """Returns the lines that a routes file needs for a scene."""
    where = [f"{one.name}.example"] if one.host else ["*", f"path_beg=/{one.name}"]
    condition = ",".join(filter(None, [*where, one.proto and f"proto={one.proto}", one.route]))
    target = one.instead.format(port=port) or ",".join(filter(None, [f"127.0.0.1:{port}", one.target]))
    return [f"{condition} {target}"]


class Client(Peer):
    """A client that has sent a handshake."""

    def __init__(self, address, who, note, key):
        super().__init__(socket.create_connection(address, WAIT), who, note, masks=True)
        self.key = key

    def gets_answer(self, seconds=WAIT, of_its_own=False):
        """Waits for the response to the handshake or request, and adds it to the transcript.

        `of_its_own` says that the response is the server's own. Its Content-Type is then left out, because only gripd
        sends one.
        """
        try:
            head = self.head(seconds)
            status = head.line.split(" ", 1)[1]
            if of_its_own:
                head.headers = [header for header in head.headers if header[0].lower() != "content-type"]
            notes = [f"{name.title()}: {value}" for name, value in head.headers if name.lower().startswith(NOTED)]
            if status.startswith("101"):
                notes = [note for note in notes if not note.lower().startswith("sec-websocket-accept")]
                wrong = {
                    "a wrong accept": head.all("Sec-WebSocket-Accept") != [accept_for(self.key)],
                    "a wrong Upgrade": [value.lower() for value in head.all("Upgrade")] != ["websocket"],
                    "a wrong Connection": [value.lower() for value in head.all("Connection")] != ["upgrade"],
                }
                body = ""
                notes += [what for what, is_so in wrong.items() if is_so]
            else:
                body = " " + show(self.body(head, to_the_end=True))
            self.note(f"{self.who} gets {status}{body}" + (f" [{'; '.join(sorted(notes))}]" if notes else ""))
        except TimeoutError:
            raise Failed(f"{self.who} got no answer for {seconds:g} s") from None
        except Over:
            self.note(f"{self.who}'s connection ends without an answer")
            raise Failed("the connection ended without an answer") from None
        return self

    def ends(self, seconds=WAIT):
        """Waits until the connection ends, and adds what arrives to the transcript.

        A Close frame is answered, as browsers do.
        """
        until = time.monotonic() + seconds
        while not self.done:
            if not self.step():
                if time.monotonic() > until:
                    raise Failed(f"{self.who}'s connection was still open after {seconds:g} s")
                with contextlib.suppress(Over):
                    self.fill(0.1)
        return self

    def may_end(self):
        """Waits until the connection ends or nothing more arrives, and adds what arrives to the transcript."""
        last = time.monotonic() + QUIET
        while not self.done and time.monotonic() < last + QUIET:
            if self.step():
                last = time.monotonic()
            else:
                with contextlib.suppress(Over):
                    self.fill(0.05)
        return self


class Stage:
    """The clients, the origin, the channels and the transcript of one scene."""

    def __init__(self, name, server, origin):
        self.name, self.server, self.origin = name, server, origin
        self.transcript = []
        self.clients = []
        self._probes = itertools.count(1)
        origin.note = self.note

    def note(self, line):
        self.transcript.append(line.replace(f"/{self.name}", "/SCENE"))

    def channel(self, name="room"):
        """Returns the name of a channel that no other scene uses."""
        return f"{self.name}-{name}"

    # Clients.

    def connect(self, path="", *headers, handshake=True, **changes):
        """Connects a client, sends its handshake, and returns the client.

        `headers` are further header lines, or the body of the request if they are bytes. `changes` replace the values
        of the usual headers, and None leaves a header out. The names have underscores in place of hyphens. Two of
        `changes` are no headers: `method`, and `at_root`, which puts the scene's name into the host instead of the
        path.

        Without `handshake`, the request is an ordinary one.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        method = changes.pop("method", "GET")
        at_root = changes.pop("at_root", False)
        usual = {
            "Host": f"{self.name}.example" if at_root else "example.com",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        usual = usual if handshake else {"Host": "example.com"}
        changes = {name.replace("_", "-").lower(): value for name, value in changes.items()}
        lines = [f"{name}: {changes.get(name.lower(), value)}" for name, value in usual.items()]
        lines = [line for line in lines if not line.endswith(": None")]
        who = "client" if not self.clients else f"client {len(self.clients) + 1}"
        client = Client(self.server.client, who, self.note, key)
        self.clients.append(client)
        body = b"".join(header for header in headers if isinstance(header, bytes))
        lines += [header for header in headers if not isinstance(header, bytes)]
        target = f"/{path}" if at_root else f"/{self.name}{path}"
        client.send("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + body)
        return client

    def opened(self, *events, headers=GRIP, path=""):
        """Connects a client. The origin accepts the WebSocket over HTTP, with further events in the same response.

        The transcript contains the handshake only if something about it is unusual.
        """
        before = len(self.transcript)
        client = self.connect(path)
        self.origin.next().answer("OPEN", *events, headers=headers)
        client.gets_answer()
        return self._usual(before, ["origin gets OPEN"], client)

    def member(self, *events, headers=GRIP, channel=None, **more):
        """Connects a client over HTTP, and waits until it is subscribed to `channel`, or to that of the scene.

        `more` are further fields of the control message that subscribes it.
        """
        client = self.opened(subscribe(channel or self.channel(), **more), *events, headers=headers)
        return self.subscribed(client, channel)

    def relayed(self, *lines, grip=True, path=""):
        """Connects a client to an origin that speaks WebSocket itself, and returns the client and the origin.

        `lines` are further header lines of the origin's response. If there are none and `grip` is true, the response
        turns on control messages. The transcript contains the handshake only if something about it is unusual.
        """
        before = len(self.transcript)
        client = self.connect(path)
        origin = self.origin.next()
        origin.accept(*lines) if lines or not grip else origin.accept_grip()
        client.gets_answer()
        return self._usual(before, [f"origin gets the handshake GET /SCENE{path}"], client), origin

    def _usual(self, before, origin, client):
        noted = [line.removesuffix(" [another Connection-Id]") for line in self.transcript[before:]]
        if noted == [*origin, f"{client.who} gets 101 Switching Protocols"]:
            del self.transcript[before:]
        return client

    # Publishing.

    def publish(self, *items):
        """Publishes items. The transcript contains only a refusal."""
        body = json.dumps({"items": items})
        status, answer = exchange(self.server.control, "POST", "/publish", body, {"Content-Type": "application/json"})
        if status != 200:
            self.note(f"publisher gets {status} {answer.strip()!r}")

    def send(self, content, channel=None, **more):
        """Publishes one item. The arguments are those of `item`."""
        self.publish(self.item(content, channel, **more))

    def item(self, content=None, channel=None, *, meta=None, item=None, **fields):
        """Returns an item for WebSockets.

        `content` is text, or bytes for `content-bin`. `fields` are further fields of the format, whose names have
        underscores in place of hyphens. `item` holds further fields of the item itself.
        """
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        if isinstance(content, bytes):
            fields["content-bin"] = base64.b64encode(content).decode()
        elif content is not None:
            fields["content"] = content
        found = {"channel": channel or self.channel(), "formats": {"ws-message": fields}} | (item or {})
        return found | ({"meta": meta} if meta else {})

    def subscribed(self, client, channel=None):
        """Waits until a client is subscribed to a channel, and returns the client.

        This is found out by texts that are published to the channel. The transcript does not contain them.
        """
        until = time.monotonic() + WAIT
        numbers, seen = [], []
        while True:
            if not seen:
                numbers.append(next(self._probes))
                self.send(f"{PROBE.decode()}{numbers[-1]}.", channel)
            try:
                client.fill(0.1)
            except Over:
                raise Failed(f"{client.who}'s connection ended before it was subscribed") from None
            seen = [number for number in numbers if f"{PROBE.decode()}{number}.".encode() in client.buffer]
            # Items arrive in their order, so no earlier text can follow the last one.
            if numbers[-1] in seen:
                return client
            if time.monotonic() > until:
                raise Failed(f"{client.who} was not subscribed after {WAIT:g} s")

    # Waiting, and the end of the scene.

    def wait(self, seconds):
        """Waits until a request has arrived at the origin, or bytes at a client, for at most `seconds`."""
        until = time.monotonic() + seconds
        with contextlib.suppress(Over):
            while time.monotonic() < until and not self.origin.is_asked():
                if any(client.buffer or client.fill(0.05) for client in self.clients):
                    return

    def settle(self, seconds=QUIET):
        """Adds to the transcript what the clients and the origin get, until nothing arrives for `seconds`.

        Meanwhile the origin answers requests, and both sides answer Close frames. This ends after `WAIT` at the latest.
        """
        until = time.monotonic() + WAIT
        # On a busy machine the first message may take longer, so the wait for it is longer by QUIET.
        last = time.monotonic() + QUIET
        notes = {}
        while time.monotonic() < min(last + seconds, until):
            before = len(self.transcript)
            some = self.origin.step()
            for peer in [*self.clients, *self.origin.relayed]:
                some |= peer.step()
            if some:
                last = time.monotonic()
            # The order of different receivers is random, so the lines of each receiver are kept together.
            for line in self.transcript[before:]:
                notes.setdefault(line.split(" gets ")[0].split("'s connection")[0], []).append(line)
            del self.transcript[before:]
            if not some:
                time.sleep(0.01)
        for who in sorted(notes, reverse=True):
            self.transcript += notes[who]

    def close(self):
        for client in self.clients:
            client.close()
        self.origin.close()


def play(one, server, origin):
    """Plays a scene, and returns its transcript. If the scene is cut short, the last line says why."""
    stage = Stage(one.name, server, origin)
    try:
        if not one.instead:
            origin.listen()
        one.play(stage)
    except Failed as error:
        stage.note(f"the scene stops here: {error}")
    except Exception as error:
        stage.note(f"broken: {type(error).__name__}: {error}")
    finally:
        stage.close()
    return stage.transcript


def judge(one, pushpin, gripd):
    """Returns the reason why a scene failed, or None if it passed."""
    for name, shown in [("Pushpin", pushpin), ("gripd", gripd)]:
        if shown and shown[-1].startswith("broken: "):
            return f"the scene broke at {name}: {shown[-1]}"
    if one.differs is None:
        return None if pushpin == gripd else f"Pushpin shows {difference(pushpin, gripd)}"
    if not matches(one.differs.shows, gripd):
        return f"the scene declares {difference(one.differs.shows, gripd)}"
    stale = matches(one.differs.shows, pushpin) and not one.differs.at_times
    return "the declared difference is stale: Pushpin shows what is declared for gripd" if stale else None


def is_line(declared, shown):
    """Returns whether a line is the declared one. If that ends with an ellipsis, any end of the line will do."""
    return shown.startswith(declared[:-1]) if declared.endswith("…") else shown == declared


def matches(declared, shown):
    """Returns whether a transcript is the declared one."""
    return len(declared) == len(shown) and all(map(is_line, declared, shown))


def difference(expected, shown):
    """Returns a text that says what two transcripts contain where they begin to differ."""
    same = sum(1 for _ in itertools.takewhile(lambda pair: is_line(*pair), zip(expected, shown, strict=False)))
    rests = [", then ".join(rest[same : same + 3]) or "nothing more" for rest in (expected, shown)]
    return f"{rests[0]}, but gripd shows {rests[1]}" + (f", after {same} equal lines" if same else "")
