"""Scenes of filters, and of the meta that filters look at."""

from side_by_side_origin import GRIP
from side_by_side_stage import closes, scene
from side_by_side_wire import control, event, set_meta, subscribe


@scene()
def skip_self(s):
    client = s.opened(set_meta("user", "u1"), subscribe(s.channel(), filters=["skip-self"]))
    s.subscribed(client)
    s.send("own", meta={"sender": "u1"})
    s.send("others", meta={"sender": "u2"})
    s.send("nobody's")
    client.gets(2)
    s.settle()


@scene()
def set_meta_is_removed(s):
    client = s.opened(set_meta("user", "u1"), subscribe(s.channel(), filters=["skip-self"]))
    s.subscribed(client)
    s.publish(s.item("one", meta={"sender": "u1"}), s.item("mark"))
    client.gets()
    client.text("a")
    s.origin.next().answer(event("TEXT", control("set-meta", name="user")), subscribe(s.channel("end")))
    s.subscribed(client, s.channel("end"))
    s.send("two", meta={"sender": "u1"})
    client.gets()
    s.settle()


@scene()
def set_meta_of_headers_is_not_for_filters(s):
    client = s.member(headers=GRIP | {"Set-Meta-User": "u1"}, filters=["skip-self"])
    s.send("own", meta={"sender": "u1"})
    s.send("end")
    client.text("a")
    s.origin.next().answer()
    s.settle()


@scene(
    differs=(
        "gripd removes the Grip-* headers of an origin; Pushpin 1.36 passes them to the client",
        ["origin gets OPEN", "client gets 101 Switching Protocols"],
    )
)
def grip_headers_of_the_handshake_do_not_reach_the_client(s):
    client = s.connect()
    s.origin.next().answer("OPEN", headers=GRIP | {"Grip-Set-Meta": "user=u1", "Grip-Channel": s.channel()})
    client.gets_answer()


@scene()
def skip_users(s):
    client = s.opened(set_meta("user", "u1"), subscribe(s.channel(), filters=["skip-users"]))
    s.subscribed(client)
    s.send("skipped", meta={"skip_users": "u0, u1"})
    s.send("kept", meta={"skip_users": "u0,u2"})
    client.gets()
    s.settle()


@scene(
    differs=(
        "for require-sub, Pushpin 1.36 treats a WebSocket as if it were subscribed to no channel",
        ["client gets TEXT 'yes'", "client gets TEXT 'end'"],
    )
)
def require_sub(s):
    client = s.opened(subscribe(s.channel(), filters=["require-sub"]), subscribe(s.channel("second")))
    s.subscribed(client)
    s.subscribed(client, s.channel("second"))
    s.send("no", meta={"require_sub": s.channel("third")})
    s.send("yes", meta={"require_sub": s.channel("second")})
    s.send("end")
    s.settle()


@scene(
    differs=(
        "Pushpin 1.36 makes no id for a WebSocket, even if the id_format needs no last ids",
        [
            "client gets TEXT 'plain'",
            "client gets TEXT 'fixed'",
            "client gets TEXT 'id other, 100%'",
            "client gets TEXT 'end'",
        ],
    )
)
def build_id(s):
    client = s.opened(set_meta("id_format", "fixed"), subscribe(s.channel(), filters=["build-id"]))
    s.subscribed(client)
    s.send("plain")
    s.send("%I")
    s.send("id %(other)I, 100%%")
    s.send("end")
    s.settle()


@scene()
def var_subst(s):
    client = s.subscribed(s.opened(set_meta("name", "Bob"), subscribe(s.channel(), filters=["var-subst"])))
    s.send("hello %(name)s, 100%%")
    client.gets()
    s.settle()


@scene()
def var_subst_of_an_unset_name(s):
    s.member(filters=["var-subst"])
    s.send("hello %(name)s")
    s.send("end")
    s.settle()


@scene(differs=("Pushpin before 2.0 does not limit the number of filters", closes(1011, "origin gets CLOSE…")))
def six_filters_are_too_many(s):
    s.opened(subscribe(s.channel(), filters=["skip-self"] * 6), subscribe(s.channel("end")))
    s.settle()


@scene()
def unknown_filter_is_ignored(s):
    client = s.member(filters=["nothing"])
    s.send("end")
    client.gets()


@scene()
def content_filters_must_match_those_of_the_subscription(s):
    client = s.member(filters=["var-subst"])
    s.send("none named")
    s.send("the same", content_filters=["var-subst"])
    s.send("empty", content_filters=[])
    s.send("other", content_filters=["build-id"])
    s.send("end")
    client.gets(3)
    s.settle()


@scene(route="debug")
def content_filters_on_a_debug_route(s):
    s.member(filters=["var-subst"])
    s.send("other", content_filters=["build-id"])
    s.send("end")
    s.settle()
