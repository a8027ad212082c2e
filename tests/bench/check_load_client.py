#!/usr/bin/env python3
"""Checks that the load client counts right: a server sends it what servers may send, whole and byte by byte.

    python3 tests/bench/check_load_client.py

A line for each check goes to standard output. The status is 0 only if all went well.
"""

import socket
import sys
import time
from contextlib import ExitStack, contextmanager

# A check leaves nothing behind in the repository.
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
    """Returns a frame of a server, its length in as few bytes as possible."""
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    wide, mark = (2, 126) if length < 1 << 16 else (8, 127)
    return bytes([first, mark]) + length.to_bytes(wide, "big") + payload


def chunk(data, extension=b""):
    """Returns a chunk of a body."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


# Each check: its name, the kind of client, what the server sends, and the messages that the client has to count.
STREAM = CHUNKED + chunk(b"hello\n") + chunk(b"a@1", b";x=y") + chunk(b"23#b@4#")
FRAMES = (
    frame(TEXT, b"x" * 125 + STAMPED)
    + frame(FIRST_PART, b"@1")
    + frame(PING, b"are you there")
    + frame(REST, b"2#" + STAMPED + b"y" * 70_000)
    + frame(TEXT, b"")
)
CHECKS = [
    ("a stream", Streams, STREAM, 2),
    ("text that only looks like a stamp", Streams, CHUNKED + chunk(b"@@12x@#1@3#@@4#"), 2),
    ("a body until the end", Streams, OK + b"\r\n" + STAMPED * 3, 3),
    ("frames", WebSockets, UPGRADED + b"\r\n" + FRAMES, 3),
    ("compressed frames", CompressedWebSockets, COMPRESSED + frame(COMPRESSED_TEXT, b"@1#") + frame(TEXT, b"-@2#"), 2),
]
ENDS = [
    ("the last chunk", Streams, STREAM + b"0\r\nExpires: 0\r\n\r\n", b""),
    ("a body of known length", Streams, OK + b"Content-Length: 3\r\n\r\n" + STAMPED, b""),
    ("a Close", WebSockets, UPGRADED + b"\r\n" + frame(CLOSE, b"\x03\xe8bye"), frame(CLOSE, b"\x03\xe8bye")),
    ("a Close of no reason", WebSockets, UPGRADED + b"\r\n" + frame(CLOSE, b""), frame(CLOSE, b"")),
]
WRONG = [
    ("another status", Streams, b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
    ("no size of a chunk", Streams, CHUNKED + b"\r\n"),
    ("a chunk that is no number", Streams, CHUNKED + b"5g\r\n"),
    ("a wrong accept", WebSockets, UPGRADED.replace(b"s3p", b"xxx") + b"\r\n"),
    ("a compressed frame that was not agreed", WebSockets, UPGRADED + b"\r\n" + frame(COMPRESSED_TEXT, b"x")),
    ("a masked frame", WebSockets, UPGRADED + b"\r\n\x81\x81\x00\x00\x00\x00x"),
    ("a control frame in parts", WebSockets, UPGRADED + b"\r\n" + frame(0x08, b"")),
    ("a head without an end", Streams, OK + b"x" * 9000),
]


@contextmanager
def meeting(programs, kind):
    """Gives clients of a kind, and a listener that they connect to."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(SECONDS)
        yield stack.enter_context(kind(programs.load_client(), listener.getsockname()[1])), listener


def serve(listener, sent, is_slow):
    """Accepts a client, reads its request, and sends an answer: whole, or byte by byte. Returns the connection."""
    sock, _ = listener.accept()
    sock.settimeout(SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(4096)
    # The long filling of a frame goes at once: byte by byte it would show nothing.
    pieces = [sent[at:at + 1] for at in range(min(len(sent), 900))] + [sent[900:]] if is_slow else [sent]
    try:
        for piece in filter(None, pieces):
            sock.sendall(piece)
            time.sleep(0.0002 if is_slow else 0)
    except OSError:
        # A client that refuses what it is sent has gone.
        pass
    return sock


def open_one(crowd):
    """Lets one client ask, without waiting for its answer."""
    crowd.begin(SECONDS, f"open 1 1 {SECONDS}", "/target")


def check_counts(programs, kind, sent, expected, is_slow):
    """Checks the messages that a client counts."""
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
    """Checks that a client sees the end, and answers a Close with the same bytes behind a mask of zeros."""
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
    """Checks that a client complains."""
    with meeting(programs, kind) as (crowd, listener):
        open_one(crowd)
        with serve(listener, sent, is_slow):
            try:
                crowd.finish()
                crowd.linger(0.2)
            except Failed:
                return
            raise Failed("there was no complaint")


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
            # The end of the answer may come after the end of the message.
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
        # The other program in C is only compiled here.
        programs.floor()
        tried = [report(name, lambda: check(is_slow)) for is_slow in (False, True) for name, check in checks(programs)]
    sys.exit(not all(tried))


def checks(programs):
    """Returns all checks with their names. Each is told whether the server is to send byte by byte."""
    for name, kind, sent, expected in CHECKS:
        yield name, lambda slow, case=(kind, sent, expected): check_counts(programs, *case, slow)
    for name, kind, sent, answered in ENDS:
        yield name, lambda slow, case=(kind, sent, answered): check_end(programs, *case, slow)
    for name, kind, sent in WRONG:
        yield name, lambda slow, case=(kind, sent): check_refusal(programs, *case, slow)
    yield "two polls on one connection", lambda slow: check_polls(programs, slow)


def report(name, check):
    """Runs a check, prints a line, and tells whether it went well."""
    try:
        check()
    except (Failed, OSError) as error:
        print(f"FAILED {name}: {error}", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True


if __name__ == "__main__":
    main()
