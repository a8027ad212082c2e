"""The cost of long-polls: each message to everybody is an answer to a request of everybody."""

import statistics

from clients import Polls
from figures import complaints, micros, millis, miscounts
from publishing import Publisher
from scenarios import HOLD_SECONDS, LINGER_SECONDS, ROOM, deliver, room_only

ROUNDS = 5
REST_SECONDS = 60


def poll(bench):
    """Lets all clients poll, answers all of them by one message, and so on."""
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
        "faults": complaints((lost, "polls without their message"), (surplus, "messages too many")),
    }


def play_round(bench, server, crowd, publisher):
    """Holds and answers all polls. Returns the CPU seconds for each, and the seconds until the last answer."""
    idle = server.cpu()
    crowd.ask(bench.origin, bench.inflight, HOLD_SECONDS)
    # All polls are held once the server has worked off the answers of the origin.
    server.rests(REST_SECONDS)
    # Those that the server has cut off meanwhile are not waited for.
    crowd.linger(0)
    held = server.cpu()
    seconds = deliver(crowd, publisher, server.message(Polls, ROOM))
    server.rests(REST_SECONDS)
    return held - idle, server.cpu() - held, seconds
