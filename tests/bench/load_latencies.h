/* The latencies of messages, kept as counts so that any number of them takes the same memory. */
#ifndef LOAD_LATENCIES_H
#define LOAD_LATENCIES_H

#include <stddef.h>
#include <stdint.h>

/* Latencies below this many microseconds have a count each. */
#define LATENCIES_EXACT 256
/* Above it each power of two is divided into this many parts: a latency is known to less than a hundredth of itself. */
#define LATENCIES_PARTS 128
/* The powers of two from 2^8 to 2^31 microseconds, which is more than half an hour. */
#define LATENCIES_POWERS 24
#define LATENCIES_COUNTS (LATENCIES_EXACT + LATENCIES_POWERS * LATENCIES_PARTS)

struct latencies {
    uint64_t counts[LATENCIES_COUNTS];
    uint64_t total;
    uint64_t longest;
};

void latencies_forget(struct latencies *latencies);
void latencies_add(struct latencies *latencies, uint64_t microseconds);
uint64_t latencies_quantile(const struct latencies *latencies, double share);

#endif
