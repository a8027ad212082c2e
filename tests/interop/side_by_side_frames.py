"""Scenes of clients whose frames and handshakes violate RFC 6455, or are valid but unusual."""

import struct

from side_by_side_stage import GENTLE, scene
from side_by_side_wire import (
    CLOSE,
    CONTINUATION,
    PING,
    QUIET,
    TEXT,
)


def both(play=None, *, closes=None, shows=None, why=GENTLE):
    """Declares two scenes: one with WebSocket over HTTP, and a relayed one, whose name begins with `relayed_`.

    If gripd differs from Pushpin, either `closes` is the code with which gripd closes both sides, or `shows` is the
    transcript of gripd, and `why` is the reason.
    """
    if play is None:
        return lambda play: both(play, closes=closes, shows=shows, why=why)

    def over_http(s):
        play(s, s.opened())

    def as_relayed(s):
        play(s, s.relayed()[0])

    if closes:
        end = [f"client gets CLOSE {closes}…", "client's connection ends"]
        shows = [f"origin gets CLOSE {closes}…", *end]
    over_http.__name__, as_relayed.__name__ = play.__name__, f"relayed_{play.__name__}"
    scene(differs=(why, shows) if shows else None)(over_http)
    scene("", differs=(why, shows) if shows else None)(as_relayed)
    return None


ACCEPTED = "gripd closes the WebSocket; Pushpin does not check for this violation"


@both(closes=1002, why=ACCEPTED)
def unmasked_frame(s, client):
    client.text("unmasked", mask=False)
    s.settle()


@both(closes=1007, why=ACCEPTED)
def invalid_utf8(s, client):
    client.frame(TEXT, b"\xff\xfe")
    s.settle()


@both(closes=1007, why=ACCEPTED)
def invalid_utf8_across_fragments(s, client):
    client.frame(TEXT, b"\xe2\x82", fin=False)
    client.frame(CONTINUATION, b"\xff")
    s.settle()


@both
def character_across_fragments(s, client):
    client.frame(TEXT, b"\xe2\x82", fin=False)
    client.frame(CONTINUATION, b"\xac")
    s.settle()


@both(closes=1002)
def reserved_bits(s, client):
    client.text("reserved", rsv=4)
    s.settle()


@both(closes=1002)
def reserved_opcode(s, client):
    client.frame(3, "reserved")
    s.settle()


@both(closes=1002)
def reserved_control_opcode(s, client):
    client.frame(11, "reserved")
    s.settle()


@both(closes=1002)
def oversized_ping(s, client):
    client.frame(PING, "x" * 126)
    s.settle()


@both(closes=1002)
def fragmented_ping(s, client):
    client.frame(PING, "x", fin=False)
    s.settle()


@both(
    why="a control frame may come between the fragments of a message (RFC 6455 5.4); Pushpin handles this wrongly",
    shows=["origin gets PING 'in between'", "origin gets TEXT 'one two'"],
)
def ping_within_a_message(s, client):
    client.text("one ", fin=False)
    client.frame(PING, "in between")
    s.settle()
    client.frame(CONTINUATION, "two")
    s.settle()


@both(closes=1002)
def continuation_without_a_message(s, client):
    client.frame(CONTINUATION, "of what?")
    s.settle()


@both(closes=1002)
def message_within_a_message(s, client):
    client.text("one ", fin=False)
    client.text("two")
    s.settle()


@both(closes=1002, why=ACCEPTED)
def close_with_one_byte(s, client):
    client.frame(CLOSE, b"\x03")
    s.settle()


@both(closes=1002, why=ACCEPTED)
def close_code_that_must_not_be_sent(s, client):
    client.bye(1005)
    s.settle()


@both(closes=1002, why=ACCEPTED)
def close_code_out_of_range(s, client):
    client.bye(999)
    s.settle()


@both(closes=1007)
def close_reason_with_invalid_utf8(s, client):
    client.frame(CLOSE, struct.pack("!H", 1000) + b"\xff\xfe")
    s.settle()


@both
def frames_after_a_close(s, client):
    client.bye(1000)
    client.text("after")
    s.settle()


@both(closes=1002, why=ACCEPTED)
def length_in_too_many_bytes(s, client):
    client.send(b"\x81\xfe\x00\x02\0\0\0\0hi")
    s.settle()


@both(closes=1002, why=ACCEPTED)
def length_with_the_highest_bit_set(s, client):
    client.send(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0")
    s.settle()


@both(
    why="a control frame may come between the fragments of a message (RFC 6455 5.4); Pushpin handles this wrongly",
    shows=["origin gets CLOSE 1000 'in between'", "client gets CLOSE 1000 'in between'", "client's connection ends"],
)
def close_within_a_message(s, client):
    client.text("one ", fin=False)
    client.bye(1000, "in between")
    s.settle()


# Handshakes.


@scene(differs=("gripd refuses an invalid handshake with 400", ["client gets 400 Bad Request…"]))
def handshake_without_a_key(s):
    s.connect(sec_websocket_key=None).gets_answer()


@scene(differs=("gripd refuses an invalid handshake with 400", ["client gets 400 Bad Request…"]))
def handshake_with_another_version(s):
    s.connect(sec_websocket_version="8").gets_answer()


@scene(differs=("gripd refuses an invalid handshake with 400", ["client gets 400 Bad Request…"]))
def handshake_without_a_version(s):
    s.connect(sec_websocket_version=None).gets_answer()


@scene(differs=("gripd refuses an invalid handshake with 400", ["client gets 400 Bad Request…"]))
def handshake_by_post(s):
    s.connect("", "Content-Length: 0", method="POST").gets_answer()


@scene(differs=("gripd refuses an invalid handshake with 400", ["client gets 400 Bad Request…"]))
def handshake_with_a_body(s):
    s.connect("", "Content-Length: 5", b"hello").gets_answer()


@scene(differs=("a handshake must have 'Connection: Upgrade' (RFC 6455 4.2.1)", ["client gets 400 Bad Request…"]))
def handshake_without_connection_upgrade(s):
    client = s.connect(connection=None)
    # A server that does not accept this as a handshake answers at once, without a request to the origin.
    client.fill(QUIET)
    if not client.buffer:
        s.origin.next().answer("OPEN")
    client.gets_answer()


@scene()
def handshake_with_several_connection_tokens(s):
    client = s.connect(connection="keep-alive, UPGRADE")
    s.origin.next().answer("OPEN")
    client.gets_answer()


@scene(
    differs=(
        "the value of Upgrade is case-insensitive (RFC 6455 4.2.1)",
        ["origin gets OPEN", "client gets 101 Switching Protocols"],
    )
)
def handshake_with_upgrade_in_mixed_case(s):
    client = s.connect(upgrade="WebSocket")
    # A server that does not accept this as a handshake answers at once, without a request to the origin.
    client.fill(QUIET)
    if not client.buffer:
        s.origin.next().answer("OPEN")
    client.gets_answer()


@scene()
def frames_right_after_the_handshake(s):
    client = s.connect()
    client.text("early")
    s.origin.next().answer("OPEN")
    client.gets_answer()
    s.origin.next().answer()
