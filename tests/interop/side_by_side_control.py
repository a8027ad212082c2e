"""Scenes of control messages: subscriptions, detaching, keep-alives and delayed messages."""

import time

from side_by_side_origin import GRIP
from side_by_side_stage import scene
from side_by_side_wire import PING, control, event, set_meta, subscribe

# Subscriptions.


@scene()
def subscribing_twice_delivers_an_item_once(s):
    client = s.member(subscribe(s.channel()), subscribe(s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("once")
    s.send("end", s.channel("end"))
    client.gets(2)


@scene()
def subscribe_and_unsubscribe_by_later_answers(s):
    client = s.opened()
    client.text("join")
    s.origin.next().answer(subscribe(s.channel()), event("TEXT", "joined"))
    client.gets()
    s.subscribed(client)
    s.send("one")
    client.gets()
    client.text("leave")
    leave = event("TEXT", control("unsubscribe", channel=s.channel()))
    s.origin.next().answer(leave, subscribe(s.channel("end")), event("TEXT", "left"))
    client.gets()
    s.subscribed(client, s.channel("end"))
    s.send("two")
    s.send("end", s.channel("end"))
    client.gets()


@scene()
def messages_have_a_prefix_by_default(s):
    client = s.opened(
        event("TEXT", control("subscribe", channel=s.channel())), headers={"Sec-WebSocket-Extensions": "grip"}
    )
    s.subscribed(client)
    client.text("a")
    s.origin.next().answer(
        event("TEXT", "dropped"), event("TEXT", "m:kept"), event("BINARY", "m:\0"), event("BINARY", "n")
    )
    client.gets(2)
    s.send("published")
    client.gets()


@scene()
def messages_may_have_another_prefix(s):
    client = s.opened(headers={"Sec-WebSocket-Extensions": "grip; message-prefix=hey"})
    client.text("a")
    s.origin.next().answer(
        event("TEXT", "m:dropped"), event("TEXT", "heykept"), event("TEXT", "heyhey"), event("TEXT", "c:{}")
    )
    client.gets(2)
    s.settle()


@scene()
def without_the_extension_there_are_no_control_messages(s):
    client = s.opened(headers={})
    client.text("a")
    s.origin.next().answer(event("TEXT", control("subscribe", channel=s.channel())), event("TEXT", "m:kept"))
    client.gets(2)
    s.settle()


@scene()
def wrong_control_messages_are_ignored(s):
    wrong = [b"c:", b"c:nonsense", b"c:[]", b'c:{"type":"nothing"}', b"c:{}", b'c:{"type":"subscribe"}']
    wrong += [
        b'c:{"type":"subscribe","channel":""}',
        b'c:{"type":"unsubscribe","channel":"never"}',
        b'c:{"type":"subscribe","channel":5}',
    ]
    client = s.opened(*[event("TEXT", one) for one in wrong])
    client.text("a")
    s.origin.next().answer(event("BINARY", control("subscribe", channel="b")), event("TEXT", "still here"))
    s.settle()


@scene("over_http,sub=target_may_name_a_channel-room")
def target_may_name_a_channel(s):
    client = s.subscribed(s.opened(headers={}))
    s.send("implicit")
    client.gets()


@scene("over_http,sub=implicit_channel_cannot_be_unsubscribed-room")
def implicit_channel_cannot_be_unsubscribed(s):
    leave = event("TEXT", control("unsubscribe", channel=s.channel()))
    client = s.opened(leave, subscribe(s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("implicit")
    s.send("end", s.channel("end"))
    client.gets(2)


@scene(route="prefix=pre-")
def route_may_prefix_channels(s):
    client = s.opened(subscribe(s.channel()))
    s.subscribed(client, "pre-" + s.channel())
    s.send("unprefixed")
    s.send("prefixed", "pre-" + s.channel())
    client.gets()


@scene("over_http,sub=channel_of_the_sub_option_is_not_prefixed-room", route="prefix=pre-")
def channel_of_the_sub_option_is_not_prefixed(s):
    client = s.opened(subscribe(s.channel("end")))
    s.subscribed(client, "pre-" + s.channel("end"))
    s.send("as written")
    s.send("prefixed", "pre-" + s.channel())
    s.send("end", "pre-" + s.channel("end"))
    client.gets(2)


@scene(route="no_grip")
def no_grip_leaves_control_messages_alone(s):
    client = s.connect()
    request = s.origin.next()
    s.note(f"origin sees Sec-WebSocket-Extensions: {request.head.get('Sec-WebSocket-Extensions')}")
    request.answer("OPEN", subscribe(s.channel()), headers=GRIP)
    client.gets_answer()
    s.settle()


@scene(
    differs=(
        "a connection to gripd may hold 100 channels (max_channels), one to Pushpin 20",
        [
            "client gets TEXT 'channel 1'",
            "client gets TEXT 'channel 20'",
            "client gets TEXT 'channel 21'",
            "client gets TEXT 'channel 25'",
            "client gets TEXT 'end'",
        ],
    )
)
def more_than_20_channels(s):
    client = s.opened(*[subscribe(s.channel(str(number))) for number in range(1, 26)])
    s.subscribed(client, s.channel("20"))
    for number in [1, 20, 21, 25]:
        s.send(f"channel {number}", s.channel(str(number)))
    s.send("end", s.channel("1"))
    s.settle()


@scene()
def subscribing_again_replaces_the_filters(s):
    first = subscribe(s.channel(), filters=["skip-self"])
    client = s.opened(set_meta("user", "u1"), first, subscribe(s.channel()), subscribe(s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("own", meta={"sender": "u1"})
    s.send("end", s.channel("end"))
    s.settle()


@scene()
def subscribing_again_may_add_filters(s):
    second = subscribe(s.channel(), filters=["skip-self"])
    client = s.opened(set_meta("user", "u1"), subscribe(s.channel()), second, subscribe(s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("own", meta={"sender": "u1"})
    s.send("end", s.channel("end"))
    s.settle()


# Detaching, keep-alives and delayed messages.


@scene()
def detached_client_is_kept(s):
    client = s.opened(subscribe(s.channel()))
    s.subscribed(client)
    client.text("a")
    s.origin.next().answer(event("TEXT", "detached now"), event("TEXT", control("detach")))
    client.gets()
    s.settle()
    client.text("to nobody")
    s.send("published")
    client.gets()
    s.settle()
    client.bye(1000)
    s.settle()


@scene(
    differs=(
        "gripd answers the ping, because no origin is left that could",
        ["origin gets TEXT 'a'", "origin gets CLOSE", "client gets PONG 'anybody there'"],
    )
)
def detached_client_pings(s):
    client = s.opened()
    client.text("a")
    s.origin.next().answer(event("TEXT", control("detach")))
    s.settle()
    client.frame(PING, "anybody there")
    s.settle()


@scene()
def detached_client_is_closed_by_a_publish(s):
    client = s.member()
    client.text("a")
    s.origin.next().answer(event("TEXT", control("detach")))
    s.settle()
    s.publish(s.item(action="close", code=4001, reason="out"))
    client.ends()
    s.settle()


@scene()
def keep_alive_when_idle(s):
    began = time.monotonic()
    s.opened(event("TEXT", control("keep-alive", content="alive", timeout=2))).gets().gets()
    took = time.monotonic() - began
    s.note("two keep-alives came at the right time" if 1.9 < took < 4.4 else f"after {took:.1f} s")


@scene()
def keep_alive_types(s):
    kinds = [
        {"content": "text", "mode": "interval"},
        {"content_bin": "YmluYXJ5"},
        {"content_bin": "YmluYXJ5", "message_type": "binary"},
        {"content": "are you there", "message_type": "ping"},
        {"content": "", "message_type": "pong"},
    ]
    clients = [s.opened(event("TEXT", control("keep-alive", timeout=1, **kind))) for kind in kinds]
    for client in clients:
        client.gets()


@scene()
def keep_alive_with_wrong_fields(s):
    kinds = [
        {"content": "a", "timeout": 1, "message_type": "nonsense"},
        {"content": "b", "timeout": "soon"},
        {"content": "c", "timeout": -1},
    ]
    for kind in kinds:
        s.opened(event("TEXT", control("keep-alive", **kind)))
    s.settle(1.5)


@scene()
def keep_alive_is_ended(s):
    client = s.opened(event("TEXT", control("keep-alive", content="alive", timeout=1)))
    client.gets()
    client.text("a")
    s.origin.next().answer(event("TEXT", control("keep-alive")))
    s.settle(1.5)


@scene()
def keep_alive_when_idle_is_put_off_by_messages(s):
    client = s.member(event("TEXT", control("keep-alive", content="alive", timeout=3)))
    for number in range(12):
        s.send(str(number))
        client.gets()
        time.sleep(0.3)
    client.gets()


@scene()
def keep_alive_by_interval_is_not_put_off(s):
    client = s.member(event("TEXT", control("keep-alive", content="alive", timeout=2, mode="interval")))
    until = time.monotonic() + 4
    while not s.transcript and time.monotonic() < until:
        s.send("probe -")
        client.step()
        time.sleep(0.1)


@scene()
def delayed_message_comes_after_a_while(s):
    began = time.monotonic()
    client = s.opened(event("TEXT", control("send-delayed", content="late", timeout=1)), event("TEXT", "early"))
    client.gets(2)
    took = time.monotonic() - began
    s.note("soon" if took < 3 else f"after {took:.1f} s")
    s.settle(1.5)


@scene()
def delayed_message_is_flushed(s):
    client = s.opened(event("TEXT", control("send-delayed", content="late", timeout=60)))
    client.text("a")
    s.origin.next().answer(event("TEXT", control("flush-delayed")))
    client.gets()
    client.text("b")
    s.origin.next().answer(event("TEXT", control("flush-delayed")))
    s.settle()


@scene()
def delayed_message_is_flushed_by_the_next_one(s):
    first = control("send-delayed", content="one", timeout=60)
    second = control("send-delayed", content_bin="dHdv", message_type="binary", timeout=1)
    client = s.opened(event("TEXT", first), event("TEXT", second))
    client.gets(2)
    s.settle(1.5)


@scene()
def published_message_does_not_flush_a_delayed_one(s):
    client = s.member(event("TEXT", control("send-delayed", content="late", timeout=60)))
    s.send("published")
    client.gets()
    client.text("a")
    s.origin.next().answer(event("TEXT", "answered"), event("TEXT", control("flush-delayed")))
    s.settle()
