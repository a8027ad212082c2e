//! What people are told, as server-sent events and as WebSocket messages, and
//! the publish items made of it.

use serde_json::{Value, json};

use super::chat::{Conversation, Kick, Name};

/// The code and the reason with which a removed person's WebSocket closes: the
/// page does not come back.
pub(super) const KICKED: (u16, &str) = (4001, "kicked");

/// One thing to tell.
#[derive(Debug)]
pub(super) struct News {
    event: &'static str,
    data: Value,
}

impl News {
    /// What a new connection begins with.
    pub(super) fn hello(name: &Name, conversation: &Conversation) -> Self {
        Self::new("hello", json!({"name": name.as_str(), "conversation": conversation.as_str()}))
    }

    /// Somebody has come.
    pub(super) fn joined(name: &Name) -> Self {
        Self::new("joined", json!({"name": name.as_str()}))
    }

    /// Somebody says something.
    pub(super) fn message(from: &Name, text: &str, time_ms: u64) -> Self {
        Self::new("message", json!({"from": from.as_str(), "text": text, "time": time_ms}))
    }

    /// To somebody whose line was not published.
    pub(super) fn refused(text: &str, reason: &str) -> Self {
        Self::new("refused", json!({"text": text, "reason": reason}))
    }

    /// To somebody who still writes after the removal.
    pub(super) fn removed(reason: &str) -> Self {
        Self::new("kicked", json!({"reason": reason}))
    }

    fn new(event: &'static str, data: Value) -> Self {
        Self { event, data }
    }

    /// As a server-sent event. The leading newline ends a keep-alive `:`,
    /// which would otherwise turn the event line into a comment. JSON text
    /// holds no raw line breaks, so `data` is always one line.
    pub(super) fn event(&self) -> String {
        format!("\nevent: {}\ndata: {}\n\n", self.event, self.data)
    }

    /// As the text of a WebSocket message.
    pub(super) fn text(&self) -> String {
        json!({"event": self.event, "data": self.data}).to_string()
    }

    /// The publish item that tells it to all connections of a channel.
    pub(super) fn item(&self, channel: &str) -> Value {
        let formats = json!({"http-stream": {"content": self.event()}, "ws-message": {"content": self.text()}});
        json!({"channel": channel, "formats": formats})
    }
}

/// The publish items of a removal: tell and close the person, then tell the
/// others.
pub(super) fn of_kick(kick: &Kick) -> Vec<Value> {
    let mut told = json!({"by": kick.by.as_str(), "reason": kick.reason()});
    if !kick.everywhere {
        // Their connections in other conversations close as well; this tells
        // those pages that they may reconnect.
        told["conversation"] = kick.conversation.as_str().into();
    }
    let mut farewell = News::new("kicked", told).item(&kick.who.channel());
    farewell["action"] = "close".into();
    (farewell["code"], farewell["reason"]) = (KICKED.0.into(), KICKED.1.into());
    let left = News::new("left", json!({"name": kick.who.as_str(), "by": kick.by.as_str()}));
    vec![farewell, left.item(&kick.conversation.channel())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse("name", text).unwrap()
    }

    fn kick(everywhere: bool) -> Kick {
        let conversation = Conversation::parse("123").unwrap();
        Kick { who: name("bob"), by: name("amy"), conversation, everywhere }
    }

    fn stream(item: &Value) -> &str {
        item["formats"]["http-stream"]["content"].as_str().unwrap()
    }

    fn message(item: &Value) -> Value {
        serde_json::from_str(item["formats"]["ws-message"]["content"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn a_kick_closes_the_person_and_then_tells_the_others() {
        let items = of_kick(&kick(false));
        assert_eq!(items.len(), 2);
        assert_eq!(items[0]["channel"], "user-bob");
        assert_eq!(items[0]["action"], "close");
        assert_eq!((&items[0]["code"], &items[0]["reason"]), (&json!(4001), &json!("kicked")));
        let told = stream(&items[0]);
        assert!(told.starts_with("\nevent: kicked\ndata: {") && told.contains(r#":"123""#));
        assert_eq!(items[1]["channel"], "conversation123");
        assert!(items[1].get("action").is_none());
        assert!(stream(&items[1]).starts_with("\nevent: left\n"));
        let everywhere = of_kick(&kick(true));
        assert!(!stream(&everywhere[0]).contains("\"conversation\":"));
    }

    #[test]
    fn streams_and_websockets_are_told_the_same() {
        let item = News::joined(&name("amy")).item("c");
        assert_eq!(stream(&item), "\nevent: joined\ndata: {\"name\":\"amy\"}\n\n");
        assert_eq!(message(&item), json!({"event": "joined", "data": {"name": "amy"}}));
        let farewell = &of_kick(&kick(false))[0];
        assert_eq!(message(farewell)["event"], "kicked");
        assert_eq!(message(farewell)["data"]["conversation"], "123");
    }

    #[test]
    fn text_cannot_break_out_of_its_event() {
        let text = "a\n\nevent: kicked\r\ndata: {}\n\n";
        let item = News::message(&name("amy"), text, 7).item("c");
        let body = stream(&item);
        assert!(body.starts_with("\nevent: message\ndata: {") && body.ends_with("}\n\n"));
        assert_eq!(body.matches('\n').count(), 4);
        assert!(!body.contains('\r'));
        let data = body.lines().nth(2).unwrap().strip_prefix("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data, json!({"from": "amy", "text": text, "time": 7}));
        assert_eq!(message(&item)["data"], data);
    }

    #[test]
    fn no_message_looks_like_a_control_message() {
        assert!(News::message(&name("amy"), "c:{}", 7).text().starts_with('{'));
    }
}
