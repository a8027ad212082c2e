"""django-eventstream with its events in a database: clients get each event once and in order, whatever breaks.

With each hold the site names the last event that the client has (`prev-id`) and a link to later events (`Grip-Link`).
With each event it names the event before it. So gripd notices that an event was not published to it, and requests the
event. The clients behave like the EventSource of a browser: when their stream ends they reconnect with `Last-Event-ID`,
and the site answers with the events that they missed.
"""

import http.client
import json
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from harness import DEADLINE, GRIPD, Process, check, eventually, exchange, free_ports, run, same

SEED = 20
SITE = Path(__file__).with_name("django_site.py")
# The time limit, in seconds, for the arrival of an event that was not published. Such an event may have to wait for
# the one before it, and retries take time.
RECOVERY = 20.0
# The time limit, in seconds, for the next byte of a stream, in which there is a keep-alive every 20 seconds.
PATIENCE = 30.0
# The time, in seconds, that a scene waits for events that should not come.
SETTLE = 0.5
# The number of threads that send events, the mean of their pauses, and the mean time after which a client reconnects.
# Both times are in seconds.
SENDERS, PAUSE, RETRY = 4, 0.03, 0.05
# The number of times that each client is cut off, in the scene in which clients are cut off.
CUTS = 12
# The timeout of the next link, in seconds, in the scene in which gripd requests the link because it is due.
POLL = 2
# The number of bytes with which every stream of django-eventstream begins: a comment that fills buffers, and an event.
OPENING = len(":" + " " * 2048 + "\n\n" + "event: stream-open\ndata:\n\n")


class Proxy:
    """A gripd that can be ended and started again on the same ports."""

    def __init__(self, folder):
        self.client, self.control = (("127.0.0.1", port) for port in free_ports(2))
        # A drain ends the streams one after the other within this time. The default of ten seconds would take too long.
        self._config = folder / "gripd.toml"
        self._config.write_text("drain = 1\n")
        self._process = None

    def start(self, origin):
        addresses = {"--listen": self.client, "--control": self.control}
        options = [part for name, address in addresses.items() for part in (name, "{}:{}".format(*address))]
        self._process = Process(
            [GRIPD, "--config", str(self._config), "--route", f"* 127.0.0.1:{origin}", *options], "stderr"
        )
        self._process.find("started .*clients=")

    def stop(self):
        """Ends gripd by SIGTERM, as an administrator does."""
        same(self._process.end(), 0, "gripd's exit code after SIGTERM")

    def kill(self):
        """Kills gripd, which then cannot do anything more."""
        self._process.child.kill()
        self._process.child.wait()

    def close(self):
        if self._process:
            self._process.end()


class Site:
    """The Django site behind gripd. Scenes send their requests directly to it, so they need no gripd for this."""

    def __init__(self, folder, control):
        # The key is gripd's default. Django uses it to check the signature of each request from gripd.
        grip_url = "http://{}:{}?iss=pushpin&key=changeme".format(*control)
        self._process = Process([sys.executable, "-B", str(SITE), str(folder / "db.sqlite3"), grip_url], "stderr")
        try:
            self.port = int(self._process.find(r"^serving (\d+)")[1])
        except BaseException:
            self.close()
            raise

    def close(self):
        self._process.end()

    def send(self, channel, text, **options):
        self._ask("POST", "/send", text.encode(), channel=channel, **options)

    def kick(self, user, channel):
        self._ask("POST", "/kick", b"", user=user, channel=channel)

    def current(self, *channels):
        """Returns the id of the latest events of these channels, after which a client begins."""
        return self._ask("GET", "/current", channel=channels)

    def log(self, channel):
        """Returns the events of a channel that are in the database, as pairs of the number and the data."""
        return [tuple(event) for event in json.loads(self._ask("GET", "/log", channel=channel))]

    def _ask(self, method, path, body=None, **query):
        address = ("127.0.0.1", self.port)
        status, answer = exchange(address, method, f"{path}?{urlencode(query, doseq=True)}", body, seconds=RECOVERY)
        check(status == 200, f"{method} {path} on the site: {status} {''.join(self._process.lines)[-500:]}")
        return answer


