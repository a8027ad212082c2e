/* A crowd of clients that one epoll watches. They connect and read only while a function of this file runs. */
#ifndef LOAD_CROWD_H
#define LOAD_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load_latencies.h"
#include "load_wire.h"

#define HEADERS_LIMIT 1024
#define TARGET_LIMIT 1024
#define COMPLAINT_LIMIT 400

enum kind { STREAM, POLL, WEBSOCKET };

/* The states of a client. UNOPENED: it has no connection yet. CONNECTING: it waits for its connection. ASKED: it has
 * sent its request and waits for the head of the response. HELD: it reads what follows the head. RESTING: it is
 * connected and waits for the command to poll. ENDED: its connection is closed. */
enum state { UNOPENED, CONNECTING, ASKED, HELD, RESTING, ENDED };

struct client {
    int socket;
    enum state state;
    char *target;
    /* The bytes of the response's head that have arrived; NULL if no head is awaited. */
    char *head;
    size_t head_length;
    struct wire wire;
    uint32_t messages;
    /* The times of the first Close frame and of the end of the connection, by the monotonic clock; 0 before that. */
    uint64_t goodbye_at;
    uint64_t ended_at;
};

struct crowd {
    enum kind kind;
    uint16_t port;
    /* The header lines of every request, each with its line end. */
    char headers[HEADERS_LIMIT];
    int epoll;
    struct client *clients;
    size_t size;
    /* The number of clients that have begun to connect. */
    size_t begun;
    /* The number of clients that are being opened: they are not held yet or, if they poll, not connected yet. */
    size_t opening;
    /* The number of clients that have a connection, or have begun to connect. */
    size_t open;
    /* The number of WebSockets with which compression was agreed. */
    size_t compressed;
    /* The number of polls that were sent since the start. */
    uint64_t asked;
    /* The number of messages that arrived since the start, and the time of the last one. */
    uint64_t messages;
    uint64_t last_message_at;
    struct latencies latencies;
    /* The first error, after which nothing can be measured; empty if there was none. */
    char complaint[COMPLAINT_LIMIT];
};

uint64_t now(void);
void crowd_open(struct crowd *crowd, size_t in_flight);
bool crowd_ask(struct crowd *crowd, size_t most);
void crowd_read(struct crowd *crowd, uint64_t deadline);

#endif
