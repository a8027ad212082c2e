"""Chromium's own WebSocket client, with and without compression, and with both kinds of origin."""

import base64
import sys
from contextlib import ExitStack
from urllib.parse import urlencode

from chromium import Browser, DriverError
from harness import Answer, Failed, Gripd, Origin, check, eventually, report, run, same
from websockets_origins import SUBPROTOCOL, Chat, OverHttp, Relayed, message

COMPRESSION = {"plain": "[websocket]\ncompression = false\n", "compressed": "[websocket]\ncompression = true\n"}
# A page that records the messages and the end of each of its WebSockets.
PAGE = b"""<!doctype html>
<title>WebSockets</title>
<script>
  const sockets = {};
  function open_socket(name, url, protocols) {
    const socket = new WebSocket(url, protocols);
    const seen = { socket, messages: [], end: null };
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => seen.messages.push(typeof data === 'string' ? data : { bytes: encoded(data) });
    socket.onclose = ({ code, reason, wasClean }) => { seen.end = [code, reason, wasClean]; };
    sockets[name] = seen;
  }
  function encoded(data) {
    return btoa(Array.from(new Uint8Array(data), (byte) => String.fromCharCode(byte)).join(''));
  }
  function send_bytes(name, text) {
    sockets[name].socket.send(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
  }
</script>
"""


class Page:
    """A tab of a browser that shows `PAGE`, which comes from a server of its own."""

    def __init__(self, closing):
        site = closing.enter_context(Origin(lambda _: Answer(200, {"Content-Type": "text/html"}, PAGE)))
        self._browser = Browser(closing)
        self._browser.tell("url", {"url": f"http://{site.address}/"})

    def js(self, script, *args):
        return self._browser.tell("execute/sync", {"script": script, "args": args})


class Socket:
    """The WebSocket of one user in the page."""

    def __init__(self, page, gripd, user, protocols=()):
        self._page, self._user, self._read = page, user, 0
        url = "ws://{}:{}/chat?".format(*gripd.client) + urlencode({"user": user})
        page.js("open_socket(...arguments)", user, url, list(protocols))
        same(self.receive(1), [f"welcome {user}"], f"the first message to {user}")

    def receive(self, count):
        """Waits for the next `count` messages and returns them. A binary message is returned as `bytes`."""
        until = self._read + count
        seen = "return sockets[arguments[0]].messages.length"
        eventually(f"{self._user} has {until} messages", lambda: self._js(seen) >= until or self._unless_ended())
        arrived = self._js("return sockets[arguments[0]].messages.slice(arguments[1], arguments[2])", self._read, until)
        self._read = until
        return [text if isinstance(text, str) else base64.b64decode(text["bytes"]) for text in arrived]

    def send(self, data):
        if isinstance(data, str):
            self._js("sockets[arguments[0]].socket.send(arguments[1])", data)
        else:
            self._js("send_bytes(...arguments)", base64.b64encode(data).decode())

    def close(self, code, reason):
        self._js("sockets[arguments[0]].socket.close(arguments[1], arguments[2])", code, reason)

    def end(self):
        """Waits until the WebSocket is closed. Returns the code, the reason, and whether the close was clean."""
        ended = "return sockets[arguments[0]].end"
        return tuple(eventually(f"the WebSocket of {self._user} is closed", lambda: self._js(ended)))

    def get(self, name):
        """Returns a property of the WebSocket."""
        return self._js("return sockets[arguments[0]].socket[arguments[1]]", name)

    def _unless_ended(self):
        end, messages = self._js("const { end, messages } = sockets[arguments[0]]; return [end, messages.length]")
        check(end is None or messages > self._read, f"the WebSocket of {self._user} was closed with {end}")
        return False

    def _js(self, script, *args):
        return self._page.js(script, self._user, *args)


class Stage:
    """A gripd whose origin is a chat, and the page as its client."""

    def __init__(self, closing, page, origin, compression):
        self._page, self.is_compressed = page, compression == "compressed"
        self.chat = Chat()
        self.origin = closing.enter_context(origin(self.chat))
        config = "drain = 1\n" + COMPRESSION[compression]
        self.gripd = closing.enter_context(Gripd(f"* {self.origin.address}{origin.options}", config))
        self.chat.gripd = self.gripd
        # At the end of a scene the page closes its WebSockets. Otherwise gripd would have to close them in its drain.
        closing.callback(page.js, "for (const { socket } of Object.values(sockets)) socket.close()")

    def join(self, *users, **options):
        return [Socket(self._page, self.gripd, user, **options) for user in users]


