"""Five users of the built-in demo, each in a tab of a headless Chromium. They chat in all modes; three are kicked."""

import sys
from contextlib import ExitStack

from chromium import ELEMENT, Browser, DriverError
from harness import Failed, Gripd, check, eventually, report, run, same

class Tab:
    """The tab of one user."""

    def __init__(self, browser, url, name):
        self.name = name
        # The number of lines at the beginning of the conversation that this tab does not show.
        self.missed = 0
        self._browser, self._url, self._handle = browser, url, browser.new_tab()
        self._tell("url", {"url": url})

    def join(self):
        eventually("the form to join is shown", lambda: self._is_shown("#name"))
        self._act("#name", "clear")
        self._act("#name", "value", {"text": self.name})
        self._act("#join", "click")

    def reload(self):
        self._tell("refresh")

    def say(self, text):
        self._act("#text", "value", {"text": text})
        self._act("#send", "click")

    def kick(self, name):
        """Clicks the button that kicks a user. Tries again if the page has redrawn the list of people meanwhile."""

        def click():
            try:
                self._act(f'#people li[data-name="{name}"] button.kick', "click")
            except DriverError:
                return False
            return True

        eventually(f"{self.name} finds the button that kicks {name}", click)

    def messages(self):
        """Returns the lines of the conversation, as pairs of the user's name and the text."""
        return self._js(
            """return [...document.querySelectorAll('#messages .message')].map((message) =>
                [message.querySelector('.from').textContent, message.querySelector('.text').textContent])"""
        )

    def forget_messages(self):
        self._js("document.querySelector('#messages').replaceChildren()")

    def sees_messages(self, expected):
        eventually(f"{self.name} sees {len(expected)} messages", lambda: len(self.messages()) >= len(expected))
        same(self.messages(), expected, f"the messages that {self.name} sees")

    def sees_people(self, names):
        listed = "return [...document.querySelectorAll('#people li')].map((person) => person.dataset.name)"
        eventually(f"{self.name} sees that {names} are here", lambda: sorted(self._js(listed)) == sorted(names))

    def sees_state(self, state):
        shown = "return document.querySelector('#status').dataset.state"
        eventually(f"{self.name}'s state is {state!r}", lambda: self._js(shown) == state)

    def banner(self):
        """Returns the text of the banner, or an empty text while the banner is hidden."""
        shown = "const banner = document.querySelector('#kicked'); return banner.hidden ? '' : banner.innerText"
        return self._js(shown)

    def can_write(self):
        return self._js("return ['text', 'send'].some((id) => !document.getElementById(id).disabled)")

    def switch(self, mode):
        self._act(f'#modes input[value="{mode}"]', "click")

    def address(self):
        return self._js("return location.href")

    def transport(self):
        """Returns the name of the JavaScript class with which the page receives events."""
        return self._js("return source.constructor.name")

    def stream_state(self):
        """Returns the readyState of the page's EventSource or WebSocket. When closed, it is 2 or 3, respectively."""
        return self._js("return source.readyState")

    def stream_requests(self):
        """Returns how many requests of the page for a stream of events have ended, including refused reconnects."""
        return self._js(
            "return performance.getEntriesByType('resource').filter((e) => e.name.includes('/events?')).length"
        )

    def poll_requests(self):
        """Returns how many long-polls of the page have ended."""
        return self._js(
            "return performance.getEntriesByType('resource').filter((e) => e.name.includes('/poll?')).length"
        )

    def say_all(self, texts):
        """Says all texts at the same time, and returns the statuses of the responses when all are published."""
        return self._js(
            """return Promise.all(arguments[0].map((text) => post('say', { name: me, text })))
                .then((answers) => answers.map((answer) => answer.status))""",
            texts,
        )

    def sees_note(self, text):
        shown = "return [...document.querySelectorAll('#messages .note')].map((note) => note.textContent)"
        eventually(f"{self.name} sees the note {text!r}", lambda: text in self._js(shown))

    def fetch(self, path):
        """Sends a request from within the page. Returns the status and the text of the response."""
        return self._js(
            "return fetch(arguments[0]).then(async (answer) => [answer.status, await answer.text()])", path
        )

    def _is_shown(self, selector):
        return self._js("return document.querySelector(arguments[0])?.offsetParent != null", selector)

    def _act(self, selector, action, body=None):
        element = self._tell("element", {"using": "css selector", "value": selector})
        return self._browser.tell(f"element/{element[ELEMENT]}/{action}", body)

    def _js(self, script, *args):
        return self._tell("execute/sync", {"script": script, "args": args})

    def _tell(self, command, body=None):
        self._browser.tell("window", {"handle": self._handle})
        return self._browser.tell(command, body)


