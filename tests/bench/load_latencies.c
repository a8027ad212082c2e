#include "load_latencies.h"

#include <string.h>

/* The longest latency that has a count, in microseconds. */
#define LONGEST UINT32_MAX
/* The power of two from which on several latencies share a count, and the number of bits after the highest bit of
 * such a latency that choose the count. */
#define FIRST_POWER 8
#define PART_BITS 7

/* Returns the index of the count to which a latency belongs. */
static size_t place_of(uint64_t microseconds)
{
    if (microseconds < LATENCIES_EXACT)
        return microseconds;
    int power = 63 - __builtin_clzll(microseconds);
    size_t part = (microseconds >> (power - PART_BITS)) % LATENCIES_PARTS;
    return LATENCIES_EXACT + (size_t)(power - FIRST_POWER) * LATENCIES_PARTS + part;
}

/* Returns the longest latency that belongs to a count. Quantiles are made of these, so they are never too short. */
static uint64_t longest_at(size_t place)
{
    if (place < LATENCIES_EXACT)
        return place;
    size_t above = place - LATENCIES_EXACT;
    uint64_t part = LATENCIES_PARTS + above % LATENCIES_PARTS;
    int shift = (int)(above / LATENCIES_PARTS) + FIRST_POWER - PART_BITS;
    return ((part + 1) << shift) - 1;
}

/* Discards all latencies, so that those of the messages that warm a server up are left out. */
void latencies_forget(struct latencies *latencies)
{
    memset(latencies, 0, sizeof *latencies);
}

/* Counts a latency. One that is longer than LONGEST counts as LONGEST. */
void latencies_add(struct latencies *latencies, uint64_t microseconds)
{
    if (microseconds > LONGEST)
        microseconds = LONGEST;
    latencies->counts[place_of(microseconds)]++;
    latencies->total++;
    if (microseconds > latencies->longest)
        latencies->longest = microseconds;
}

/* Returns the latency that is not exceeded by this share of all latencies; 0 if there are none. */
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
