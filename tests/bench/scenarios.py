"""The scenarios in which held connections get messages or are closed.

Each scenario starts a fresh server and returns a dictionary of figures.
"""

import random
import statistics
import time
from contextlib import contextmanager
from typing import NamedTuple, Optional

from clients import Streams, seconds_of
from figures import complaints, extremes, latencies, micros, millis, miscounts, spread
from processes import Failed
from publishing import Publisher, closed

HOLD_SECONDS = 120
DELIVERY_SECONDS = 120
END_SECONDS = 10
# The pause after many connections were opened, before memory or CPU time is measured.
SETTLE_SECONDS = 1.5
# The pause after messages, in which surplus messages can arrive and the server can finish its work.
LINGER_SECONDS = 0.2

WARM_UPS = 3
SINGLES = 10
BURST = 100
# Several bursts are measured, because the number of messages in one write differs from burst to burst. The CPU time
# differs with it.
BURSTS = 5
KICKS = 500
KICK_ROUNDS = 5
KICK_BURST = 20

ROOM = "room0"


class Kick(NamedTuple):
    """The outcome of a kick.

    It has the seconds until the client got a Close frame and until its connection ended, and the number of closed
    connections in the receipt. Each is None if it has not come.
    """

    goodbye: Optional[float]
    end: Optional[float]
    closed: Optional[int]


def fanout(bench, kind=Streams):
    """Publishes messages to all clients: first one at a time, then as fast as the server accepts them."""
    with holding(bench, kind, room_only) as (server, crowd):
        message = server.message(kind, ROOM)
        with Publisher(server.control) as publisher:
            for _ in range(WARM_UPS):
                deliver(crowd, publisher, message)
            crowd.forget_latencies()
            before = server.cpu()
            singles = [deliver(crowd, publisher, message) for _ in range(SINGLES)]
            single_cpu = server.cpu() - before
            delivered = latencies(crowd.linger(0))
            bursts = [costly_burst(server, crowd, publisher, message) for _ in range(BURSTS)]
        lost, surplus = miscounts(crowd.counts(), WARM_UPS + SINGLES + BURSTS * BURST)
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
        **delivered,
        "faults": complaints((lost, "deliveries lost"), (surplus, "deliveries too many")),
    }


def deliver(crowd, publisher, message):
    """Publishes a message while all clients read, and returns the seconds until the last client has read it."""
    crowd.begin_messages(crowd.messages() + crowd.alive(), DELIVERY_SECONDS)
    began = time.monotonic()
    publisher.publish(message)
    return until_last_message(crowd, began)


def costly_burst(server, crowd, publisher, message):
    """Publishes a burst of messages before any client reads.

    Returns the CPU seconds that the server used, and the seconds until the last client has read the last message.
    """
    total = crowd.messages() + BURST * crowd.alive()
    before, began = server.cpu(), time.monotonic()
    for _ in range(BURST):
        publisher.publish(message)
    crowd.begin_messages(total, DELIVERY_SECONDS)
    seconds = until_last_message(crowd, began)
    crowd.linger(LINGER_SECONDS)
    return server.cpu() - before, seconds


def until_last_message(crowd, began):
    """Waits until the clients have read their messages. Returns the seconds from `began` until the last message."""
    last = since(began, crowd.finish()["last_message_ns"])
    if last is None or last < 0:
        raise Failed("a message reached no client")
    return last


def kick_one_by_one(bench, kind=Streams):
    """Closes users one at a time, while all other connections are idle."""
    count = min(KICKS, bench.n // 2)
    users = random.Random(1).sample(range(bench.n), count)
    with holding(bench, kind, own_channel) as (server, crowd):
        with Publisher(server.control) as publisher:
            publisher.send(server.kick(kind, "nobody"))
            publisher.reply()
            before = server.cpu()
            kicks = [end_user(server, crowd, user, publisher, f"user{user}") for user in users]
            cpu = server.cpu() - before
            crowd.begin_messages(bench.n - count, END_SECONDS)
            publisher.publish(server.message(kind, ROOM))
            crowd.finish()
            crowd.linger(LINGER_SECONDS)
        counts = crowd.counts()
    ends = times(kicks, "end")
    reached = sum(counts[user] == 1 for user in set(range(bench.n)) - set(users))
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
            (bench.n - count - reached, "other clients that did not get the message after the kicks exactly once"),
        ),
    }