class Story:
    """The scenes, each of which needs those before it."""

    def __init__(self, gripd, browser):
        url = "http://{}:{}/".format(*gripd.client)
        self.gripd = gripd
        self.alice, self.bob, self.carol = (Tab(browser, url, name) for name in ("alice", "bob", "carol"))
        self.dave = Tab(browser, f"{url}?mode=websocket", "dave")
        self.erin = Tab(browser, f"{url}?mode=poll", "erin")
        self.said = []

    def say(self, who, text, *seen_by):
        """Lets the user of a tab say a text, and checks that all of `seen_by` see the whole conversation."""
        who.say(text)
        self.said.append([who.name, text])
        for tab in seen_by:
            tab.sees_messages(self.said[tab.missed :])

    def page_three_people_join(self):
        everybody = (self.alice, self.bob, self.carol)
        for tab in everybody:
            tab.join()
            tab.sees_state("connected")
        for tab in everybody:
            tab.sees_people(["alice", "bob", "carol"])
        same(self.gripd.connections("conversation123"), 3, "the number of connections in the conversation")

    def page_two_chat_in_both_directions(self):
        everybody = (self.alice, self.bob, self.carol)
        self.say(self.alice, "hello bob", *everybody)
        self.say(self.bob, "hello <b>alice</b> & žluťoučký", *everybody)
        self.say(self.alice, "how are you?", *everybody)

    def page_kicked_user_sees_the_banner(self):
        self.alice.kick("bob")
        eventually("bob sees the banner", self.bob.banner)
        check("alice removed you" in self.bob.banner(), f"the banner says {self.bob.banner()!r}")
        self.bob.sees_state("out")
        check(not self.bob.can_write(), "bob can still write")
        # Bob's page knows of the kick from the goodbye. A refused reconnect would tell the same, but later.
        check(self.bob.stream_requests() <= 1, "bob's page asked for the stream again")

    def page_kick_reports_the_number_of_closed_connections(self):
        # Bob's page closes its stream itself, too. The receipt counts the connections that gripd has closed.
        self.alice.sees_note("You removed bob (closed: 1)")
        self.carol.sees_note("bob was removed by alice")

    def page_kicked_user_is_disconnected(self):
        same(self.bob.stream_state(), 2, "the readyState of bob's EventSource")
        self.gripd.wait_for("user-bob", 0)
        for tab in (self.alice, self.carol):
            tab.sees_people(["alice", "carol"])

    def page_others_continue_to_chat(self):
        before = list(self.said)
        self.say(self.carol, "where is bob?", self.alice, self.carol)
        self.say(self.alice, "gone", self.alice, self.carol)
        same(self.bob.messages(), before, "the messages that bob sees")
        for tab in (self.alice, self.carol):
            tab.sees_state("connected")
            same(tab.banner(), "", f"the banner that {tab.name} sees")

    def page_kicked_user_cannot_join_again(self):
        status, text = self.bob.fetch("events?name=bob&conversation=123")
        same((status, text.strip()), (403, "alice removed you from the conversation"), "the response to bob's request")
        self.bob.reload()
        self.bob.join()
        eventually("bob sees the banner again", self.bob.banner)
        self.bob.sees_state("out")
        same(self.gripd.connections("user-bob"), 0, "the number of bob's connections")

    def page_others_are_undisturbed(self):
        self.say(self.alice, "still here", self.alice, self.carol)
        same(self.bob.messages(), [], "the messages that bob sees after his reload")
        same(self.gripd.connections("conversation123"), 2, "the number of connections in the conversation")

    def page_fourth_user_joins_by_websocket(self):
        self.dave.missed = len(self.said)
        self.dave.join()
        self.dave.sees_state("connected")
        same(self.dave.transport(), "WebSocket", "the transport of dave's page")
        for tab in (self.alice, self.carol, self.dave):
            tab.sees_people(["alice", "carol", "dave"])
        self.alice.sees_note("dave joined")
        same(self.gripd.connections("conversation123"), 3, "the number of connections in the conversation")

    def page_websocket_and_streams_chat(self):
        everybody = (self.alice, self.carol, self.dave)
        self.say(self.dave, "hello <i>all</i> & žluťoučký", *everybody)
        self.say(self.alice, "c:{} hello dave", *everybody)
        self.say(self.dave, 'c:{"type":"detach"}', *everybody)
        self.say(self.dave, "still heard", *everybody)

    def page_item_published_from_a_shell_reaches_everybody(self):
        formats = {
            "http-stream": {"content": '\nevent: message\ndata: {"from":"curl","text":"hi"}\n\n'},
            "http-response": {"body": '{"event":"message","data":{"from":"curl","text":"hi"}}'},
            "ws-message": {"content": '{"from":"curl","text":"hi"}'},
        }
        self.gripd.wait_for("user-erin", 1)
        self.gripd.publish({"channel": "conversation123", "formats": formats})
        self.said.append(["curl", "hi"])
        for tab in (self.alice, self.carol, self.dave, self.erin):
            tab.sees_messages(self.said[tab.missed :])

    def page_long_poll_misses_nothing_in_a_burst(self):
        everybody = (self.alice, self.carol, self.dave, self.erin)
        for burst in range(3):
            texts = [f"burst {burst} line {line}" for line in range(20)]
            same(set(self.alice.say_all(texts)), {204}, "the statuses of the requests that said the lines")
            expected = len(self.said) + len(texts)
            for tab in everybody:
                eventually(f"{tab.name} sees a burst", lambda tab=tab: len(tab.messages()) >= expected - tab.missed)
                # The lines were said at the same time, so their requests race with each other. Only the items for
                # long-polls have ids, which put them into an order. So the lines are sorted here.
                same(sorted(tab.messages()[-20:]), sorted([self.alice.name, text] for text in texts), "the burst")
            self.said += [[self.alice.name, text] for text in texts]
        for tab in everybody:
            same(len(tab.messages()), len(self.said) - tab.missed, f"the number of messages that {tab.name} sees")
            tab.forget_messages()
            tab.missed = len(self.said)

    def page_joined_user_switches_the_mode(self):
        modes = [("websocket", "WebSocket"), ("poll", "LongPoll"), ("sse", "EventSource"), ("poll", "LongPoll")]
        for mode, transport in [*modes, ("websocket", "WebSocket")]:
            self.carol.switch(mode)
            same(self.carol.transport(), transport, "the transport of carol's page")
            check(self.carol.address().endswith(f"?mode={mode}"), f"the page's address is {self.carol.address()}")
            self.carol.sees_state("connected")
            self.gripd.wait_for("user-carol", 1)
        self.say(self.carol, "switched", self.alice, self.carol, self.dave, self.erin)

    def page_closed_websocket_reconnects(self):
        closed = self.gripd.publish({"channel": "user-carol", "action": "close", "code": 1012})
        same(closed[0]["closed"], 1, "the number of carol's connections that were closed")
        self.carol.sees_state("waiting")
        self.carol.sees_state("connected")
        self.gripd.wait_for("user-carol", 1)
        self.say(self.alice, "back again?", self.alice, self.carol, self.dave, self.erin)

    def page_closed_long_poll_polls_again(self):
        self.gripd.wait_for("user-erin", 1)
        closed = self.gripd.publish({"channel": "user-erin", "action": "close"})
        same(closed[0]["closed"], 1, "the number of erin's connections that were closed")
        self.say(self.alice, "missed?", self.alice, self.carol, self.dave, self.erin)
        self.erin.sees_state("connected")

    def page_kicked_user_of_a_websocket_is_out(self):
        self.alice.kick("dave")
        eventually("dave sees the banner", self.dave.banner)
        check("alice removed you" in self.dave.banner(), f"the banner says {self.dave.banner()!r}")
        self.dave.sees_state("out")
        check(not self.dave.can_write(), "dave can still write")
        eventually("dave's WebSocket is closed", lambda: self.dave.stream_state() == 3)
        same(self.dave.stream_requests(), 0, "the number of requests of dave's page for a stream")
        self.alice.sees_note("You removed dave (closed: 1)")
        self.carol.sees_note("dave was removed by alice")
        self.gripd.wait_for("user-dave", 0)
        for tab in (self.alice, self.carol, self.erin):
            tab.sees_people(["alice", "carol", "erin"])

    def page_kicked_user_of_a_long_poll_is_out(self):
        self.gripd.wait_for("user-erin", 1)
        self.carol.kick("erin")
        eventually("erin sees the banner", self.erin.banner)
        check("carol removed you" in self.erin.banner(), f"the banner says {self.erin.banner()!r}")
        self.erin.sees_state("out")
        check(not self.erin.can_write(), "erin can still write")
        self.carol.sees_note("You removed erin (closed: 1)")
        self.alice.sees_note("erin was removed by carol")
        self.gripd.wait_for("user-erin", 0)
        asked = self.erin.poll_requests()
        for tab in (self.alice, self.carol):
            tab.sees_people(["alice", "carol"])
        self.say(self.alice, "erin?", self.alice, self.carol)
        same(self.erin.messages()[-1], ["alice", "missed?"], "the last message that erin sees")
        same(self.erin.poll_requests(), asked, "the number of long-polls of erin's page")
        status, text = self.erin.fetch("poll?name=erin&conversation=123&after=1")
        same((status, text.strip()), (403, "carol removed you from the conversation"), "the response to erin's request")

    def page_kicked_users_stay_out_in_every_mode(self):
        for tab in (self.bob, self.dave, self.erin):
            for mode in ("sse", "poll", "websocket"):
                tab.reload()
                tab.switch(mode)
                tab.join()
                eventually(f"{tab.name} sees the banner again", tab.banner)
                tab.sees_state("out")
                same(self.gripd.connections(f"user-{tab.name}"), 0, f"the number of {tab.name}'s connections")

    def page_users_of_all_three_modes_chat(self):
        self.erin.missed = len(self.said)
        self.erin.join()
        self.erin.sees_state("connected")
        same(self.erin.transport(), "LongPoll", "the transport of erin's page")
        everybody = (self.alice, self.carol, self.dave, self.erin)
        for tab in everybody:
            tab.sees_people(["alice", "carol", "dave", "erin"])
        self.alice.sees_note("erin joined")
        self.say(self.erin, "hello <i>from</i> a long-poll & žluťoučký", *everybody)
        self.say(self.dave, "hello erin", *everybody)
        self.say(self.alice, "how is it there?", *everybody)
        self.say(self.erin, "slow, but nothing is lost", *everybody)

    def page_users_who_remain_continue_to_chat(self):
        self.say(self.carol, "who is left?", self.alice, self.carol)
        same(self.gripd.connections("conversation123"), 2, "the number of connections in the conversation")

    def scenes(self):
        return [
            self.page_three_people_join,
            self.page_two_chat_in_both_directions,
            self.page_kicked_user_sees_the_banner,
            self.page_kick_reports_the_number_of_closed_connections,
            self.page_kicked_user_is_disconnected,
            self.page_others_continue_to_chat,
            self.page_kicked_user_cannot_join_again,
            self.page_others_are_undisturbed,
            self.page_fourth_user_joins_by_websocket,
            self.page_websocket_and_streams_chat,
            self.page_users_of_all_three_modes_chat,
            self.page_item_published_from_a_shell_reaches_everybody,
            self.page_long_poll_misses_nothing_in_a_burst,
            self.page_joined_user_switches_the_mode,
            self.page_closed_websocket_reconnects,
            self.page_closed_long_poll_polls_again,
            self.page_kicked_user_of_a_websocket_is_out,
            self.page_kicked_user_of_a_long_poll_is_out,
            self.page_kicked_users_stay_out_in_every_mode,
            self.page_users_who_remain_continue_to_chat,
        ]


def play():
    """Starts gripd and the browser, plays the story, and ends both. Returns how many scenes failed."""
    with ExitStack() as closing:
        gripd = closing.enter_context(Gripd())
        story = Story(gripd, Browser(closing))
        return run(story.scenes(), story=True)


def main():
    try:
        failures = play()
    except (Failed, DriverError, OSError) as error:
        report("page_opens_and_closes", error)
        failures = 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
