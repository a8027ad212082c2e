"""Python's pubcontrol and gripcontrol as publishers, and gripcontrol's helpers in the origin."""

import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager

from gripcontrol import (
    Channel,
    GripPubControl,
    HttpResponseFormat,
    HttpStreamFormat,
    create_grip_channel_header,
    create_hold_stream,
    parse_grip_uri,
    validate_sig,
)
from pubcontrol import Item

from harness import DEADLINE, Answer, Client, Failed, Gripd, Origin, check, run, same

# The libraries warn of the short default key and of an outdated function for the time. Neither is gripd's fault.
warnings.simplefilter("ignore")

BEGINNING = b"hello\n"


def origin(request):
    """Answers a request with the kind of hold that the path names, on the channels that the query lists."""
    channels = [Channel(*name.split(":")) for name in request.query.get("channels", "").split(",")]
    holds = {"Grip-Channel": create_grip_channel_header(channels), "Content-Type": "text/plain"}
    match request.path:
        case "/stream":
            # A channel with an id needs a link, with which gripd can request items that the stream has missed.
            link = {"Grip-Link": "</next>; rel=next; timeout=600"} if ":" in request.query["channels"] else {}
            return Answer(headers=holds | link | {"Grip-Hold": "stream"}, body=BEGINNING)
        case "/poll":
            return Answer(headers=holds | {"Grip-Hold": "response", "X-Origin": "yes"}, body=b"nothing\n")
        case "/instruct":
            hold = {"Content-Type": "application/grip-instruct"}
            return Answer(headers=hold, body=create_hold_stream(channels).encode())
    return Answer(body=b"plain\n")


class Stage:
    """A gripd in front of an origin, a publisher, and clients that are closed when the scene ends."""

    def __init__(self, gripd, web, publisher, closing):
        self.gripd, self.web, self.publisher, self._closing = gripd, web, publisher, closing

    def ask(self, path, headers=None):
        return self._closing.enter_context(Client(self.gripd.client, path, headers))

    def stream(self, channels):
        client = self.ask(f"/stream?channels={channels}").stream()
        client.receive(BEGINNING)
        return client

    def poll(self, channels):
        """Sends a long-poll, and waits until gripd holds its channels, which the client itself cannot see."""
        first = channels.split(",")[0]
        before = self.gripd.connections(first)
        client = self.ask(f"/poll?channels={channels}")
        self.gripd.wait_for(first, before + 1)
        return client

    def publish(self, channel, *formats, **ids):
        self.publisher.publish(channel, Item(list(formats), **ids), blocking=True)

    def close(self, channel):
        self.publish(channel, HttpStreamFormat(close=True))


@contextmanager
def stage():
    with Origin(origin) as web, Gripd(f"* {web.address}") as gripd, ExitStack() as closing:
        # With an issuer and a key the library signs its requests, as it does for a hosted service.
        uri = "http://{}:{}/?iss=pushpin&key=changeme".format(*gripd.control)
        publisher = GripPubControl(parse_grip_uri(uri))
        closing.callback(publisher.remove_all_clients)
        yield Stage(gripd, web, publisher, closing)


def python_origin_accepts_the_signature():
    with stage() as s:
        head, body = s.ask("/", {"Grip-Sig": "forged"}).whole()
        same((head.status, body), (200, b"plain\n"), "a response without a hold")
        signatures = s.web.requests[0].headers.get_all("Grip-Sig")
        same(len(signatures), 1, "the number of Grip-Sig headers")
        expected = parse_grip_uri("http://localhost:5561?verify-iss=pushpin&verify-key=base64:Y2hhbmdlbWU=")
        key, issuer = expected["verify_key"], expected["verify_iss"]
        check(validate_sig(signatures[0], key, issuer), f"{signatures[0]} is not valid")
        check(not validate_sig(signatures[0], "another", issuer), "the signature is valid with another key")
        check(not validate_sig(signatures[0], key, "another"), "the signature is valid for another issuer")


def python_stream_gets_exactly_what_is_published():
    # If items were not framed correctly, the empty item or the one that looks like a last chunk would end the stream.
    texts = ["one\n", "", "0\r\n\r\n", "žluťoučký 🐎\n", "x" * 70_000, "last\n"]
    with stage() as s:
        client = s.stream("room")
        for text in texts:
            s.publisher.publish_http_stream("room", text, blocking=True)
        expected = BEGINNING + "".join(texts).encode()
        client.receive(expected)
        s.close("room")
        client.end(expected)


