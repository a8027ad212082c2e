/* A crowd of clients in one epoll. They are opened and read only while a function here runs. */
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

/* A client: waits for its connection, waits for the head of an answer, reads what follows, rests between two polls. */
enum state { UNOPENED, CONNECTING, ASKED, HELD, RESTING, ENDED };

struct client {
    int socket;
    enum state state;
    char *target;
    /* The head of the answer, as far as it has come; NULL while none is awaited. */
    char *head;
    size_t head_length;
    struct wire wire;
    uint32_t messages;
    /* The times of the first Close frame and of the end, by the monotonic clock; 0 if they have not come. */
    uint64_t goodbye_at;
    uint64_t ended_at;
};

struct crowd {
    enum kind kind;
    uint16_t port;
    /* Header lines that every request has, each with its line end. */
    char headers[HEADERS_LIMIT];
    int epoll;
    struct client *clients;
    size_t size;
    /* The clients that have begun to open, those of them that are not open yet, and those that are open now. */
    size_t begun;
    size_t opening;
    size_t open;
    size_t compressed;
    /* The polls that were asked for, and the messages that came, since the start. */
    uint64_t asked;
    uint64_t messages;
    uint64_t last_message_at;
    struct latencies latencies;
    /* The first thing that went wrong, after which nothing can be measured; empty if nothing has. */
    char complaint[COMPLAINT_LIMIT];
};

uint64_t now(void);
void crowd_open(struct crowd *crowd, size_t in_flight);
bool crowd_ask(struct crowd *crowd, size_t most);
void crowd_read(struct crowd *crowd, uint64_t deadline);

#endif
