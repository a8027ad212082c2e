//! `subscribe` and `unsubscribe`: publishers make connections enter and leave channels.

use crate::support::kinds::{item, origin, with};
use crate::support::{Answer, Gripd, KINDS, Kind, Member, Origin, eventually, gate};
use serde_json::{Value, json};

fn start() -> Gripd {
    Gripd::configured(&origin().route(""))
}

fn enter(channel: &str, channels: &[&str]) -> Value {
    json!({ "channel": channel, "action": "subscribe", "channels": channels })
}

fn leave(channel: &str, channels: &[&str]) -> Value {
    json!({ "channel": channel, "action": "unsubscribe", "channels": channels })
}

/// Publishes one item. Returns its entry in the receipt.
fn publish(gripd: &Gripd, item: Value) -> Value {
    gripd.publish(&json!([item]))[0].take()
}

/// Publishes items without asking for a receipt.
fn post(gripd: &Gripd, items: &Value) {
    let (status, reply) = gripd.publish_body("", &json!({ "items": items }).to_string());
    assert_eq!((status, reply.as_str()), (200, "Published\n"));
}

#[test]
fn a_connection_that_leaves_a_channel_keeps_its_others() {
    let gripd = start();
    for kind in KINDS {
        let mut gone = kind.held(&gripd, "conversation123,user456");
        let mut other = kind.held(&gripd, "conversation123,user7");
        let receipt = publish(&gripd, leave("user456", &["conversation123"]));
        assert_eq!(receipt, json!({ "channel": "user456", "unsubscribed": 1 }), "{kind:?}");
        assert_eq!((gripd.connections("conversation123"), gripd.connections("user456")), (1, 1));
        assert_eq!(publish(&gripd, item("conversation123", "to one"))["delivered"], 1);
        assert_eq!(other.hears(), "to one");
        assert_eq!(publish(&gripd, item("user456", "still here"))["delivered"], 1);
        assert_eq!(gone.hears(), "still here");
        gripd.close("user456");
        gripd.close("user7");
    }
}

#[test]
fn a_connection_that_enters_a_channel_gets_what_is_published_afterwards() {
    let gripd = start();
    for kind in KINDS {
        let mut member = kind.held(&gripd, "user456");
        let mut bystander = kind.held(&gripd, "user7");
        assert_eq!(publish(&gripd, item("room", "too early"))["delivered"], 0);
        let receipt = publish(&gripd, enter("user456", &["room", "news"]));
        assert_eq!(receipt, json!({ "channel": "user456", "subscribed": 1 }), "{kind:?}");
        assert_eq!(["room", "news", "user456"].map(|channel| gripd.connections(channel)), [1; 3]);
        assert_eq!(publish(&gripd, item("news", "news"))["delivered"], 1);
        assert_eq!(member.hears(), "news");
        post(&gripd, &json!([item("room", "not for all"), item("user7", "for 7")]));
        assert_eq!(bystander.hears(), "for 7");
        if kind != Kind::Poll {
            assert_eq!(member.hears(), "not for all");
        }
        gripd.close("user456");
        gripd.close("user7");
    }
}

#[test]
fn items_and_moves_of_one_batch_take_effect_in_their_order() {
    let gripd = start();
    for kind in [Kind::Stream, Kind::WebSocket] {
        for _ in 0..30 {
            let mut member = kind.held(&gripd, "room,user456");
            let mut other = kind.held(&gripd, "room,user7");
            let items = [
                item("room", "1"),
                leave("user456", &["room"]),
                item("room", "2"),
                enter("user456", &["room"]),
                item("room", "3"),
                leave("user456", &["room"]),
                item("room", "4"),
                item("user456", "end"),
                item("user7", "end"),
            ];
            post(&gripd, &json!(items));
            assert_eq!([member.hears(), member.hears(), member.hears()], ["1", "3", "end"], "{kind:?}");
            assert_eq!([(); 5].map(|()| other.hears()), ["1", "2", "3", "4", "end"], "{kind:?}");
            gripd.close("user456");
            gripd.close("user7");
        }
    }
    for _ in 0..30 {
        let mut poll = Kind::Poll.held(&gripd, "room,user456");
        post(&gripd, &json!([leave("user456", &["room"]), item("room", "no"), item("user456", "yes")]));
        assert_eq!(poll.hears(), "yes");
        let mut poll = Kind::Poll.held(&gripd, "room,user456");
        post(&gripd, &json!([item("room", "yes"), leave("user456", &["room"]), item("user456", "no")]));
        assert_eq!(poll.hears(), "yes");
        let mut poll = Kind::Poll.held(&gripd, "user456");
        post(&gripd, &json!([item("room", "no"), enter("user456", &["room"]), item("room", "yes")]));
        assert_eq!(poll.hears(), "yes");
    }
}

