"""Scenes of WebSocket over HTTP: messages and closes, in both directions."""

import contextlib
import re
import threading

from harness import Failed
from side_by_side_origin import GRIP
from side_by_side_stage import GENTLE, closes, lost, scene
from side_by_side_wire import BINARY, CONTINUATION, EVENTS, PING, PONG, closing, event

# Messages.


@scene()
def text_and_binary_are_echoed(s):
    client = s.opened()
    client.text("hello")
    s.origin.next().answer(event("TEXT", "hello yourself"))
    client.gets()
    client.frame(BINARY, b"\0\xff\xfe")
    s.origin.next().answer(event("BINARY", b"\xff\0"))
    client.gets()
    s.settle()


@scene()
def small_messages_are_one_frame_each(s):
    client = s.member()
    s.send("published")
    client.gets_frame()
    client.text("a")
    s.origin.next().answer(event("TEXT", "x" * 1_000), event("BINARY", b""), event("PING", "p"))
    client.gets_frame(3)


@scene()
def events_follow_open_in_the_first_answer(s):
    client = s.connect()
    s.origin.next().answer("OPEN", event("TEXT", "first"), event("BINARY", b"\xff"), event("TEXT", ""), event("TEXT"))
    client.gets_answer().gets(4)
    s.settle()


@scene()
def empty_messages_both_ways(s):
    client = s.opened()
    client.text("")
    s.origin.next().answer(event("TEXT"))
    client.gets()
    client.frame(BINARY)
    s.origin.next().answer(event("BINARY", b""))
    client.gets()


@scene()
def events_are_encoded_exactly(s):
    client = s.opened()
    client.frame(BINARY, b"\0" * 171)
    request = s.origin.next()
    s.note(f"the body begins with {request.body[:12]!r}")
    request.answer(b"TEXT AB\r\n" + b"x" * 171 + b"\r\nTEXT 2\r\nhi\r\n")
    s.settle()


@scene()
def answer_may_be_chunked(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "one"), event("TEXT", "two"), chunked=True)
    client.gets(2)


@scene(differs=(GENTLE, lost("origin gets TEXT 'a'")))
def answer_is_too_large(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(*[event("TEXT", "x" * 9_000)] * 150)
    client.ends()
    s.settle()


@scene()
def answer_has_many_events(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(*[event("TEXT", f"{number} " + "x" * 5_000) for number in range(150)])
    client.gets(150)
    right = [f"client gets <{len(str(number)) + 5_001} bytes" for number in range(150)]
    came = [line.replace("TEXT ", "").partition(",")[0] for line in s.transcript[1:]]
    s.transcript[1:] = ["all came" if came == right else "not all came"]


@scene(differs=(GENTLE, lost("origin gets TEXT 'a'")))
def answer_is_cut_short(s):
    client = s.opened()
    client.text("a")
    request = s.origin.next()
    request.wire.send(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nContent-Length: 99\r\n\r\n".encode())
    request.wire.send(event("TEXT", "b"))
    request.reset()
    client.ends()
    s.settle()


@scene()
def unknown_events_are_ignored(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("HELLO", "b"), event("NOTHING"), event("text", "c"), event("TEXT", "d"))
    client.gets()
    s.settle()


@scene(differs=(GENTLE, lost("origin gets TEXT 'a'")))
def malformed_event_closes_the_websocket(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "before"), b"TEXT xyz\r\nhello\r\n")
    client.ends()
    s.settle()


@scene(differs=("content that is shorter than its declared length is incomplete", lost("origin gets TEXT 'a'")))
def truncated_event_closes_the_websocket(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "before"), b"TEXT 9\r\nhello")
    client.may_end()
    s.settle()


@scene()
def messages_during_a_request_are_sent_together(s):
    client = s.opened()
    client.text("one")
    request = s.origin.next()
    for text in ["two", "", "three"]:
        client.text(text)
    client.frame(BINARY, b"\xff")
    s.settle()
    request.answer(event("TEXT", "first"))
    client.gets()
    s.origin.next().answer(event("TEXT", "second"))
    client.gets()
    s.settle()


@scene("over_http,one_event")
def one_event_per_request(s):
    client = s.opened()
    client.text("one")
    request = s.origin.next()
    for text in ["", "", "two", "three"]:
        client.text(text)
    s.settle()
    request.answer()
    for _ in range(3):
        s.origin.next().answer()
    s.settle()


@scene()
def fragmented_message_reaches_the_origin_whole(s):
    client = s.opened()
    client.text("Hel", fin=False)
    client.frame(CONTINUATION, "", fin=False)
    client.frame(CONTINUATION, "lo", fin=False)
    s.settle()
    client.frame(CONTINUATION, "!")
    s.origin.next().answer()
    s.settle()


@scene(
    differs=(
        "Pushpin 1.36 stalls after the first 16384 bytes of a message",
        [
            "origin gets BINARY <150000 bytes, crc 1472750a>",
            "client gets TEXT <300000 bytes, crc 33d886f2>",
            "client gets TEXT 'after'",
        ],
    )
)
def large_messages_both_ways(s):
    client = s.opened()
    client.frame(BINARY, b"u" * 150_000)
    s.origin.next().answer(event("TEXT", "d" * 300_000), event("TEXT", "after"))
    client.gets(2)


@scene(
    differs=(
        "Pushpin 1.36 stalls after the first 16384 bytes of a message",
        ["origin gets TEXT 'a'", "client gets TEXT <40000 bytes, crc 8b65d87a>"],
    )
)
def large_answer_arrives_whole(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "d" * 40_000))
    client.gets()
    s.settle()