def python_stream_gets_binary_content():
    content = bytes(range(256)) + b"\xff\xfe\r\n"
    with stage() as s:
        client = s.stream("room")
        s.publish("room", HttpStreamFormat(content))
        client.receive(BEGINNING + content)
        s.close("room")
        client.end(BEGINNING + content)


def python_items_with_ids_are_delivered_in_order():
    with stage() as s:
        client = s.stream("room:0,other")
        for number in range(1, 6):
            s.publish("room", HttpStreamFormat(f"{number}\n"), id=str(number), prev_id=str(number - 1))
        s.publish("other", HttpStreamFormat("other\n"), id="a")
        s.close("other")
        client.end(BEGINNING + b"1\n2\n3\n4\n5\nother\n")


def python_batches_from_the_background_keep_their_order():
    texts = [f"{number}\n" for number in range(50)]
    results, told = [], threading.Event()

    def callback(published, message):
        results.append((published, message or ""))
        if len(results) == len(texts):
            told.set()

    with stage() as s:
        client = s.stream("room")
        for text in texts:
            s.publisher.publish_http_stream("room", text, callback=callback)
        check(told.wait(DEADLINE), f"only {len(results)} of {len(texts)} results were reported")
        same(set(results), {(True, "")}, "the results that the library reported")
        expected = BEGINNING + "".join(texts).encode()
        client.receive(expected)
        s.close("room")
        client.end(expected)


def python_long_poll_gets_code_reason_headers_and_body():
    answer = HttpResponseFormat(201, "Made", {"X-Made": "by hand", "Content-Type": "text/csv"}, "a,b\n")
    with stage() as s:
        client = s.poll("room")
        s.publish("room", answer)
        head, body = client.whole()
        same((head.status, head.reason, body), (201, "Made", b"a,b\n"), "the published response")
        same(head.headers["x-made"], "by hand", "a published header")
        same(head.headers["content-type"], "text/csv", "a header that the publisher replaces")
        same(head.headers["x-origin"], "yes", "a header that the publisher does not name")
        # The same connection polls again, as a browser's does.
        client.ask("/poll?channels=room")
        s.gripd.wait_for("room", 1)
        s.publisher.publish_http_response("room", "again\n", blocking=True)
        head, body = client.whole()
        same((head.status, head.reason, body), (200, "OK", b"again\n"), "the second response")


def python_long_poll_gets_a_binary_body():
    content = bytes(range(255, -1, -1))
    with stage() as s:
        client = s.poll("room")
        s.publish("room", HttpResponseFormat(body=content))
        same(client.whole()[1], content, "the body")


def python_one_item_serves_streams_and_long_polls():
    with stage() as s:
        stream, poll = s.stream("room"), s.poll("room")
        s.publish("room", HttpStreamFormat("streamed\n"), HttpResponseFormat(body="polled\n"))
        same(poll.whole()[1], b"polled\n", "the body that the long-poll got")
        s.close("room")
        stream.end(BEGINNING + b"streamed\n")


def python_close_ends_the_streams_of_one_user_only():
    with stage() as s:
        alice = s.stream("room,user-alice")
        bobs = [s.stream("room,user-bob"), s.stream("room,user-bob")]
        poll = s.poll("user-bob")
        s.publish("room", HttpStreamFormat("all\n"))
        s.close("user-bob")
        for bob in bobs:
            bob.end(BEGINNING + b"all\n")
        s.gripd.wait_for("room", 1)
        same(s.gripd.connections("user-bob"), 1, "the number of long-polls after streams were closed")
        s.publish("room", HttpStreamFormat("later\n"))
        alice.receive(BEGINNING + b"all\nlater\n")
        s.publish("user-bob", HttpResponseFormat(body="still here\n"))
        same(poll.whole()[1], b"still here\n", "the body that the long-poll got")
        s.close("user-alice")
        alice.end(BEGINNING + b"all\nlater\n")


def python_close_ends_a_long_poll_with_the_origins_answer():
    with stage() as s:
        other, closed = s.poll("user-alice"), s.poll("user-bob")
        s.publish("user-bob", HttpResponseFormat(action="close"))
        head, body = closed.whole()
        same((head.status, body), (200, b"nothing\n"), "the response to the closed long-poll")
        s.publish("user-alice", HttpResponseFormat(body="news\n"))
        same(other.whole()[1], b"news\n", "the body of the other long-poll")


