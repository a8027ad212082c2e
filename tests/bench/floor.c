/* A server that does the least that a server of streams can do. Its cost is the kernel's share of every delivery.
 *
 * It answers every request of a client with the head of a stream, and keeps the sockets in one array. It writes the
 * body of each POST on its control port to all of them, as one chunk. It has no origin, no channels and no queues. It
 * prints "clients=PORT control=PORT" once it listens on 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096
#define EVENTS 512
#define FILES_LIMIT (1 << 20)
#define REQUEST_LIMIT 65536
/* The largest number of bytes that a chunk adds to its data: its size and two line ends. */
#define CHUNK_FRAMING 32

static const char HELD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\n\r\n";
static const char PUBLISHED[] = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nPublished\n";

/* The roles of file descriptors. CLIENTS and CONTROL are listeners, and a CLIENT becomes a STREAM by its request. */
enum role { NONE, CLIENTS, CONTROL, CLIENT, STREAM, PUBLISHER };

static enum role *roles;
static int *streams;
static size_t stream_count;
static size_t files_limit;
static int epoll;

/* Ends the program with an error message: nothing can be measured. */
static void __attribute__((noreturn)) fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Adds a file descriptor to epoll, which then reports when it can be read. Returns false if there are too many. */
static bool add(int file, enum role role)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
    if ((size_t)file >= files_limit || epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event) < 0)
        return false;
    roles[file] = role;
    return true;
}

/* Listens on a port that the kernel chooses, and returns it. */
static int listen_as(enum role role)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (file < 0 || bind(file, (struct sockaddr *)&address, size) < 0 || listen(file, BACKLOG) < 0)
        fail("listen");
    if (getsockname(file, (struct sockaddr *)&address, &size) < 0 || !add(file, role))
        fail("listen");
    return ntohs(address.sin_port);
}

/* Accepts all connections that wait. TCP_NODELAY: a message must not wait until the previous one was acknowledged. */
static void accept_all(int listener)
{
    int yes = 1;
    for (;;) {
        int file = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (file < 0)
            return;
        setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (!add(file, roles[listener] == CLIENTS ? CLIENT : PUBLISHER))
            close(file);
    }
}

/* Closes a connection, and removes it from the streams if it is one. */
static void forget(int file)
{
    for (size_t place = 0; place < stream_count; place++) {
        if (streams[place] == file) {
            streams[place] = streams[--stream_count];
            break;
        }
    }
    roles[file] = NONE;
    close(file);
}

/* Answers the request of a client with a stream, whatever the request is. */
static void hold(int file)
{
    ssize_t sent = send(file, HELD, sizeof HELD - 1, MSG_NOSIGNAL);
    if (sent == (ssize_t)(sizeof HELD - 1) && stream_count < files_limit) {
        streams[stream_count++] = file;
        roles[file] = STREAM;
    }
}

/* Writes a body to all streams as one chunk. A stream whose socket is full loses it; the clients then count too few. */
static void deliver(const char *body, size_t size)
{
    static char chunk[REQUEST_LIMIT + CHUNK_FRAMING];
    size_t length = (size_t)snprintf(chunk, CHUNK_FRAMING, "%zx\r\n", size);
    memcpy(chunk + length, body, size);
    memcpy(chunk + length + size, "\r\n", 2);
    length += size + 2;
    for (size_t place = 0; place < stream_count; place++)
        send(streams[place], chunk, length, MSG_NOSIGNAL);
}

/* Publishes the body of a request, which must arrive in a single read. The benchmark sends each request by one write,
 * and waits for the reply before the next. */
static void publish(int file, const char *request, size_t size)
{
    const char *length = strcasestr(request, "\r\ncontent-length:");
    const char *head_end = strstr(request, "\r\n\r\n");
    size_t body_size = length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    if (!head_end || body_size != size - (size_t)(head_end + 4 - request)) {
        forget(file);
        return;
    }
    deliver(head_end + 4, body_size);
    send(file, PUBLISHED, sizeof PUBLISHED - 1, MSG_NOSIGNAL);
}

/* Reads from a connection, and handles its request or its end. */
static void read_from(int file)
{
    static char request[REQUEST_LIMIT + 1];
    ssize_t size = read(file, request, REQUEST_LIMIT);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        forget(file);
        return;
    }
    request[size] = '\0';
    if (roles[file] == CLIENT)
        hold(file);
    else if (roles[file] == PUBLISHER)
        publish(file, request, (size_t)size);
}

/* Allocates the tables, with an entry for each file that the process may open, and creates the epoll. */
static void make_tables(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("getrlimit");
    files_limit = limit.rlim_cur < FILES_LIMIT ? limit.rlim_cur : FILES_LIMIT;
    roles = calloc(files_limit, sizeof *roles);
    streams = calloc(files_limit, sizeof *streams);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!roles || !streams || epoll < 0)
        fail("cannot make the tables or the epoll");
}

int main(void)
{
    struct epoll_event events[EVENTS];
    /* This program ends with its parent, even if the parent is killed and cannot end it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    make_tables();
    int clients = listen_as(CLIENTS);
    int control = listen_as(CONTROL);
    printf("clients=%d control=%d\n", clients, control);
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int each = 0; each < count; each++) {
            int file = events[each].data.fd;
            if (roles[file] == CLIENTS || roles[file] == CONTROL)
                accept_all(file);
            else if (roles[file] != NONE)
                read_from(file);
        }
    }
}