class Source:
    """An EventSource like that of a browser, in a thread of its own. It records its messages, each with its id.

    The client can cut its connections itself: it ends the first ones after the numbers of bytes that `cuts` lists, even
    in the middle of an event, and some of them by a reset.
    """

    def __init__(self, address, path, cuts=(), chance=None):
        self.messages = []
        # All other events that have data, as pairs of the kind and the data.
        self.notices = []
        self.opened = self.cut = 0
        # The reason why the client has given up, as an EventSource does after an error response; or None.
        self.why = None
        self._address, self._path = address, path
        self._cuts = iter(cuts)
        self._chance = chance or random.Random(SEED)
        self._last_id = ""
        self._socket = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._closed.set()
        try:
            # If the thread is waiting for bytes, this ends the wait.
            self._socket.shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):
            pass
        self._thread.join(DEADLINE)

    def _run(self):
        try:
            while not self._closed.is_set():
                with closing(http.client.HTTPConnection(*self._address, timeout=PATIENCE)) as connection:
                    answer = self._ask(connection)
                    if answer:
                        with answer:
                            self._read(answer, next(self._cuts, None))
                self._closed.wait(self._chance.uniform(0, 2 * RETRY))
        except Exception as error:
            self.why = str(error) or repr(error)

    def _ask(self, connection):
        """Sends the request. Returns the response, or None if the connection failed, so that the client tries again."""
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        try:
            connection.connect()
            self._socket = connection.sock
            if self._closed.is_set():
                return None
            connection.request("GET", self._path, headers=headers)
            answer = connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            return None
        # After a response that is not a stream, a browser does not try again.
        kind = answer.headers.get_content_type()
        check((answer.status, kind) == (200, "text/event-stream"), f"the response was {answer.status}, {kind}")
        return answer

    def _read(self, answer, until):
        """Reads a stream to its end, or only the first `until` bytes of it."""
        pending, taken = b"", 0
        while until is None or taken < until:
            try:
                data = answer.read1(65_536 if until is None else until - taken)
            except (ConnectionError, http.client.IncompleteRead):
                return
            if not data:
                return
            taken += len(data)
            # Bytes without a blank line after them are not an event yet. They are dropped if the connection ends.
            *events, pending = (pending + data).split(b"\n\n")
            for event in events:
                self._dispatch(event.decode())
        self.cut += 1
        if self._chance.random() < 0.5:
            # With this option the socket sends a reset when it is closed.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _dispatch(self, event):
        kind, data = "message", []
        for line in event.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "id":
                    self._last_id = value
                case "event":
                    kind = value
                case "data":
                    data.append(value)
        data = "\n".join(data)
        if kind == "message" and data:
            self.messages.append((self._last_id, data))
        elif data:
            self.notices.append((kind, data))
        self.opened += kind == "stream-open"


def numbers(ids):
    """Parses an id. Returns for each channel the number of the last event that the client has."""
    check(re.fullmatch(r"[\w-]+:\d+(,[\w-]+:\d+)*", ids), f"an event has the id {ids!r}")
    return {channel: int(number) for channel, number in (part.split(":") for part in ids.split(","))}


def difference(got, expected):
    """Returns a text that says how two lists of events differ."""
    lost, more = Counter(expected) - Counter(got), Counter(got) - Counter(expected)
    parts = [f"{len(got)} instead of {len(expected)} events"]
    if lost:
        parts.append(f"lost {sorted(number for number, _ in lost.elements())}")
    if more:
        parts.append(f"too many or wrong {[event for event in got if event in more]}")
    if not lost and not more:
        parts.append(f"order {[number for number, _ in got]}")
    return ", ".join(parts)


