"""Scenes of publishing to WebSockets over HTTP: messages, actions, large items, and clients that do not read."""

from side_by_side_origin import GRIP
from side_by_side_stage import scene
from side_by_side_wire import closing, event, show, subscribe

# Messages.


@scene()
def published_text_and_binary_arrive(s):
    client = s.member()
    s.send("one")
    s.send(b"\xff\0")
    s.send("typed", type="binary")
    s.send(b"typed", type="text")
    s.send("")
    client.gets(5)
    s.settle()


@scene()
def one_publish_has_several_items(s):
    client = s.member()
    s.publish(s.item("one"), s.item("two"), s.item("elsewhere", s.channel("other")), s.item("three"))
    client.gets(3)
    s.settle()


@scene()
def item_without_formats_is_accepted(s):
    client = s.member()
    s.publish({"channel": s.channel(), "ws-message": {"content": "old style"}})
    client.gets()


@scene()
def items_without_ws_message_are_not_delivered(s):
    client = s.member()
    formats = {"http-stream": {"content": "a"}, "http-response": {"body": "b"}}
    s.publish({"channel": s.channel(), "formats": formats})
    s.send("end")
    client.gets()


@scene()
def two_channels(s):
    client = s.member(subscribe(s.channel("second")))
    s.subscribed(client, s.channel("second"))
    s.send("one")
    s.send("two", s.channel("second"))
    s.send("three")
    client.gets(3)


@scene()
def two_clients(s):
    first, second = s.member(), s.member()
    s.send("both")
    first.gets()
    second.gets()
    s.settle()


@scene()
def item_with_an_id_is_delivered_once(s):
    client = s.member()
    for content in ["one", "again"]:
        s.send(content, item={"id": "1"})
    s.send("end")
    client.gets(2)


# Pings, pongs and actions.


@scene()
def pings_and_pongs_are_published(s):
    client = s.member()
    s.send("one", type="ping")
    s.send("", type="ping")
    s.send(b"\xff", type="pong")
    client.gets(3)
    s.settle()


@scene(
    differs=(
        "a ping or pong needs no content; Pushpin accepts such an item, but does not deliver it",
        ["client gets PING ''", "client gets PONG ''", "client gets TEXT 'end'"],
    )
)
def pings_without_content_are_published(s):
    s.member()
    s.publish(s.item(type="ping"), s.item(type="pong"), s.item("end"))
    s.settle()


@scene()
def wrong_publishes_are_refused(s):
    s.member()
    s.publish(s.item(type="text"))
    s.publish(s.item("a", type="nonsense"))
    s.publish(s.item(action="close", code=-1))
    s.settle()


@scene(
    differs=(
        "gripd's response says what is wrong; that of Pushpin does not",
        ["publisher gets 400 \"Invalid format: 'ws-message' contains unknown 'action'…"],
    )
)
def unknown_action_is_refused(s):
    s.publish(s.item("a", action="nonsense"))


@scene()
def close_is_published_with_code_and_reason(s):
    s.member()
    s.publish(s.item("goodbye"), s.item(action="close", code=4001, reason="kicked"), s.item("never"))
    s.settle()


@scene(differs=("gripd refuses a code that is not a number", ["publisher gets 400…"]))
def close_is_published_with_a_code_that_is_no_number(s):
    s.member()
    s.publish(s.item(action="close", code="x"))
    s.settle()


@scene(differs=("a Close frame must not have this code (RFC 6455 7.4.1)", ["publisher gets 400…"]))
def close_is_published_with_a_code_that_must_not_be_sent(s):
    s.member()
    s.publish(s.item(action="close", code=1006))
    s.settle()


@scene()
def close_is_published_without_a_code(s):
    s.member()
    s.publish(s.item(action="close"))
    s.settle()


@scene(
    differs=(
        "gripd ends the connection after close_grace, even if the client does not answer the close",
        ["client gets CLOSE 1000", "origin gets CLOSE", "client's connection ends"],
    )
)
def close_is_published_and_the_client_does_not_answer(s):
    client = s.member()
    s.publish(s.item(action="close"))
    client.gets()
    client.sent_close = True
    s.settle(2.5)


@scene(
    differs=(
        "in gripd, an action of the item itself applies to all kinds of connections",
        ["origin gets CLOSE", "client gets CLOSE 4002 'out'", "client's connection ends"],
    )
)
def action_of_the_item_closes(s):
    s.member()
    s.publish({"channel": s.channel(), "action": "close", "code": 4002, "reason": "out"})
    s.settle()


