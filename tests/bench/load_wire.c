#define _GNU_SOURCE
#include "load_wire.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The largest length of a chunk or frame. A larger one is an error of the sender or of this reader. */
#define LENGTH_LIMIT (UINT64_C(1) << 40)

#define FIN 0x80
#define COMPRESSED 0x40
#define OTHER_EXTENSIONS 0x30
#define OPCODE 0x0F
#define MASKED 0x80
#define SHORT_LENGTH 0x7F
#define LENGTH_OF_16_BITS 126
#define LENGTH_OF_64_BITS 127

/* Returns the value of a header in a head, or NULL. `name` has the line end before the name and the colon after it,
 * as in "\r\nname:". */
static const char *header(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " ") : NULL;
}

/* Returns whether the line with the value of a header contains a word. */
static bool line_has(const char *value, const char *word)
{
    const char *found = value ? strcasestr(value, word) : NULL;
    return found && found < value + strcspn(value, "\r");
}

/* Prepares the reader for the bytes that follow this head. */
void wire_begin(struct wire *wire, const char *head, bool is_websocket)
{
    memset(wire, 0, sizeof *wire);
    const char *length = header(head, "\r\ncontent-length:");
    if (is_websocket) {
        wire->framing = IN_FRAMES;
        wire->place = FRAME_HEAD;
        wire->may_be_compressed = line_has(header(head, "\r\nsec-websocket-extensions:"), "permessage-deflate");
    } else if (line_has(header(head, "\r\ntransfer-encoding:"), "chunked")) {
        wire->framing = IN_CHUNKS;
        wire->place = CHUNK_SIZE;
    } else if (length) {
        wire->framing = BY_LENGTH;
        wire->left = strtoull(length, NULL, 10);
    } else {
        wire->framing = UNTIL_END;
        wire->left = UINT64_MAX;
    }
}

/* Reads until the end of a stamp, and returns whether there was one. Every message has one stamp, "@<nanoseconds>#",
 * which may be cut in two by the end of a read, a chunk or a frame. */
static bool find_stamp(struct wire *wire, const char **at, const char *end)
{
    while (*at < end) {
        if (!wire->is_in_stamp) {
            const char *mark = memchr(*at, '@', (size_t)(end - *at));
            *at = mark ? mark + 1 : end;
            wire->is_in_stamp = mark != NULL;
            wire->stamp = 0;
            continue;
        }
        char byte = *(*at)++;
        if (byte >= '0' && byte <= '9') {
            wire->stamp = wire->stamp * 10 + (uint64_t)(byte - '0');
            continue;
        }
        bool is_stamp = byte == '#' && wire->stamp > 0;
        wire->is_in_stamp = byte == '@';
        if (is_stamp)
            return true;
        wire->stamp = 0;
    }
    return false;
}

/* Returns the end of the bytes that belong to the current chunk, body or frame. */
static const char *end_of_part(const struct wire *wire, const char *at, const char *end)
{
    return (uint64_t)(end - at) > wire->left ? at + wire->left : end;
}

/* Reads content until a message is found in it, and returns whether there was one. */
static bool take_content(struct wire *wire, const char **at, const char *end)
{
    const char *from = *at;
    bool is_found = find_stamp(wire, at, end_of_part(wire, from, end));
    wire->left -= (uint64_t)(*at - from);
    return is_found;
}

/* Reads a body of known length, or one that ends with its connection. */
static enum news next_in_body(struct wire *wire, const char **at, const char *end)
{
    if (take_content(wire, at, end))
        return MESSAGE;
    return wire->framing == BY_LENGTH && wire->left == 0 ? BODY_END : NO_NEWS;
}

/* Returns the value of a hexadecimal digit. */
static uint64_t digit_value(char digit)
{
    return (uint64_t)(isdigit((unsigned char)digit) ? digit - '0' : tolower((unsigned char)digit) - 'a' + 10);
}

/* Reads one byte of the line with the size of a chunk. */
static enum news read_size(struct wire *wire, char byte)
{
    if (byte == '\n') {
        if (!wire->has_digits)
            return MALFORMED;
        wire->has_digits = false;
        wire->is_line_empty = true;
        wire->place = wire->left ? CHUNK_DATA : TRAILER;
    } else if (wire->place == CHUNK_SIZE && isxdigit((unsigned char)byte)) {
        wire->has_digits = true;
        wire->left = wire->left * 16 + digit_value(byte);
        return wire->left > LENGTH_LIMIT ? MALFORMED : NO_NEWS;
    } else if (byte == ';' || byte == ' ') {
        wire->place = CHUNK_EXTENSION;
    } else if (wire->place == CHUNK_SIZE && byte != '\r') {
        return MALFORMED;
    }
    return NO_NEWS;
}

/* Reads one byte of the line end after the data of a chunk. */
static enum news read_chunk_end(struct wire *wire, char byte)
{
    if (byte == '\n')
        wire->place = CHUNK_SIZE;
    return byte == '\n' || byte == '\r' ? NO_NEWS : MALFORMED;
}

/* Reads one byte of the lines after the last chunk. An empty line ends them. */
static enum news read_trailer(struct wire *wire, char byte)
{
    if (byte == '\n' && wire->is_line_empty)
        return BODY_END;
    if (byte != '\r')
        wire->is_line_empty = byte == '\n';
    return NO_NEWS;
}

