"""Scenes of relayed WebSockets: publishing to them, and the control messages of their origins."""

import time

from side_by_side_stage import scene
from side_by_side_wire import BINARY, CONTINUATION, control


def member(s):
    """Returns a relayed client that is subscribed to the channel of the scene, and its origin."""
    client, origin = s.relayed()
    origin.text(control("subscribe", channel=s.channel()))
    return s.subscribed(client), origin


@scene("")
def published_to_a_relayed_websocket(s):
    client, origin = member(s)
    s.send("one")
    s.send(b"\xff\0")
    client.gets(2)
    origin.text("two")
    client.gets()
    s.settle()


@scene("")
def relayed_origin_unsubscribes_the_client(s):
    client, origin = member(s)
    origin.text(control("unsubscribe", channel=s.channel()))
    origin.text(control("subscribe", channel=s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("never")
    s.send("end", s.channel("end"))
    client.gets()


@scene("")
def relayed_close_is_published(s):
    client, origin = member(s)
    s.publish(s.item("goodbye"), s.item(action="close", code=4001, reason="kicked"))
    s.settle()


@scene("")
def relayed_close_is_published_without_a_code(s):
    client, origin = member(s)
    s.publish(s.item(action="close"))
    s.settle()


@scene("", differs=("Pushpin before 2.0 does not know the action refresh", []))
def relayed_refresh_does_nothing(s):
    client, origin = member(s)
    s.publish(s.item(action="refresh"))
    s.settle()


@scene("")
def relayed_origin_detaches_the_client(s):
    client, origin = member(s)
    origin.text(control("detach"))
    origin.gets()
    origin.bye(1000)
    client.text("to nobody")
    s.send("published")
    client.gets()
    client.bye(1000)
    s.settle()


@scene("")
def relayed_keep_alive(s):
    client, origin = s.relayed()
    origin.text(control("keep-alive", content="alive", timeout=1))
    client.gets()


@scene("")
def relayed_delayed_message(s):
    client, origin = s.relayed()
    origin.text(control("send-delayed", content="late", timeout=1))
    origin.text("early")
    client.gets(2)


@scene("sub=relayed_implicit_channel-room")
def relayed_implicit_channel(s):
    client, origin = s.relayed(grip=False)
    s.subscribed(client)
    s.send("implicit")
    client.gets()
    origin.text("c:{}")
    client.gets()


def begins(client, origin):
    """Sends the first fragment of a message from the origin, and waits up to 2 s for its first bytes at the client.

    The fragment is so large that a server relays it before the message is complete.
    """
    origin.frame(BINARY, b"x" * 100_000, fin=False)
    until = time.monotonic() + 2
    while not client.buffer and time.monotonic() < until:
        client.fill(0.1)


@scene(
    "",
    differs=(
        "gripd does not drop the item: it waits for the end of the relayed message",
        ["client gets BINARY <100003 bytes, crc 89443e4c>", "client gets TEXT 'published'"],
    ),
)
def published_while_a_fragmented_message_is_on_its_way(s):
    client, origin = member(s)
    begins(client, origin)
    s.send("published")
    s.settle()
    origin.frame(CONTINUATION, b"two")
    s.settle()


@scene(
    "",
    alone=True,
    differs=(
        "Pushpin sends the delayed message again and again, and fails",
        ["client gets BINARY <100003 bytes, crc 89443e4c>", "client gets TEXT 'late'", "client gets TEXT 'three four'"],
    ),
)
def delayed_while_a_fragmented_message_is_on_its_way(s):
    client, origin = member(s)
    origin.text(control("send-delayed", content="late", timeout=1))
    begins(client, origin)
    s.settle(1.5)
    origin.frame(CONTINUATION, b"two")
    s.settle()
    origin.text("three ", fin=False)
    origin.frame(CONTINUATION, "four")
    s.settle()
