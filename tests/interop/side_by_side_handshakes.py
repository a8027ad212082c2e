"""Scenes of handshakes, over HTTP and relayed, and of the built-in target `test`."""

from side_by_side_stage import scene
from side_by_side_wire import BINARY, EVENTS, PING, QUIET, closing, event, subscribe

# This header is not compared: a gateway must send it (RFC 9110 7.6.3), but Pushpin does not, and the value that gripd
# sends is different in each process.
VIA = "via"

# Handshakes over HTTP.


@scene()
def the_origin_gets_the_handshake_as_a_request(s):
    client = s.connect(
        "/path?q=%201",
        "Cookie: a=b",
        "X-Two: 1",
        "X-Two: 2",
        "Origin: http://example.com",
        "Grip-Forged: yes",
        "Meta-Forged: yes",
        "Connection-Id: forged",
        "Accept: text/html",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "X-Forwarded-For: 1.2.3.4",
    )
    request = s.origin.next()
    s.note(f"the request is {request.method} {request.target}, its body {request.body!r}")
    boring = {"connection-id", "grip-sig", "sec-websocket-key", "grip-feature", "user-agent", "accept-encoding", VIA}
    for name, value in sorted((name.title(), value) for name, value in request.head.headers):
        if name.lower() not in boring:
            s.note(f"origin sees {name}: {value}")
    for name in ["Grip-Sig", "Sec-WebSocket-Key", "Grip-Feature", "Connection-Id"]:
        s.note(f"the number of {name} headers that the origin sees: {len(request.head.all(name))}")
    s.note(f"the key is the client's: {request.head.get('Sec-WebSocket-Key') == client.key}")
    request.answer("OPEN", headers={"X-Origin": "yes", "Set-Cookie": "c=d"})
    client.gets_answer()


@scene()
def subprotocol_is_left_to_the_origin(s):
    client = s.connect("", "Sec-WebSocket-Protocol: chat, superchat")
    request = s.origin.next()
    s.note(f"origin sees Sec-WebSocket-Protocol: {request.head.get('Sec-WebSocket-Protocol')}")
    request.answer("OPEN", headers={"Sec-WebSocket-Protocol": "superchat"})
    client.gets_answer()


@scene()
def handshake_is_refused_with_a_body(s):
    client = s.connect()
    headers = {"X-Why": "no", "Location": "/elsewhere", "Set-Meta-A": "1", "Keep-Alive-Interval": "30"}
    s.origin.next().answer(status=403, kind="text/plain", body=b"not you\n", headers=headers)
    client.gets_answer()


@scene()
def refusal_may_be_200_text_plain(s):
    client = s.connect()
    s.origin.next().answer(kind="text/plain", body=b"no events here\n")
    client.gets_answer()


@scene()
def refusal_may_be_500(s):
    client = s.connect()
    s.origin.next().answer(status=500, kind="text/plain", body=b"oh\n")
    client.gets_answer()


@scene()
def refusal_may_be_a_redirect(s):
    client = s.connect()
    s.origin.next().answer(status=302, kind=None, body=b"", headers={"Location": "http://example.com/there"})
    client.gets_answer()


@scene()
def refusal_may_have_the_content_type_of_events(s):
    client = s.connect()
    s.origin.next().answer("OPEN", status=403)
    client.gets_answer()


@scene(
    differs=(
        "Pushpin 1.36 ends the connection when the body exceeds its buffer",
        ["origin gets OPEN", "client gets 403 Forbidden <20000 bytes, crc 41654703> [Content-Type: text/plain]"],
    )
)
def refusal_with_a_large_body(s):
    client = s.connect()
    s.origin.next().answer(status=403, kind="text/plain", body=b"x" * 20_000)
    client.gets_answer()


@scene()
def first_event_must_be_open(s):
    client = s.connect()
    s.origin.next().answer(event("TEXT", "hello"))
    client.gets_answer(of_its_own=True)


@scene()
def first_answer_must_have_an_event(s):
    client = s.connect()
    s.origin.next().answer()
    client.gets_answer(of_its_own=True)


@scene()
def first_answer_may_be_a_close(s):
    client = s.connect()
    s.origin.next().answer(event("CLOSE", closing(4001, "no")))
    client.gets_answer(of_its_own=True)


@scene(
    differs=(
        "gripd accepts a parameter of the Content-Type",
        ["origin gets OPEN", "client gets 101 Switching Protocols"],
    )
)
def content_type_may_have_parameters(s):
    client = s.connect()
    s.origin.next().answer("OPEN", kind=EVENTS + "; charset=utf-8")
    client.gets_answer()


