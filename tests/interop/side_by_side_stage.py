"""What a scene is played on: a client, an origin and a publisher around a server; and what it must show."""

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

# Headers of answers that are noted. Others are how a server frames an answer.
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
    """What gripd shows in the place of Pushpin's transcript, and why that is intended."""

    why: str
    shows: list
    # Whether Pushpin shows the same at times: what it does wrong is a race.
    at_times: bool = False


class Scene(NamedTuple):
    name: str
    play: object
    # Options of the route's condition and of its target, and whole targets in the place of the origin.
    route: str
    target: str
    proto: str
    instead: str
    # Whether a host of its own names the route, in the place of a path.
    host: bool
    # Takes long: begins first.
    slow: bool
    # May end Pushpin: gets one of its own.
    alone: bool
    differs: Differs | None


SCENES = []
# A reason that many scenes have.
GENTLE = "the client gets a Close frame, where Pushpin ends the connection"


def lost(*before):
    """What is shown when gripd cannot make use of what the origin answers: that one hears that the client is gone."""
    return [*closes(1011, *before), "origin gets DISCONNECT"]


def closes(code, *before):
    """A transcript that ends with a Close frame; what it says beside the code is free."""
    return [*before, f"client gets CLOSE {code}…", "client's connection ends"]


def scene(target="over_http", *, route="", proto="ws", instead="", host=False, slow=False, alone=False, differs=None):
    """Declares a scene: both servers must show the same, unless it says how gripd `differs`."""

    def declare(play):
        declared = Differs(*differs) if differs else None
        found = Scene(play.__name__, play, route, target, proto, instead, host, slow, alone, declared)
        SCENES.append(found)
        return play

    return declare


def route_lines(one, port):
    """The lines of a routes file for a scene."""
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
        """Waits for the answer to the handshake, or to a request, and notes it; not the type of a server's own."""
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
            raise Failed("no answer") from None
        return self

    def ends(self, seconds=WAIT):
        """Notes all that comes until the connection ends. A Close frame is answered, as a browser does."""
        until = time.monotonic() + seconds
        while not self.done:
            if not self.step():
                if time.monotonic() > until:
                    raise Failed(f"{self.who}'s connection was still open after {seconds:g} s")
                with contextlib.suppress(Over):
                    self.fill(0.1)
        return self

    def may_end(self):
        """Notes all that comes, until the connection ends or nothing comes any more."""
        last = time.monotonic() + QUIET
        while not self.done and time.monotonic() < last + QUIET:
            if self.step():
                last = time.monotonic()
            else:
                with contextlib.suppress(Over):
                    self.fill(0.05)
        return self


