"""Chromium's HTTP cache, and long-polls whose origin sets an ETag, as Express does for every response."""

import sys
from contextlib import ExitStack

from chromium import Browser
from harness import Answer, Gripd, Origin, eventually, run, same

ETAG = 'W/"2-empty"'
# A page that polls for ever once its function `poll` is called, and records the messages of all polls.
PAGE = b"""<!doctype html>
<title>A long-poll</title>
<script>
  const messages = [];
  let polls = 0;
  async function poll() {
    for (;;) {
      const answer = await fetch('/poll', { cache: 'default' });
      messages.push(...await answer.json());
      polls += 1;
    }
  }
</script>
"""


def script(request):
    if request.path == "/":
        return Answer(200, {"Content-Type": "text/html"}, PAGE)
    if request.path != "/poll":
        return Answer(404, {}, b"")
    headers = {"Grip-Hold": "response", "Grip-Channel": "room", "Content-Type": "application/json", "ETag": ETAG}
    if request.headers.get("If-None-Match") == ETAG:
        return Answer(304, headers, b"")
    return Answer(200, headers, b"[]")


def a_message_is_shown_once():
    with ExitStack() as closing:
        origin = closing.enter_context(Origin(script))
        gripd = closing.enter_context(Gripd(f"* {origin.address}", "drain = 1\n"))
        browser = Browser(closing)
        browser.tell("url", {"url": "http://{}:{}/".format(*gripd.client)})
        js = lambda text: browser.tell("execute/sync", {"script": text, "args": []})
        js("poll()")
        gripd.wait_for("room", 1)
        gripd.publish({"channel": "room", "http-response": {"body": '["hello"]'}})
        # Each close ends a poll with the origin's own response, as a timeout would.
        for count in range(1, 5):
            eventually(f"{count} polls are answered", lambda: js("return polls") == count)
            gripd.wait_for("room", 1)
            gripd.publish({"channel": "room", "action": "close"})
        eventually("the last poll is answered", lambda: js("return polls") == 5)
        same(js("return messages"), ["hello"], "the messages that the page has recorded")


if __name__ == "__main__":
    sys.exit(run([a_message_is_shown_once]))
