//! `with` and `except`: items for only some of a channel's connections.

use crate::support::kinds::{item, origin, with};
use crate::support::{Answer, Gripd, KINDS, Kind, Member, Origin, eventually};
use serde_json::{Value, json};

fn gripd(origin: &Origin) -> Gripd {
    Gripd::with(origin, "", |_| {})
}

fn start() -> Gripd {
    let origin = origin();
    Gripd::configured(&origin.route(""))
}

/// Publishes one item. Returns the number of connections that got it.
fn deliver(gripd: &Gripd, item: Value) -> u64 {
    gripd.publish(&json!([item]))[0]["delivered"].as_u64().unwrap()
}

fn close(gripd: &Gripd, channel: &str, more: Value) -> u64 {
    let close = with(json!({ "channel": channel, "action": "close" }), more);
    gripd.publish(&json!([close]))[0]["closed"].as_u64().unwrap()
}

#[test]
fn with_selects_connections_that_hold_all_of_its_channels() {
    let gripd = start();
    for kind in KINDS {
        let held = |channels: &str| kind.held(&gripd, channels);
        let mut both = held("room,vip,gold");
        let mut others = [held("room,vip"), held("room,gold"), held("room"), held("room,vip,silver")];
        let some = with(item("room", "some"), json!({ "with": ["vip", "gold"] }));
        assert_eq!(deliver(&gripd, some), 1, "{kind:?}");
        assert_eq!(both.hears(), "some");
        // The long-poll that got the first item has ended.
        let all = if kind == Kind::Poll { 4 } else { 5 };
        assert_eq!(deliver(&gripd, item("room", "all")), all, "{kind:?}");
        assert!(others.iter_mut().all(|member| member.hears() == "all"));
        assert_eq!(close(&gripd, "room", json!({})), if kind == Kind::Poll { 0 } else { 5 });
    }
}

#[test]
fn except_leaves_out_connections_that_hold_one_of_its_channels() {
    let gripd = start();
    for kind in KINDS {
        let held = |user: &str| kind.held(&gripd, &format!("room,{user}"));
        let (mut one, mut other, mut third) = (held("user7"), held("user8"), held("user9"));
        let some = with(item("room", "not for 7 and 9"), json!({ "except": ["user7", "user9", "user10"] }));
        assert_eq!(deliver(&gripd, some), 1, "{kind:?}");
        assert_eq!(other.hears(), "not for 7 and 9");
        deliver(&gripd, item("room", "all"));
        assert_eq!([one.hears(), third.hears()], ["all"; 2]);
        close(&gripd, "room", json!({}));
    }
}

#[test]
fn an_item_may_have_both_with_and_except_and_each_item_has_its_own() {
    let gripd = start();
    let held = |kind: Kind, channels: &str| kind.held(&gripd, channels);
    let mut fits = [held(Kind::Stream, "room,vip"), held(Kind::WebSocket, "room,vip")];
    let mut too_much = [held(Kind::Stream, "room,vip,user7"), held(Kind::WebSocket, "room,vip,user7")];
    let mut too_little = [held(Kind::Stream, "room"), held(Kind::WebSocket, "room")];
    let receipt = gripd.publish(&json!([
        with(item("room", "1"), json!({ "with": ["vip"], "except": ["user7"] })),
        with(item("room", "2"), json!({ "with": ["vip", "user7"] })),
        with(item("room", "3"), json!({ "except": ["vip"] })),
        item("room", "4"),
    ]));
    let delivered: Vec<_> = receipt.as_array().unwrap().iter().map(|item| item["delivered"].as_u64()).collect();
    assert_eq!(delivered, [2, 2, 2, 6].map(Some));
    fits.iter_mut().for_each(|member| assert_eq!([member.hears(), member.hears()], ["1", "4"]));
    too_much.iter_mut().for_each(|member| assert_eq!([member.hears(), member.hears()], ["2", "4"]));
    too_little.iter_mut().for_each(|member| assert_eq!([member.hears(), member.hears()], ["3", "4"]));
}

#[test]
fn a_close_ends_only_the_selected_connections() {
    let gripd = start();
    for kind in KINDS {
        let held = |channels: &str| kind.held(&gripd, channels);
        let answered = || if kind == Kind::Poll { vec!["hello\n".to_owned()] } else { Vec::new() };
        let (mut here, mut there) = (held("user456,conversation123"), held("user456,conversation7"));
        assert_eq!(close(&gripd, "user456", json!({ "with": ["conversation123"] })), 1, "{kind:?}");
        assert_eq!(here.ends(), answered());
        assert_eq!(gripd.connections("user456"), 1);
        let mut staff = held("user456,staff");
        assert_eq!(close(&gripd, "user456", json!({ "except": ["staff"] })), 1, "{kind:?}");
        assert_eq!(there.ends(), answered());
        assert_eq!(deliver(&gripd, item("user456", "still")), 1);
        assert_eq!(staff.hears(), "still");
        close(&gripd, "user456", json!({}));
    }
}

