"""What connections cost that are only held."""

import resource
import time

from clients import Crowd, Publisher, message
from processes import Failed, Gripd
from scenarios import END_SECONDS, HOLD_SECONDS, LINGER_SECONDS, ROOM, SETTLE_SECONDS
from scenarios import complaints, miscounts, own_channel, room_only
from websockets import CompressedWebSockets, RelayedWebSockets, WebSockets

# Files of gripd beside those of its clients and of the origin's WebSockets.
SPARE = 200
FIGURES = ("kib_per_connection", "kib_per_connection_told", "holds_per_s")


def memory(bench):
    """What a held stream costs gripd, with one channel and with two, of which one is the client's own."""
    return summary({
        "one_channel": hold_and_weigh(bench, Crowd, room_only),
        "two_channels": hold_and_weigh(bench, Crowd, own_channel),
    })


def websocket_memory(bench):
    """What a parked WebSocket costs gripd: by its channels, by the kind of its origin, and with compression."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # gripd has two files open for each that it relays.
    relayed = bench._replace(n=min(bench.n, (most - SPARE) // 2))
    figures = summary({
        "one_channel": hold_and_weigh(bench, WebSockets, room_only),
        "two_channels": hold_and_weigh(bench, WebSockets, own_channel),
        "relayed": try_to_weigh(relayed, RelayedWebSockets, room_only),
        "compressed": try_to_weigh(bench, CompressedWebSockets, room_only),
    })
    return {"n_relayed": relayed.n, **figures}


def summary(weighed):
    """The figures of all kinds side by side."""
    return {
        "idle_kib": weighed["one_channel"]["idle_kib"],
        **{f"{name}_{kind}": figures[name] for name in FIGURES for kind, figures in weighed.items()},
        "faults": [f"{kind}: {fault}" for kind, figures in weighed.items() for fault in figures["faults"]],
    }


def try_to_weigh(bench, kind, target):
    """Where it fails, no other kind is kept from its figures."""
    try:
        return hold_and_weigh(bench, kind, target)
    except (Failed, OSError) as error:
        return {**dict.fromkeys(FIGURES), "faults": [str(error)]}


def hold_and_weigh(bench, kind, target):
    """Weighs the connections at rest, and again when each was told a message: so it is known that all were there."""
    with Gripd(bench.gripd, bench.origin.port, kind.route_options, kind.config) as gripd:
        time.sleep(SETTLE_SECONDS)
        idle = gripd.memory_kib()
        with kind(gripd.port) as crowd, Publisher(gripd.control) as publisher:
            seconds = crowd.hold((target(kind, user) for user in range(bench.n)), bench.inflight, HOLD_SECONDS)
            crowd.linger(SETTLE_SECONDS)
            grown = gripd.memory_kib() - idle
            publisher.publish(message(ROOM, kind.form))
            crowd.wait_messages(bench.n, END_SECONDS)
            crowd.linger(LINGER_SECONDS)
            grown_told = gripd.memory_kib() - idle
            lost, surplus = miscounts(crowd.all, 1)
            refused = bench.n - crowd.agreed()
    return {
        "idle_kib": idle,
        "kib_per_connection": round(grown / bench.n, 2),
        "kib_per_connection_told": round(grown_told / bench.n, 2),
        "holds_per_s": round(bench.n / seconds),
        "faults": complaints(
            (refused, "without the extensions that they should have"),
            (lost, "not reached by a message"),
            (surplus, "messages too many"),
        ),
    }
