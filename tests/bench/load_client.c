/* The clients of the benchmarks: one thread, which holds thousands of connections and counts the messages on them.
 *
 *     load_client PORT stream|poll|websocket [HEADER ...]
 *
 * The clients connect to 127.0.0.1:PORT, and every request has all HEADERs. Each command is a line on standard input
 * and is answered by a line of JSON on standard output. Between two commands nothing is read from any connection.
 *
 *     open COUNT IN_FLIGHT SECONDS    opens COUNT clients; as many lines follow, each with the target of one client
 *     ask COUNT                       makes at most COUNT idle clients poll; done if no idle client is left
 *     messages COUNT SECONDS          reads until COUNT messages have arrived since the start, or none for 10 s
 *     end CLIENT SECONDS              reads until the client with this number, from 0, has ended
 *     linger SECONDS                  reads for SECONDS
 *     forget                          discards the latencies that were measured so far
 *     counts                          answers with the number of messages of each client
 *
 * In an answer, `done` is false if the command could not finish in its time. A `complaint` is an error after which
 * nothing can be measured. A message is counted when its stamp "@<time>#" has been read: the time of publication, in
 * nanoseconds of the monotonic clock. A compressed message, whose stamp cannot be read, is counted at its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/types.h>

#include "load_crowd.h"

#define CLIENTS_LIMIT 1000000
#define SECONDS_LIMIT 3600
#define SILENCE_SECONDS 10
#define NANOSECONDS 1e9

static struct crowd crowd;

/* Ends the program with an error message, because its caller has made a mistake. */
static void __attribute__((noreturn)) refuse(const char *reason, const char *detail)
{
    fprintf(stderr, "load_client: %s: %s\n", reason, detail);
    exit(2);
}

/* Reads a line of standard input, without its line end. Ends the program at the end of the input. */
static void read_line(char *line, size_t size)
{
    if (!fgets(line, (int)size, stdin))
        exit(0);
    size_t length = strcspn(line, "\n");
    if (line[length] != '\n')
        refuse("this line is too long or has no end", line);
    line[length] = '\0';
}

/* Returns the number in a text, which must be at most `limit`. */
static uint64_t number(const char *text, uint64_t limit)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || value > limit)
        refuse("this is no number, or it is too large", text);
    return value;
}

/* Returns the time after which a command gives up. */
static uint64_t deadline_in(double seconds)
{
    if (!(seconds >= 0 && seconds <= SECONDS_LIMIT))
        refuse("SECONDS", "it must be between 0 and 3600");
    return now() + (uint64_t)(seconds * NANOSECONDS);
}

/* Prints a text as a string of JSON. Control characters and bytes beyond ASCII, which only a bad response has in it,
 * are replaced by spaces. */
static void print_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text >= ' ' && *text <= '~' ? *text : ' ');
    }
    putchar('"');
}

/* Answers a command. If the command was about one client, its times are in the answer; otherwise `client` is NULL. */
static void answer(bool is_done, const struct client *client)
{
    const struct latencies *latencies = &crowd.latencies;
    printf("{\"done\": %s, \"open\": %zu, \"compressed\": %zu, \"asked\": %" PRIu64, is_done ? "true" : "false",
           crowd.open, crowd.compressed, crowd.asked);
    printf(", \"messages\": %" PRIu64 ", \"last_message_ns\": %" PRIu64, crowd.messages, crowd.last_message_at);
    printf(", \"goodbye_ns\": %" PRIu64 ", \"ended_ns\": %" PRIu64,
           client ? client->goodbye_at : 0, client ? client->ended_at : 0);
    printf(", \"p50_us\": %" PRIu64 ", \"p99_us\": %" PRIu64 ", \"max_us\": %" PRIu64 ", \"complaint\": ",
           latencies_quantile(latencies, 0.5), latencies_quantile(latencies, 0.99), latencies->longest);
    print_string(crowd.complaint);
    printf("}\n");
}

/* Answers with the number of messages of each client, in the order of their targets. */
static void answer_counts(void)
{
    printf("{\"complaint\": \"\", \"counts\": [");
    for (size_t place = 0; place < crowd.size; place++)
        printf(place ? ", %" PRIu32 : "%" PRIu32, crowd.clients[place].messages);
    printf("]}\n");
}

/* Creates the clients, and reads the lines with their targets. */
static void read_targets(uint64_t count)
{
    char target[TARGET_LIMIT];
    if (crowd.clients || count == 0 || count > CLIENTS_LIMIT)
        refuse("open", "it is allowed once, with 1 to 1000000 clients");
    crowd.clients = calloc(count, sizeof *crowd.clients);
    crowd.size = count;
    for (size_t place = 0; crowd.clients && place < count; place++) {
        read_line(target, sizeof target);
        crowd.clients[place].target = strdup(target);
        if (!crowd.clients[place].target)
            refuse("open", "there is not enough memory");
    }
    if (!crowd.clients)
        refuse("open", "there is not enough memory");
}