#[test]
fn nothing_that_is_accepted_after_an_unsubscribe_arrives() {
    let gripd = start();
    for kind in [Kind::Stream, Kind::WebSocket] {
        for _ in 0..30 {
            let mut member = kind.held(&gripd, "room,user456");
            post(&gripd, &json!([item("room", "before")]));
            post(&gripd, &json!([leave("user456", &["room"])]));
            post(&gripd, &json!([item("room", "after")]));
            post(&gripd, &json!([item("user456", "end")]));
            assert_eq!([member.hears(), member.hears()], ["before", "end"], "{kind:?}");
            gripd.close("user456");
        }
    }
}

#[test]
fn only_connections_whose_channels_change_are_counted() {
    let gripd = start();
    assert_eq!(publish(&gripd, leave("user456", &["room"]))["unsubscribed"], 0);
    assert_eq!(publish(&gripd, enter("user456", &["room"]))["subscribed"], 0);
    let mut members: Vec<Member> = KINDS.map(|kind| kind.held(&gripd, "user456,room")).into();
    members.extend(KINDS.map(|kind| kind.held(&gripd, "user456")));
    assert_eq!(publish(&gripd, leave("user456", &["never"]))["unsubscribed"], 0);
    assert_eq!(publish(&gripd, enter("user456", &["room"]))["subscribed"], 3);
    assert_eq!(publish(&gripd, enter("user456", &["room"]))["subscribed"], 0);
    // A connection counts once, and one of several channels that changes is enough.
    assert_eq!(publish(&gripd, enter("user456", &["room", "news"]))["subscribed"], 6);
    assert_eq!(publish(&gripd, leave("user456", &["news", "never"]))["unsubscribed"], 6);
    assert_eq!((gripd.connections("room"), gripd.connections("news")), (6, 0));
    assert_eq!(publish(&gripd, item("room", "all"))["delivered"], 6);
    members.iter_mut().for_each(|member| assert_eq!(member.hears(), "all"));
}

#[test]
fn only_selected_connections_enter_and_leave() {
    let gripd = start();
    for kind in KINDS {
        let mut staff = kind.held(&gripd, "user456,staff");
        let mut guest = kind.held(&gripd, "user456,guest");
        let receipt = publish(&gripd, with(enter("user456", &["backstage"]), json!({ "with": ["staff"] })));
        assert_eq!(receipt["subscribed"], 1, "{kind:?}");
        let receipt = publish(&gripd, with(enter("user456", &["room"]), json!({ "except": ["nobody"] })));
        assert_eq!(receipt["subscribed"], 2, "{kind:?}");
        let receipt = publish(&gripd, with(leave("user456", &["room"]), json!({ "except": ["staff"] })));
        assert_eq!(receipt["unsubscribed"], 1, "{kind:?}");
        assert_eq!(["backstage", "room", "user456"].map(|channel| gripd.connections(channel)), [1, 1, 2]);
        post(
            &gripd,
            &json!([item("backstage", "for staff"), item("room", "for no guest"), item("user456", "for all")]),
        );
        assert_eq!(staff.hears(), "for staff");
        assert_eq!(guest.hears(), "for all");
        gripd.close("user456");
    }
}

#[test]
fn an_item_of_a_channel_can_make_all_connections_leave_that_channel() {
    let gripd = start();
    let mut members = KINDS.map(|kind| kind.held(&gripd, "room,user456"));
    assert_eq!(publish(&gripd, leave("room", &["room"]))["unsubscribed"], 3);
    assert_eq!(gripd.connections("room"), 0);
    assert_eq!(publish(&gripd, item("room", "nobody"))["delivered"], 0);
    assert_eq!(publish(&gripd, item("user456", "on"))["delivered"], 3);
    members.iter_mut().for_each(|member| assert_eq!(member.hears(), "on"));
}