#[test]
fn closes_with_content_and_closes_of_one_kind_are_selected_as_well() {
    let gripd = start();
    let held = |kind: Kind, channels: &str| kind.held(&gripd, channels);
    let (mut here, mut there) = (held(Kind::Stream, "user456,conversation123"), held(Kind::Stream, "user456"));
    let mut socket = held(Kind::WebSocket, "user456,conversation123");
    let bye = with(item("user456", "bye"), json!({ "action": "close", "with": ["conversation123"] }));
    assert_eq!(gripd.publish(&json!([bye]))[0]["closed"], 2);
    assert_eq!((here.ends(), socket.ends()), (vec!["bye".to_owned()], vec!["bye".to_owned()]));
    let mut socket = held(Kind::WebSocket, "user456");
    let of_streams =
        json!({ "channel": "user456", "except": ["x"], "formats": { "http-stream": { "action": "close" } } });
    assert_eq!(gripd.publish(&json!([of_streams]))[0]["closed"], 1);
    assert!(there.ends().is_empty());
    deliver(&gripd, item("user456", "still"));
    assert_eq!(socket.hears(), "still");
}

/// Starts an origin that holds clients on the channels in the query, with a next link that is answered with "again".
fn linked() -> Origin {
    Origin::start(|asked| {
        let (path, channels) = asked.target().split_once('?').unwrap();
        let hold = if path == "/poll" { "response" } else { "stream" };
        let said = if path == "/next" { "again" } else { "hello\n" };
        // Text after ':' makes the link of a client different from others, and is not a part of the channels.
        let names = channels.split(':').next().unwrap();
        Answer::with(
            &format!(
                "Grip-Hold: {hold}\r\nGrip-Channel: {names}\r\nGrip-Link: </next?{channels}>; rel=next; timeout=600\r\n"
            ),
            said,
        )
    })
}

#[test]
fn a_hint_makes_only_the_selected_streams_request_their_links() {
    let origin = linked();
    let gripd = gripd(&origin);
    for more in [json!({ "with": ["vip"] }), json!({ "except": ["user7"] })] {
        let mut vip = Kind::Stream.held(&gripd, "room,vip");
        let mut other = Kind::Stream.held(&gripd, "room,user7");
        gripd.publish(&json!([with(json!({ "channel": "room", "action": "hint" }), more)]));
        assert_eq!(vip.hears(), "again");
        // An item that comes during the request for the link is sent after the response to it.
        gripd.say("room", "next");
        assert_eq!((other.hears(), vip.hears()), ("next".into(), "next".into()));
        gripd.close("room");
    }
    let links: Vec<String> = origin.asked_for("/next").iter().map(|asked| asked.target().to_owned()).collect();
    assert_eq!(links, ["/next?room,vip"; 2]);
}

#[test]
fn a_hint_makes_only_the_selected_long_polls_be_served_again() {
    let origin = origin();
    let gripd = gripd(&origin);
    let asked = |channels: &str| {
        let of = format!("/poll?{channels}");
        origin.asked().iter().filter(|asked| asked.target() == of).count()
    };
    let (mut vip, mut other) = (Kind::Poll.held(&gripd, "room,vip"), Kind::Poll.held(&gripd, "room,user7"));
    gripd.publish(&json!([{ "channel": "room", "action": "hint", "with": ["vip"] }]));
    eventually("the request is served again", || asked("room,vip") == 2);
    eventually("the long-poll is held again", || gripd.connections("vip") == 1);
    // A long-poll gets no items while its request is served again.
    let one = with(item("room", "one"), json!({ "except": ["vip"] }));
    assert_eq!(deliver(&gripd, one), 1);
    assert_eq!((other.hears().as_str(), asked("room,user7")), ("one", 1));
    eventually("the long-poll gets items", || deliver(&gripd, item("room", "two")) == 1);
    assert_eq!(vip.hears(), "two");
}

/// Starts an origin that holds clients on the channels in the query. They have had item 1 of the channel `a`.
fn reliable() -> Origin {
    Origin::start(|asked| {
        let (path, channels) = asked.target().split_once('?').unwrap();
        let hold = if path == "/poll" { "response" } else { "stream" };
        let said = if path == "/next" { "asked again" } else { "hello\n" };
        let channels = channels.replacen('a', "a; prev-id=1", 1);
        let link = "Grip-Link: </next?a>; rel=next; timeout=600\r\n";
        Answer::with(&format!("Grip-Hold: {hold}\r\nGrip-Channel: {channels}\r\n{link}"), said)
    })
}

