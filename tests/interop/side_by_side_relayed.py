"""Scenes of WebSockets that are relayed to an origin that speaks WebSocket itself."""

from side_by_side_stage import GENTLE, closes, scene
from side_by_side_wire import BINARY, CONTINUATION, PING, PONG, TEXT, control

# Messages.


@scene("")
def relayed_text_and_binary(s):
    client, origin = s.relayed(grip=False)
    client.text("up")
    origin.gets()
    client.frame(BINARY, b"\0\xff")
    origin.gets()
    origin.text("down")
    origin.frame(BINARY, b"\xff\0")
    origin.text("")
    client.gets(3)
    client.text("")
    origin.gets()


@scene("")
def relayed_small_messages_are_one_frame_each(s):
    client, origin = s.relayed(grip=False)
    client.text("up")
    origin.gets_frame()
    origin.text("x" * 1_000)
    origin.frame(BINARY)
    client.gets_frame(2)


@scene("")
def relayed_without_the_extension_is_transparent(s):
    client, origin = s.relayed(grip=False)
    origin.text(control("subscribe", channel=s.channel()))
    origin.text("m:kept")
    client.gets(2)


@scene("")
def relayed_messages_have_a_prefix_by_default(s):
    client, origin = s.relayed("Sec-WebSocket-Extensions: grip")
    for opcode, payload in [
        (TEXT, "no"),
        (TEXT, "m:yes"),
        (BINARY, b"m:\xff"),
        (BINARY, b"\xff"),
        (TEXT, "m:"),
        (TEXT, "m"),
        (TEXT, "m:end"),
    ]:
        origin.frame(opcode, payload)
    client.gets(4)
    client.text("m:up")
    origin.gets()


@scene("")
def relayed_messages_may_have_another_prefix(s):
    client, origin = s.relayed("Sec-WebSocket-Extensions: grip; message-prefix=hey")
    for payload in ["m:no", "heyyes", "he", "c:", "heyend"]:
        origin.text(payload)
    client.gets(2)


@scene("")
def relayed_messages_may_have_no_prefix(s):
    client, origin = s.relayed()
    for opcode, payload in [(TEXT, "one"), (TEXT, "c:two"), (BINARY, "c:three"), (TEXT, "m:four"), (TEXT, "end")]:
        origin.frame(opcode, payload)
    client.gets(4)


@scene("")
def origin_may_name_several_extensions(s):
    client, origin = s.relayed('Sec-WebSocket-Extensions: x; y=1, grip; message-prefix="a:"')
    origin.text("no")
    origin.text("a:yes")
    client.gets()


@scene("", differs=("Pushpin drops only the first frame, and relays the others", ["client gets TEXT 'end'"]))
def rest_of_a_dropped_message_is_dropped(s):
    client, origin = s.relayed("Sec-WebSocket-Extensions: grip")
    origin.text("drop", fin=False)
    origin.frame(CONTINUATION, "ped ", fin=False)
    origin.frame(CONTINUATION, "all")
    origin.text("m:end")
    s.settle()


@scene("")
def only_the_first_frame_of_a_message_has_a_prefix(s):
    client, origin = s.relayed("Sec-WebSocket-Extensions: grip")
    origin.text("m:one ", fin=False)
    origin.frame(CONTINUATION, "m:two")
    client.gets()


@scene(
    "",
    differs=(
        "any intermediary may fragment a message (RFC 6455 5.4), so a control message may have several fragments",
        ["client gets TEXT 'after'", "client gets TEXT 'published'"],
    ),
)
def control_message_in_fragments(s):
    client, origin = s.relayed()
    whole = control("subscribe", channel=s.channel())
    origin.text(whole[:10], fin=False)
    origin.frame(CONTINUATION, whole[10:])
    origin.text("after")
    client.gets()
    s.send("published")
    s.settle()


@scene("")
def relayed_fragments(s):
    client, origin = s.relayed(grip=False)
    for peer, other in [(client, origin), (origin, client)]:
        peer.text("one ", fin=False)
        peer.frame(CONTINUATION, "two ", fin=False)
        peer.frame(CONTINUATION, "three")
        other.gets()


@scene("")
def relayed_empty_fragments(s):
    client, origin = s.relayed(grip=False)
    for peer, other in [(client, origin), (origin, client)]:
        peer.text("", fin=False)
        peer.frame(CONTINUATION, "one ", fin=False)
        peer.frame(CONTINUATION, "", fin=False)
        peer.frame(CONTINUATION, "two", fin=False)
        peer.frame(CONTINUATION, "")
        other.gets()


