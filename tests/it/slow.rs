//! Clients that read slowly, and the limits that protect gripd from them.

use crate::support::{Gripd, Origin, chunk, eventually};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::thread;

#[test]
fn a_valid_batch_of_small_items_cuts_no_client_that_reads() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.shard.client_buffer = 16 << 10);
    let mut clients: Vec<_> = (0..20).map(|_| gripd.stream("a")).collect();
    let items: Vec<Value> =
        (0..2500).map(|n| json!({ "channel": "a", "http-stream": { "content": format!("{n:04}\n") } })).collect();
    let expected: String = (0..2500).map(|n| chunk(&format!("{n:04}\n"))).collect();
    let receipt = gripd.publish(&json!(items));
    assert!(receipt.as_array().unwrap().iter().all(|item| item["delivered"] == 20 && item["slow"] == 0));
    for client in &mut clients {
        assert_eq!(client.read_exact(expected.len()), expected.as_bytes());
    }
    assert_eq!(gripd.metric("slow_total"), 0);
}

#[test]
fn a_batch_as_large_as_allowed_cuts_no_client_that_reads() {
    let gripd = Gripd::start(&Origin::holding());
    let text = "x".repeat(300);
    let expected = chunk(&text).repeat(2500);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, length) = (gripd.stream("a"), expected.len());
            thread::spawn(move || client.read_exact(length))
        })
        .collect();
    let items = vec![json!({ "channel": "a", "http-stream": { "content": text } }); 2500];
    assert_eq!(gripd.publish_body("", &json!({ "items": items }).to_string()).0, 200);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), expected.as_bytes());
    }
    assert_eq!(gripd.metric("slow_total"), 0);
}

#[test]
fn a_long_poll_that_does_not_read_its_answer_is_cut() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.control.max_body = 32 << 20);
    let mut stalled = gripd.poll("a");
    let body = "x".repeat(20_000_000);
    let receipt = gripd.publish(&json!([{ "channel": "a", "http-response": { "body": body } }]));
    assert_eq!(receipt[0]["delivered"], 1);
    eventually("the long-poll is cut", || gripd.metric("slow_total") == 1 && gripd.metric("parked") == 0);
    assert_eq!(stalled.rest_and_end().1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_stalls_is_cut_and_counted_and_does_not_affect_others() {
    let gripd = Gripd::start(&Origin::holding());
    let (mut stalled, mut reader) = (gripd.stream("a"), gripd.stream("a"));
    let item = "x".repeat(500_000);
    let framed = chunk(&item);
    let mut slow = 0;
    for _ in 0..100 {
        let receipt = gripd.publish(&json!([{ "channel": "a", "http-stream": { "content": item } }]));
        slow += receipt[0]["slow"].as_u64().unwrap();
        assert_eq!(reader.read_exact(framed.len()), framed.as_bytes());
        if slow > 0 {
            assert_eq!(receipt[0]["delivered"], 1);
            break;
        }
    }
    assert_eq!((slow, gripd.metric("slow_total"), gripd.connections("a")), (1, 1, 1));
    let (got, end) = stalled.rest_and_end();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!got.ends_with(b"0\r\n\r\n"));
}

#[test]
fn one_item_alone_never_fills_an_outlet() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.shard.client_buffer = 1);
    let mut client = gripd.stream("a");
    let item = "x".repeat(900_000);
    assert_eq!(gripd.say("a", &item), 1);
    assert_eq!(client.read_exact(chunk(&item).len()), chunk(&item).as_bytes());
}

#[test]
fn all_outlets_together_have_a_ceiling() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| {
        config.shard.client_buffer = 1 << 30;
        config.shard.outlets_total = 4 << 20;
    });
    let _stalled: Vec<_> = (0..8).map(|_| gripd.stream("a")).collect();
    let item = "x".repeat(900_000);
    let slow = |_| gripd.publish(&json!([{ "channel": "a", "http-stream": { "content": item } }]))[0]["slow"].as_u64();
    assert!((0..60).filter_map(slow).sum::<u64>() > 0, "no client was cut");
}

#[test]
fn the_ceiling_is_enforced_without_another_item() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| {
        config.control.max_body = 8 << 20;
        config.shard.outlets_total = 32 << 20;
    });
    let _stalled: Vec<_> = (0..12).map(|_| gripd.stream("a")).collect();
    let mut reader = gripd.stream("a");
    // Each socket takes some of the item at once. What is left for the twelve clients that do not read exceeds the
    // ceiling.
    let item = "x".repeat(7_000_000);
    let receipt = gripd.publish(&json!([{ "channel": "a", "http-stream": { "content": item } }]));
    assert_eq!((receipt[0]["delivered"].as_u64(), receipt[0]["slow"].as_u64()), (Some(13), Some(0)));
    assert_eq!(reader.read_exact(chunk(&item).len()), chunk(&item).as_bytes());
    eventually("some clients are cut", || gripd.metric("slow_total") > 0);
    let held = gripd.connections("a");
    assert!((2..13).contains(&held), "{held} of 13 are held");
}
