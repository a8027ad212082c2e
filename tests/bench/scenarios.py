"""What is measured with held connections. Each scenario has a fresh gripd and returns its figures."""

import math
import random
import statistics
import time
from contextlib import contextmanager

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


def memory(bench):
    """What a held connection costs gripd, with one channel and with two, of which one is the client's own."""
    one = hold_and_weigh(bench, lambda user: f"/stream?ch={ROOM}")
    two = hold_and_weigh(bench, own_channel)
    return {
        "idle_kib": one["idle_kib"],
        "kib_per_connection_one_channel": one["kib_per_connection"],
        "kib_per_connection_two_channels": two["kib_per_connection"],
        "holds_per_s_one_channel": one["holds_per_s"],
        "holds_per_s_two_channels": two["holds_per_s"],
    }


def hold_and_weigh(bench, target):
    with Gripd(bench.gripd, bench.origin.port) as gripd:
        time.sleep(SETTLE_SECONDS)
        idle = gripd.memory_kib()
        with Crowd(gripd.port) as crowd:
            seconds = crowd.hold(map(target, range(bench.n)), bench.inflight, HOLD_SECONDS)
            crowd.linger(SETTLE_SECONDS)
            grown = gripd.memory_kib() - idle
    return {
        "idle_kib": idle,
        "kib_per_connection": round(grown / bench.n, 2),
        "holds_per_s": round(bench.n / seconds),
    }


def fanout(bench):
    """Messages to everybody: one at a time, then as fast as gripd takes them."""
    request = message(ROOM)
    with holding(bench, lambda user: f"/stream?ch={ROOM}") as (gripd, crowd):
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


def kick_one_by_one(bench):
    """Closes of single users in a crowd that is otherwise at rest."""
    count = min(KICKS, bench.n // 2)
    users = random.Random(1).sample(range(bench.n), count)
    with holding(bench, own_channel) as (gripd, crowd):
        with Publisher(gripd.control) as publisher:
            publisher.publish(kick("nobody"))
            before = gripd.cpu()
            kicks = [end_user(crowd, publisher, user) for user in users]
            cpu = gripd.cpu() - before
            others = [held for held in crowd.all if held.ended_at is None]
            publisher.publish(message(ROOM))
            crowd.wait_messages(bench.n - count, END_SECONDS)
            crowd.linger(LINGER_SECONDS)
    unseen = kicks.count(None)
    wrong = sum(kicked is not None and kicked[1] != 1 for kicked in kicks)
    reached = sum(held.messages == 1 for held in others)
    return {
        "kicks": count,
        "ended": count - unseen,
        **spread([kicked[0] for kicked in kicks if kicked]),
        "cpu_us_per_kick": micros(cpu, count),
        "others": bench.n - count,
        "others_reached": reached,
        "faults": complaints(
            (unseen, "kicks whose client saw no end"),
            (wrong, "receipts other than 'closed 1'"),
            (bench.n - count - reached, "others not reached once after the kicks"),
        ),
    }


def end_user(crowd, publisher, user):
    """Kicks one user: the seconds until the client saw the end, and what the receipt says; None without an end."""
    held, request = crowd.all[user], kick(f"user{user}")
    began = time.monotonic()
    publisher.send(request)
    has_ended = crowd.wait_end(held, END_SECONDS)
    count = closed(publisher.reply())
    return (held.ended_at - began, count) if has_ended else None


def kick_in_burst(bench):
    """The close of one user while gripd is busy with messages to everybody else."""
    with holding(bench, lambda user: f"/stream?ch={ROOM}") as (gripd, crowd):
        with Publisher(gripd.control) as publisher, Publisher(gripd.control) as kicker:
            rounds = [kick_round(gripd.port, crowd, publisher, kicker) for _ in range(KICK_ROUNDS)]
        crowd.linger(LINGER_SECONDS)
        lost, surplus = miscounts(crowd.all, KICK_ROUNDS * KICK_BURST)
    times = [seconds for seconds, _, _ in rounds if seconds is not None]
    return {
        "rounds": KICK_ROUNDS,
        "burst": KICK_BURST,
        "kick_ms": [millis(seconds) for seconds in times],
        "median_ms": millis(statistics.median(times)) if times else None,
        "max_ms": millis(max(times)) if times else None,
        "rounds_burst_outlasted_kick": sum(outlasted for _, _, outlasted in rounds),
        "lost": lost,
        "surplus": surplus,
        "faults": complaints(
            (KICK_ROUNDS - len(times), "kicks whose client saw no end"),
            (sum(count != 1 for _, count, _ in rounds), "receipts other than 'closed 1'"),
            (lost, "deliveries lost"),
            (surplus, "deliveries too many"),
        ),
    }


def kick_round(port, crowd, publisher, kicker):
    """One burst and one kick in it: the seconds to the end, the receipt's count, whether the burst took longer.

    Only the kicked client is read until it has seen its end: a client that first reads thousands of others would
    measure itself. The last message asks for a receipt, which comes when it is delivered: that tells which came first.
    """
    total = crowd.messages + KICK_BURST * crowd.alive()
    with Crowd(port) as alone:
        alone.hold(["/stream?ch=quiet,user456"], 1, END_SECONDS)
        for _ in range(KICK_BURST - 1):
            publisher.publish(message(ROOM))
        publisher.send(message(ROOM, "application/json"))
        seconds, count = end_user_alone(alone, kicker)
        outlasted = not publisher.has_reply()
    crowd.wait_messages(total, DELIVERY_SECONDS)
    publisher.reply()
    return seconds, count, outlasted


def end_user_alone(alone, kicker):
    held, request = alone.all[0], kick("user456")
    began = time.monotonic()
    kicker.send(request)
    has_ended = alone.wait_end(held, END_SECONDS)
    return held.ended_at - began if has_ended else None, closed(kicker.reply())


@contextmanager
def holding(bench, target):
    """A gripd that holds `n` connections and has come to rest."""
    with Gripd(bench.gripd, bench.origin.port) as gripd, Crowd(gripd.port) as crowd:
        crowd.hold(map(target, range(bench.n)), bench.inflight, HOLD_SECONDS)
        crowd.linger(SETTLE_SECONDS)
        yield gripd, crowd


def own_channel(user):
    return f"/stream?ch={ROOM},user{user}"


def miscounts(crowd, expected):
    """Messages that are missing and messages too many, client by client: they must not make up for each other."""
    lost = sum(max(0, expected - held.messages) for held in crowd)
    surplus = sum(max(0, held.messages - expected) for held in crowd)
    return lost, surplus


def complaints(*counts):
    return [f"{count} {what}" for count, what in counts if count]


def spread(times):
    """The median and the 99th percentile of some seconds."""
    if not times:
        return {"p50_ms": None, "p99_ms": None}
    times = sorted(times)
    return {"p50_ms": millis(statistics.median(times)), "p99_ms": millis(times[math.ceil(0.99 * len(times)) - 1])}


def millis(seconds):
    return round(seconds * 1e3, 3)


def micros(seconds, count):
    return round(seconds * 1e6 / count, 2)
