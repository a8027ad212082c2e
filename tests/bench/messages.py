"""Functions that read requests and responses of HTTP/1.1, for the clients and the origin of `abuse.py`."""

import re

from origin import HEAD_END

LINE_END = b"\r\n"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r", re.IGNORECASE)
# The exceptions that say that a connection was refused or reset, or that it ended within a message.
BROKEN = (OSError, EOFError)


async def read_message(reader):
    """Returns the head and the body of a request or a response."""
    head = await reader.readuntil(HEAD_END)
    if CHUNKED.search(head):
        return head, await read_chunks(reader)
    length = CONTENT_LENGTH.search(head)
    return head, await reader.readexactly(int(length.group(1)) if length else 0)


async def read_chunks(reader):
    """Returns the content of a chunked body. Trailers are not understood, because no program here sends any."""
    body = b""
    while True:
        size = int((await reader.readuntil(LINE_END)).partition(b";")[0], 16)
        body += await reader.readexactly(size)
        await reader.readexactly(len(LINE_END))
        if not size:
            return body


def status(head):
    return head[9:12].decode(errors="replace")