/* Reads one byte of a chunked body that is not content. */
static enum news read_framing(struct wire *wire, char byte)
{
    switch (wire->place) {
    case CHUNK_END:
        return read_chunk_end(wire, byte);
    case TRAILER:
        return read_trailer(wire, byte);
    default:
        return read_size(wire, byte);
    }
}

/* Reads a chunked body. */
static enum news next_in_chunks(struct wire *wire, const char **at, const char *end)
{
    enum news news = NO_NEWS;
    while (*at < end && news == NO_NEWS) {
        if (wire->place != CHUNK_DATA) {
            news = read_framing(wire, *(*at)++);
        } else if (take_content(wire, at, end)) {
            news = MESSAGE;
        } else if (wire->left == 0) {
            wire->place = CHUNK_END;
        }
    }
    return news;
}

/* Returns whether the current frame is a control frame, which may come between the frames of a message. */
static bool is_control(const struct wire *wire)
{
    return wire->opcode >= CLOSE;
}

/* Returns the size of the frame's head; 2 until the byte with the length was read. A server's frames have no mask. */
static size_t frame_head_size(const struct wire *wire)
{
    uint8_t length = wire->frame_head_length < 2 ? 0 : wire->frame_head[1] & SHORT_LENGTH;
    return length == LENGTH_OF_16_BITS ? 4 : length == LENGTH_OF_64_BITS ? 10 : 2;
}

/* Returns the length of the payload. The whole head of the frame must have been read. */
static uint64_t payload_length(const struct wire *wire)
{
    uint64_t length = wire->frame_head[1] & SHORT_LENGTH;
    if (length >= LENGTH_OF_16_BITS) {
        length = 0;
        for (size_t place = 2; place < frame_head_size(wire); place++)
            length = length << 8 | wire->frame_head[place];
    }
    return length;
}

/* Returns whether the first byte and the length of a frame obey the rules of RFC 6455, 5.2 and 5.5, and RFC 7692. */
static bool is_frame_good(const struct wire *wire, uint8_t first)
{
    bool is_known = wire->opcode <= BINARY || (wire->opcode >= CLOSE && wire->opcode <= PONG);
    bool is_short = first & FIN && wire->left <= CONTROL_LIMIT;
    bool is_allowed = wire->may_be_compressed && !is_control(wire) && wire->opcode != CONTINUATION;
    return is_known && !(first & OTHER_EXTENSIONS) && !(wire->frame_head[1] & MASKED) && wire->left <= LENGTH_LIMIT
        && (is_short || !is_control(wire)) && (is_allowed || !(first & COMPRESSED));
}

/* Begins the payload of a frame whose head has been read, and returns whether the head is valid. The first frame of a
 * message says whether the message is compressed. */
static bool begin_payload(struct wire *wire)
{
    uint8_t first = wire->frame_head[0];
    wire->opcode = first & OPCODE;
    wire->left = payload_length(wire);
    wire->control_length = 0;
    wire->place = FRAME_PAYLOAD;
    if (!is_control(wire) && wire->opcode != CONTINUATION)
        wire->is_compressed = first & COMPRESSED;
    return is_frame_good(wire, first);
}

/* Reads the payload of a frame, and returns whether a message was found in it. Compressed content is skipped. */
static bool take_payload(struct wire *wire, const char **at, const char *end)
{
    if (!is_control(wire) && !wire->is_compressed)
        return take_content(wire, at, end);
    const char *stop = end_of_part(wire, *at, end);
    size_t size = (size_t)(stop - *at);
    if (is_control(wire)) {
        memcpy(wire->control + wire->control_length, *at, size);
        wire->control_length = (uint8_t)(wire->control_length + size);
    }
    wire->left -= size;
    *at = stop;
    return false;
}

/* Ends a frame. A compressed message is found at the end of its last frame, and has no stamp. */
static enum news end_frame(struct wire *wire)
{
    wire->place = FRAME_HEAD;
    wire->frame_head_length = 0;
    if (is_control(wire))
        return CONTROL_FRAME;
    if (!wire->is_compressed || !(wire->frame_head[0] & FIN))
        return NO_NEWS;
    wire->stamp = 0;
    return MESSAGE;
}

/* Reads one byte of a frame's head. With the last byte the payload begins. */
static enum news read_frame_head(struct wire *wire, char byte)
{
    wire->frame_head[wire->frame_head_length++] = (uint8_t)byte;
    bool is_whole = wire->frame_head_length >= frame_head_size(wire);
    return is_whole && !begin_payload(wire) ? MALFORMED : NO_NEWS;
}

/* Reads frames. A frame without a payload ends with its head. */
static enum news next_in_frames(struct wire *wire, const char **at, const char *end)
{
    for (;;) {
        enum news news = NO_NEWS;
        if (wire->place == FRAME_PAYLOAD) {
            if (take_payload(wire, at, end))
                return MESSAGE;
            if (wire->left > 0)
                return NO_NEWS;
            news = end_frame(wire);
        } else if (*at < end) {
            news = read_frame_head(wire, *(*at)++);
        } else {
            return NO_NEWS;
        }
        if (news != NO_NEWS)
            return news;
    }
}

/* Reads on from `*at` until an event is found or no byte is left before `end`. Moves `*at` to the next unread byte. */
enum news wire_next(struct wire *wire, const char **at, const char *end)
{
    switch (wire->framing) {
    case IN_CHUNKS:
        return next_in_chunks(wire, at, end);
    case IN_FRAMES:
        return next_in_frames(wire, at, end);
    default:
        return next_in_body(wire, at, end);
    }
}
