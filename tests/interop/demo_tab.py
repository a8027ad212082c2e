"""A tab with the page of the built-in demo: its controls, and what it shows."""

import base64
import struct

from chromium import ELEMENT, DriverError
from harness import check, eventually, same

# Returns the elements of the page that are readable but have too little contrast, and the controls whose edge has too
# little (WCAG 2.2, 1.4.3 and 1.4.11). Text needs a ratio of 4.5, and the edge of a control, or its surface, one of 3.
LOW_CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const over = ([r, g, b, a = 1], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
const surface = (element) => {
  if (!element) return [255, 255, 255];
  const color = channels(getComputedStyle(element).backgroundColor);
  return color[3] === 0 ? surface(element.parentElement) : over(color, surface(element.parentElement));
};
const light = (color) => color.slice(0, 3).reduce((sum, value, i) => {
  const share = value / 255;
  return sum + [0.2126, 0.7152, 0.0722][i] * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
}, 0);
const ratio = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
const demand = (least, one, other, what, element) => {
  const has = ratio(over(channels(one), other), other);
  if (has < least) found.push(`${what} of ${element.tagName} ${element.id} ${element.className}: ${has.toFixed(2)}`);
};
const elements = [...document.querySelector(arguments[0]).querySelectorAll('*')];
let checked = 0;
for (const element of elements.filter((one) => one.checkVisibility() && !one.matches('script, style, .unseen'))) {
  const style = getComputedStyle(element), inside = surface(element), outside = surface(element.parentElement);
  if ([...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) {
    checked += 1;
    demand(4.5, style.color, inside, 'the text', element);
  }
  if (element.matches('input[placeholder]')) {
    demand(4.5, getComputedStyle(element, '::placeholder').color, inside, 'the placeholder', element);
  }
  if (element.matches('input:not([type=radio]), button, .button, #modes') && ratio(inside, outside) < 3) {
    demand(3, style.borderTopColor, outside, 'the border', element);
  }
}
return [checked, found];
"""

# Returns the elements that reach beyond the edges of the window, and the times that take more than one line.
BROKEN_LAYOUT = """
const wrong = [...document.body.querySelectorAll('*')].filter((element) => {
  const { left, right, width } = element.getBoundingClientRect();
  if (!element.checkVisibility() || element.matches('.unseen') || !width) return false;
  return left < -0.5 || right > innerWidth + 0.5 || (element.matches('time') && element.getClientRects().length > 1);
});
if (document.documentElement.scrollWidth > innerWidth) wrong.push(document.documentElement);
return wrong.map((element) => `${element.tagName} ${element.id} ${element.className}`);
"""


class Tab:
    """The tab of one user."""

    def __init__(self, browser, url, name):
        self.name = name
        # The number of lines at the beginning of the conversation that this tab does not show.
        self.missed = 0
        self._browser, self._handle = browser, browser.new_tab()
        self.open(url)

    def open(self, url):
        self._tell("url", {"url": url})

    def join(self, name=None):
        """Joins under the tab's name, or under another one, which becomes the tab's name."""
        self.name = name or self.name
        eventually("the form to join is shown", lambda: self.is_shown("#name"))
        self._act("#name", "clear")
        self._act("#name", "value", {"text": self.name})
        self.click("#join")

    def reload(self):
        self._tell("refresh")

    def say(self, text):
        self._act("#text", "value", {"text": text})
        self.click("#send")

    def kick(self, name):
        """Clicks the button that kicks a user. Tries again if the page has redrawn the list of people meanwhile."""

        def click():
            try:
                self.click(f'#people li[data-name="{name}"] button.kick')
            except DriverError:
                return False
            return True

        eventually(f"{self.name} finds the button that kicks {name}", click)

    def messages(self):
        """Returns the lines of the conversation, as pairs of the user's name and the text."""
        return self.js(
            """return [...document.querySelectorAll('#messages .message')].map((message) =>
                [message.querySelector('.from').textContent, message.querySelector('.text').textContent])"""
        )

    def forget_messages(self):
        self.js("messages.clear()")

    def sees_messages(self, expected):
        eventually(f"{self.name} sees {len(expected)} messages", lambda: len(self.messages()) >= len(expected))
        same(self.messages(), expected, f"the messages that {self.name} sees")

    def sees_people(self, names):
        listed = "return [...document.querySelectorAll('#people li')].map((person) => person.dataset.name)"
        eventually(f"{self.name} sees that {names} are here", lambda: sorted(self.js(listed)) == sorted(names))
        same(self.text("#people-title"), f"Here now: {len(names)}", "the title of the list of people")

    def sees_state(self, state):
        shown = "return document.querySelector('#status').dataset.state"
        eventually(f"{self.name}'s state is {state!r}", lambda: self.js(shown) == state)

    def kicked(self):
        """Returns the reason and the advice on the form to join, or an empty text if there are none."""
        shown = "return document.querySelector('#kicked').checkVisibility() ? byId('kicked').innerText : ''"
        return self.js(shown)

    def is_out(self, *texts):
        """Waits until the tab is back at the form, which says these texts, and checks that nothing is connected."""
        eventually(f"{self.name} is back at the form", self.kicked)
        for text in texts:
            check(text in self.kicked(), f"the form says {self.kicked()!r}")
        self.sees_state("out")
        check(not self.is_shown("#text"), f"{self.name} can still write")
        same(self.js("return source"), None, f"the connection of {self.name}'s page")
        same(self.text("#join"), "Join again", "the label of the button")

    def switch(self, mode):
        self.click(f'#modes input[value="{mode}"]')

    def address(self):
        return self.js("return location.href")

    def transport(self):
        """Returns the name of the JavaScript class with which the page receives events."""
        return self.js("return source.constructor.name")

    def requests(self):
        """Returns the paths of the requests of the page that have ended."""
        return self.js(
            "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)"
        )

    def say_all(self, texts):
        """Says all texts at the same time, and returns the statuses of the responses when all are published."""
        return self.js(
            """return Promise.all(arguments[0].map((text) => post('say', { name: me, text })))
                .then((answers) => answers.map((answer) => answer.status))""",
            texts,
        )

    def notes(self):
        return self.js("return [...document.querySelectorAll('#messages .note')].map((note) => note.textContent)")

    def sees_note(self, text):
        """Waits for a note that begins with this text."""
        seen = lambda: any(note.startswith(text) for note in self.notes())
        eventually(f"{self.name} sees the note {text!r} among {self.notes()}", seen)

    def sees_happen(self, *texts):
        """Waits until the panel "What just happened" has all these texts."""
        panel = lambda: self.js("return byId('happened').textContent")
        for text in texts:
            eventually(f"{text!r} stands in {self.name}'s panel: {panel()}", lambda text=text: text in panel())

    def fetch(self, path):
        """Sends a request from within the page. Returns the status and the text of the response."""
        return self.js(
            "return fetch(arguments[0]).then(async (answer) => [answer.status, await answer.text()])", path
        )

    def show(self, width, height, scheme):
        """Gives the tab a size in pixels, and a colour scheme."""
        self.to_front()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._browser.devtools("Emulation.setDeviceMetricsOverride", size)
        self._browser.devtools(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        eventually("the tab has its size", lambda: self.js("return [innerWidth, innerHeight]") == [width, height])

    def photograph(self, path):
        """Writes a screenshot, and checks that it is a picture of the whole tab."""
        self.to_front()
        # The picture is taken after the next frame, which has the current size and colours.
        self.js("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        picture = base64.b64decode(self._browser.devtools("Page.captureScreenshot", {"format": "png"})["data"])
        # The first chunk of a PNG has its width and its height.
        same(struct.unpack(">II", picture[16:24]), tuple(self.js("return [innerWidth, innerHeight]")), "the size")
        check(len(picture) > 10_000, f"the picture {path.name} has only {len(picture)} bytes, so it is nearly empty")
        path.write_bytes(picture)

    def looks_right(self, root="body"):
        """Checks that nothing is clipped, and that texts and controls below `root` have enough contrast."""
        self.to_front()
        same(self.js(BROKEN_LAYOUT), [], f"what is clipped or wraps in {self.name}'s tab")
        checked, found = self.js(LOW_CONTRAST, root)
        check(checked > 5, f"only {checked} texts were checked")
        same(found, [], f"what has too little contrast in {self.name}'s tab")

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent.trim()", selector)

    def is_shown(self, selector):
        return self.js("return document.querySelector(arguments[0])?.checkVisibility() === true", selector)

    def click(self, selector):
        self._act(selector, "click")

    def to_front(self):
        self._browser.tell("window", {"handle": self._handle})

    def _act(self, selector, action, body=None):
        element = self._tell("element", {"using": "css selector", "value": selector})
        return self._browser.tell(f"element/{element[ELEMENT]}/{action}", body)

    def js(self, script, *args):
        return self._tell("execute/sync", {"script": script, "args": args})

    def _tell(self, command, body=None):
        self.to_front()
        return self._browser.tell(command, body)