class Stage:
    """A site, a gripd in front of it, and the clients of a scene."""

    def __init__(self, site, proxy, ending):
        self.site, self.proxy, self._ending = site, proxy, ending
        # `begins` has, for each client and channel, the number of the event after which the client begins. `skips`
        # has, for some clients, a function that returns whether an event with this text is not sent to the client.
        self.begins, self.skips = {}, {}

    def listen(self, *channels, since=None, query=None, **options):
        """Starts a client of these channels, which begins after `since` or the latest event. Waits for its stream."""
        # The URL says where to begin, as django-eventstream recommends. A client that loses its stream before its first
        # event has no Last-Event-ID.
        since = since or self.site.current(*channels)
        parameters = {"channel": channels, "lastEventId": since} | (query or {})
        source = Source(self.proxy.client, "/events/?" + urlencode(parameters, doseq=True), **options)
        self._ending.callback(source.close)
        self.begins[source] = numbers(since)
        self.wait("the stream of a client is open", lambda: source.opened + source.cut)
        return source

    def trouble(self):
        """Returns why a client has given up, or which events other than messages it has got; or None if all is well."""
        for index, source in enumerate(self.begins):
            if source.why:
                return f"client {index} gave up: {source.why}"
            if source.notices:
                return f"client {index} got events other than messages: {source.notices}"
        return None

    def wait(self, what, probe):
        """Waits until `probe` returns something true. Fails at once if a client has trouble."""

        def look():
            trouble = self.trouble()
            check(not trouble, trouble)
            return probe()

        return eventually(what, look, RECOVERY)

    @contextmanager
    def talk(self, *channels):
        """Sends events to these channels from several threads until the block ends. Yields the list of texts sent."""
        sent, over = [], threading.Event()

        def sender(number):
            chance = random.Random(f"{SEED} {number}")
            for turn in count():
                channel = chance.choice(channels)
                text = words(channel, f"{number}-{turn}")
                self.site.send(channel, text)
                sent.append(text)
                if over.wait(chance.uniform(0, 2 * PAUSE)):
                    return

        with ThreadPoolExecutor(SENDERS) as pool:
            senders = [pool.submit(sender, number) for number in range(SENDERS)]
            try:
                yield sent
            finally:
                over.set()
                for each in senders:
                    # If a sender has failed, this raises its error, which says more than the comparison below.
                    each.result()
        logged = [text for channel in channels for _, text in self.site.log(channel)]
        same(Counter(logged), Counter(sent), "the sent events that are in the database")

    def expected(self, source):
        """Returns the events that a client should have, by channel."""
        skipped = self.skips.get(source, lambda text: False)
        return {
            channel: [event for event in self.site.log(channel) if event[0] > begin and not skipped(event[1])]
            for channel, begin in self.begins[source].items()
        }

    def received(self, source, expected):
        """Returns the events that a client got, by channel. Checks the numbers of all channels in each id."""
        state, events = dict(self.begins[source]), {channel: [] for channel in expected}
        for ids, text in source.messages:
            now, channel = numbers(ids), text.split("/")[0]
            same(now.keys(), state.keys(), f"the channels in the id of {text!r}")
            events[channel].append((now[channel], text))
            # The numbers of the other channels must not change, except past events that this client does not get.
            over = {other: range(state[other] + 1, now[other] + 1) for other in state if other != channel}
            jumped = [other for other in over if any(number in over[other] for number, _ in expected[other])]
            back = [other for other in over if now[other] < state[other]]
            check(not jumped and not back, f"the id of {text!r} is {ids}, but the client had {state}")
            state = now
        return events

    def all_have_all(self):
        """Waits until each client has as many events as it should have, and checks that they are the right ones."""
        expected = {source: self.expected(source) for source in self.begins}

        def complete():
            return all(len(source.messages) >= sum(map(len, events.values())) for source, events in expected.items())

        try:
            self.wait("each client has as many events as it should have", complete)
            time.sleep(SETTLE)
        finally:
            # This is done after a timeout as well, because it says which events are missing.
            trouble = self.trouble()
            check(not trouble, trouble)
            self.compare(expected)

    def compare(self, expected):
        """Checks that each client has exactly these events."""
        for index, (source, channels) in enumerate(expected.items()):
            received = self.received(source, channels)
            for channel, events in channels.items():
                got = received[channel]
                check(got == events, f"client {index}, channel {channel}: {difference(got, events)}")


def words(channel, what):
    """Returns data for an event, with text that looks like what the filter `build-id` replaces, and with UTF-8."""
    return f"{channel}/{what}\n100% of %I, %(this)I and %%, žluťoučký 🐎"


@contextmanager
def stage():
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        proxy = ending.enter_context(closing(Proxy(Path(folder))))
        site = ending.enter_context(closing(Site(Path(folder), proxy.control)))
        proxy.start(site.port)
        yield Stage(site, proxy, ending)


def django_clients_get_every_event_once_and_in_order():
    with stage() as s:
        clients = [s.listen(*channels) for channels in (["a"], ["b"], ["a", "b"]) for _ in range(2)]
        with s.talk("a", "b") as sent:
            s.wait("200 events are sent", lambda: len(sent) >= 200)
        s.all_have_all()
        same([client.opened for client in clients], [1] * 6, "how often each client connected")


def django_clients_that_are_cut_off_miss_nothing():
    with stage() as s:
        with s.talk("a", "b"):
            for number in range(6):
                chance = random.Random(f"{SEED} {number}")
                # Every second cut may come before the first event.
                cuts = [chance.randrange(OPENING * (turn % 2), OPENING + 1_500) for turn in range(CUTS)]
                s.listen("a", "b", cuts=cuts, chance=chance)
            s.wait("all cuts are made", lambda: all(client.cut == CUTS for client in s.begins))
        s.all_have_all()


def survive(end):
    """Checks that no event is lost if the function `end` ends gripd and it starts again while events are sent."""
    with stage() as s:
        clients = [s.listen(*channels) for channels in (["a"], ["b"], ["a", "b"]) for _ in range(2)]
        with s.talk("a", "b") as sent:
            s.wait("each client has ten events", lambda: all(len(client.messages) >= 10 for client in clients))
            end(s.proxy)
            gone = len(sent)
            s.wait("ten events are sent while gripd is not running", lambda: len(sent) >= gone + 10)
            s.proxy.start(s.site.port)
            s.wait("all clients have reconnected", lambda: all(client.opened >= 2 for client in clients))
            # The last events are sent when gripd is running. If the very last ones were not published, no later event
            # would show that they are missing.
            back = len(sent)
            s.wait("50 events are sent after that", lambda: len(sent) >= back + 50)
        s.all_have_all()


