"""The `websockets` package of PyPI as the client, before an origin over HTTP and before a server of that package."""

import base64
import os
import socket
import sys
from contextlib import ExitStack
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from harness import DEADLINE, Failed, Gripd, check, eventually, run, same
from websockets_origins import PING_EVERY, SUBPROTOCOL, Chat, Close, OverHttp, Relayed, message

PEOPLE = ("alice", "bob", "carol")
# How long the slow client may hold out, in seconds.
PATIENCE = 20
# More than fits into one frame of 16,384 bytes, as Pushpin sends them.
LONG = 50_000
# Several of these are more than the kernel and gripd keep for a client.
BULK = "x" * 150_000
# What the kernel keeps for the client that does not read; it doubles this.
SMALL_BUFFER = 8192


class Stage:
    """gripd between a chat and its clients."""

    def __init__(self, closing, origin, config):
        self.origin_kind = origin
        self.chat = Chat()
        self.origin = closing.enter_context(origin(self.chat))
        self.gripd = closing.enter_context(Gripd(f"* {self.origin.address}{origin.options}", config))
        self.chat.gripd = self.gripd
        self._closing = closing

    def join(self, user, **options):
        """A client that has read its welcome."""
        path = "/chat?" + urlencode({"user": user})
        options = {"ping_interval": None, "compression": None, "open_timeout": DEADLINE} | options
        url = "ws://{}:{}".format(*self.gripd.client) + path
        client = self._closing.enter_context(connect(url, **options))
        same(receive(client), f"welcome {user}", f"the first message to {user}")
        return client

    def join_all(self, **options):
        return [self.join(user, **options) for user in PEOPLE]

    def join_slowly(self, user):
        """A client that reads its welcome, and then only if it is asked to."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        small.settimeout(DEADLINE)
        small.connect(self.gripd.client)
        return self.join(user, sock=small, max_queue=1)

    def has_ended(self, user):
        """Waits until the origin knows that a client is gone, and returns how it saw the end."""
        eventually(f"the origin knows that {user} is gone", lambda: self.chat.has_lost(user))
        ends = [how for name, how in self.chat.ended if name == user]
        same(len(ends), 1, f"how often the origin heard of the end of {user}")
        return ends[0]


def with_config(text):
    """What gripd is told for a scene."""

    def mark(scene):
        scene.config = text
        return scene

    return mark


def receive(client):
    try:
        return client.recv(timeout=DEADLINE)
    except TimeoutError:
        raise Failed(f"no message came for {DEADLINE:g} s") from None


def receive_all(clients, expected):
    for client in clients:
        same(receive(client), expected, "the message to everyone")


def end(client):
    """Reads to the end: the messages until there, and the Close, or None if there was none."""
    messages = []
    try:
        while True:
            messages.append(receive(client))
    except ConnectionClosed as closed:
        return messages, closed.rcvd and Close(closed.rcvd.code, closed.rcvd.reason)


def echo(client, text):
    client.send(f"echo {text}")
    return receive(client)


def extensions(client):
    """What was negotiated: as the head of the answer says, and as the library understood it."""
    return client.response.headers.get_all("Sec-WebSocket-Extensions"), [e.name for e in client.protocol.extensions]


def chat_of_three(stage):
    clients = stage.join_all()
    rounds = range(20)
    for number in rounds:
        for client in clients:
            client.send(f"say žluť {number}")
    heard = [[receive(client) for _ in rounds for _ in PEOPLE] for client in clients]
    for user in PEOPLE:
        said = [text for text in heard[0] if text.startswith(user)]
        same(said, [f"{user}: žluť {number}" for number in rounds], f"what {user} said")
    for other in heard[1:]:
        same(other, heard[0], "what another one heard")
    for user in PEOPLE:
        stage.gripd.publish(message(f"user-{user}", f"for {user}"))
    for user, client in zip(PEOPLE, clients):
        same(receive(client), f"for {user}", f"the message on the channel of {user}")


def kick_with_a_code(stage):
    alice, bob, carol = stage.join_all()
    stage.chat.banned.add("bob")
    stage.gripd.publish(message("room", "before"))
    kick = {"channel": "user-bob", "action": "close", "code": 4001, "reason": "out"}
    [receipt] = stage.gripd.publish(kick)
    same((receipt["closed"], receipt["cut"]), (1, 0), "closed and cut of the kick")
    same(end(bob), (["before"], (4001, "out")), "what bob saw until the end")
    receive_all((alice, carol), "before")
    stage.has_ended("bob")
    try:
        stage.join("bob")
        raise Failed("bob came in again")
    except InvalidStatus as refused:
        same((refused.response.status_code, refused.response.body), (403, b"you are out\n"), "the answer to bob")
    alice.send("say after")
    receive_all((alice, carol), "alice: after")
    same([name for name, _ in stage.chat.ended], ["bob"], "whom the origin lost")


def goodbye_and_close_in_one_item(stage):
    alice, bob, _ = stage.join_all()
    goodbye = message("user-bob", "goodbye", action="close", code=4002, reason="with a word")
    [receipt] = stage.gripd.publish(goodbye)
    same((receipt["delivered"], receipt["closed"], receipt["cut"]), (1, 1, 0), "delivered, closed and cut")
    same(end(bob), (["goodbye"], (4002, "with a word")), "what bob saw until the end")
    same(echo(alice, "hello"), "hello", "what alice gets")


def large_messages(stage):
    alice, bob = stage.join("alice", max_size=None), stage.join("bob", max_size=None)
    largest = stage.origin_kind.largest
    alice.send("measure " + "u" * largest["up"])
    same(receive(alice), str(largest["up"]), "the length of what came to the origin")
    stage.chat.hear = lambda *_: ["m:" + "d" * largest["down"]]
    alice.send("anything")
    same(len(receive(alice)), largest["down"], "the length of what came from the origin")
    published = "p" * 900_000
    stage.gripd.publish(message("room", published))
    for client in (alice, bob):
        check(receive(client) == published, "the large published message came changed")


def binary_and_empty_messages(stage):
    alice = stage.join("alice")
    data = bytes(range(256)) * 100
    for sent in (data, b"", b"m:", b"c:{}"):
        alice.send(sent)
        same(receive(alice), sent, "the echo of bytes")
    same(echo(alice, ""), "", "the echo of nothing")
    same(echo(alice, "c:{}"), "c:{}", "the echo of what looks like a control message")
    encoded = base64.b64encode(data).decode()
    stage.gripd.publish({"channel": "room", "formats": {"ws-message": {"content-bin": encoded}}})
    same(receive(alice), data, "the published bytes")


def fragments_are_one_message(stage):
    alice = stage.join("alice")
    alice.send(["echo ", "žlu", "ť ", "kůň"])
    same(receive(alice), "žluť kůň", "the echo")


def pings_get_their_pongs(stage):
    alice = stage.join("alice", ping_interval=PING_EVERY, ping_timeout=2)
    eventually("a pong comes with what its ping had", lambda: alice.latency > 0)
    pongs = [alice.ping(content) for content in ("by hand", b"\x00" * 125, "last")]
    for pong in pongs:
        check(pong.wait(DEADLINE), "a ping by hand got no pong")
    if isinstance(stage.origin, OverHttp):
        check(stage.origin.pings >= 4, f"the origin saw only {stage.origin.pings} pings")
    else:
        [connection] = stage.origin.connections
        eventually("the client's pong comes to the origin", lambda: connection.latency > 0)
    same(echo(alice, "hello"), "hello", "the echo after the pings")


def subprotocol_is_the_origins_choice(stage):
    alice = stage.join("alice", subprotocols=["chat.v2", SUBPROTOCOL])
    same(alice.subprotocol, SUBPROTOCOL, "the subprotocol")
    same(echo(alice, "hello"), "hello", "the echo with a subprotocol")
    bob = stage.join("bob")
    same(bob.subprotocol, None, "the subprotocol of one who offers none")


def no_compression_unless_configured(stage):
    alice = stage.join("alice", compression="deflate")
    same(extensions(alice), ([], []), "the extensions")
    same(echo(alice, BULK), BULK, "the echo")


def talk_compressed(stage, **options):
    """Messages of all sorts, to the origin, from it and from a publisher."""
    alice = stage.join("alice", max_size=None, **options)
    [header], names = extensions(alice)
    same(names, ["permessage-deflate"], "the extensions")
    check("grip" not in header, f"the client sees {header!r}")
    for text in ("short", "", "ž" * LONG, *["the same again"] * 20):
        same(echo(alice, text), text, "the echo of a text")
    noise = os.urandom(LONG)
    for data in (noise, b"", noise, b"a" * (2 * LONG)):
        alice.send(data)
        same(receive(alice), data, "the echo of bytes")
    texts = [f"published {number} {BULK[:2000]}" for number in range(100)]
    stage.gripd.publish(*(message("room", text) for text in texts))
    same([receive(alice) for _ in texts], texts, "the published texts")
    alice.send(["echo ", "in ", "fragments"])
    same(receive(alice), "in fragments", "the echo of fragments")
    return alice


@with_config("[websocket]\ncompression = true\n")
def compressed_both_ways(stage):
    talk_compressed(stage, compression="deflate")
    plain = stage.join("bob")
    same(extensions(plain), ([], []), "the extensions of one who offers none")
    stage.gripd.publish(message("user-bob", "plain"))
    same(receive(plain), "plain", "what one without compression gets")


@with_config("[websocket]\ncompression = true\n")
def compressed_without_contexts(stage):
    offer = ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    alice = talk_compressed(stage, extensions=[offer])
    check("server_no_context_takeover" in extensions(alice)[0][0], "the server keeps its context")


@with_config("[websocket]\ncompression = true\n")
def compressed_with_small_windows(stage):
    # A server that cannot keep to a smaller window must take the next offer.
    small = ClientPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=10)
    talk_compressed(stage, extensions=[small, ClientPerMessageDeflateFactory()])


def close_by_the_client(stage):
    alice, bob, carol = stage.join_all()
    alice.close(4000, "žluť")
    same(stage.has_ended("alice"), (4000, "žluť"), "the Close at the origin")
    bob.close()
    same(stage.has_ended("bob"), (1000, ""), "the Close at the origin")
    check(alice.protocol.close_rcvd and bob.protocol.close_rcvd, "a Close was not answered")
    same(alice.protocol.close_rcvd.code, 4000, "the code that came back")
    same(echo(carol, "hello"), "hello", "the echo to the one who stays")


def close_by_the_origin(stage):
    for user, code, reason in (("alice", 1000, ""), ("bob", 1001, "going"), ("carol", 4999, "žluť")):
        client = stage.join(user)
        client.send(f"close {code} {reason}")
        same(end(client), ([], (code, reason)), f"the end for {user}")


def lost_client_comes_to_the_origin(stage):
    alice, bob, _ = stage.join_all()
    bob.socket.shutdown(socket.SHUT_RDWR)
    same(stage.has_ended("bob"), None, "the end of bob at the origin")
    stage.gripd.wait_for("user-bob", 0)
    same(echo(alice, "hello"), "hello", "the echo to one who stays")


def broken_origin_ends_only_that_client(stage):
    alice, bob, _ = stage.join_all()
    bob.send("break")
    messages, close = end(bob)
    same(messages, [], "what bob got")
    check(close is None or close.code == 1011, f"bob's connection was closed by {close}")
    stage.gripd.wait_for("user-bob", 0)
    same(echo(alice, "hello"), "hello", "the echo to another one")


def slow_client_is_closed_and_nobody_else(stage):
    alice, carol, bob = stage.join("alice"), stage.join("carol"), stage.join_slowly("bob")
    sent = []

    def publish():
        sent.append(f"{len(sent)} {BULK}")
        [receipt] = stage.gripd.publish(message("room", sent[-1]))
        # Who keeps up has each before the next, so only one can be slow.
        receive_all((alice, carol), sent[-1])
        return receipt["slow"]

    slow = eventually("the client that does not read is cut", publish, PATIENCE)
    same(slow, 1, "the slow ones of the receipt")
    stage.gripd.wait_for("user-bob", 0)
    messages, close = end(bob)
    check(close is None or close.code == 1013, f"the slow one was closed by {close}")
    check(messages == sent[: len(messages)] and len(messages) < len(sent), "the slow one got messages out of order")
    stage.gripd.publish(message("room", "after"))
    receive_all((alice, carol), "after")
    stage.has_ended("bob")


@with_config("drain = 1\n")
def drain_closes_with_1001(stage):
    clients = stage.join_all()
    stage.gripd.publish(message("room", "last"))
    stage.gripd.process.ask_to_end()
    for user, client in zip(PEOPLE, clients):
        messages, close = end(client)
        same((messages, close and close.code), (["last"], 1001), f"the end for {user}")
    for user in PEOPLE:
        stage.has_ended(user)


SCENES = [
    chat_of_three,
    kick_with_a_code,
    goodbye_and_close_in_one_item,
    large_messages,
    binary_and_empty_messages,
    fragments_are_one_message,
    pings_get_their_pongs,
    subprotocol_is_the_origins_choice,
    no_compression_unless_configured,
    compressed_both_ways,
    compressed_without_contexts,
    compressed_with_small_windows,
    close_by_the_client,
    close_by_the_origin,
    lost_client_comes_to_the_origin,
    broken_origin_ends_only_that_client,
    slow_client_is_closed_and_nobody_else,
    drain_closes_with_1001,
]


def before(origin, scene):
    """The scene as it is played before a kind of origin."""

    def play():
        with ExitStack() as closing:
            scene(Stage(closing, origin, getattr(scene, "config", None)))

    play.__name__ = f"websockets_{origin.name}_{scene.__name__}"
    return play


if __name__ == "__main__":
    wanted = [before(origin, scene) for origin in (OverHttp, Relayed) for scene in SCENES]
    sys.exit(1 if run(wanted) else 0)