@scene(differs=("gripd sends both sides a Close with the reason", ["origin gets CLOSE 1009…", *closes(1009)]))
def message_larger_than_the_buffer(s):
    client = s.opened()
    client.frame(BINARY, b"u" * 250_000)
    s.settle()


@scene()
def ping_and_pong_are_events(s):
    client = s.opened()
    client.frame(PING, "are you there")
    s.origin.next().answer(event("PONG", "I am"))
    client.gets()
    client.frame(PONG, "unasked")
    s.origin.next().answer(event("PING", "and you"), event("PONG"), event("PING"))
    client.gets(3)
    client.frame(PING)
    s.origin.next().answer()
    s.settle()


@scene(
    differs=(
        "Pushpin 1.36 never reads again after its buffer of 200000 bytes was full",
        ["origin gets TEXT 'first'", "all came"],
    )
)
def many_messages_during_a_request(s):
    client = s.opened()
    client.text("first")
    request = s.origin.next()
    # These are more bytes than a server keeps, so it stops reading until the origin has accepted some of them.
    sent = [f"{number} " + "x" * 5_000 for number in range(60)]
    threading.Thread(target=lambda: [client.text(text) for text in sent], daemon=True).start()
    s.settle()
    request.answer()
    came = ""
    with contextlib.suppress(Failed):
        while len(came) < sum(map(len, sent)):
            request = s.origin.next()
            came += "".join(re.findall(r"TEXT \w+\r\n(.*)\r\n", request.body.decode()))
            request.answer()
    s.transcript[1:] = ["all came" if came == "".join(sent) else "some never came"]