@scene("")
def relayed_large_messages(s):
    client, origin = s.relayed(grip=False)
    client.frame(BINARY, b"u" * 150_000)
    origin.gets()
    origin.frame(BINARY, b"d" * 150_000)
    client.gets()


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 accepts no frame of more than 200000 bytes",
        ["origin gets BINARY <1000000 bytes, crc 7d770599>"],
        True,
    ),
)
def relayed_very_large_message_of_the_client(s):
    client, origin = s.relayed(grip=False)
    client.frame(BINARY, b"u" * 1_000_000)
    origin.gets()


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 accepts no frame of more than 200000 bytes",
        ["client gets BINARY <1000000 bytes, crc 82ad50a5>"],
        True,
    ),
)
def relayed_very_large_message_of_the_origin(s):
    client, origin = s.relayed(grip=False)
    origin.frame(BINARY, b"d" * 1_000_000)
    client.gets()


@scene("")
def relayed_many_messages(s):
    client, origin = s.relayed(grip=False)
    for number in range(1000):
        origin.text(f"down {number}")
        client.text(f"up {number}")
    client.gets(1000)
    origin.gets(1000)
    lines = [line.split(" ", 3)[-1] for line in s.transcript]
    down, up = lines[:1000], lines[1000:]
    right = [repr(f"down {number}") for number in range(1000)] == down and [
        repr(f"up {number}") for number in range(1000)
    ] == up
    s.transcript[:] = ["all in order" if right else "not in order"]


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 loses the content of pings and pongs",
        [
            "origin gets PING 'client'",
            "client gets PONG 'client'",
            "client gets PING 'origin'",
            "client gets PING ''",
            "origin gets PONG 'origin'",
        ],
    ),
)
def relayed_pings_and_pongs(s):
    client, origin = s.relayed()
    client.frame(PING, "client")
    origin.gets()
    origin.frame(PONG, "client")
    origin.frame(PING, "origin")
    origin.frame(PING)
    client.gets(3)
    client.frame(PONG, "origin")
    origin.gets()
    s.settle()


@scene("", differs=("text must be valid UTF-8 (RFC 6455 8.1)", ["origin gets CLOSE 1007…", *closes(1011)]))
def relayed_text_of_the_origin_with_invalid_utf8(s):
    _, origin = s.relayed(grip=False)
    origin.frame(TEXT, b"\xff\xfe")
    s.settle()


# Closes.


@scene("")
def relayed_close_of_the_client(s):
    client, origin = s.relayed()
    client.bye(4000, "client")
    origin.gets()
    origin.bye(4001, "origin")
    client.ends()
    s.settle()


@scene("")
def relayed_close_of_the_origin(s):
    client, origin = s.relayed()
    origin.bye(4001, "origin")
    client.gets()
    client.bye(4001, "origin")
    origin.gets()
    s.settle()


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 loses the messages right before a close",
        [
            "origin gets CLOSE 4001 'origin'",
            "client gets TEXT 'good'",
            "client gets TEXT 'bye'",
            "client gets CLOSE 4001 'origin'",
            "client's connection ends",
        ],
        True,
    ),
)
def relayed_goodbye_before_a_close(s):
    client, origin = s.relayed()
    origin.text("good")
    origin.text("bye")
    origin.bye(4001, "origin")
    s.settle()


@scene(
    "",
    differs=(
        "gripd answers the origin's Close frame at once, with the same code (RFC 6455 5.5.1)",
        ["client gets CLOSE 4001 'origin'", "origin gets CLOSE 4001 'origin'", "client's connection ends"],
    ),
)
def relayed_close_is_answered_by_the_client_with_another_code(s):
    client, origin = s.relayed()
    origin.bye(4001, "origin")
    client.gets()
    client.bye(4000, "client")
    origin.gets()
    s.settle()


@scene("")
def relayed_close_of_the_client_without_a_code(s):
    client, origin = s.relayed()
    client.bye()
    origin.gets()
    origin.bye()
    client.ends()


@scene(
    "",
    differs=(
        "if the origin closes without a code, gripd sends both sides a Close frame with 1000",
        ["client gets CLOSE 1000", "origin gets CLOSE 1000"],
    ),
)
def relayed_close_of_the_origin_without_a_code(s):
    client, origin = s.relayed()
    origin.bye()
    client.gets()
    client.bye()
    origin.gets()


@scene("", differs=(GENTLE, closes(1011, "client gets TEXT 'before'")))
def relayed_origin_is_reset(s):
    client, origin = s.relayed()
    origin.text("before")
    client.gets()
    origin.reset()
    client.ends()


@scene("", differs=(GENTLE, closes(1011, "client gets TEXT 'before'")))
def relayed_origin_ends_without_a_close(s):
    client, origin = s.relayed()
    origin.text("before")
    client.gets()
    origin.close()
    client.ends()


@scene("")
def relayed_client_disappears(s):
    client, origin = s.relayed()
    client.text("before")
    origin.gets()
    client.close()
    s.clients.remove(client)
    s.settle(0.6)


@scene(
    "",
    differs=(
        "gripd sends both sides a Close frame; Pushpin 1.36 continues",
        closes(1011, "origin gets CLOSE 1002…"),
    ),
)
def relayed_origin_breaks_the_protocol(s):
    client, origin = s.relayed()
    origin.send(b"\x83\x05hello")
    s.settle()
