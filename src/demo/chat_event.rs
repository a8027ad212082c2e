//! The news that the chat tells people: as server-sent events, as WebSocket messages and as responses to long-polls,
//! and the items to publish that carry them.

use serde_json::{Value, json};

use super::chat::{ConversationId, Kick, PersonName};
use super::log::LinePlace;

/// The code and reason of the Close frame for a removed person. They tell the page not to reconnect.
pub(super) const KICKED: (u16, &str) = (4001, "kicked");

/// A piece of news, with its name and its data.
#[derive(Debug)]
pub(super) struct ChatEvent {
    event: &'static str,
    data: Value,
}

impl ChatEvent {
    /// Returns the event that a new connection receives first.
    pub(super) fn hello(name: &PersonName, conversation: &ConversationId) -> Self {
        Self::new("hello", json!({"name": name.as_str(), "conversation": conversation.as_str()}))
    }

    /// Returns the news that somebody has come.
    pub(super) fn joined(name: &PersonName) -> Self {
        Self::new("joined", json!({"name": name.as_str()}))
    }

    /// Returns the news that somebody has written a message.
    pub(super) fn message(from: &PersonName, text: &str, time_ms: u64) -> Self {
        Self::new("message", json!({"from": from.as_str(), "text": text, "time": time_ms}))
    }

    /// Returns the news that somebody was removed.
    pub(super) fn left(kick: &Kick) -> Self {
        Self::new("left", json!({"name": kick.who.as_str(), "by": kick.by.as_str()}))
    }

    /// Returns the event that tells a person that their message was not published, and why.
    pub(super) fn refused(text: &str, reason: &str) -> Self {
        Self::new("refused", json!({"text": text, "reason": reason}))
    }

    /// Returns the event that tells a person that they were removed, when they write nevertheless.
    pub(super) fn removed(reason: &str) -> Self {
        Self::new("kicked", json!({"reason": reason}))
    }

    fn new(event: &'static str, data: Value) -> Self {
        Self { event, data }
    }

    /// Returns the news as a server-sent event. The newline at the beginning ends a keep-alive `:`, which would
    /// otherwise turn the line with the event's name into a comment. JSON contains no raw line breaks, so `data` is
    /// always one line.
    pub(super) fn event(&self) -> String {
        format!("\nevent: {}\ndata: {}\n\n", self.event, self.data)
    }

    /// Returns the news as JSON.
    pub(super) fn value(&self) -> Value {
        json!({"event": self.event, "data": self.data})
    }

    /// Returns the news as the text of a WebSocket message.
    pub(super) fn text(&self) -> String {
        self.value().to_string()
    }

    /// Returns the items that publish the news to everybody in a conversation. The first is for streams and
    /// WebSockets and has no id. The second is for long-polls and has the id `place.number`, so that gripd notices a
    /// missing item.
    ///
    /// The two are separate items for two reasons. If a numbered item is lost, later ones wait for it, and streams
    /// and WebSockets need not wait. And an item without an id, as somebody may publish from a shell, would not reach
    /// a long-poll that expects ids.
    pub(super) fn items(&self, conversation: &ConversationId, place: LinePlace) -> [Value; 2] {
        let body = poll_body(Some(place.number), &[self.value()]);
        let mut numbered = json!({"channel": conversation.polls(), "formats": {"http-response": {"body": body}}});
        numbered["id"] = place.number.to_string().into();
        if let Some(before) = place.before {
            numbered["prev-id"] = before.to_string().into();
        }
        [json!({"channel": conversation.channel(), "formats": self.formats()}), numbered]
    }

    fn formats(&self) -> Value {
        json!({"http-stream": {"content": self.event()}, "ws-message": {"content": self.text()}})
    }
}

/// Returns news as the body of a response to a long-poll. `last` is the number of the last news.
pub(super) fn poll_body(last: Option<u64>, news: &[Value]) -> String {
    let mut told = json!({ "news": news });
    if let Some(last) = last {
        told["last"] = last.into();
    }
    told.to_string()
}

