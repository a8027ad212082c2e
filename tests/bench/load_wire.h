/* The reader of the bytes that follow the head of a response: a body of HTTP/1.1, or the frames of a WebSocket. */
#ifndef LOAD_WIRE_H
#define LOAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most bytes that a control frame carries (RFC 6455, 5.5). */
#define CONTROL_LIMIT 125
#define FRAME_HEAD_LIMIT 10

enum opcode { CONTINUATION = 0x0, TEXT = 0x1, BINARY = 0x2, CLOSE = 0x8, PING = 0x9, PONG = 0xA };

/* The ways in which the end of a body or a frame is known. */
enum framing { UNTIL_END, BY_LENGTH, IN_CHUNKS, IN_FRAMES };

/* The part of a chunk, of a trailer or of a frame that comes next. */
enum place { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER, FRAME_HEAD, FRAME_PAYLOAD };

/* The events that a reader finds in bytes. NO_NEWS: it needs more bytes. MESSAGE: it has found a message to count.
 * CONTROL_FRAME: it has read a whole control frame. BODY_END: the body has ended. MALFORMED: the bytes break the rules
 * of the protocol. */
enum news { NO_NEWS, MESSAGE, CONTROL_FRAME, BODY_END, MALFORMED };

struct wire {
    enum framing framing;
    enum place place;
    /* The number of bytes that the chunk, the body or the frame still has. */
    uint64_t left;
    bool has_digits;
    bool is_line_empty;

    /* The state of the current frame. `control` is the payload of a control frame, as far as it has been read. */
    uint8_t frame_head[FRAME_HEAD_LIMIT];
    uint8_t frame_head_length;
    uint8_t control[CONTROL_LIMIT];
    uint8_t control_length;
    enum opcode opcode;
    bool may_be_compressed;
    bool is_compressed;

    /* The stamp of the last message; 0 if it could not be read because the message is compressed. */
    uint64_t stamp;
    bool is_in_stamp;
};

void wire_begin(struct wire *wire, const char *head, bool is_websocket);
enum news wire_next(struct wire *wire, const char **at, const char *end);

#endif
