#!/usr/bin/env python3
"""Checks that the load client counts messages correctly. A server sends it good and bad bytes, at once and one by one.

    python3 tests/bench/check_load_client.py

A line for each check goes to standard output. The exit status is 0 only if all checks pass.
"""

import socket
import sys
import time
from contextlib import ExitStack, contextmanager

# Python must not write compiled modules into the repository.
sys.dont_write_bytecode = True

from clients import CompressedWebSockets, Polls, Streams, WebSockets
from compiling import Programs
from processes import Failed

SECONDS = 5
STAMPED = b"@1#"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
COMPRESSED = UPGRADED + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
TEXT, REST, CLOSE, PING = 0x81, 0x80, 0x88, 0x89
FIRST_PART, COMPRESSED_TEXT = 0x01, 0xC1


def frame(first, payload):
    """Returns a frame as servers send it. Its length is written in as few bytes as possible."""
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    wide, mark = (2, 126) if length < 1 << 16 else (8, 127)
    return bytes([first, mark]) + length.to_bytes(wide, "big") + payload


def chunk(data, extension=b""):
    """Returns a chunk of a body."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


# The messages in some of these bytes are cut in two by chunks or frames.
STREAM = CHUNKED + chunk(b"hello\n") + chunk(b"a@1", b";x=y") + chunk(b"23#b@4#")
FRAMES = (
    frame(TEXT, b"x" * 125 + STAMPED)
    + frame(FIRST_PART, b"@1")
    + frame(PING, b"are you there")
    + frame(REST, b"2#" + STAMPED + b"y" * 70_000)
    + frame(TEXT, b"")
)
# Each of these checks has a name, the kind of client, the bytes that the server sends, and the number of messages that
# the client must count.
CHECKS = [
    ("messages in chunks are counted", Streams, STREAM, 2),
    ("text that only looks like a stamp is not counted", Streams, CHUNKED + chunk(b"@@12x@#1@3#@@4#"), 2),
    ("messages in a body of unknown length are counted", Streams, OK + b"\r\n" + STAMPED * 3, 3),
    ("messages in frames are counted", WebSockets, UPGRADED + b"\r\n" + FRAMES, 3),
    (
        "messages in compressed frames are counted",
        CompressedWebSockets,
        COMPRESSED + frame(COMPRESSED_TEXT, b"@1#") + frame(TEXT, b"-@2#"),
        2,
    ),
]
# After these bytes the client must end. If the last value is not empty, the client must first answer with this frame.
ENDS = [
    ("the last chunk ends a response", Streams, STREAM + b"0\r\nExpires: 0\r\n\r\n", b""),
    ("a response ends after its length", Streams, OK + b"Content-Length: 3\r\n\r\n" + STAMPED, b""),
    (
        "a Close frame is answered with its reason",
        WebSockets,
        UPGRADED + b"\r\n" + frame(CLOSE, b"\x03\xe8bye"),
        frame(CLOSE, b"\x03\xe8bye"),
    ),
    (
        "a Close frame without a reason is answered",
        WebSockets,
        UPGRADED + b"\r\n" + frame(CLOSE, b""),
        frame(CLOSE, b""),
    ),
]
# The client must refuse these bytes.
WRONG = [
    ("a status other than 200 is refused", Streams, b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
    ("a chunk without a size is refused", Streams, CHUNKED + b"\r\n"),
    ("a chunk size that is no number is refused", Streams, CHUNKED + b"5g\r\n"),
    ("a wrong Sec-WebSocket-Accept is refused", WebSockets, UPGRADED.replace(b"s3p", b"xxx") + b"\r\n"),
    (
        "a compressed frame is refused if compression was not agreed",
        WebSockets,
        UPGRADED + b"\r\n" + frame(COMPRESSED_TEXT, b"x"),
    ),
    ("a masked frame is refused", WebSockets, UPGRADED + b"\r\n\x81\x81\x00\x00\x00\x00x"),
    ("a control frame in several parts is refused", WebSockets, UPGRADED + b"\r\n" + frame(0x08, b"")),
    ("a head that is too long is refused", Streams, OK + b"x" * 9000),
]


@contextmanager
def meeting(programs, kind):
    """Yields clients of a kind, and a listener that they connect to."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(SECONDS)
        yield stack.enter_context(kind(programs.load_client(), listener.getsockname()[1])), listener


