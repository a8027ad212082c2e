//! The lists of held channels: `GET /channels` and `GET /channels/NAME`.

use crate::support::{Gripd, Origin, eventually, get};
use serde_json::{Value, json};

fn list(gripd: &Gripd, query: &str) -> Value {
    let (head, body) = gripd.ask(get(&format!("/channels{query}")));
    assert!(head.contains("application/json"), "{head} {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn channels_are_listed_in_order_by_prefix_and_page() {
    let gripd = Gripd::start(&Origin::holding());
    let clients = [gripd.stream("conv2,user1"), gripd.stream("conv1,conv2"), gripd.stream("conv3")];
    let held = |name: &str, connections: u64| json!({ "channel": name, "connections": connections });
    let all =
        json!({ "channels": [held("conv1", 1), held("conv2", 2), held("conv3", 1), held("user1", 1)], "next": null });
    assert_eq!(list(&gripd, ""), all);
    let first = json!({ "channels": [held("conv1", 1), held("conv2", 2)], "next": "conv2" });
    assert_eq!(list(&gripd, "?prefix=conv&limit=2"), first);
    let second = json!({ "channels": [held("conv3", 1)], "next": null });
    assert_eq!(list(&gripd, "?prefix=conv&limit=2&after=conv2"), second);
    drop(clients);
    eventually("all clients have left", || list(&gripd, "") == json!({ "channels": [], "next": null }));
}

#[test]
fn the_name_of_a_channel_in_a_path_is_percent_encoded() {
    let gripd = Gripd::start(&Origin::holding());
    let _client = gripd.stream("a/b");
    let (_, body) = gripd.ask(get("/channels/a%2Fb"));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "channel": "a/b", "connections": 1 }));
    assert_eq!(gripd.connections("nobody"), 0);
}

#[test]
fn wrong_queries_are_refused() {
    let gripd = Gripd::start(&Origin::holding());
    for query in ["limit=0", "limit=x", "limit=1001", "sort=up", "prefix=%ff"] {
        let (head, _) = gripd.ask(get(&format!("/channels?{query}")));
        assert!(head.starts_with("http/1.1 400"), "{query}: {head}");
    }
}