/// Returns the item `id` of the channel `a`, which follows the item `prev` and whose content is its id.
fn numbered(id: &str, prev: &str, more: Value) -> Value {
    with(with(item("a", id), json!({ "id": id, "prev-id": prev })), more)
}

#[test]
fn a_connection_that_is_not_selected_misses_nothing() {
    let origin = reliable();
    for kind in [Kind::Stream, Kind::Poll] {
        for more in [json!({ "with": ["vip"] }), json!({ "except": ["user7"] })] {
            let gripd = gripd(&origin);
            let (mut vip, mut other) = (kind.held(&gripd, "a,vip"), kind.held(&gripd, "a,user7"));
            assert_eq!(deliver(&gripd, numbered("2", "1", more.clone())), 1, "{kind:?} {more}");
            assert_eq!(vip.hears(), "2");
            deliver(&gripd, numbered("3", "2", json!({})));
            assert_eq!(other.hears(), "3", "{kind:?} {more}");
            if kind == Kind::Stream {
                assert_eq!(vip.hears(), "3");
            }
        }
    }
    assert!(!origin.asked().is_empty() && origin.asked_for("/next").is_empty(), "{:?}", origin.asked_for("/next"));
}

#[test]
fn an_item_that_waits_for_the_one_before_it_keeps_its_selection() {
    let origin = reliable();
    let gripd = gripd(&origin);
    let (mut vip, mut other) = (Kind::Stream.held(&gripd, "a,vip"), Kind::Stream.held(&gripd, "a,user7"));
    assert_eq!(deliver(&gripd, numbered("2", "1", json!({}))), 2);
    let receipt = gripd.publish(&json!([numbered("4", "3", json!({ "with": ["vip"] }))]));
    assert_eq!(receipt[0]["waiting"], 1, "{receipt}");
    deliver(&gripd, numbered("3", "2", json!({})));
    deliver(&gripd, numbered("5", "4", json!({})));
    assert_eq!([vip.hears(), vip.hears(), vip.hears(), vip.hears()], ["2", "3", "4", "5"]);
    assert_eq!([other.hears(), other.hears(), other.hears()], ["2", "3", "5"]);
    assert!(origin.asked_for("/next").is_empty());
}

#[test]
fn the_channels_that_a_connection_holds_at_the_time_select_it() {
    let gripd = start();
    let mut socket = Kind::WebSocket.held(&gripd, "room");
    let to_vips = || deliver(&gripd, with(item("room", "vip"), json!({ "with": ["vip"] })));
    assert_eq!(to_vips(), 0);
    socket.tell(&json!({ "type": "subscribe", "channel": "vip" }));
    assert_eq!((to_vips(), socket.hears()), (1, "vip".into()));
    socket.tell(&json!({ "type": "unsubscribe", "channel": "vip" }));
    assert_eq!(to_vips(), 0);
}

#[test]
fn names_in_with_include_the_prefix_of_the_route() {
    let gripd = Gripd::with(&origin(), ",prefix=app-", |_| {});
    let mut client = gripd.stream("room,vip");
    let some = |with: &str| {
        let item = json!({ "channel": "app-room", "with": [with], "http-stream": { "content": with } });
        deliver(&gripd, item)
    };
    assert_eq!((some("vip"), some("app-vip")), (0, 1));
    assert_eq!(client.chunk(), "app-vip");
}

#[test]
fn connections_of_all_shards_are_selected() {
    let gripd = start();
    let mut all: Vec<(bool, Member)> = (0..60)
        .map(|n| (n % 3 == 0, KINDS[n % 2 * 2].held(&gripd, if n % 3 == 0 { "room,vip" } else { "room" })))
        .collect();
    assert_eq!(deliver(&gripd, with(item("room", "vip"), json!({ "with": ["vip"] }))), 20);
    assert_eq!(deliver(&gripd, item("room", "all")), 60);
    for (vip, member) in &mut all {
        assert!(!*vip || member.hears() == "vip");
        assert_eq!(member.hears(), "all");
    }
    assert_eq!(close(&gripd, "room", json!({ "except": ["vip"] })), 40);
    assert_eq!(gripd.connections("room"), 20);
}

#[test]
fn a_selection_that_is_not_a_list_of_names_is_refused() {
    let gripd = start();
    let mut client = Kind::Stream.held(&gripd, "room");
    for wrong in [json!("vip"), json!([1]), json!({ "a": 1 }), json!([["vip"]]), json!(true)] {
        for field in ["with", "except"] {
            let body = json!({ "items": [with(item("room", "wrong"), json!({ field: wrong }))] }).to_string();
            let (status, reply) = gripd.publish_body("", &body);
            assert_eq!(status, 400, "{body}");
            assert!(reply.contains(field), "{reply}");
        }
    }
    deliver(&gripd, item("room", "right"));
    assert_eq!(client.hears(), "right");
}