def serve(listener, sent, is_slow):
    """Accepts a client, reads its request, and sends bytes at once or one by one. Returns the connection."""
    sock, _ = listener.accept()
    sock.settimeout(SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(4096)
    # At most 900 bytes are sent one by one. After them come only the fillings of long frames and heads, with which
    # this would check nothing more.
    pieces = [sent[at:at + 1] for at in range(min(len(sent), 900))] + [sent[900:]] if is_slow else [sent]
    try:
        for piece in filter(None, pieces):
            sock.sendall(piece)
            time.sleep(0.0002 if is_slow else 0)
    except OSError:
        # A client that refuses these bytes may have closed its connection.
        pass
    return sock


def open_one(crowd):
    """Makes one client send its request. Does not wait for the response."""
    crowd.begin(SECONDS, f"open 1 1 {SECONDS}", "/target")


def check_counts(programs, kind, sent, expected, is_slow):
    """Checks that a client counts `expected` messages."""
    with meeting(programs, kind) as (crowd, listener):
        open_one(crowd)
        with serve(listener, sent, is_slow):
            crowd.finish()
            crowd.begin_messages(expected, SECONDS)
            crowd.finish()
            crowd.linger(0.05)
            same(crowd.counts(), [expected])
            same(crowd.agreed(1), 1)


def check_end(programs, kind, sent, answered, is_slow):
    """Checks that a client sees the end of a response, or answers a Close frame.

    The answer is the frame `answered` with a mask of zeros, which leaves the payload as it is.
    """
    with meeting(programs, kind) as (crowd, listener):
        open_one(crowd)
        with serve(listener, sent, is_slow) as sock:
            crowd.finish()
            crowd.linger(0.05)
            if answered:
                expected = bytes([answered[0], 0x80 | answered[1]]) + bytes(4) + answered[2:]
                same(sock.recv(4096), expected)
                sock.shutdown(socket.SHUT_RDWR)
            crowd.begin_end(0, SECONDS)
            ended = crowd.finish()
            same((ended["done"], ended["ended_ns"] > 0, ended["goodbye_ns"] > 0), (True, True, bool(answered)))


def check_refusal(programs, kind, sent, is_slow):
    """Checks that a client refuses bytes with a complaint."""
    with meeting(programs, kind) as (crowd, listener):
        open_one(crowd)
        with serve(listener, sent, is_slow):
            try:
                crowd.finish()
                crowd.linger(0.2)
            except Failed:
                return
            raise Failed("the load client did not refuse the bytes")


def check_polls(programs, is_slow):
    """Checks that a client polls twice on one connection."""
    answered = OK + b"Content-Length: 4\r\n\r\n" + STAMPED + b"\n"
    with meeting(programs, Polls) as (crowd, listener):
        open_one(crowd)
        same(crowd.finish()["done"], True)
        same(crowd.run(0, "ask 5")["done"], True)
        with serve(listener, answered, is_slow) as sock:
            crowd.begin_messages(1, SECONDS)
            same(crowd.finish()["done"], True)
            # The message may be counted before the rest of the response has arrived.
            crowd.linger(0.05)
            same(crowd.run(0, "ask 5")["asked"], 2)
            same(sock.recv(4096)[:4], b"GET ")
            sock.sendall(answered)
            crowd.begin_messages(2, SECONDS)
            crowd.finish()
            same(crowd.counts(), [2])


def same(got, expected):
    """Fails if two values differ."""
    if got != expected:
        raise Failed(f"got {got!r}, expected {expected!r}")


def main():
    with Programs() as programs:
        # The other program in C has no checks, but it has to compile.
        programs.floor()
        tried = [report(name, lambda: check(is_slow)) for is_slow in (False, True) for name, check in checks(programs)]
    sys.exit(not all(tried))


def checks(programs):
    """Yields the name and the function of each check. Its argument says whether the server sends bytes one by one."""
    for name, kind, sent, expected in CHECKS:
        yield name, lambda slow, case=(kind, sent, expected): check_counts(programs, *case, slow)
    for name, kind, sent, answered in ENDS:
        yield name, lambda slow, case=(kind, sent, answered): check_end(programs, *case, slow)
    for name, kind, sent in WRONG:
        yield name, lambda slow, case=(kind, sent): check_refusal(programs, *case, slow)
    yield "two polls on one connection", lambda slow: check_polls(programs, slow)


def report(name, check):
    """Runs a check, prints a line, and returns whether the check passed."""
    try:
        check()
    except (Failed, OSError) as error:
        print(f"FAILED {name}: {error}", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True


if __name__ == "__main__":
    main()
