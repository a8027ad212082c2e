"""Users of the built-in demo, each in a tab of a headless Chromium. They chat in all modes; several are kicked.

The pictures of the page are written to the folder that the environment variable DEMO_PICTURES names. DEMO_PORTS are
the ports of gripd for clients and publishers, such as "7999 5561", which are otherwise free ones.
"""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from chromium import Browser, DriverError
from demo_tab import Tab
from harness import Failed, Gripd, check, eventually, exchange, free_ports, report, run, same

MODES = ("sse", "poll", "websocket")
# The sizes at which the page is looked at, in pixels.
SIZES = ((1280, 800), (390, 844))


class Story:
    """The scenes, each of which needs those before it."""

    def __init__(self, gripd, browser, pictures):
        url = "http://{}:{}/".format(*gripd.client)
        self.gripd, self.pictures = gripd, pictures
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

    def look_at(self, tab, name, root="body"):
        """Checks the looks of a tab in both sizes and both colour schemes, and takes pictures."""
        for width, height in SIZES:
            for scheme in ("light", "dark"):
                tab.show(width, height, scheme)
                tab.looks_right(root)
                tab.photograph(self.pictures / f"{name}-{scheme}-{width}.png")
        tab.show(*SIZES[0], "light")

    def page_form_to_join_looks_right(self):
        self.look_at(self.alice, "join")
        self.alice.js("byId('name').value = 'two words'")
        self.alice.click("#join")
        check("no spaces" in self.alice.text("#join-error"), f"the form says {self.alice.text('#join-error')!r}")

    def page_first_person_is_told_what_to_do_next(self):
        self.alice.join()
        self.alice.sees_people(["alice"])
        same(self.alice.text("#empty-title"), "You are the only one here", "the title of the empty conversation")
        check(self.alice.is_shown("#another"), "there is no link to open another tab")
        check(self.alice.text("#empty-command").startswith("gripd publish conversation123 hello"), "no command")
        self.look_at(self.alice, "empty")

    def page_three_people_join(self):
        everybody = (self.alice, self.bob, self.carol)
        for tab in (self.bob, self.carol):
            tab.join()
        for tab in everybody:
            tab.sees_state("connected")
        for tab in everybody:
            tab.sees_people(["alice", "bob", "carol"])
        self.alice.sees_note("bob joined")
        same(self.gripd.connections("conversation123"), 3, "the number of connections in the conversation")
        same(self.alice.text("#empty-title"), "Nobody has written yet", "the title of the empty conversation")
        check(not self.alice.is_shown("#another"), "there still is a link to open another tab")

    def page_panel_shows_how_a_connection_came_to_be_held(self):
        self.alice.sees_happen(
            "GET /events?name=alice&conversation=123",
            "Grip-Hold: stream\nGrip-Channel: conversation123, user-alice, conversation123-user-alice",
            "gripd holds this connection",
            "Webhook: conversation123-user-bob joined",
        )

    def page_two_chat_in_both_directions(self):
        everybody = (self.alice, self.bob, self.carol)
        self.say(self.alice, "Hello! Which server holds our connections?", *everybody)
        self.say(self.bob, "gripd does. The backend answered <GET /events> & forgot us — très simple.", *everybody)
        self.say(self.carol, "And a kick closes the connections of one person, and no others?", *everybody)
        self.say(self.bob, "Try it. The receipt counts those that have ended.", *everybody)
        check(not self.alice.is_shown("#empty"), "the conversation is still shown as empty")
        self.alice.sees_happen('{"channel": "conversation123", "formats": {"http-stream": …, "ws-message": …}}')
        self.alice.sees_happen("Receipt: conversation123 → delivered: 3")

    def page_conversation_looks_right(self):
        self.look_at(self.alice, "chat")
        # The picture for the README is a little higher, so that the panel shows everything since the request.
        self.alice.show(1280, 900, "light")
        self.alice.photograph(self.pictures / "demo.png")
        self.alice.show(*SIZES[1], "light")
        self.alice.click("#open-people")
        check(self.alice.is_shown("#side"), "the sheet is not shown")
        self.look_at_sheet()
        self.alice.click("#close-side")
        check(not self.alice.is_shown("#side"), "the sheet is still shown")
        self.alice.show(*SIZES[0], "light")
        check(self.alice.is_shown("#side"), "the panel is not shown on a wide screen")

    def look_at_sheet(self):
        for scheme in ("light", "dark"):
            self.alice.show(*SIZES[1], scheme)
            self.alice.looks_right("#side")
            self.alice.photograph(self.pictures / f"sheet-{scheme}-{SIZES[1][0]}.png")

    def page_sent_message_shows_what_is_pending(self):
        self.alice.js("held = fetch; fetch = (...asked) => new Promise((go) => { letGo = () => go(held(...asked)); })")
        self.alice.say("slow")
        state = lambda: self.alice.text(".message.pending .state")
        same((self.alice.messages()[-1], state()), (["alice", "slow"], "sending…"), "the message on its way")
        eventually("the page says that it is slow", lambda: state() == "still sending…")
        self.alice.js("fetch = held; letGo()")
        self.said.append(["alice", "slow"])
        for tab in (self.alice, self.bob, self.carol):
            tab.sees_messages(self.said)
        eventually("nothing is pending", lambda: not self.alice.is_shown(".message.pending"))

    def page_message_that_was_not_sent_can_be_sent_again(self):
        self.alice.js("held = fetch; fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
        self.alice.say("once more")
        eventually("the page says that the message was not sent", lambda: self.alice.is_shown(".message.failed"))
        check("Not sent: gripd is not reachable." in self.alice.text(".message.failed .state"), "no sentence")
        self.alice.js("fetch = held")
        self.alice.click(".message.failed .state button")
        self.said.append(["alice", "once more"])
        for tab in (self.alice, self.bob, self.carol):
            tab.sees_messages(self.said)
        eventually("nothing has failed", lambda: not self.alice.is_shown(".message.failed, .message.pending"))

    def page_command_is_copied(self):
        self.alice.click(".shell .copy")
        eventually("the button says so", lambda: self.alice.text(".shell .copy") in ("Copied", "Selected"))
        port = self.gripd.control[1]
        # The commands find the default port by themselves.
        spec = "" if port == 5561 else f" --spec http://localhost:{port}"
        same(self.alice.text("#cli-publish"), f"gripd publish conversation123 hello{spec}", "the first command")
        same(self.alice.text("#cli-close"), f"gripd close user-bob --deny-for 60{spec}", "the second command")

    def page_kicked_user_returns_to_the_form(self):
        self.alice.kick("bob")
        self.bob.is_out("alice removed you from the conversation.", "The name bob stays out", "another name")
        # Bob's page knows of the kick from the goodbye. A refused reconnect would tell the same, but later.
        check(self.bob.requests().count("/events") <= 1, "bob's page asked for the stream again")
        self.look_at(self.bob, "kicked")

    def page_kick_reports_the_number_of_closed_connections(self):
        # Bob's page closes its stream itself, too. The receipt counts the connections that gripd has closed.
        self.alice.sees_note("You removed bob (closed: 1)")
        self.alice.sees_happen('"channel": "user-bob"', '"action": "close"', "closed: 1")
        self.carol.sees_note("bob was removed by alice")

    def page_kicked_user_is_disconnected(self):
        self.gripd.wait_for("user-bob", 0)
        for tab in (self.alice, self.carol):
            tab.sees_people(["alice", "carol"])

    def page_others_continue_to_chat(self):
        self.say(self.carol, "where is bob?", self.alice, self.carol)
        self.say(self.alice, "gone", self.alice, self.carol)
        for tab in (self.alice, self.carol):
            tab.sees_state("connected")
            check(tab.is_shown("#text"), f"{tab.name} cannot write")

    def page_kicked_user_cannot_join_again(self):
        status, text = self.bob.fetch("events?name=bob&conversation=123")
        same((status, text.strip()), (403, "alice removed you from the conversation"), "the response to bob's request")
        self.bob.join()
        self.bob.is_out("alice removed you from the conversation.")
        self.bob.reload()
        self.bob.join()
        self.bob.is_out("alice removed you from the conversation.")
        same(self.gripd.connections("user-bob"), 0, "the number of bob's connections")

    def page_others_are_undisturbed(self):
        self.say(self.alice, "still here", self.alice, self.carol)
        same(self.bob.messages(), [], "the messages that bob sees after his reload")
        same(self.gripd.connections("conversation123"), 2, "the number of connections in the conversation")

    def page_kicked_user_joins_under_another_name(self):
        self.bob.join("प्रिया")
        self.bob.sees_people(["alice", "carol", "प्रिया"])
        self.alice.sees_note("प्रिया joined")
        self.bob.missed = len(self.said)
        self.say(self.bob, "नमस्ते", self.alice, self.bob, self.carol)
        self.gripd.wait_for("user-प्रिया", 1)
        self.alice.kick("प्रिया")
        self.bob.is_out("alice removed you", "The name प्रिया stays out")
        self.alice.sees_note("You removed प्रिया (closed: 1)")
        self.bob.name = "bob"

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

    def page_plain_text_from_a_shell_reaches_everybody(self):
        formats = {
            "http-stream": {"content": "data: hello\n\n"},
            "http-response": {"body": "hello\n"},
            "ws-message": {"content": "hello"},
        }
        self.gripd.wait_for("user-erin", 1)
        self.gripd.publish({"channel": "conversation123", "formats": formats})
        self.said.append(["somebody at a shell", "hello"])
        for tab in (self.alice, self.carol, self.dave, self.erin):
            tab.sees_messages(self.said[tab.missed :])

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
            same(set(self.alice.say_all(texts)), {200}, "the statuses of the requests that said the lines")
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
        for note in ("carol joined", "carol left"):
            same(self.dave.notes().count(note), 0, f"the number of notes {note!r} after switches within the grace")

    def page_close_from_a_shell_is_shown_in_every_mode(self):
        for mode in MODES:
            self.carol.switch(mode)
            self.gripd.wait_for("user-carol", 1)
            self.carol.forget_messages()
            closed = self.gripd.publish({"channel": "user-carol", "action": "close"})
            same(closed[0]["closed"], 1, "the number of carol's connections that were closed")
            self.carol.sees_note("gripd closed this connection, as a publisher had asked for.")
            self.carol.sees_note("Connected again after")
            self.carol.sees_state("connected")
            self.gripd.wait_for("user-carol", 1)
        self.carol.missed = len(self.said)

    def page_denied_user_is_out_in_every_mode_until_the_denial_ends(self):
        for mode in MODES:
            self.carol.switch(mode)
            self.gripd.wait_for("user-carol", 1)
            self.gripd.publish({"channel": "user-carol", "action": "close", "deny-for": 300})
            why = ("The channel user-carol was closed through gripd's control port.", "gripd keeps carol out until")
            self.carol.is_out(*why)
            self.carol.join()
            self.carol.is_out(*why)
            exchange(self.gripd.control, "DELETE", "/denied/user-carol")
            self.carol.join()
            self.carol.sees_state("connected")
            self.gripd.wait_for("user-carol", 1)
        self.say(self.carol, "let in again", self.alice, self.carol, self.dave, self.erin)

    def page_denial_ends_by_itself(self):
        self.gripd.publish({"channel": "user-carol", "action": "close", "deny-for": 2})
        self.carol.is_out("gripd keeps carol out until")

        def joins():
            if self.carol.is_shown("#join:not(:disabled)"):
                self.carol.click("#join")
            return self.carol.is_shown("#text")

        eventually("the button lets carol in", joins)
        self.carol.missed = len(self.said)
        self.say(self.carol, "and again", self.alice, self.carol, self.dave, self.erin)

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

    def page_people_are_known_without_polling(self):
        asked = set(self.alice.requests()) - {"/events", "/say", "/kick"}
        same(asked, set(), "the requests of alice's page besides its stream and its actions")

    def page_kicked_user_of_a_websocket_is_out(self):
        self.dave.sees_happen('TEXT c:{"channel":"conversation123","type":"subscribe"}', "Receipt: conversation123 →")
        self.alice.kick("dave")
        self.dave.is_out("alice removed you from the conversation.")
        same(self.dave.requests().count("/events"), 0, "the number of requests of dave's page for a stream")
        self.alice.sees_note("You removed dave (closed: 1)")
        self.carol.sees_note("dave was removed by alice")
        self.gripd.wait_for("user-dave", 0)
        for tab in (self.alice, self.carol, self.erin):
            tab.sees_people(["alice", "carol", "erin"])

    def page_kicked_user_of_a_long_poll_is_out(self):
        self.gripd.wait_for("user-erin", 1)
        self.carol.kick("erin")
        self.erin.is_out("carol removed you from the conversation.")
        self.carol.sees_note("You removed erin (closed: 1)")
        self.alice.sees_note("erin was removed by carol")
        self.gripd.wait_for("user-erin", 0)
        asked, seen = self.erin.requests().count("/poll"), self.erin.messages()
        for tab in (self.alice, self.carol):
            tab.sees_people(["alice", "carol"])
        self.say(self.alice, "erin?", self.alice, self.carol)
        same(self.erin.messages(), seen, "the messages that erin sees")
        same(self.erin.requests().count("/poll"), asked, "the number of long-polls of erin's page")
        status, text = self.erin.fetch("poll?name=erin&conversation=123&after=1")
        same((status, text.strip()), (403, "carol removed you from the conversation"), "the response to erin's request")

    def page_kicked_users_stay_out_in_every_mode(self):
        for tab in (self.bob, self.dave, self.erin):
            for mode in MODES:
                tab.reload()
                tab.switch(mode)
                tab.join()
                tab.is_out("removed you from the conversation.")
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

    def page_user_who_closes_the_tab_is_gone(self):
        self.carol.open("about:blank")
        self.alice.sees_note("carol left")
        self.alice.sees_people(["alice"])

    def scenes(self):
        return [
            self.page_form_to_join_looks_right,
            self.page_first_person_is_told_what_to_do_next,
            self.page_three_people_join,
            self.page_panel_shows_how_a_connection_came_to_be_held,
            self.page_two_chat_in_both_directions,
            self.page_conversation_looks_right,
            self.page_sent_message_shows_what_is_pending,
            self.page_message_that_was_not_sent_can_be_sent_again,
            self.page_command_is_copied,
            self.page_kicked_user_returns_to_the_form,
            self.page_kick_reports_the_number_of_closed_connections,
            self.page_kicked_user_is_disconnected,
            self.page_others_continue_to_chat,
            self.page_kicked_user_cannot_join_again,
            self.page_others_are_undisturbed,
            self.page_kicked_user_joins_under_another_name,
            self.page_fourth_user_joins_by_websocket,
            self.page_websocket_and_streams_chat,
            self.page_users_of_all_three_modes_chat,
            self.page_plain_text_from_a_shell_reaches_everybody,
            self.page_item_published_from_a_shell_reaches_everybody,
            self.page_long_poll_misses_nothing_in_a_burst,
            self.page_joined_user_switches_the_mode,
            self.page_closed_websocket_reconnects,
            self.page_closed_long_poll_polls_again,
            self.page_close_from_a_shell_is_shown_in_every_mode,
            self.page_denied_user_is_out_in_every_mode_until_the_denial_ends,
            self.page_denial_ends_by_itself,
            self.page_people_are_known_without_polling,
            self.page_kicked_user_of_a_websocket_is_out,
            self.page_kicked_user_of_a_long_poll_is_out,
            self.page_kicked_users_stay_out_in_every_mode,
            self.page_users_who_remain_continue_to_chat,
            self.page_user_who_closes_the_tab_is_gone,
        ]


class Crowd:
    """Seven tabs of one browser, of which six use up the connections that it opens to one address."""

    def __init__(self, gripd, browser, pictures):
        url = "http://{}:{}/?conversation=crowd".format(*gripd.client)
        self.gripd, self.pictures = gripd, pictures
        self.tabs = [Tab(browser, url, f"tab{number}") for number in range(1, 8)]

    def crowd_six_tabs_say_that_the_next_one_waits(self):
        for tab in self.tabs[:5]:
            tab.join()
            tab.sees_state("connected")
        check(not self.tabs[0].is_shown("#crowd"), "five tabs are a crowd already")
        self.tabs[5].join()
        self.tabs[5].sees_state("connected")
        self.gripd.wait_for("conversationcrowd", 6)
        for tab in self.tabs[:6]:
            eventually(f"{tab.name} says that the next tab waits", lambda tab=tab: tab.is_shown("#crowd"))
            check("next tab will have to wait" in tab.text("#crowd"), tab.text("#crowd"))
        for width, height in SIZES:
            self.tabs[0].show(width, height, "light")
            self.tabs[0].looks_right()
            self.tabs[0].photograph(self.pictures / f"crowd-light-{width}.png")

    def crowd_seventh_tab_waits_and_says_why(self):
        self.tabs[6].join()
        eventually("it waits", lambda: "This tab has to wait" in self.tabs[6].text("#crowd"))
        check(not self.tabs[6].is_shown("#text"), "the seventh tab has joined")
        same(self.gripd.connections("conversationcrowd"), 6, "the number of connections in the conversation")

    def crowd_seventh_tab_joins_by_websocket(self):
        self.tabs[6].click("#to-websocket")
        self.tabs[6].sees_state("connected")
        same(self.tabs[6].transport(), "WebSocket", "the transport of the seventh tab")
        self.gripd.wait_for("conversationcrowd", 7)

    def crowd_message_waits_until_a_tab_uses_a_websocket(self):
        self.tabs[0].say("do you hear me?")
        state = lambda: self.tabs[0].text(".message.pending .state")
        eventually("the message waits", lambda: state() == "still sending…")
        check(self.tabs[0].is_shown("#crowd"), "the tab does not say why the message waits")
        self.tabs[0].click("#to-websocket")
        for tab in self.tabs:
            tab.sees_messages([["tab1", "do you hear me?"]])
            eventually(f"{tab.name} has no reason to wait", lambda tab=tab: not tab.is_shown("#crowd"))
        eventually("nothing is pending", lambda: not self.tabs[0].is_shown(".message.pending"))

    def scenes(self):
        return [
            self.crowd_six_tabs_say_that_the_next_one_waits,
            self.crowd_seventh_tab_waits_and_says_why,
            self.crowd_seventh_tab_joins_by_websocket,
            self.crowd_message_waits_until_a_tab_uses_a_websocket,
        ]


class Absence:
    """Three tabs, one in each mode, whose gripd ends and is started again."""

    def __init__(self, browser, ports):
        self.ports = ports
        url = f"http://127.0.0.1:{ports[0]}/"
        self.open = lambda: [Tab(browser, f"{url}?mode={mode}", f"user-of-{mode}") for mode in MODES]
        self.tabs = []

    def absence_is_told_and_ends(self):
        with Gripd(ports=self.ports):
            self.tabs = self.open()
            for tab in self.tabs:
                tab.join()
                tab.sees_state("connected")
        for tab in self.tabs:
            eventually(f"{tab.name} says it", lambda tab=tab: tab.text("#status") == "not reachable")
            check(any("The page tries again every second." in note for note in tab.notes()), f"notes: {tab.notes()}")
        with Gripd(ports=self.ports) as gripd:
            for tab in self.tabs:
                tab.sees_state("connected")
                tab.sees_note("Connected again after")
            gripd.wait_for("conversation123", 3)
            self.tabs[0].sees_people([tab.name for tab in self.tabs])

    def scenes(self):
        return [self.absence_is_told_and_ends]


def play():
    """Starts gripd and the browsers, plays the stories, and ends both. Returns how many scenes failed."""
    with ExitStack() as closing:
        pictures = os.environ.get("DEMO_PICTURES") or closing.enter_context(tempfile.TemporaryDirectory())
        Path(pictures).mkdir(parents=True, exist_ok=True)
        ports = [int(port) for port in os.environ.get("DEMO_PORTS", "0 0").split()]
        gripd = closing.enter_context(Gripd(ports=ports))
        browser = Browser(closing)
        stories = (
            Story(gripd, browser, Path(pictures)),
            Crowd(gripd, Browser(closing), Path(pictures)),
            Absence(browser, free_ports(2)),
        )
        return sum(run(story.scenes(), story=True) for story in stories)


def main():
    try:
        failures = play()
    except (Failed, DriverError, OSError) as error:
        report("page_opens_and_closes", error)
        failures = 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