@scene(
    differs=(
        "in gripd, an action of the item itself applies to all kinds of connections",
        ["origin gets CLOSE", "client gets TEXT 'goodbye'", "client gets CLOSE 1000", "client's connection ends"],
    )
)
def goodbye_and_close_in_one_item(s):
    s.member()
    s.publish({"channel": s.channel(), "action": "close", "formats": {"ws-message": {"content": "goodbye"}}})
    s.settle()


@scene()
def close_of_one_channel_only(s):
    first, second = s.member(), s.member(channel=s.channel("second"))
    s.publish(s.item(action="close", code=4001))
    first.ends()
    s.send("still here", s.channel("second"))
    second.gets()
    s.settle()


@scene(differs=("Pushpin before 2.0 does not know the action refresh", ["origin gets no event [Meta-A: b]"]))
def refresh_asks_the_origin(s):
    s.member(headers=GRIP | {"Set-Meta-A": "b"})
    s.publish(s.item(action="refresh"))
    s.settle()


@scene(
    differs=(
        "after a hint, gripd asks the origin, as it does for other kinds of connections; Pushpin does not",
        ["origin gets no event", "client gets TEXT 'end'"],
    )
)
def hint_asks_the_origin(s):
    s.member()
    s.publish(s.item(action="hint"), s.item("end"))
    s.settle()


@scene()
def close_is_published_during_a_request(s):
    client = s.member()
    client.text("a")
    request = s.origin.next()
    s.publish(s.item(action="close", code=4001))
    client.ends()
    request.answer(event("TEXT", "too late"))
    s.settle()


@scene()
def published_during_a_request(s):
    client = s.member()
    client.text("a")
    request = s.origin.next()
    s.send("published")
    client.gets()
    request.answer(event("TEXT", "answered"))
    client.gets()


@scene(
    differs=(
        "gripd sends no published messages to a client that has sent its Close frame",
        ["origin gets CLOSE 1000", "client gets CLOSE 1000", "client's connection ends"],
    )
)
def nothing_is_published_after_a_close(s):
    client = s.member()
    client.bye(1000)
    request = s.origin.next()
    s.send("too late")
    s.settle()
    request.answer(event("CLOSE", closing(1000)))
    client.ends()


@scene()
def nobody_holds_the_channel(s):
    s.publish(s.item("a"), s.item(action="close"))
    s.note("published")


@scene(differs=("text must be valid UTF-8 (RFC 6455 8.1)", ["publisher gets 400…", "client gets TEXT 'end'"]))
def published_text_with_invalid_utf8(s):
    s.member()
    s.send(b"\xff\xfe", type="text")
    s.send("end")
    s.settle()


@scene(differs=("a ping has at most 125 bytes (RFC 6455 5.5)", ["publisher gets 400…", "client gets TEXT 'end'"]))
def oversized_ping_is_published(s):
    s.member()
    s.send("x" * 126, type="ping")
    s.send("end")
    s.settle()


@scene(differs=("a Close frame has at most 125 bytes (RFC 6455 5.5)", ["publisher gets 400…"]))
def close_is_published_with_a_long_reason(s):
    s.member()
    s.publish(s.item(action="close", code=4000, reason="x" * 124))
    s.settle()


# Large items, and clients that do not read.

TEXTS = [f"{number}" + "x" * 5_000 for number in range(10)]


@scene()
def large_publish(s):
    s.member()
    s.send("x" * 100_000)
    s.settle(1)


@scene(
    differs=(
        "gripd drops no message; Pushpin drops those for which the send window of the connection has no room",
        [f"client gets TEXT {show(text.encode())}" for text in TEXTS] + ["client gets TEXT 'end'"],
    )
)
def published_items_exceed_the_send_window(s):
    s.member()
    s.publish(*[s.item(text) for text in TEXTS], s.item("end"))
    s.settle(1)


@scene(
    slow=True,
    differs=(
        "gripd disconnects a client for which too many bytes wait; Pushpin drops some of its messages instead",
        [
            "none is missing among those that came",
            "the connection is over",
        ],
    ),
)
def client_that_does_not_read(s):
    client = s.member()
    texts = [f"{number:03}" + "x" * 90_000 for number in range(250)]
    for at in range(0, len(texts), 10):
        s.publish(*[s.item(text) for text in texts[at : at + 10]])
    s.settle(1)
    came = [f"client gets TEXT {show(text.encode())}" for text in texts]
    numbers = [came.index(line) for line in s.transcript if line in came]
    others = {line for line in s.transcript if line.startswith("client gets CLOSE") and "1013" not in line}
    whole = numbers == list(range(len(numbers)))
    s.transcript[:] = ["none is missing among those that came" if whole else "some are missing in between", *others]
    # The Close frame with 1013 may be missing, because the client's socket may have no room for it.
    s.note("the connection is over" if client.over else "the connection goes on")
