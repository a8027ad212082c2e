/* The latencies of messages. They are kept as counts, so that any number of them takes the same memory. */
#ifndef LOAD_LATENCIES_H
#define LOAD_LATENCIES_H

#include <stddef.h>
#include <stdint.h>

/* Below this many microseconds, each whole number of microseconds has a count of its own. */
#define LATENCIES_EXACT 256
/* From there on, the latencies from one power of two to the next are divided into this many counts, so that the
 * error is less than 1 per cent. */
#define LATENCIES_PARTS 128
/* The number of powers of two with such counts, from 2^8 to 2^31. The last count ends at 2^32 microseconds (71 min). */
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
