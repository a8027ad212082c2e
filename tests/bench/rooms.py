"""The scenario with the load of a chat: many rooms of one size, whose members also have a channel of their own each."""

import time

from clients import Events
from figures import complaints, latencies, micros, miscounts
from publishing import Publishers
from scenarios import DELIVERY_SECONDS, HOLD_SECONDS, LINGER_SECONDS, SETTLE_SECONDS

SIZES = (1, 10, 100, 1000)
# The number of publish requests that are in flight at a time.
AT_ONCE = 8
# The largest number of messages, and of deliveries, that are measured with rooms of one size. All rooms get the same
# number of messages, and at least one.
MESSAGES = 2000
DELIVERIES = 100_000
WARM_UPS = 1


def rooms(bench):
    """Measures rooms of each size that allows at least two rooms. Each size has a fresh server."""
    measured = {size: measure_rooms(bench, size) for size in SIZES if size * 2 <= bench.n}
    names = next(iter(measured.values())).keys() - {"faults"}
    figures = {f"{name}_rooms_of_{size}": figures[name] for name in sorted(names) for size, figures in measured.items()}
    faults = [f"rooms of {size}: {fault}" for size, figures in measured.items() for fault in figures["faults"]]
    return {"at_once": AT_ONCE, **figures, "faults": faults}


def measure_rooms(bench, size):
    """Measures rooms of one size. Clients that do not fill another room are not opened."""
    count = bench.n // size
    members = count * size
    targets = (f"{Events.path}?ch=room{user % count},user{user}" for user in range(members))
    each = max(1, min(MESSAGES, DELIVERIES // size) // count)
    with bench.server.start(bench, Events) as server, bench.crowd(Events, server) as crowd:
        crowd.hold(targets, bench.inflight, HOLD_SECONDS)
        crowd.linger(SETTLE_SECONDS)
        messages = [server.message(Events, f"room{room}") for room in range(count)]
        with Publishers(server.control, AT_ONCE) as publishers:
            talk(crowd, publishers, messages * WARM_UPS, members * WARM_UPS)
            crowd.forget_latencies()
            before = server.cpu()
            seconds, answer = talk(crowd, publishers, messages * each, members * each)
            crowd.linger(LINGER_SECONDS)
            cpu = server.cpu() - before
        lost, surplus = miscounts(crowd.counts(), WARM_UPS + each)
    return {
        "publishes_per_s": round(count * each / seconds),
        "cpu_us_per_publish": micros(cpu, count * each),
        "cpu_us_per_delivery": micros(cpu, members * each),
        **latencies(answer),
        "lost": lost,
        "surplus": surplus,
        "faults": complaints((lost, "deliveries lost"), (surplus, "deliveries too many")),
    }


def talk(crowd, publishers, messages, deliveries):
    """Publishes while the clients read. Returns the seconds that publishing took, and the answer of the load client."""
    crowd.begin_messages(crowd.messages() + deliveries, DELIVERY_SECONDS)
    began = time.monotonic()
    publishers.publish_all(messages)
    seconds = time.monotonic() - began
    return seconds, crowd.finish()