@scene(
    differs=(
        "the Content-Type is case-insensitive (RFC 9110 8.3.1)",
        ["origin gets OPEN", "client gets 101 Switching Protocols"],
    )
)
def content_type_in_mixed_case(s):
    client = s.connect()
    s.origin.next().answer("OPEN", kind="Application/WebSocket-Events")
    client.gets_answer()


@scene(
    differs=(
        "gripd removes Content-Bytes-Accepted; Pushpin knows it since 1.41, and passes it to the client",
        ["origin gets OPEN", "client gets 101 Switching Protocols [X-Origin: yes]"],
    )
)
def content_bytes_accepted_does_not_reach_the_client(s):
    client = s.connect()
    s.origin.next().answer("OPEN", headers={"Content-Bytes-Accepted": "0", "X-Origin": "yes"})
    client.gets_answer()


@scene()
def origin_refuses_connections_from_the_start(s):
    s.origin.stop_listening()
    s.connect().gets_answer(of_its_own=True)


@scene(
    differs=(
        "gripd's own responses have a Content-Type; those of Pushpin have none",
        ["client gets 502 Bad Gateway 'Error while proxying to origin.\\n' [Content-Type: text/plain]"],
    )
)
def answers_of_the_server_itself_have_a_content_type(s):
    s.origin.stop_listening()
    s.connect().gets_answer()


@scene(instead="127.0.0.1:1,over_http 127.0.0.1:{port},over_http")
def second_target_is_asked_if_the_first_refuses(s):
    s.origin.listen()
    s.opened()
    s.note("the WebSocket is open")


@scene(proto="")
def forged_events_are_refused(s):
    client = s.connect("", f"Content-Type: {EVENTS}", "Content-Length: 6", b"OPEN\r\n", handshake=False, method="POST")
    client.gets_answer()
    client = s.connect(
        "", f"Content-Type: {EVENTS};a=b", "Content-Length: 6", b"OPEN\r\n", handshake=False, method="POST"
    )
    client.gets_answer()
    s.settle()


@scene("over_http,host=other.example:81")
def target_may_name_the_host(s):
    s.connect()
    request = s.origin.next()
    s.note(f"origin sees Host: {request.head.get('Host')}")
    s.settle()


@scene(
    "",
    proto="",
    differs=(
        "gripd refuses forged events on every route if any target has over_http, not only on routes to such targets",
        [
            "client gets 403 Forbidden 'Client not allowed to send WebSocket events directly.\\n'…",
        ],
    ),
)
def forged_events_on_another_route(s):
    client = s.connect("", f"Content-Type: {EVENTS}", "Content-Length: 6", b"OPEN\r\n", handshake=False, method="POST")
    # A server that refuses the events answers at once, without a request to the origin.
    client.fill(QUIET)
    if not client.buffer:
        s.origin.next().answer(status=403, kind="text/plain", body=b"came through\n")
    client.gets_answer()


@scene(route="path_rem=33")
def route_may_cut_the_path_of_events(s):
    client = s.connect("/beyond")
    s.origin.next().answer("OPEN")
    client.gets_answer()


@scene()
def origin_resets_the_first_request(s):
    client = s.connect()
    s.origin.next().reset()
    client.gets_answer(of_its_own=True)


# Relayed handshakes.


@scene("")
def origin_gets_the_relayed_handshake(s):
    client = s.connect(
        "/path?q=1",
        "Cookie: a=b",
        "Origin: http://example.com",
        "Grip-Forged: yes",
        "Meta-Forged: yes",
        "Connection-Id: forged",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "X-Forwarded-For: 1.2.3.4",
    )
    origin = s.origin.next()
    boring = {"grip-sig", "sec-websocket-key", "grip-feature", "user-agent", "accept-encoding", VIA}
    for name, value in sorted((name.title(), value) for name, value in origin.head.headers):
        if name.lower() not in boring:
            s.note(f"origin sees {name}: {value}")
    for name in ["Grip-Sig", "Sec-WebSocket-Key", "Grip-Feature"]:
        s.note(f"the number of {name} headers that the origin sees: {len(origin.head.all(name))}")
    origin.accept("X-Origin: yes", 'Sec-WebSocket-Extensions: grip; message-prefix="x:"')
    client.gets_answer()


