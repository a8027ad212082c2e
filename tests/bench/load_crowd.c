#define _GNU_SOURCE
#include "load_crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_LIMIT 8192
#define REQUEST_LIMIT (TARGET_LIMIT + HEADERS_LIMIT + 512)
#define READ_BYTES 65536
#define EVENTS 512
#define NANOSECONDS_IN_A_MILLISECOND 1000000
#define MASK_LENGTH 4

/* The key, and the value that accepts it, are those of the example in RFC 6455, 1.3. */
static const char HANDSHAKE[] =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* Returns the time of the monotonic clock in nanoseconds. All processes of a machine share this clock. */
uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Records a complaint, unless there is one already: later complaints are often consequences of the first. */
static void __attribute__((format(printf, 2, 3))) complain(struct crowd *crowd, const char *format, ...)
{
    if (crowd->complaint[0])
        return;
    va_list values;
    va_start(values, format);
    vsnprintf(crowd->complaint, sizeof crowd->complaint, format, values);
    va_end(values);
}

/* Returns the number of a client in its crowd, which identifies it in the events of epoll. */
static uint32_t place_of(const struct crowd *crowd, const struct client *client)
{
    return (uint32_t)(client - crowd->clients);
}

/* Sets the events of a client's socket for which epoll wakes this thread. */
static void watch(struct crowd *crowd, struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = place_of(crowd, client)};
    if (epoll_ctl(crowd->epoll, operation, client->socket, &event) < 0)
        complain(crowd, "epoll_ctl failed for a client: %s", strerror(errno));
}

/* Ends a client. Closing its socket removes it from epoll as well. */
static void end_client(struct crowd *crowd, struct client *client)
{
    close(client->socket);
    client->socket = -1;
    client->state = ENDED;
    client->ended_at = now();
    free(client->head);
    client->head = NULL;
    crowd->open--;
}