/// Returns the item that tells a person of their removal on every kind of connection, and closes their connections.
pub(super) fn goodbye(kick: &Kick) -> Value {
    let mut told = json!({"by": kick.by.as_str(), "reason": kick.reason()});
    if !kick.everywhere {
        // The connections of the person in other conversations are closed as well. The name of the conversation tells
        // those pages that they may reconnect.
        told["conversation"] = kick.conversation.as_str().into();
    }
    let event = ChatEvent::new("kicked", told);
    let mut formats = event.formats();
    formats["http-response"] = json!({"body": poll_body(None, &[event.value()])});
    let channel = kick.who.channel();
    json!({"channel": channel, "formats": formats, "action": "close", "code": KICKED.0, "reason": KICKED.1})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PersonName {
        PersonName::parse("name", text).unwrap()
    }

    fn kick(everywhere: bool) -> Kick {
        let conversation = ConversationId::parse("123").unwrap();
        Kick { who: name("bob"), by: name("amy"), conversation, everywhere }
    }

    fn stream(item: &Value) -> &str {
        item["formats"]["http-stream"]["content"].as_str().unwrap()
    }

    fn message(item: &Value) -> Value {
        serde_json::from_str(item["formats"]["ws-message"]["content"].as_str().unwrap()).unwrap()
    }

    fn answer(item: &Value) -> Value {
        serde_json::from_str(item["formats"]["http-response"]["body"].as_str().unwrap()).unwrap()
    }

    fn items(event: &ChatEvent) -> [Value; 2] {
        event.items(&ConversationId::parse("123").unwrap(), LinePlace { number: 8, before: Some(7) })
    }

    #[test]
    fn a_kick_tells_and_closes_the_person() {
        let item = goodbye(&kick(false));
        assert_eq!((&item["channel"], &item["action"]), (&json!("user-bob"), &json!("close")));
        assert_eq!((&item["code"], &item["reason"]), (&json!(4001), &json!("kicked")));
        assert!(item.get("id").is_none() && item.get("prev-id").is_none());
        let told = stream(&item);
        assert!(told.starts_with("\nevent: kicked\ndata: {") && told.contains(r#":"123""#));
        assert_eq!(message(&item)["event"], "kicked");
        assert_eq!(message(&item)["data"]["conversation"], "123");
        assert_eq!(answer(&item), json!({ "news": [message(&item)] }));
        assert!(!stream(&goodbye(&kick(true))).contains("\"conversation\":"));
        assert!(stream(&items(&ChatEvent::left(&kick(false)))[0]).starts_with("\nevent: left\n"));
    }

    #[test]
    fn streams_websockets_and_long_polls_are_told_the_same() {
        let [item, numbered] = items(&ChatEvent::joined(&name("amy")));
        assert_eq!(stream(&item), "\nevent: joined\ndata: {\"name\":\"amy\"}\n\n");
        assert_eq!(message(&item), json!({"event": "joined", "data": {"name": "amy"}}));
        assert_eq!(answer(&numbered), json!({"last": 8, "news": [message(&item)]}));
    }

    #[test]
    fn only_what_long_polls_get_has_its_place_in_an_order() {
        let event = ChatEvent::joined(&name("amy"));
        let [item, numbered] = items(&event);
        assert_eq!(
            (&item["channel"], &numbered["channel"]),
            (&json!("conversation123"), &json!("conversation123-polls"))
        );
        assert!(item.get("id").is_none() && item["formats"].get("http-response").is_none());
        assert_eq!((&numbered["id"], &numbered["prev-id"]), (&json!("8"), &json!("7")));
        let first = event.items(&ConversationId::parse("1").unwrap(), LinePlace { number: 8, before: None });
        assert!(first[1].get("prev-id").is_none());
    }

    #[test]
    fn text_cannot_break_out_of_its_event() {
        let text = "a\n\nevent: kicked\r\ndata: {}\n\n";
        let [item, _] = items(&ChatEvent::message(&name("amy"), text, 7));
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
        assert!(ChatEvent::message(&name("amy"), "c:{}", 7).text().starts_with('{'));
    }
}