@scene("")
def relayed_subprotocol(s):
    client = s.connect("", "Sec-WebSocket-Protocol: chat, superchat")
    origin = s.origin.next()
    s.note(f"origin sees Sec-WebSocket-Protocol: {origin.head.get('Sec-WebSocket-Protocol')}")
    origin.accept("Sec-WebSocket-Protocol: superchat")
    client.gets_answer()


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 loses the headers and the reason phrase",
        [
            "origin gets the handshake GET /SCENE",
            "client gets 403 Forbidden 'not you\\n' [Content-Type: text/plain; X-Why: no]",
        ],
    ),
)
def relayed_handshake_is_refused(s):
    client = s.connect()
    s.origin.next().refuse(403, "Content-Type: text/plain", "X-Why: no", body=b"not you\n")
    client.gets_answer()


@scene(
    "",
    differs=(
        "the zurl of Pushpin 1.36 loses the headers and the reason phrase",
        [
            "origin gets the handshake GET /SCENE",
            "client gets 200 OK 'no WebSockets here\\n' [Content-Type: text/plain]",
        ],
    ),
)
def relayed_handshake_is_answered_without_an_upgrade(s):
    client = s.connect()
    s.origin.next().refuse(200, "Content-Type: text/plain", body=b"no WebSockets here\n")
    client.gets_answer()


@scene(
    "",
    differs=(
        "an origin with a wrong Sec-WebSocket-Accept has not accepted the handshake (RFC 6455 4.1)",
        ["origin gets the handshake GET /SCENE", "client gets 502 Bad Gateway 'Error while proxying to origin.\\n'"],
    ),
)
def relayed_handshake_with_a_wrong_sec_websocket_accept(s):
    client = s.connect()
    origin = s.origin.next()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: wrong",
    ]
    origin.send("\r\n".join([*lines, "", ""]).encode())
    client.gets_answer(of_its_own=True)


@scene("")
def relayed_origin_refuses_connections(s):
    s.origin.stop_listening()
    s.connect().gets_answer(of_its_own=True)


@scene("")
def relayed_origin_resets_the_handshake(s):
    client = s.connect()
    s.origin.next().reset()
    client.gets_answer(of_its_own=True)


@scene("", instead="127.0.0.1:1 127.0.0.1:{port}")
def relayed_second_target_is_asked_if_the_first_refuses(s):
    s.origin.listen()
    s.relayed()
    s.note("the WebSocket is open")


@scene("", route="no_grip")
def relayed_without_grip(s):
    client = s.connect()
    origin = s.origin.next()
    s.note(f"origin sees Sec-WebSocket-Extensions: {origin.head.get('Sec-WebSocket-Extensions')}")
    s.note(f"the number of Grip-Sig headers that the origin sees: {len(origin.head.all('Grip-Sig'))}")
    origin.accept('Sec-WebSocket-Extensions: grip; message-prefix=""')
    client.gets_answer()
    origin.text(subscribe(s.channel()))
    client.gets()


# The target `test`.


@scene(instead="test", host=True)
def test_target_echoes(s):
    client = s.connect("ws", at_root=True)
    client.gets_answer()
    client.text("hello")
    client.gets()
    client.frame(BINARY, b"\xff\0")
    client.gets()
    client.bye(4000, "bye")
    s.settle()


@scene(
    instead="test",
    host=True,
    differs=(
        "a ping must be answered with a pong (RFC 6455 5.5.2)",
        ["client gets 101 Switching Protocols", "client gets PONG 'are you there'"],
    ),
)
def test_target_answers_pings(s):
    client = s.connect("ws", at_root=True)
    client.gets_answer()
    client.frame(PING, "are you there")
    s.settle()


@scene(instead="test", host=True)
def test_target_takes_channels(s):
    client = s.connect(f"ws?channel={s.channel()}&channel={s.channel('second')}", at_root=True)
    client.gets_answer()
    s.subscribed(client)
    s.subscribed(client, s.channel("second"))
    s.send("one")
    s.send("two", s.channel("second"))
    client.gets(2)
    client.text("m:echo")
    client.text("c:{}")
    client.gets(2)


@scene(instead="test", host=True)
def test_target_has_a_default_channel(s):
    client = s.connect("ws/", at_root=True)
    client.gets_answer()
    s.subscribed(client, "test")


@scene(instead="test", host=True)
def test_target_refuses_other_paths(s):
    s.connect("elsewhere", at_root=True).gets_answer()