#[test]
fn a_connection_that_holds_no_channel_any_more_stays_open() {
    let gripd = start();
    let mut socket = Kind::WebSocket.held(&gripd, "room");
    assert_eq!(publish(&gripd, leave("room", &["room"]))["unsubscribed"], 1);
    assert_eq!(gripd.metric("channels"), 0);
    socket.tell(&json!({ "type": "subscribe", "channel": "room" }));
    publish(&gripd, item("room", "back"));
    assert_eq!(socket.hears(), "back");
}

#[test]
fn other_connections_of_a_channel_stay_untouched_in_all_shards() {
    let gripd = start();
    let held = |n: usize| {
        let kind = [Kind::Stream, Kind::WebSocket][n % 2];
        kind.held(&gripd, if n.is_multiple_of(4) { "room,gold" } else { "room,silver" })
    };
    let mut all: Vec<Member> = (0..80).map(held).collect();
    assert_eq!(publish(&gripd, leave("gold", &["room"]))["unsubscribed"], 20);
    assert_eq!(publish(&gripd, enter("silver", &["news", "more"]))["subscribed"], 60);
    let counts = json!({ "channels": [
        { "channel": "gold", "connections": 20 }, { "channel": "more", "connections": 60 },
        { "channel": "news", "connections": 60 }, { "channel": "room", "connections": 60 },
        { "channel": "silver", "connections": 60 }], "next": null });
    assert_eq!(gripd.json("/channels"), counts);
    assert_eq!(publish(&gripd, item("room", "room"))["delivered"], 60);
    assert_eq!(publish(&gripd, item("news", "news"))["delivered"], 60);
    assert_eq!(publish(&gripd, item("gold", "gold"))["delivered"], 20);
    for (n, member) in all.iter_mut().enumerate() {
        if n.is_multiple_of(4) {
            assert_eq!(member.hears(), "gold");
        } else {
            assert_eq!([member.hears(), member.hears()], ["room", "news"]);
        }
    }
    drop(all);
    eventually("all are gone", || gripd.metric("channels") == 0);
}

#[test]
fn a_close_ends_connections_that_have_entered_and_not_those_that_have_left() {
    let gripd = start();
    for kind in KINDS {
        let mut entered = kind.held(&gripd, "user1");
        let mut left = kind.held(&gripd, "user2,room");
        let receipt = gripd.publish(&json!([
            enter("user1", &["room"]),
            leave("user2", &["room"]),
            { "channel": "room", "action": "close" },
        ]));
        let expected = json!([{ "channel": "user1", "subscribed": 1 }, { "channel": "user2", "unsubscribed": 1 },
            { "channel": "room", "closed": 1, "cut": 0 }]);
        assert_eq!(receipt, expected, "{kind:?}");
        entered.ends();
        publish(&gripd, item("user2", "still"));
        assert_eq!(left.hears(), "still");
        gripd.close("user2");
    }
}

#[test]
fn items_with_ids_reach_a_connection_that_has_entered_their_channel() {
    let gripd = start();
    let mut client = Kind::Stream.held(&gripd, "user456");
    let mut other = Kind::Stream.held(&gripd, "room");
    gripd.next("room", "1", "0");
    publish(&gripd, enter("user456", &["room"]));
    gripd.next("room", "3", "2");
    gripd.next("room", "2", "1");
    assert_eq!([client.hears(), client.hears()], ["2", "3"]);
    publish(&gripd, leave("user456", &["room"]));
    gripd.next("room", "4", "3");
    publish(&gripd, enter("user456", &["room"]));
    gripd.next("room", "5", "4");
    assert_eq!(client.hears(), "5");
    assert_eq!([(); 5].map(|()| other.hears()), ["1", "2", "3", "4", "5"]);
}

/// Starts an origin that names the channels `user456` and `room` and a next link in every response.
fn insisting() -> Origin {
    Origin::start(|asked| {
        let mode = if asked.target() == "/poll" { "response" } else { "stream" };
        let link = "Grip-Link: </stream>; rel=next; timeout=600\r\n";
        Answer::with(&format!("Grip-Hold: {mode}\r\nGrip-Channel: user456, room\r\n{link}"), "told\n")
    })
}