def kick_delivers_a_goodbye_and_counts_closed_connections():
    farewell = {"http-stream": {"content": "goodbye\n"}}
    with stage() as s:
        alice = s.stream("room,user-alice")
        bobs = [s.stream("room,user-bob"), s.stream("room,user-bob")]
        receipt = s.gripd.publish({"channel": "user-bob", "action": "close", "formats": farewell})[0]
        counts = {name: receipt.get(name) for name in ("channel", "delivered", "closed", "cut")}
        same(counts, {"channel": "user-bob", "delivered": 2, "closed": 2, "cut": 0}, "the receipt")
        for bob in bobs:
            bob.end(BEGINNING + b"goodbye\n")
        s.publish("room", HttpStreamFormat("later\n"))
        alice.receive(BEGINNING + b"later\n")
        same(s.gripd.publish({"channel": "user-bob", "action": "close"})[0]["closed"], 0, "closed by the second kick")


def python_publisher_gets_an_error_for_a_refused_item():
    with stage() as s:
        client = s.stream("room")
        try:
            s.publish("room", HttpStreamFormat("no\n"), HttpResponseFormat(code=9999, body="no\n"))
        except ValueError as error:
            check("status code 400" in str(error) and "'code'" in str(error), f"the error of the publisher is: {error}")
        else:
            raise Failed("a publish with an impossible code succeeded")
        s.close("room")
        client.end(BEGINNING)


def python_publisher_is_identified_by_its_token():
    token = """
        [[control.token]]
        name = "chat"
        iss = "realm"
        key = "base64:Y2hhdCdzIGtleQ=="
        scopes = ["publish room", "close user-*"]

        [[control.token]]
        name = "static"
        secret = "s3cret"
        scopes = ["publish room"]
    """
    with Origin(origin) as web, Gripd(f"* {web.address}", config=token) as gripd, ExitStack() as closing:
        client = closing.enter_context(Client(gripd.client, "/stream?channels=room,user-bob")).stream()
        client.receive(BEGINNING)

        def publish(query, channel, item):
            publisher = GripPubControl(parse_grip_uri("http://{}:{}/?{}".format(*gripd.control, query)))
            closing.callback(publisher.remove_all_clients)
            publisher.publish(channel, Item(item), blocking=True)

        def refused(query, channel, status):
            try:
                publish(query, channel, HttpStreamFormat("no\n"))
            except ValueError as error:
                check(f"status code {status}" in str(error), f"the error for {query} is: {error}")
            else:
                raise Failed(f"a publisher with {query!r} could publish to {channel}")

        refused("iss=realm&key=wrong", "room", 401)
        refused("iss=elsewhere&key=base64:Y2hhdCdzIGtleQ==", "room", 401)
        refused("", "room", 401)
        refused("key=s3cre", "room", 401)
        refused("key=s3cret", "other", 403)
        refused("iss=realm&key=base64:Y2hhdCdzIGtleQ==", "user-bob", 403)
        publish("key=s3cret", "room", HttpStreamFormat("static\n"))
        publish("iss=realm&key=base64:Y2hhdCdzIGtleQ==", "room", HttpStreamFormat("signed\n"))
        publish("iss=realm&key=base64:Y2hhdCdzIGtleQ==", "user-bob", HttpStreamFormat(close=True))
        client.end(BEGINNING + b"static\nsigned\n")


def python_json_instruct_holds_a_stream_and_is_hidden_from_the_client():
    # The functions create_hold_* of gripcontrol write the instruct as a JSON body.
    with stage() as s:
        client = s.ask("/instruct?channels=secret")
        s.gripd.wait_for("secret", 1)
        s.publisher.publish_http_stream("secret", "item\n", blocking=True)
        s.close("secret")
        # Nothing of the instruct itself reaches the client.
        client.stream().end(b"item\n")


def drain_ends_held_clients_cleanly():
    with stage() as s:
        stream, poll = s.stream("room"), s.poll("room")
        s.gripd.process.ask_to_end()
        stream.end(BEGINNING)
        same(poll.whole()[1], b"nothing\n", "the body that the long-poll got")


SCENES = [
    python_origin_accepts_the_signature,
    python_stream_gets_exactly_what_is_published,
    python_stream_gets_binary_content,
    python_items_with_ids_are_delivered_in_order,
    python_batches_from_the_background_keep_their_order,
    python_long_poll_gets_code_reason_headers_and_body,
    python_long_poll_gets_a_binary_body,
    python_one_item_serves_streams_and_long_polls,
    python_close_ends_the_streams_of_one_user_only,
    python_close_ends_a_long_poll_with_the_origins_answer,
    kick_delivers_a_goodbye_and_counts_closed_connections,
    python_publisher_gets_an_error_for_a_refused_item,
    python_publisher_is_identified_by_its_token,
    python_json_instruct_holds_a_stream_and_is_hidden_from_the_client,
    drain_ends_held_clients_cleanly,
]

if __name__ == "__main__":
    sys.exit(1 if run(SCENES) else 0)
