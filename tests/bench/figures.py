"""Figures made of times and counts."""

import math
import statistics


def millis(seconds):
    """Returns milliseconds."""
    return round(seconds * 1e3, 3)


def micros(seconds, count):
    """Returns the microseconds that each of `count` took."""
    return round(seconds * 1e6 / count, 2)


def spread(seconds, name=""):
    """Returns the median and the 99th percentile."""
    if not seconds:
        return {f"{name}p50_ms": None, f"{name}p99_ms": None}
    last = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    return {f"{name}p50_ms": millis(statistics.median(seconds)), f"{name}p99_ms": millis(last)}


def extremes(seconds, name=""):
    """Returns all, their median and the longest."""
    return {
        f"{name}kick_ms": [millis(each) for each in seconds],
        f"{name}median_ms": millis(statistics.median(seconds)) if seconds else None,
        f"{name}max_ms": millis(max(seconds)) if seconds else None,
    }


def latencies(answer):
    """Returns the latencies that the clients measured by the stamps of the messages."""
    return {f"delivery_{name}_ms": answer[f"{name}_us"] / 1e3 for name in ("p50", "p99")}


def miscounts(counts, expected):
    """Returns the messages missing and those too many, client by client: they must not make up for each other."""
    lost = sum(max(0, expected - count) for count in counts)
    surplus = sum(max(0, count - expected) for count in counts)
    return lost, surplus


def complaints(*counts):
    """Returns a text for each count that is not 0."""
    return [f"{count} {text}" for count, text in counts if count]
