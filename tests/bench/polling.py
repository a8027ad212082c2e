"""The scenario with long-polls: each message answers the requests of all clients."""

import statistics

from clients import Polls
from figures import complaints, micros, millis, miscounts
from publishing import Publisher
from scenarios import HOLD_SECONDS, LINGER_SECONDS, ROOM, deliver, room_only

ROUNDS = 5
REST_SECONDS = 60


def poll(bench):
    """Makes all clients poll, answers all polls by one message, and repeats this."""
    with bench.server.start(bench, Polls) as server, bench.crowd(Polls, server) as crowd:
        crowd.hold((room_only(Polls, user) for user in range(bench.n)), bench.inflight, HOLD_SECONDS)
        with Publisher(server.control) as publisher:
            # The first round opens the connections to the origin, and is not measured.
            play_round(bench, server, crowd, publisher)
            rounds = [play_round(bench, server, crowd, publisher) for _ in range(ROUNDS)]
        crowd.linger(LINGER_SECONDS)
        lost, surplus = miscounts(crowd.counts(), 1 + ROUNDS)
    held, answered, seconds = zip(*rounds)
    return {
        "rounds": ROUNDS,
        "cpu_us_per_poll_held": micros(statistics.median(held), bench.n),
        "cpu_us_per_poll_answered": micros(statistics.median(answered), bench.n),
        "last_subscriber_ms_median": millis(statistics.median(seconds)),
        "lost": lost,
        "surplus": surplus,
        "faults": complaints((lost, "polls that got no message"), (surplus, "messages too many")),
    }


def play_round(bench, server, crowd, publisher):
    """Makes all clients poll, and publishes a message.

    Returns the CPU seconds of the server until all polls are held, its CPU seconds for answering them, and the seconds
    until the last client has its response.
    """
    idle = server.cpu()
    crowd.ask(bench.origin, bench.inflight, HOLD_SECONDS)
    # Once the server is idle, it has processed all responses of the origin, and all polls are held.
    server.rests(REST_SECONDS)
    # The clients notice the connections that the server has cut meanwhile, so that no message is expected on them.
    crowd.linger(0)
    held = server.cpu()
    seconds = deliver(crowd, publisher, server.message(Polls, ROOM))
    server.rests(REST_SECONDS)
    return held - idle, server.cpu() - held, seconds