/* Opens all clients, `in_flight` at a time. */
static void run_open(uint64_t count, uint64_t in_flight, double seconds)
{
    if (in_flight == 0)
        refuse("open", "IN_FLIGHT must be at least 1");
    read_targets(count);
    uint64_t deadline = deadline_in(seconds);
    do {
        crowd_open(&crowd, in_flight);
        if (crowd.opening > 0)
            crowd_read(&crowd, deadline);
    } while ((crowd.begun < count || crowd.opening > 0) && !crowd.complaint[0] && now() < deadline);
    answer(crowd.begun == count && crowd.opening == 0 && !crowd.complaint[0], NULL);
}

/* Returns the deadline, or the time at which there has been no message for 10 s, if that is earlier. */
static uint64_t end_of_patience(uint64_t began, uint64_t deadline)
{
    uint64_t heard_at = crowd.last_message_at > began ? crowd.last_message_at : began;
    uint64_t end = heard_at + SILENCE_SECONDS * (uint64_t)NANOSECONDS;
    return end < deadline ? end : deadline;
}

/* Reads until `count` messages have arrived since the start. Gives up at the deadline, or after 10 s without any. */
static void run_messages(uint64_t count, double seconds)
{
    uint64_t began = now();
    uint64_t deadline = deadline_in(seconds);
    while (crowd.messages < count && !crowd.complaint[0] && now() < end_of_patience(began, deadline))
        crowd_read(&crowd, end_of_patience(began, deadline));
    answer(crowd.messages >= count, NULL);
}

/* Reads until one client has ended. `place` is its number, from 0. */
static void run_end(uint64_t place, double seconds)
{
    uint64_t deadline = deadline_in(seconds);
    if (place >= crowd.size)
        refuse("end", "there is no such client");
    const struct client *client = &crowd.clients[place];
    while (client->state != ENDED && !crowd.complaint[0] && now() < deadline)
        crowd_read(&crowd, deadline);
    answer(client->state == ENDED, client);
}

/* Reads for so many seconds, so that messages that should not come can arrive. */
static void run_linger(double seconds)
{
    uint64_t deadline = deadline_in(seconds);
    do
        crowd_read(&crowd, deadline);
    while (!crowd.complaint[0] && now() < deadline);
    answer(true, NULL);
}

/* Runs the command in a line. */
static void run(const char *line)
{
    uint64_t first, second;
    double seconds;
    if (sscanf(line, "open %" SCNu64 " %" SCNu64 " %lf", &first, &second, &seconds) == 3) {
        run_open(first, second, seconds);
    } else if (sscanf(line, "ask %" SCNu64, &first) == 1) {
        answer(crowd_ask(&crowd, first), NULL);
    } else if (sscanf(line, "messages %" SCNu64 " %lf", &first, &seconds) == 2) {
        run_messages(first, seconds);
    } else if (sscanf(line, "end %" SCNu64 " %lf", &first, &seconds) == 2) {
        run_end(first, seconds);
    } else if (sscanf(line, "linger %lf", &seconds) == 1) {
        run_linger(seconds);
    } else if (strcmp(line, "forget") == 0) {
        latencies_forget(&crowd.latencies);
        answer(true, NULL);
    } else if (strcmp(line, "counts") == 0) {
        answer_counts();
    } else {
        refuse("there is no such command", line);
    }
}

/* Returns the kind of clients that a word names. */
static enum kind kind_named(const char *word)
{
    if (strcmp(word, "stream") == 0)
        return STREAM;
    if (strcmp(word, "poll") == 0)
        return POLL;
    if (strcmp(word, "websocket") == 0)
        return WEBSOCKET;
    refuse("there is no such kind of client", word);
}

/* Adds a header to every request. */
static void add_header(const char *header)
{
    size_t length = strlen(crowd.headers);
    int size = snprintf(crowd.headers + length, sizeof crowd.headers - length, "%s\r\n", header);
    if (size < 0 || (size_t)size >= sizeof crowd.headers - length)
        refuse("the headers are too long", header);
}

int main(int argc, char **argv)
{
    char line[TARGET_LIMIT];
    if (argc < 3)
        refuse("usage", "load_client PORT stream|poll|websocket [HEADER ...]");
    /* This program ends with its parent, even if the parent is killed and cannot end it. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    crowd.port = (uint16_t)number(argv[1], UINT16_MAX);
    crowd.kind = kind_named(argv[2]);
    for (int each = 3; each < argc; each++)
        add_header(argv[each]);
    crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (crowd.epoll < 0)
        refuse("epoll_create1 failed", strerror(errno));
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    for (;;) {
        read_line(line, sizeof line);
        run(line);
        fflush(stdout);
    }
}