def end_user(server, crowd, place, publisher, channel):
    """Closes the connection of the only client that holds `channel`, and returns the `Kick`.

    `place` is the number of this client in the crowd, from 0.
    """
    request = server.kick(type(crowd), channel)
    crowd.begin_end(place, END_SECONDS)
    began = time.monotonic()
    publisher.send(request)
    ended = crowd.finish()
    reply = publisher.reply()
    count = closed(reply) if server.gives_receipts else None
    return Kick(since(began, ended["goodbye_ns"]), since(began, ended["ended_ns"]), count)


def wrong_kicks(kicks, kind):
    """Yields the number of failed kicks for each way of failing, with a description."""
    yield len(kicks) - len(times(kicks, "end")), "kicks after which the connection did not end"
    if kind.says_goodbye:
        yield len(kicks) - len(times(kicks, "goodbye")), "kicks without a Close frame"
    yield sum(kicked.closed not in (1, None) for kicked in kicks), "receipts that do not say 'closed 1'"


def kick_in_burst(bench, kind=Streams):
    """Closes one user while the server is busy with messages to everybody else."""
    with holding(bench, kind, room_only) as (server, crowd):
        with Publisher(server.control) as publisher, Publisher(server.control) as kicker:
            rounds = [kick_round(bench, server, crowd, publisher, kicker) for _ in range(KICK_ROUNDS)]
        crowd.linger(LINGER_SECONDS)
        lost, surplus = miscounts(crowd.counts(), KICK_ROUNDS * KICK_BURST)
    kicks = [kicked for kicked, _ in rounds]
    return {
        "rounds": KICK_ROUNDS,
        "burst": KICK_BURST,
        **extremes(times(kicks, "end")),
        **(extremes(times(kicks, "goodbye"), "goodbye_") if kind.says_goodbye else {}),
        **({"rounds_burst_outlasted_kick": sum(outlasted for _, outlasted in rounds)} if server.gives_receipts else {}),
        "lost": lost,
        "surplus": surplus,
        "faults": complaints(
            *wrong_kicks(kicks, kind),
            (lost, "deliveries lost"),
            (surplus, "deliveries too many"),
        ),
    }


def kick_round(bench, server, crowd, publisher, kicker):
    """Publishes a burst of messages and closes a user meanwhile. Returns the `Kick`, and whether the burst took longer.

    Until the connection of the closed user has ended, only this client reads. If the load client had to read thousands
    of other connections first, it would measure its own work.

    The last message of the burst asks for a receipt, which gripd sends once the message is delivered. If there is no
    receipt when the kick is over, the burst took longer.
    """
    kind = type(crowd)
    total = crowd.messages() + KICK_BURST * crowd.alive()
    message = server.message(kind, ROOM)
    with bench.crowd(kind, server) as alone:
        alone.hold([f"{kind.path}?ch=quiet,user456"], 1, END_SECONDS)
        alone.linger(LINGER_SECONDS)
        for _ in range(KICK_BURST - 1):
            publisher.publish(message)
        publisher.send(server.message(kind, ROOM, receipt=True).stamped())
        kicked = end_user(server, alone, 0, kicker, "user456")
        outlasted = not publisher.has_reply()
    crowd.begin_messages(total, DELIVERY_SECONDS)
    crowd.finish()
    publisher.reply()
    return kicked, outlasted


@contextmanager
def holding(bench, kind, target):
    """Yields an idle server that holds `bench.n` connections, and the clients of these connections."""
    with bench.server.start(bench, kind) as server, bench.crowd(kind, server) as crowd:
        crowd.hold((target(kind, user) for user in range(bench.n)), bench.inflight, HOLD_SECONDS)
        crowd.linger(SETTLE_SECONDS)
        yield server, crowd


def room_only(kind, _user):
    """Returns the target of a client that holds only the channel that all clients hold."""
    return f"{kind.path}?ch={ROOM}"


def own_channel(kind, user):
    """Returns the target of a client that holds the channel that all clients hold, and a channel of its own."""
    return f"{kind.path}?ch={ROOM},user{user}"


def times(kicks, until):
    """Returns the seconds from each kick until its "goodbye" or "end", without the kicks in which that did not come."""
    return [seconds for seconds in (getattr(kicked, until) for kicked in kicks) if seconds is not None]


def since(began, nanoseconds):
    """Returns the seconds from `began` until a time of the load client; None if there is no time."""
    at = seconds_of(nanoseconds)
    return None if at is None else at - began