def django_restart_of_gripd_loses_nothing():
    survive(Proxy.stop)


def django_kill_of_gripd_loses_nothing():
    survive(Proxy.kill)


def django_unpublished_events_arrive_with_the_next_event():
    with stage() as s:
        clients = [s.listen(*channels) for channels in (["a"], ["a", "b"], ["b"])]
        for turn in range(2):
            s.site.send("a", words("a", f"{turn} before"))
            s.all_have_all()
            for number in range(3):
                s.site.send("a", words("a", f"{turn} lost {number}"), lost=1)
            s.site.send("b", words("b", f"{turn} elsewhere"))
            s.site.send("a", words("a", f"{turn} after"))
            s.all_have_all()
        same([client.opened for client in clients], [1] * 3, "how often each client connected")


def django_unpublished_events_arrive_when_the_next_link_is_due():
    with stage() as s:
        clients = [s.listen(*channels, query={"poll": POLL}) for channels in (["a"], ["a", "b"])]
        s.site.send("a", words("a", "before"))
        s.all_have_all()
        for number in range(3):
            s.site.send("a", words("a", f"lost {number}"), lost=1)
        s.all_have_all()
        s.site.send("a", words("a", "after"))
        s.all_have_all()
        same([client.opened for client in clients], [1] * 2, "how often each client connected")


def django_many_missed_events_arrive_by_a_chain_of_links():
    # To a client of two channels the site answers with at most 50 events of each, and with a link to the next events.
    with stage() as s, ThreadPoolExecutor(SENDERS) as pool:
        absent = [("a", number) for number in range(120)] + [("b", number) for number in range(60)]
        list(pool.map(lambda event: s.site.send(event[0], words(*event), lost=1), absent))
        client = s.listen("a", "b", since="a:0,b:5")
        s.all_have_all()
        for channel in "aab":
            s.site.send(channel, words(channel, "live"))
        s.all_have_all()
        same(client.opened, 1, "how often the client connected")


def django_skipped_user_does_not_get_an_event():
    with stage() as s:
        alice, bob = (s.listen("a", "b", query={"user": name}) for name in ("alice", "bob"))
        s.skips[bob] = lambda text: "not bob" in text
        for turn in range(4):
            s.site.send("a", words("a", f"{turn} all"))
            s.site.send("a", words("a", f"{turn} not bob"), skip="bob")
            s.site.send("b", words("b", f"{turn} all"))
        s.site.send("a", words("a", "last"))
        # gripd must not treat an event as lost that bob must not get. It would request the event, and the site would
        # send it from the database.
        s.all_have_all()
        same([alice.opened, bob.opened], [1, 1], "how often each client connected")


def django_kick_ends_the_streams_of_one_user_and_channel():
    with stage() as s:
        kicked = s.listen("a", "b", query={"user": "bob"})
        others = [s.listen("b", query={"user": "bob"}), s.listen("a", "b", query={"user": "alice"})]
        s.site.send("a", words("a", "before"))
        s.all_have_all()
        s.site.kick("bob", "a")
        eventually("the kicked client has given up", lambda: kicked.why)
        # The client got an event with the reason, its stream ended, and it reconnected with the id of that event, which
        # Django refuses.
        same(kicked.why, "the response was 400, text/html", "why the kicked client gave up")
        same([kind for kind, _ in kicked.notices], ["stream-error"], "the notices to the kicked client")
        del s.begins[kicked]
        s.site.send("a", words("a", "after"))
        s.site.send("b", words("b", "after"))
        s.all_have_all()
        same([other.opened for other in others], [1, 1], "how often the others connected")


SCENES = [
    django_clients_get_every_event_once_and_in_order,
    django_clients_that_are_cut_off_miss_nothing,
    django_restart_of_gripd_loses_nothing,
    django_kill_of_gripd_loses_nothing,
    django_unpublished_events_arrive_with_the_next_event,
    django_unpublished_events_arrive_when_the_next_link_is_due,
    django_many_missed_events_arrive_by_a_chain_of_links,
    django_skipped_user_does_not_get_an_event,
    django_kick_ends_the_streams_of_one_user_and_channel,
]

if __name__ == "__main__":
    # If the arguments name scenes, only these are played.
    sys.exit(1 if run([scene for scene in SCENES if not sys.argv[1:] or scene.__name__ in sys.argv[1:]]) else 0)
