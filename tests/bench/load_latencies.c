#include "load_latencies.h"

#include <string.h>

/* The longest latency that the counts have a place for. */
#define LONGEST UINT32_MAX
/* The power of two at which the counts are no longer exact, and the bits of a latency that choose the part above it. */
#define FIRST_POWER 8
#define PART_BITS 7

/* Returns the count that a latency belongs to. */
static size_t place_of(uint64_t microseconds)
{
    if (microseconds < LATENCIES_EXACT)
        return microseconds;
    int power = 63 - __builtin_clzll(microseconds);
    size_t part = (microseconds >> (power - PART_BITS)) % LATENCIES_PARTS;
    return LATENCIES_EXACT + (size_t)(power - FIRST_POWER) * LATENCIES_PARTS + part;
}

/* Returns the longest latency that belongs to a count: a quantile is never told shorter than it was. */
static uint64_t longest_at(size_t place)
{
    if (place < LATENCIES_EXACT)
        return place;
    size_t above = place - LATENCIES_EXACT;
    uint64_t part = LATENCIES_PARTS + above % LATENCIES_PARTS;
    int shift = (int)(above / LATENCIES_PARTS) + FIRST_POWER - PART_BITS;
    return ((part + 1) << shift) - 1;
}

/* Begins anew, so that the messages that warm a server up are not among those that are told of. */
void latencies_forget(struct latencies *latencies)
{
    memset(latencies, 0, sizeof *latencies);
}

/* Counts one latency. One that is too long for the counts is kept as the longest that they know. */
void latencies_add(struct latencies *latencies, uint64_t microseconds)
{
    if (microseconds > LONGEST)
        microseconds = LONGEST;
    latencies->counts[place_of(microseconds)]++;
    latencies->total++;
    if (microseconds > latencies->longest)
        latencies->longest = microseconds;
}

/* Returns the latency that this share of all is not above; 0 if there is none. */
uint64_t latencies_quantile(const struct latencies *latencies, double share)
{
    double wanted = share * (double)latencies->total;
    uint64_t seen = 0;
    for (size_t place = 0; place < LATENCIES_COUNTS; place++) {
        seen += latencies->counts[place];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t found = longest_at(place);
            return found < latencies->longest ? found : latencies->longest;
        }
    }
    return latencies->longest;
}
