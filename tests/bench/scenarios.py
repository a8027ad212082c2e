"""What is measured with held connections. Each scenario has a fresh gripd and returns its figures."""

import math
import random
import statistics
import time
from contextlib import contextmanager
from typing import NamedTuple, Optional

from clients import Crowd, Publisher, closed, kick, message
from processes import Gripd

HOLD_SECONDS = 120
DELIVERY_SECONDS = 120
END_SECONDS = 10
# After work, until it shows in the memory and in the CPU time, and until a message too many would have come.
SETTLE_SECONDS = 1.5
LINGER_SECONDS = 0.2

WARM_UPS = 3
SINGLES = 10
BURST = 100
# How much of a burst goes out in one write differs from burst to burst, and the CPU time with it.
BURSTS = 5
KICKS = 500
KICK_ROUNDS = 5
KICK_BURST = 20

ROOM = "room0"


class Kick(NamedTuple):
    """What one kick did: the seconds until the client was told goodbye and until the end, and the receipt's count."""

    goodbye: Optional[float]
    end: Optional[float]
    closed: int


def fanout(bench, kind=Crowd):
    """Messages to everybody: one at a time, then as fast as gripd takes them."""
    request = message(ROOM, kind.form)
    with holding(bench, kind, room_only) as (gripd, crowd):
        with Publisher(gripd.control) as publisher:
            deliver(crowd, publisher, request, WARM_UPS)
            before = gripd.cpu()
            singles = [deliver(crowd, publisher, request, 1) for _ in range(SINGLES)]
            single_cpu = gripd.cpu() - before
            bursts = [costly_burst(gripd, crowd, publisher, request) for _ in range(BURSTS)]
        lost, surplus = miscounts(crowd.all, WARM_UPS + SINGLES + BURSTS * BURST)
    burst_cpus, burst_seconds = zip(*bursts)
    return {
        "bursts": BURSTS,
        "burst": BURST,
        "lost": lost,
        "surplus": surplus,
        "cpu_us_per_delivery_burst": micros(statistics.median(burst_cpus), BURST * bench.n),
        "cpu_us_per_delivery_burst_max": micros(max(burst_cpus), BURST * bench.n),
        "deliveries_per_s_burst": round(BURST * bench.n / statistics.median(burst_seconds)),
        "cpu_us_per_delivery_single": micros(single_cpu, SINGLES * bench.n),
        "last_subscriber_ms_median": millis(statistics.median(singles)),
        "faults": complaints((lost, "deliveries lost"), (surplus, "deliveries too many")),
    }


def costly_burst(gripd, crowd, publisher, request):
    """One burst: the seconds of CPU that it took gripd, and the seconds that it took."""
    before = gripd.cpu()
    seconds = deliver(crowd, publisher, request, BURST)
    crowd.linger(LINGER_SECONDS)
    return gripd.cpu() - before, seconds


def deliver(crowd, publisher, request, count):
    """Publishes `count` times and returns the seconds until the last client had the last message."""
    total = crowd.messages + count * crowd.alive()
    began = time.monotonic()
    for _ in range(count):
        publisher.publish(request)
    crowd.wait_messages(total, DELIVERY_SECONDS)
    return crowd.last_message_at - began


