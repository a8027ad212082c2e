"""The `websockets` package of PyPI as the client, with an origin over HTTP and with one that uses the same package."""

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
# The time limit, in seconds, until gripd cuts the client that does not read.
PATIENCE = 20
# A length of messages beyond 16,384 bytes, which is the largest content of a frame that Pushpin sends.
LONG = 50_000
# A long text. Several of them are more than the kernel and gripd buffer for a client.
BULK = "x" * 150_000
# The size, in bytes, of the receive buffer of the client that does not read. The kernel doubles it.
SMALL_BUFFER = 8192


class Stage:
    """A gripd whose origin is a chat, and the clients of the chat."""

    def __init__(self, closing, origin, config):
        self.origin_kind = origin
        self.chat = Chat()
        self.origin = closing.enter_context(origin(self.chat))
        self.gripd = closing.enter_context(Gripd(f"* {self.origin.address}{origin.options}", config))
        self.chat.gripd = self.gripd
        self._closing = closing

    def join(self, user, **options):
        """Connects a client and reads its welcome."""
        path = "/chat?" + urlencode({"user": user})
        options = {"ping_interval": None, "compression": None, "open_timeout": DEADLINE} | options
        url = "ws://{}:{}".format(*self.gripd.client) + path
        client = self._closing.enter_context(connect(url, **options))
        same(receive(client), f"welcome {user}", f"the first message to {user}")
        return client

    def join_all(self, **options):
        return [self.join(user, **options) for user in PEOPLE]

    def join_slowly(self, user):
        """Connects a client that reads its welcome, and then almost nothing until `receive` or `end` is called."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        small.settimeout(DEADLINE)
        small.connect(self.gripd.client)
        return self.join(user, sock=small, max_queue=1)

    def has_ended(self, user):
        """Waits until the origin knows that a client is gone. Returns the `Close` that the origin saw, or None."""
        eventually(f"the origin knows that {user} is gone", lambda: self.chat.has_lost(user))
        ends = [how for name, how in self.chat.ended if name == user]
        same(len(ends), 1, f"how often the origin saw the end of {user}")
        return ends[0]


def with_config(text):
    """Returns a decorator that gives a scene this configuration of gripd."""

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
    """Reads to the end of a connection. Returns the messages, and the `Close`, or None if no close frame came."""
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
    """Returns the negotiated extensions: the headers of the response, and the names that the library understood."""
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
        same(said, [f"{user}: žluť {number}" for number in rounds], f"the messages of {user}")
    for other in heard[1:]:
        same(other, heard[0], "the messages that another client got")
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
    same((receipt["closed"], receipt["cut"]), (1, 0), "closed and cut in the receipt of the kick")
    same(end(bob), (["before"], (4001, "out")), "the messages to bob, and the close")
    receive_all((alice, carol), "before")
    stage.has_ended("bob")
    try:
        stage.join("bob")
        raise Failed("bob was accepted again")
    except InvalidStatus as refused:
        same((refused.response.status_code, refused.response.body), (403, b"you are out\n"), "the response to bob")
    alice.send("say after")
    receive_all((alice, carol), "alice: after")
    same([name for name, _ in stage.chat.ended], ["bob"], "the users whose end the origin saw")


def goodbye_and_close_in_one_item(stage):
    alice, bob, _ = stage.join_all()
    goodbye = message("user-bob", "goodbye", action="close", code=4002, reason="with a word")
    [receipt] = stage.gripd.publish(goodbye)
    same((receipt["delivered"], receipt["closed"], receipt["cut"]), (1, 1, 0), "delivered, closed, cut in the receipt")
    same(end(bob), (["goodbye"], (4002, "with a word")), "the messages to bob, and the close")
    same(echo(alice, "hello"), "hello", "the echo to alice")


def large_messages(stage):
    alice, bob = stage.join("alice", max_size=None), stage.join("bob", max_size=None)
    largest = stage.origin_kind.largest
    alice.send("measure " + "u" * largest["up"])
    same(receive(alice), str(largest["up"]), "the length of the message that the origin got")
    stage.chat.hear = lambda *_: ["m:" + "d" * largest["down"]]
    alice.send("anything")
    same(len(receive(alice)), largest["down"], "the length of the message from the origin")
    published = "p" * 900_000
    stage.gripd.publish(message("room", published))
    for client in (alice, bob):
        check(receive(client) == published, "a received message differs from the large published one")


def binary_and_empty_messages(stage):
    alice = stage.join("alice")
    data = bytes(range(256)) * 100
    for sent in (data, b"", b"m:", b"c:{}"):
        alice.send(sent)
        same(receive(alice), sent, "the echo of bytes")
    same(echo(alice, ""), "", "the echo of an empty text")
    same(echo(alice, "c:{}"), "c:{}", "the echo of a text that looks like a control message")
    encoded = base64.b64encode(data).decode()
    stage.gripd.publish({"channel": "room", "formats": {"ws-message": {"content-bin": encoded}}})
    same(receive(alice), data, "the published bytes")


def fragments_are_one_message(stage):
    alice = stage.join("alice")
    alice.send(["echo ", "žlu", "ť ", "kůň"])
    same(receive(alice), "žluť kůň", "the echo")


def pings_get_their_pongs(stage):
    alice = stage.join("alice", ping_interval=PING_EVERY, ping_timeout=2)
    eventually("a pong with the content of its ping has come", lambda: alice.latency > 0)
    pongs = [alice.ping(content) for content in ("by hand", b"\x00" * 125, "last")]
    for pong in pongs:
        check(pong.wait(DEADLINE), "a ping of this scene got no pong")
    if isinstance(stage.origin, OverHttp):
        check(stage.origin.pings >= 4, f"the origin saw only {stage.origin.pings} pings")
    else:
        [connection] = stage.origin.connections
        eventually("the client's pong has come to the origin", lambda: connection.latency > 0)
    same(echo(alice, "hello"), "hello", "the echo after the pings")


def subprotocol_is_the_origins_choice(stage):
    alice = stage.join("alice", subprotocols=["chat.v2", SUBPROTOCOL])
    same(alice.subprotocol, SUBPROTOCOL, "the subprotocol")
    same(echo(alice, "hello"), "hello", "the echo with a subprotocol")
    bob = stage.join("bob")
    same(bob.subprotocol, None, "the subprotocol of a client that offers none")


def no_compression_unless_configured(stage):
    alice = stage.join("alice", compression="deflate")
    same(extensions(alice), ([], []), "the extensions")
    same(echo(alice, BULK), BULK, "the echo")


def talk_compressed(stage, **options):
    """Exchanges compressed messages of all kinds with the origin and a publisher. Returns the client."""
    alice = stage.join("alice", max_size=None, **options)
    [header], names = extensions(alice)
    same(names, ["permessage-deflate"], "the extensions")
    check("grip" not in header, f"the client sees the extension grip: {header!r}")
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
    same(extensions(plain), ([], []), "the extensions of a client that offers none")
    stage.gripd.publish(message("user-bob", "plain"))
    same(receive(plain), "plain", "the message to a client without compression")


@with_config("[websocket]\ncompression = true\n")
def compressed_without_contexts(stage):
    offer = ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    alice = talk_compressed(stage, extensions=[offer])
    check("server_no_context_takeover" in extensions(alice)[0][0], "gripd did not agree to server_no_context_takeover")


@with_config("[websocket]\ncompression = true\n")
def compressed_with_small_windows(stage):
    # A server that cannot keep to a smaller window must take the next offer.
    small = ClientPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=10)
    talk_compressed(stage, extensions=[small, ClientPerMessageDeflateFactory()])


def close_by_the_client(stage):
    alice, bob, carol = stage.join_all()
    alice.close(4000, "žluť")
    same(stage.has_ended("alice"), (4000, "žluť"), "the close that the origin saw")
    bob.close()
    same(stage.has_ended("bob"), (1000, ""), "the close that the origin saw")
    check(alice.protocol.close_rcvd and bob.protocol.close_rcvd, "a close was not answered")
    same(alice.protocol.close_rcvd.code, 4000, "the code that the client got back")
    same(echo(carol, "hello"), "hello", "the echo to a client that stays")


def close_by_the_origin(stage):
    for user, code, reason in (("alice", 1000, ""), ("bob", 1001, "going"), ("carol", 4999, "žluť")):
        client = stage.join(user)
        client.send(f"close {code} {reason}")
        same(end(client), ([], (code, reason)), f"the messages to {user}, and the close")


def origin_learns_of_a_lost_client(stage):
    alice, bob, _ = stage.join_all()
    bob.socket.shutdown(socket.SHUT_RDWR)
    same(stage.has_ended("bob"), None, "the close of bob that the origin saw")
    stage.gripd.wait_for("user-bob", 0)
    same(echo(alice, "hello"), "hello", "the echo to a client that stays")


def failure_of_the_origin_for_one_client_ends_only_this_client(stage):
    alice, bob, _ = stage.join_all()
    bob.send("break")
    messages, close = end(bob)
    same(messages, [], "the messages to bob")
    check(close is None or close.code == 1011, f"bob's connection was closed by {close}")
    stage.gripd.wait_for("user-bob", 0)
    same(echo(alice, "hello"), "hello", "the echo to another client")


def only_the_slow_client_is_closed(stage):
    alice, carol, bob = stage.join("alice"), stage.join("carol"), stage.join_slowly("bob")
    sent = []

    def publish():
        sent.append(f"{len(sent)} {BULK}")
        [receipt] = stage.gripd.publish(message("room", sent[-1]))
        # The other clients have read each message before the next is published, so only bob can be slow.
        receive_all((alice, carol), sent[-1])
        return receipt["slow"]

    slow = eventually("the client that does not read is cut", publish, PATIENCE)
    same(slow, 1, "the number of slow clients in the receipt")
    stage.gripd.wait_for("user-bob", 0)
    messages, close = end(bob)
    check(close is None or close.code == 1013, f"the slow client was closed by {close}")
    check(messages == sent[: len(messages)] and len(messages) < len(sent), "the slow client got the wrong messages")
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
        same((messages, close and close.code), (["last"], 1001), f"the messages to {user}, and the code of the close")
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
    origin_learns_of_a_lost_client,
    failure_of_the_origin_for_one_client_ends_only_this_client,
    only_the_slow_client_is_closed,
    drain_closes_with_1001,
]


def before(origin, scene):
    """Returns a function that plays a scene with this kind of origin."""

    def play():
        with ExitStack() as closing:
            scene(Stage(closing, origin, getattr(scene, "config", None)))

    play.__name__ = f"websockets_{origin.name}_{scene.__name__}"
    return play


if __name__ == "__main__":
    wanted = [before(origin, scene) for origin in (OverHttp, Relayed) for scene in SCENES]
    sys.exit(1 if run(wanted) else 0)
