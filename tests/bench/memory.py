"""The scenarios that measure the memory of held connections."""

import resource
import time

from clients import CompressedWebSockets, RelayedWebSockets, Streams, WebSockets
from figures import complaints, miscounts
from processes import Failed
from publishing import Publisher
from scenarios import END_SECONDS, HOLD_SECONDS, LINGER_SECONDS, ROOM, SETTLE_SECONDS
from scenarios import own_channel, room_only
from servers import Gripd

# The number of files that the server needs besides those of its clients and of its WebSockets to the origin.
SPARE = 200
FIGURES = ("kib_per_connection", "kib_per_connection_told", "holds_per_s")


def memory(bench):
    """Measures streams with one channel, and with two channels, one of which is the client's own."""
    return summary({
        "one_channel": hold_and_weigh(bench, Streams, room_only),
        "two_channels": hold_and_weigh(bench, Streams, own_channel),
    })


def websocket_memory(bench):
    """Measures WebSockets with one channel and with two, WebSockets that are relayed, and compressed WebSockets."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A relayed WebSocket takes two files of gripd: one for the client, and one for the origin.
    relayed = bench._replace(n=min(bench.n, (most - SPARE) // 2))
    weighed = {
        "one_channel": hold_and_weigh(bench, WebSockets, room_only),
        "two_channels": hold_and_weigh(bench, WebSockets, own_channel),
        "relayed": try_to_weigh(relayed, RelayedWebSockets, room_only),
    }
    if bench.server is Gripd:
        weighed["compressed"] = try_to_weigh(bench, CompressedWebSockets, room_only)
    return {"n_relayed": relayed.n, **summary(weighed)}


def summary(weighed):
    """Returns the figures of all kinds of connections in one dictionary."""
    return {
        "idle_kib": weighed["one_channel"]["idle_kib"],
        **{f"{name}_{kind}": figures[name] for name in FIGURES for kind, figures in weighed.items()},
        "faults": [f"{kind}: {fault}" for kind, figures in weighed.items() for fault in figures["faults"]],
    }


def try_to_weigh(bench, kind, target):
    """Calls `hold_and_weigh`. If that fails, returns the error as a fault, so that the other kinds are measured."""
    try:
        return hold_and_weigh(bench, kind, target)
    except (Failed, OSError) as error:
        return {**dict.fromkeys(FIGURES), "faults": [str(error)]}


def hold_and_weigh(bench, kind, target):
    """Measures idle connections, and measures them again after each has received a message.

    The message also shows that all connections were held.
    """
    with bench.server.start(bench, kind) as server:
        time.sleep(SETTLE_SECONDS)
        idle = server.memory_kib()
        with bench.crowd(kind, server) as crowd, Publisher(server.control) as publisher:
            seconds = crowd.hold((target(kind, user) for user in range(bench.n)), bench.inflight, HOLD_SECONDS)
            crowd.linger(SETTLE_SECONDS)
            grown = server.memory_kib() - idle
            crowd.begin_messages(bench.n, END_SECONDS)
            publisher.publish(server.message(kind, ROOM))
            crowd.finish()
            crowd.linger(LINGER_SECONDS)
            grown_told = server.memory_kib() - idle
            lost, surplus = miscounts(crowd.counts(), 1)
            refused = bench.n - crowd.agreed(bench.n)
    return {
        "idle_kib": idle,
        "kib_per_connection": round(grown / bench.n, 2),
        "kib_per_connection_told": round(grown_told / bench.n, 2),
        "holds_per_s": round(bench.n / seconds),
        "faults": complaints(
            (refused, "connections where compression is not agreed as it should be"),
            (lost, "connections not reached by a message"),
            (surplus, "messages too many"),
        ),
    }