def kick_one_by_one(bench, kind=Crowd):
    """Closes of single users in a crowd that is otherwise at rest."""
    count = min(KICKS, bench.n // 2)
    users = random.Random(1).sample(range(bench.n), count)
    with holding(bench, kind, own_channel) as (gripd, crowd):
        with Publisher(gripd.control) as publisher:
            publisher.publish(kick("nobody"))
            before = gripd.cpu()
            kicks = [end_user(crowd, crowd.all[user], publisher, f"user{user}") for user in users]
            cpu = gripd.cpu() - before
            others = [held for held in crowd.all if held.ended_at is None]
            publisher.publish(message(ROOM, kind.form))
            crowd.wait_messages(bench.n - count, END_SECONDS)
            crowd.linger(LINGER_SECONDS)
    ends = times(kicks, "end")
    reached = sum(held.messages == 1 for held in others)
    return {
        "kicks": count,
        "ended": len(ends),
        **spread(ends),
        **(spread(times(kicks, "goodbye"), "goodbye_") if kind.says_goodbye else {}),
        "cpu_us_per_kick": micros(cpu, count),
        "others": bench.n - count,
        "others_reached": reached,
        "faults": complaints(
            *wrong_kicks(kicks, kind),
            (bench.n - count - reached, "others not reached once after the kicks"),
        ),
    }


def end_user(crowd, held, publisher, channel):
    """Kicks the one client that holds `channel`."""
    request = kick(channel)
    began = time.monotonic()
    publisher.send(request)
    crowd.wait_end(held, END_SECONDS)
    count = closed(publisher.reply())
    return Kick(since(began, held.goodbye_at), since(began, held.ended_at), count)


def wrong_kicks(kicks, kind):
    """What went wrong with kicks, counted."""
    yield len(kicks) - len(times(kicks, "end")), "kicks whose client saw no end"
    if kind.says_goodbye:
        yield len(kicks) - len(times(kicks, "goodbye")), "kicks without a goodbye"
    yield sum(kicked.closed != 1 for kicked in kicks), "receipts other than 'closed 1'"


def kick_in_burst(bench, kind=Crowd):
    """The close of one user while gripd is busy with messages to everybody else."""
    with holding(bench, kind, room_only) as (gripd, crowd):
        with Publisher(gripd.control) as publisher, Publisher(gripd.control) as kicker:
            rounds = [kick_round(gripd.port, crowd, publisher, kicker) for _ in range(KICK_ROUNDS)]
        crowd.linger(LINGER_SECONDS)
        lost, surplus = miscounts(crowd.all, KICK_ROUNDS * KICK_BURST)
    kicks = [kicked for kicked, _ in rounds]
    return {
        "rounds": KICK_ROUNDS,
        "burst": KICK_BURST,
        **extremes(times(kicks, "end")),
        **(extremes(times(kicks, "goodbye"), "goodbye_") if kind.says_goodbye else {}),
        "rounds_burst_outlasted_kick": sum(outlasted for _, outlasted in rounds),
        "lost": lost,
        "surplus": surplus,
        "faults": complaints(
            *wrong_kicks(kicks, kind),
            (lost, "deliveries lost"),
            (surplus, "deliveries too many"),
        ),
    }


def kick_round(port, crowd, publisher, kicker):
    """One burst and one kick in it: the kick, and whether the burst took longer.

    Only the kicked client is read until it has seen its end: a client that first reads thousands of others would
    measure itself. The last message asks for a receipt, which comes when it is delivered: that tells which came first.
    """
    kind = type(crowd)
    total = crowd.messages + KICK_BURST * crowd.alive()
    with kind(port) as alone:
        alone.hold([f"{kind.path}?ch=quiet,user456"], 1, END_SECONDS)
        for _ in range(KICK_BURST - 1):
            publisher.publish(message(ROOM, kind.form))
        publisher.send(message(ROOM, kind.form, "application/json"))
        kicked = end_user(alone, alone.all[0], kicker, "user456")
        outlasted = not publisher.has_reply()
    crowd.wait_messages(total, DELIVERY_SECONDS)
    publisher.reply()
    return kicked, outlasted


@contextmanager
def holding(bench, kind, target):
    """A gripd that holds `n` connections and has come to rest."""
    with Gripd(bench.gripd, bench.origin.port, kind.route_options, kind.config) as gripd, kind(gripd.port) as crowd:
        crowd.hold((target(kind, user) for user in range(bench.n)), bench.inflight, HOLD_SECONDS)
        crowd.linger(SETTLE_SECONDS)
        yield gripd, crowd


def room_only(kind, _user):
    return f"{kind.path}?ch={ROOM}"


def own_channel(kind, user):
    return f"{kind.path}?ch={ROOM},user{user}"


def miscounts(crowd, expected):
    """Messages that are missing and messages too many, client by client: they must not make up for each other."""
    lost = sum(max(0, expected - held.messages) for held in crowd)
    surplus = sum(max(0, held.messages - expected) for held in crowd)
    return lost, surplus


def complaints(*counts):
    return [f"{count} {what}" for count, what in counts if count]


def times(kicks, until):
    """The seconds until what there was to see of the kicks was seen, where it was."""
    return [seconds for seconds in (getattr(kicked, until) for kicked in kicks) if seconds is not None]


def since(began, at):
    return None if at is None else at - began


def spread(seconds, name=""):
    """The median and the 99th percentile."""
    if not seconds:
        return {f"{name}p50_ms": None, f"{name}p99_ms": None}
    last = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    return {f"{name}p50_ms": millis(statistics.median(seconds)), f"{name}p99_ms": millis(last)}


def extremes(seconds, name=""):
    """All, their median and the longest."""
    return {
        f"{name}kick_ms": [millis(each) for each in seconds],
        f"{name}median_ms": millis(statistics.median(seconds)) if seconds else None,
        f"{name}max_ms": millis(max(seconds)) if seconds else None,
    }


def millis(seconds):
    return round(seconds * 1e3, 3)


def micros(seconds, count):
    return round(seconds * 1e6 / count, 2)