class Stage:
    """A scene's own client, origin and channels."""

    def __init__(self, name, server, origin):
        self.name, self.server, self.origin = name, server, origin
        self.transcript = []
        self.clients = []
        self._probes = itertools.count(1)
        origin.note = self.note

    def note(self, line):
        self.transcript.append(line.replace(f"/{self.name}", "/SCENE"))

    def channel(self, name="room"):
        """A name for a channel that no other scene uses."""
        return f"{self.name}-{name}"

    # Clients.

    def connect(self, path="", *headers, handshake=True, **changes):
        """Sends a handshake. `changes` replace headers by their name in Python's style; None leaves one out."""
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
        """Connects over HTTP; the origin accepts, with more events. What is as usual is not noted."""
        before = len(self.transcript)
        client = self.connect(path)
        self.origin.next().answer("OPEN", *events, headers=headers)
        client.gets_answer()
        return self._usual(before, ["origin gets OPEN"], client)

    def member(self, *events, headers=GRIP, channel=None, **more):
        """A client over HTTP that is subscribed to the scene's channel, or to another."""
        client = self.opened(subscribe(channel or self.channel(), **more), *events, headers=headers)
        return self.subscribed(client, channel)

    def relayed(self, *lines, grip=True, path=""):
        """Connects to an origin that speaks WebSockets itself: client and origin. What is as usual is not noted."""
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
        """Publishes; notes only a refusal."""
        body = json.dumps({"items": items})
        status, answer = exchange(self.server.control, "POST", "/publish", body, {"Content-Type": "application/json"})
        if status != 200:
            self.note(f"publisher gets {status} {answer.strip()!r}")

    def send(self, content, channel=None, **more):
        """Publishes a text."""
        self.publish(self.item(content, channel, **more))

    def item(self, content=None, channel=None, *, meta=None, item=None, **fields):
        """An item; more fields of its format, and of the item itself."""
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        if isinstance(content, bytes):
            fields["content-bin"] = base64.b64encode(content).decode()
        elif content is not None:
            fields["content"] = content
        found = {"channel": channel or self.channel(), "formats": {"ws-message": fields}} | (item or {})
        return found | ({"meta": meta} if meta else {})

    def subscribed(self, client, channel=None):
        """Waits until a client is subscribed, by texts that are not noted."""
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
            # What was published later is delivered later.
            if numbers[-1] in seen:
                return client
            if time.monotonic() > until:
                raise Failed(f"{client.who} was not subscribed after {WAIT:g} s")

    # What else happens.

    def wait(self, seconds):
        """Waits until somebody gets something."""
        until = time.monotonic() + seconds
        with contextlib.suppress(Over):
            while time.monotonic() < until and not self.origin.is_asked():
                if any(client.buffer or client.fill(0.05) for client in self.clients):
                    return

    def settle(self, seconds=QUIET):
        """Notes what comes to anybody until nothing comes any more. Origin and clients do what is polite."""
        until = time.monotonic() + WAIT
        # The first thing may take a busy machine longer.
        last = time.monotonic() + QUIET
        notes = {}
        while time.monotonic() < min(last + seconds, until):
            before = len(self.transcript)
            some = self.origin.step()
            for peer in [*self.clients, *self.origin.relayed]:
                some |= peer.step()
            if some:
                last = time.monotonic()
            # Who gets something first is chance: each one's lines stay together.
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
    """Plays a scene: its transcript. What stops it is the last line."""
    stage = Stage(one.name, server, origin)
    try:
        if not one.instead:
            origin.listen()
        one.play(stage)
    except Failed as error:
        stage.note(f"so far: {error}")
    except Exception as error:
        stage.note(f"broken: {type(error).__name__}: {error}")
    finally:
        stage.close()
    return stage.transcript


def judge(one, pushpin, gripd):
    """Why a scene failed, or None."""
    for name, shown in [("Pushpin", pushpin), ("gripd", gripd)]:
        if shown and shown[-1].startswith("broken: "):
            return f"the scene broke at {name}: {shown[-1]}"
    if one.differs is None:
        return None if pushpin == gripd else f"Pushpin shows {difference(pushpin, gripd)}"
    if not matches(one.differs.shows, gripd):
        return f"declared is {difference(one.differs.shows, gripd)}"
    stale = matches(one.differs.shows, pushpin) and not one.differs.at_times
    return "stale: Pushpin shows what is declared for gripd" if stale else None


def is_line(declared, shown):
    """Whether a line is the declared one, which may leave its end open, by an ellipsis."""
    return shown.startswith(declared[:-1]) if declared.endswith("…") else shown == declared


def matches(declared, shown):
    """Whether a transcript is the declared one."""
    return len(declared) == len(shown) and all(map(is_line, declared, shown))


def difference(expected, shown):
    """Where two transcripts part, in words."""
    same = sum(1 for _ in itertools.takewhile(lambda pair: is_line(*pair), zip(expected, shown, strict=False)))
    rests = [", then ".join(rest[same : same + 3]) or "nothing more" for rest in (expected, shown)]
    return f"{rests[0]} and gripd {rests[1]}" + (f", behind {same} lines that agree" if same else "")
