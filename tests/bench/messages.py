"""Messages of HTTP/1.1, as far as both sides of a benchmark read them."""

import re

from origin import HEAD_END

LINE_END = b"\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r", re.IGNORECASE)
# The untimely ends of a connection: it is reset or refused, or nothing comes where more had to come.
BROKEN = (OSError, EOFError)


async def read_message(reader):
    """The head and the body of a request or an answer."""
    head = await reader.readuntil(HEAD_END)
    if CHUNKED.search(head):
        return head, await read_chunks(reader)
    length = CONTENT_LENGTH.search(head)
    return head, await reader.readexactly(int(length.group(1)) if length else 0)


async def read_chunks(reader):
    """A body of unknown length. Nobody here sends trailers."""
    body = b""
    while True:
        size = int((await reader.readuntil(LINE_END)).partition(b";")[0], 16)
        body += await reader.readexactly(size)
        await reader.readexactly(len(LINE_END))
        if not size:
            return body


def status(head):
    return head[9:12].decode(errors="replace")
