//! Inputs that are wrong by the letter, that common programs send, and that Pushpin takes.

use crate::support::events::event;
use crate::support::websocket::TEXT;
use crate::support::{Answer, Events, Gripd, Origin, SocketOrigin, chunk, eventually};

#[test]
fn json_with_common_faults_is_published() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    let faults = [
        ("\u{feff}{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"mark\"}}]}", "mark"),
        ("{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"raw\n\ttext\"}}]}", "raw\n\ttext"),
        ("{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"cut \\ud83d\"}}]}", "cut \u{fffd}"),
    ];
    for (body, content) in faults {
        assert_eq!(gripd.publish_body("", body).0, 200, "{body}");
        assert_eq!(client.read_exact(chunk(content).len()), chunk(content).as_bytes());
    }
}

#[test]
fn an_instruct_with_common_faults_holds() {
    let origin = Origin::start(|asked| {
        let body = match asked.target() {
            "/mark" => "\u{feff}{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}}",
            "/raw" => {
                "{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}, \"response\": {\"body\": \"x\n\ty\"}}"
            }
            _ => {
                "{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}, \"response\": {\"body\": \"\\ud83d\"}}"
            }
        };
        Answer::with("Content-Type: application/grip-instruct\r\n", body)
    });
    let gripd = Gripd::start(&origin);
    for path in ["/mark", "/raw", "/half"] {
        let mut client = gripd.get(path);
        let head = client.head();
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert_eq!(gripd.connections("a"), 1, "{path}");
        drop(client);
        eventually("it is gone", || gripd.connections("a") == 0);
    }
}

#[test]
fn a_control_message_with_common_faults_is_carried_out() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    let (_client, mut end) = origin.open(&gripd, "Sec-WebSocket-Extensions: grip\r\n");
    end.send(TEXT, "c:\u{feff}{\"type\": \"subscribe\", \"channel\": \"a\"}");
    eventually("the one is subscribed", || gripd.connections("a") == 1);
    let origin = Events::start();
    let gripd = origin.gripd("", ",over_http", |_| {});
    let subscribe = event("TEXT", "c:{\"type\": \"subscribe\", \"channel\": \"b\",\"x\": \"\\ud83d\n\"}");
    let _client = origin.open(&gripd, &subscribe);
    eventually("the other is subscribed", || gripd.connections("b") == 1);
}