#[test]
fn channels_that_an_origin_names_again_for_the_same_request_do_not_undo_a_move() {
    for path in ["/stream", "/poll"] {
        let origin = insisting();
        let gripd = Gripd::start(&origin);
        let mut client = gripd.get(path);
        eventually("the connection is held", || gripd.connections("room") == 1);
        let is_stream = path == "/stream";
        if is_stream {
            client.head();
            assert_eq!(client.chunk(), "told\n");
        }
        let moves = json!([leave("user456", &["room"]), enter("user456", &["lobby"])]);
        assert_eq!(gripd.publish(&moves)[1]["subscribed"], 1);
        for times in 2..4 {
            gripd.publish(&json!([{ "channel": "user456", "action": "hint" }]));
            eventually("the origin is asked again", || origin.asked().len() == times);
            if is_stream {
                assert_eq!(client.chunk(), "told\n");
            }
            // While the request of a long-poll is served again, the connection is shown without an address.
            eventually("the client is held", || gripd.json("/connections")["connections"][0]["address"].is_string());
            assert_eq!((gripd.connections("room"), gripd.connections("lobby")), (0, 1), "{path}");
        }
        assert_eq!(publish(&gripd, item("room", "no"))["delivered"], 0);
        eventually("the connection gets items", || publish(&gripd, item("lobby", "yes"))["delivered"] == 1);
        let got = if is_stream { client.chunk() } else { client.answer().1 };
        assert_eq!(got, "yes");
    }
}

#[test]
fn items_that_wait_when_their_connection_leaves_the_channel_still_arrive() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/next" {
            wait();
        }
        let link = "Grip-Link: </next>; rel=next; timeout=600\r\n";
        Answer::with(&format!("Grip-Hold: stream\r\nGrip-Channel: user456, room\r\n{link}"), "told\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "told\n");
    post(&gripd, &json!([{ "channel": "user456", "action": "hint" }]));
    eventually("the link is asked", || origin.asked_for("/next").len() == 1);
    let chosen = with(item("room", "chosen"), json!({ "with": ["user456"] }));
    post(&gripd, &json!([item("room", "before"), chosen, leave("user456", &["room"]), item("room", "no")]));
    eventually("the client has left the channel", || gripd.connections("room") == 0);
    go.send(()).unwrap();
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["told\n", "before", "chosen"]);
    publish(&gripd, item("user456", "last"));
    assert_eq!(client.chunk(), "last");
}

#[test]
fn the_denial_of_a_channel_that_a_long_poll_has_left_does_not_end_it() {
    let origin = Origin::start(|_| Answer::with("Grip-Hold: response\r\nGrip-Channel: user456, room\r\n", ""));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the connection is held", || gripd.connections("room") == 1);
    publish(&gripd, leave("user456", &["room"]));
    publish(&gripd, json!({ "channel": "room", "action": "close", "deny-for": 300, "with": ["user456"] }));
    gripd.publish(&json!([{ "channel": "user456", "action": "hint" }]));
    eventually("the origin is asked again", || origin.asked().len() == 2);
    eventually("the long-poll gets items", || publish(&gripd, item("user456", "yes"))["delivered"] == 1);
    assert_eq!(client.answer().1, "yes");
    // A new request is refused, because it would hold the denied channel.
    assert!(gripd.get("/").head().starts_with("http/1.1 403"));
}

#[test]
fn a_batch_with_an_invalid_item_changes_nothing() {
    let gripd = start();
    let mut client = Kind::Stream.held(&gripd, "user456,room");
    let wrong = [
        json!({ "channel": "user456", "action": "unsubscribe" }),
        json!({ "channel": "user456", "action": "subscribe", "channels": "room" }),
        json!({ "channel": "user456", "action": "subscribe", "channels": [1] }),
        json!({ "channel": "user456", "action": "subscribe", "channels": [""] }),
        json!({ "channel": "user456", "action": "subscribe", "channels": null }),
        json!({ "action": "subscribe", "channels": ["room"] }),
        with(leave("user456", &["room"]), json!({ "with": "room" })),
    ];
    for wrong in wrong {
        let items = json!({ "items": [leave("user456", &["room"]), wrong] }).to_string();
        assert_eq!(gripd.publish_body("", &items).0, 400, "{items}");
    }
    publish(&gripd, item("room", "all is well"));
    assert_eq!(client.hears(), "all is well");
}