@scene(differs=("text must be valid UTF-8 (RFC 6455 8.1)", lost("origin gets TEXT 'a'")))
def text_of_the_origin_with_invalid_utf8(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", b"\xff\xfe"), event("TEXT", "b"))
    client.may_end()
    s.settle()


@scene(
    differs=(
        "a ping has at most 125 bytes (RFC 6455 5.5), so gripd sends a Close frame with 1011 instead",
        lost("origin gets TEXT 'a'"),
    )
)
def oversized_ping_of_the_origin(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("PING", "x" * 126), event("TEXT", "b"))
    client.may_end()
    s.settle()


# Closes.


@scene()
def client_closes_with_code_and_reason(s):
    client = s.opened()
    client.bye(4000, "enough")
    s.origin.next().answer(event("CLOSE", closing(4000, "enough")))
    client.ends()
    s.settle()


@scene()
def client_closes_without_a_code(s):
    client = s.opened()
    client.bye()
    s.origin.next().answer(event("CLOSE"))
    client.ends()
    s.settle()


@scene()
def origin_answers_a_close_with_another_code(s):
    client = s.opened()
    client.bye(1000, "client")
    s.origin.next().answer(event("TEXT", "before"), event("CLOSE", closing(4001, "origin")))
    client.ends()
    s.settle()


@scene(differs=(GENTLE, ["origin gets CLOSE 1000", "client gets CLOSE 1000", "client's connection ends"]))
def origin_does_not_answer_a_close(s):
    client = s.opened()
    client.bye(1000)
    s.origin.next().answer()
    client.ends()
    s.settle()


@scene()
def messages_before_a_close_are_sent_with_it(s):
    client = s.opened()
    client.text("one")
    request = s.origin.next()
    client.text("two")
    client.bye(1000, "done")
    s.settle()
    request.answer()
    s.origin.next().answer(event("CLOSE", closing(1000)))
    client.ends()


@scene(
    differs=(
        "the origin has closed the WebSocket, so gripd does not send it the client's Close frame",
        [
            "origin gets TEXT 'a'",
            "client gets TEXT 'goodbye'",
            "client gets CLOSE 4002 'kicked'",
            "client's connection ends",
        ],
    )
)
def client_answers_the_origins_close(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "goodbye"), event("CLOSE", closing(4002, "kicked")), event("TEXT", "never"))
    client.ends()
    s.settle()


@scene()
def origin_closes_without_a_code(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("CLOSE"))
    client.ends()


@scene()
def origin_closes_in_the_first_answer(s):
    client = s.connect()
    s.origin.next().answer("OPEN", event("CLOSE", closing(4003, "full")))
    client.gets_answer().ends()


@scene(
    differs=(
        "a Close frame must not have this code (RFC 6455 7.4.1), so gripd sends 1000 as if there were none",
        ["origin gets TEXT 'a'", "client gets CLOSE 1000", "client's connection ends"],
    )
)
def origin_closes_with_a_code_that_must_not_be_sent(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("CLOSE", closing(1005)))
    client.ends()


@scene(
    differs=(
        "gripd delivers the earlier events of the response, and sends the client a Close frame",
        closes(1011, "origin gets TEXT 'a'", "client gets TEXT 'before'"),
    )
)
def origin_sends_a_disconnect(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "before"), event("DISCONNECT"))
    client.ends()
    s.settle()


@scene(
    differs=(
        "gripd delivers the earlier events of the response, and sends the client a Close frame",
        lost("origin gets TEXT 'a'", "client gets TEXT 'before'"),
    )
)
def origin_sends_open_again(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "before"), "OPEN")
    client.ends()
    s.settle()


@scene()
def client_disappears(s):
    client = s.opened(headers=GRIP | {"Set-Meta-User": "u1"})
    client.close()
    s.clients.remove(client)
    s.origin.next().answer()
    s.settle()


@scene()
def client_disappears_during_a_request(s):
    client = s.opened()
    client.text("a")
    request = s.origin.next()
    client.close()
    s.clients.remove(client)
    s.settle()
    s.note("the request is answered")
    request.answer(event("TEXT", "too late"))
    s.settle()


@scene(
    differs=(
        "a Close frame has at most 125 bytes (RFC 6455 5.5), so gripd sends one with 1011 instead",
        lost("origin gets TEXT 'a'"),
    )
)
def origin_closes_with_a_long_reason(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("CLOSE", closing(4000, "x" * 124)))
    client.ends()
    s.settle()


@scene()
def origin_closes_with_one_byte(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("CLOSE", b"\x03"))
    client.ends()
