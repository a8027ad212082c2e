"""Scenes of WebSocket over HTTP: headers and status of the origin's responses, and requests that fail."""

import time

from side_by_side_origin import GRIP
from side_by_side_stage import GENTLE, closes, lost, scene
from side_by_side_wire import BINARY, EVENTS, event

# Headers and status of responses.


@scene()
def meta_is_set_changed_and_deleted(s):
    client = s.opened(headers=GRIP | {"Set-Meta-User": "u1", "Set-Meta-Room": "r1"})
    client.text("a")
    s.origin.next().answer(headers={"Set-Meta-Room": "r2", "Set-Meta-More": "m"})
    client.text("b")
    s.origin.next().answer(headers={"Set-Meta-Room": "", "set-meta-user": "u2"})
    client.text("c")
    s.origin.next().answer()
    s.settle()


@scene(differs=(GENTLE, lost("origin gets TEXT 'a'")))
def status_other_than_200_closes_the_websocket(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(status=500, kind="text/plain", body=b"oh\n")
    client.ends()
    s.settle()


@scene(differs=(GENTLE, lost("origin gets TEXT 'a'")))
def other_content_type_closes_the_websocket(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(kind="text/plain", body=b"TEXT 1\r\na\r\n")
    client.ends()
    s.settle()


@scene(differs=("gripd accepts a parameter of the Content-Type", ["origin gets TEXT 'a'", "client gets TEXT 'b'"]))
def content_type_of_a_later_answer_may_have_parameters(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", "b"), kind=EVENTS + ";charset=utf-8")
    s.settle()


@scene(slow=True)
def keep_alive_interval_is_at_least_20_seconds(s):
    began = time.monotonic()
    s.opened(headers=GRIP | {"Keep-Alive-Interval": "1", "Set-Meta-A": "b"})
    request = s.origin.next(30)
    took = time.monotonic() - began
    s.note("after 20 s" if 18 < took < 22 else f"after {took:.1f} s")
    request.answer(event("TEXT", "alive"))
    s.settle()


@scene(
    slow=True,
    differs=(
        GENTLE,
        ["origin gets TEXT 'a'", "origin gets CLOSE 1000", "client gets CLOSE 1000", "client's connection ends"],
    ),
)
def keep_alive_interval_is_deleted_by_0(s):
    client = s.opened(headers=GRIP | {"Keep-Alive-Interval": "20"})
    client.text("a")
    s.origin.next().answer(headers={"Keep-Alive-Interval": "0"})
    s.settle()
    client.bye(1000)
    # Without a keep-alive interval, a close that the origin does not answer ends the WebSocket.
    s.origin.next().answer()
    client.ends()


@scene(slow=True)
def unanswered_close_is_sent_again_by_keep_alives(s):
    client = s.opened(headers=GRIP | {"Keep-Alive-Interval": "20"})
    client.bye(1000, "bye")
    s.origin.next().answer()
    s.wait(30)
    s.settle()


@scene(slow=True)
def open_is_sent_again_after_the_keep_alive_interval(s):
    client = s.connect()
    s.origin.next().answer(headers={"Keep-Alive-Interval": "20"})
    s.settle()
    s.origin.next(30).answer("OPEN")
    client.gets_answer()


# Content that the origin accepts only in part (Content-Bytes-Accepted).


@scene(
    differs=(
        "Pushpin before 1.41 does not know Content-Bytes-Accepted",
        ["origin gets TEXT 'hello world'", "origin gets TEXT 'world', TEXT '!' [Content-Bytes-Replayed: 5]"],
    )
)
def part_of_the_content_is_accepted(s):
    client = s.opened()
    client.text("hello world")
    s.origin.next().answer(headers={"Content-Bytes-Accepted": "6"})
    s.settle()
    client.text("!")
    s.origin.next().answer()
    s.settle()


@scene(
    differs=(
        "Pushpin before 1.41 does not know Content-Bytes-Accepted",
        [
            "origin gets TEXT 'one'",
            "origin gets TEXT 'one', BINARY 0xff00 [Content-Bytes-Replayed: 3]",
            "origin gets BINARY '\\x00', TEXT 'two' [Content-Bytes-Replayed: 1]",
        ],
    )
)
def content_that_is_not_accepted_is_offered_again(s):
    client = s.opened()
    client.text("one")
    s.origin.next().answer(headers={"Content-Bytes-Accepted": "0"})
    client.frame(BINARY, b"\xff\0")
    s.origin.next().answer(headers={"Content-Bytes-Accepted": "4"})
    client.text("two")
    s.origin.next().answer()
    s.settle()


@scene(differs=("Pushpin before 1.41 does not know Content-Bytes-Accepted", lost("origin gets TEXT 'one'")))
def origin_accepts_more_bytes_than_offered(s):
    client = s.opened()
    client.text("one")
    s.origin.next().answer(headers={"Content-Bytes-Accepted": "4"})
    client.may_end()
    s.settle()


@scene(
    differs=(
        "Pushpin before 1.41 does not know Content-Bytes-Accepted, and gripd sends the client a Close frame",
        [
            "origin gets TEXT 'one'",
            "origin gets TEXT 'two', CLOSE 1000 'bye'",
            "origin gets DISCONNECT",
            "client gets CLOSE 1000 'bye'",
            "client's connection ends",
        ],
    )
)
def origin_accepts_the_message_but_not_the_close(s):
    client = s.opened()
    client.text("one")
    request = s.origin.next()
    client.text("two")
    client.bye(1000, "bye")
    s.settle()
    request.answer()
    s.origin.next().answer(headers={"Content-Bytes-Accepted": "3"})
    s.settle()


# Requests that are sent again.


@scene(slow=True)
def refused_connection_is_tried_again(s):
    client = s.opened(headers=GRIP | {"Set-Meta-A": "b"})
    client.text("one")
    s.origin.next().answer(close=True)
    s.origin.stop_listening()
    client.text("two")
    time.sleep(0.5)
    s.origin.listen()
    s.origin.next().answer(event("TEXT", "back"))
    client.gets()
    s.settle()


@scene(slow=True, differs=(GENTLE, lost("origin gets TEXT 'one'", "origin gets TEXT 'two'")))
def origin_resets_a_new_connection_after_reading_a_request(s):
    client = s.opened()
    client.text("one")
    s.origin.next().answer(close=True)
    client.text("two")
    s.origin.next().reset()
    client.may_end()
    s.settle(2.5)


@scene(
    slow=True,
    differs=(
        "gripd repeats no request that the origin may have read; on a reused connection, Pushpin 1.36 (its curl) does",
        lost("origin gets TEXT 'one'", "origin gets TEXT 'two'"),
    ),
)
def origin_resets_a_reused_connection_after_reading_a_request(s):
    client = s.opened()
    client.text("one")
    s.origin.next().answer()
    client.text("two")
    s.origin.next().reset()
    client.may_end()
    s.settle(1.5)


@scene(slow=True, differs=(GENTLE, closes(1011, "origin gets TEXT 'one'")))
def websocket_is_closed_after_the_last_retry(s):
    client = s.opened()
    client.text("one")
    s.origin.next().answer(close=True)
    s.origin.stop_listening()
    client.text("two")
    client.ends(45)