def text_both_ways(stage):
    alice, bob = stage.join("alice", "bob")
    for text in ("hello", "", "žluť 😀", "long " * 20_000):
        alice.send(f"echo {text}")
        check(alice.receive(1) == [text], f"the echo of {text[:20]!r} differs from what was sent")
    alice.send("say hello <b>everybody</b>")
    for socket in (alice, bob):
        same(socket.receive(1), ["alice: hello <b>everybody</b>"], "the message to everybody")


def binary_both_ways(stage):
    [alice] = stage.join("alice")
    data = bytes(range(256)) * 200
    for sent in (data, b"", b"m:c:"):
        alice.send(sent)
        check(alice.receive(1) == [sent], f"the echo of {len(sent)} bytes differs from what was sent")
    content = base64.b64encode(data).decode()
    stage.gripd.publish({"channel": "room", "formats": {"ws-message": {"content-bin": content}}})
    check(alice.receive(1) == [data], "the received bytes differ from the published ones")


def burst_in_order(stage):
    sockets = stage.join("alice", "bob")
    texts = [f"žluť {number}" for number in range(200)]
    stage.gripd.publish(*(message("room", text) for text in texts))
    for socket in sockets:
        same(socket.receive(len(texts)), texts, "the messages of the burst")


def kick_with_a_code(stage):
    alice, bob = stage.join("alice", "bob")
    kick = {"channel": "user-bob", "action": "close", "code": 4001, "reason": "žluť: out"}
    [receipt] = stage.gripd.publish(message("user-bob", "goodbye"), kick)[1:]
    same((receipt["closed"], receipt["cut"]), (1, 0), "closed and cut in the receipt of the kick")
    same(bob.receive(1), ["goodbye"], "the message to bob before the close")
    same(bob.end(), (4001, "žluť: out", True), "the close that bob saw")
    alice.send("say still here")
    same(alice.receive(1), ["alice: still here"], "the message of alice after the kick")
    eventually("the origin knows that bob is gone", lambda: stage.chat.has_lost("bob"))


def close_by_the_page(stage):
    alice, bob = stage.join("alice", "bob")
    bob.close(4000, "bye")
    same(bob.end(), (4000, "bye", True), "the close that bob saw")
    eventually("the origin knows that bob is gone", lambda: stage.chat.has_lost("bob"))
    same(stage.chat.ended, [("bob", (4000, "bye"))], "the closes that the origin saw")
    alice.send("echo hello")
    same(alice.receive(1), ["hello"], "the echo to alice")


def handshake_agrees_on_subprotocol_and_compression(stage):
    alice, bob = stage.join("alice", protocols=["chat.v2", SUBPROTOCOL]) + stage.join("bob")
    same([alice.get("protocol"), bob.get("protocol")], [SUBPROTOCOL, ""], "the subprotocols")
    extensions = alice.get("extensions")
    if stage.is_compressed:
        check(extensions.startswith("permessage-deflate"), f"the extensions are {extensions!r}")
    else:
        same(extensions, "", "the extensions")


def drain_closes_with_1001(stage):
    sockets = stage.join("alice", "bob")
    stage.gripd.process.ask_to_end()
    for socket in sockets:
        code, _, was_clean = socket.end()
        same((code, was_clean), (1001, True), "the code of the close, and whether it was clean")


SCENES = [
    handshake_agrees_on_subprotocol_and_compression,
    text_both_ways,
    binary_both_ways,
    burst_in_order,
    kick_with_a_code,
    close_by_the_page,
    drain_closes_with_1001,
]


def on_page(page, origin, compression, scene):
    """Returns a function that plays a scene with this page, this kind of origin and this setting of compression."""

    def play():
        with ExitStack() as closing:
            scene(Stage(closing, page, origin, compression))

    play.__name__ = f"browser_{origin.name}_{compression}_{scene.__name__}"
    return play


def play():
    """Opens the browser, plays all scenes, and closes the browser. Returns how many scenes failed."""
    with ExitStack() as closing:
        page = Page(closing)
        kinds = [(origin, compression) for origin in (OverHttp, Relayed) for compression in COMPRESSION]
        return run([on_page(page, *kind, scene) for kind in kinds for scene in SCENES])


def main():
    try:
        failures = play()
    except (Failed, DriverError, OSError) as error:
        report("browser_opens_and_closes", error)
        failures = 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
