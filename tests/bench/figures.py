"""Functions that compute figures from times and counts."""

import math
import statistics


def millis(seconds):
    """Converts seconds to milliseconds."""
    return round(seconds * 1e3, 3)


def micros(seconds, count):
    """Returns the microseconds for each of `count` operations that took `seconds` together."""
    return round(seconds * 1e6 / count, 2)


def spread(seconds, name=""):
    """Returns the median and the 99th percentile in milliseconds; None for both if there are no times."""
    if not seconds:
        return {f"{name}p50_ms": None, f"{name}p99_ms": None}
    last = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    return {f"{name}p50_ms": millis(statistics.median(seconds)), f"{name}p99_ms": millis(last)}


def extremes(seconds, name=""):
    """Returns all times, their median and the longest, in milliseconds."""
    return {
        f"{name}kick_ms": [millis(each) for each in seconds],
        f"{name}median_ms": millis(statistics.median(seconds)) if seconds else None,
        f"{name}max_ms": millis(max(seconds)) if seconds else None,
    }


def latencies(answer):
    """Returns the median and the 99th percentile of the latencies in an answer of the load client, in milliseconds."""
    return {f"delivery_{name}_ms": answer[f"{name}_us"] / 1e3 for name in ("p50", "p99")}


def miscounts(counts, expected):
    """Returns the number of lost messages and of surplus messages.

    Each client is compared on its own, so that a surplus message of one does not hide a lost message of another.
    """
    lost = sum(max(0, expected - count) for count in counts)
    surplus = sum(max(0, count - expected) for count in counts)
    return lost, surplus


def complaints(*counts):
    """Returns a text for each pair of a count and its description, unless the count is 0."""
    return [f"{count} {text}" for count, text in counts if count]