/* Begins to connect a client to a port of 127.0.0.1: only servers on this machine are measured. */
static void begin_connection(struct crowd *crowd, struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(crowd->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->socket < 0) {
        complain(crowd, "client %u cannot create a socket: %s", place_of(crowd, client), strerror(errno));
        return;
    }
    if (connect(client->socket, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
        complain(crowd, "client %u cannot connect: %s", place_of(crowd, client), strerror(errno));
        return;
    }
    client->state = CONNECTING;
    crowd->opening++;
    crowd->open++;
    watch(crowd, client, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Begins to open clients until `in_flight` of them are being opened. Some servers cannot accept more at a time. */
void crowd_open(struct crowd *crowd, size_t in_flight)
{
    while (crowd->begun < crowd->size && crowd->opening < in_flight && !crowd->complaint[0])
        begin_connection(crowd, &crowd->clients[crowd->begun++]);
}

/* Sends bytes, and returns whether the socket took all of them. They are so few that only a broken socket does not. */
static bool send_all(const struct client *client, const void *bytes, size_t size)
{
    return send(client->socket, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Sends the request of a client, and prepares for the head of the response. */
static void send_request(struct crowd *crowd, struct client *client)
{
    char request[REQUEST_LIMIT];
    const char *handshake = crowd->kind == WEBSOCKET ? HANDSHAKE : "";
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench\r\n%s%s\r\n", client->target,
                        crowd->headers, handshake);
    client->head = malloc(HEAD_LIMIT + 1);
    client->head_length = 0;
    client->state = ASKED;
    if (!client->head || size < 0 || (size_t)size >= sizeof request || !send_all(client, request, (size_t)size))
        complain(crowd, "client %u cannot send its request", place_of(crowd, client));
}

/* Handles the end of a client's connection attempt. A client that polls then waits for crowd_ask(); others send their
 * request at once. */
static void end_connecting(struct crowd *crowd, struct client *client)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(client->socket, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error) {
        complain(crowd, "client %u cannot connect: %s", place_of(crowd, client), strerror(error ? error : errno));
        return;
    }
    watch(crowd, client, EPOLL_CTL_MOD, EPOLLIN);
    if (crowd->kind == POLL) {
        client->state = RESTING;
        crowd->opening--;
    } else {
        send_request(crowd, client);
    }
}

/* Sends the polls of at most `most` idle clients (RESTING). Returns whether no idle client is left. */
bool crowd_ask(struct crowd *crowd, size_t most)
{
    size_t asked = 0;
    for (size_t place = 0; place < crowd->size && !crowd->complaint[0]; place++) {
        if (crowd->clients[place].state != RESTING)
            continue;
        if (asked == most)
            return false;
        send_request(crowd, &crowd->clients[place]);
        asked++;
        crowd->asked++;
    }
    return true;
}

/* Counts a message and its latency, which is the time since its publisher stamped it, if the stamp could be read. */
static void count_message(struct crowd *crowd, struct client *client, uint64_t read_at)
{
    uint64_t stamp = client->wire.stamp;
    client->messages++;
    crowd->messages++;
    crowd->last_message_at = read_at;
    if (stamp > 0 && stamp <= read_at)
        latencies_add(&crowd->latencies, (read_at - stamp) / 1000);
}

/* Answers a Close frame with the same Close frame, and a Ping with a Pong. Clients must mask their frames (RFC 6455,
 * 5.3); a mask of zeros leaves the payload as it is. */
static void answer_control(struct client *client, uint64_t read_at)
{
    const struct wire *wire = &client->wire;
    uint8_t frame[2 + MASK_LENGTH + CONTROL_LIMIT] = {0};
    if (wire->opcode == PONG)
        return;
    if (wire->opcode == CLOSE && !client->goodbye_at)
        client->goodbye_at = read_at;
    frame[0] = (uint8_t)(0x80 | (wire->opcode == PING ? PONG : CLOSE));
    frame[1] = (uint8_t)(0x80 | wire->control_length);
    memcpy(frame + 2 + MASK_LENGTH, wire->control, wire->control_length);
    /* If this fails, the server has closed the connection, and the next read shows that. */
    send_all(client, frame, 2 + MASK_LENGTH + wire->control_length);
}

/* Handles the end of a response. A client that polls keeps its connection, and any other client closes it. */
static void end_body(struct crowd *crowd, struct client *client)
{
    if (crowd->kind == POLL)
        client->state = RESTING;
    else
        end_client(crowd, client);
}

/* Handles the bytes that follow the head of a response. */
static void take(struct crowd *crowd, struct client *client, const char *at, const char *end, uint64_t read_at)
{
    while (client->state == HELD) {
        switch (wire_next(&client->wire, &at, end)) {
        case NO_NEWS:
            return;
        case MESSAGE:
            count_message(crowd, client, read_at);
            break;
        case CONTROL_FRAME:
            answer_control(client, read_at);
            break;
        case BODY_END:
            end_body(crowd, client);
            break;
        case MALFORMED:
            complain(crowd, "client %u received invalid HTTP or an invalid frame", place_of(crowd, client));
            return;
        }
    }
}

/* Returns whether the head of a response has the right status, and for a WebSocket the right Sec-WebSocket-Accept. */
static bool is_head_good(const struct crowd *crowd, const char *head)
{
    if (crowd->kind != WEBSOCKET)
        return strncmp(head, "HTTP/1.1 200 ", 13) == 0;
    return strncmp(head, "HTTP/1.1 101 ", 13) == 0 && strstr(head, ACCEPT);
}

/* Handles the whole head of a response. The client is then held, or the response is a complaint. */
static void end_head(struct crowd *crowd, struct client *client)
{
    if (!is_head_good(crowd, client->head)) {
        complain(crowd, "client %u was not held; the response: %.200s", place_of(crowd, client), client->head);
        return;
    }
    wire_begin(&client->wire, client->head, crowd->kind == WEBSOCKET);
    client->state = HELD;
    if (client->wire.may_be_compressed)
        crowd->compressed++;
    if (crowd->kind != POLL)
        crowd->opening--;
    free(client->head);
    client->head = NULL;
}

/* Handles bytes of a head. Bytes after the end of the head are handled as content. */
static void take_head(struct crowd *crowd, struct client *client, const char *at, const char *end, uint64_t read_at)
{
    static const char HEAD_END[] = "\r\n\r\n";
    size_t space = HEAD_LIMIT - client->head_length;
    size_t size = (size_t)(end - at) < space ? (size_t)(end - at) : space;
    size_t had = client->head_length;
    memcpy(client->head + had, at, size);
    client->head_length += size;
    client->head[client->head_length] = '\0';
    char *found = strstr(client->head, HEAD_END);
    if (found) {
        char *behind = found + strlen(HEAD_END);
        size_t used = (size_t)(behind - client->head) - had;
        *behind = '\0';
        end_head(crowd, client);
        take(crowd, client, at + used, end, read_at);
    } else if (client->head_length == HEAD_LIMIT) {
        complain(crowd, "client %u was sent a head of more than %d bytes", place_of(crowd, client), HEAD_LIMIT);
    }
}

/* Ends a client whose connection has ended. This is a complaint if the client still waited for the head of a response,
 * but not with polls: their messages count as lost instead. */
static void lose(struct crowd *crowd, struct client *client, const char *reason)
{
    if (client->state == ASKED && crowd->kind != POLL)
        complain(crowd, "client %u lost its connection before the response: %s", place_of(crowd, client), reason);
    end_client(crowd, client);
}

/* Reads once from a client. If there are more bytes, epoll reports the client again. */
static void read_client(struct crowd *crowd, struct client *client)
{
    static char bytes[READ_BYTES];
    ssize_t size = recv(client->socket, bytes, sizeof bytes, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0)
        lose(crowd, client, size ? strerror(errno) : "it was closed");
    else if (client->state == ASKED)
        take_head(crowd, client, bytes, bytes + size, now());
    else
        take(crowd, client, bytes, bytes + size, now());
}

/* Waits for events until the deadline at the latest, and handles those that have happened. */
void crowd_read(struct crowd *crowd, uint64_t deadline)
{
    struct epoll_event events[EVENTS];
    uint64_t time = now();
    uint64_t left = deadline > time ? deadline - time : 0;
    uint64_t milliseconds = (left + NANOSECONDS_IN_A_MILLISECOND - 1) / NANOSECONDS_IN_A_MILLISECOND;
    int count = epoll_wait(crowd->epoll, events, EVENTS, (int)milliseconds);
    for (int each = 0; each < count && !crowd->complaint[0]; each++) {
        struct client *client = &crowd->clients[events[each].data.u32];
        if (client->state == CONNECTING)
            end_connecting(crowd, client);
        else if (client->state != ENDED)
            read_client(crowd, client);
    }
    if (count < 0 && errno != EINTR)
        complain(crowd, "epoll_wait failed: %s", strerror(errno));
}
