//! The news that the chat tells people: as server-sent events, as WebSocket messages and as responses to long-polls,
//! and the items to publish that carry them.

use serde_json::{Value, json};

use super::chat::{ConversationId, Kick, PersonName, SpokenLine};
use super::exchange::GripExchange;
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
    /// Returns the event that a new connection receives first. `here` lists the people who are here, and `grip` is the
    /// exchange that made gripd hold the connection, or the next one if this one is not held.
    pub(super) fn hello(name: &PersonName, conversation: &ConversationId, here: Value, grip: &GripExchange) -> Self {
        let data = json!({"name": name.as_str(), "conversation": conversation.as_str(), "grip": grip.value()});
        Self::new("hello", with(here, data))
    }

    /// Returns the news that somebody has come. `here` lists the people who are here now.
    pub(super) fn joined(name: &PersonName, here: Value) -> Self {
        Self::new("joined", with(here, json!({"name": name.as_str()})))
    }

    /// Returns the news that somebody has gone. `here` lists the people who are here now.
    pub(super) fn left(name: &PersonName, here: Value) -> Self {
        Self::new("left", with(here, json!({"name": name.as_str()})))
    }

    /// Returns the news that somebody was removed. `here` lists the people who are here now.
    pub(super) fn kicked(kick: &Kick, here: Value) -> Self {
        Self::new("left", with(here, json!({"name": kick.who.as_str(), "by": kick.by.as_str()})))
    }

    /// Returns the news that somebody has written a message.
    pub(super) fn message(from: &PersonName, line: &SpokenLine, time_ms: u64) -> Self {
        let mut data = json!({"from": from.as_str(), "text": line.text, "time": time_ms});
        if let Some(id) = &line.id {
            data["id"] = id.as_str().into();
        }
        Self::new("message", data)
    }

    /// Returns the event that tells a person that their message was published, with the items and gripd's receipt.
    pub(super) fn published(line: &SpokenLine, publication: &Publication) -> Self {
        Self::new("published", with(json!({"id": line.id}), publication.value()))
    }

    /// Returns the event that tells a person that their message was not published, and why.
    pub(super) fn refused(line: &SpokenLine, reason: &str) -> Self {
        Self::new("refused", json!({"id": line.id, "text": line.text, "reason": reason}))
    }

    /// Returns the event that tells a person that they were removed, when they write nevertheless.
    pub(super) fn removed(reason: &str) -> Self {
        Self::new("kicked", json!({"reason": reason}))
    }

    fn new(event: &'static str, data: Value) -> Self {
        Self { event, data }
    }

    /// Returns the news as a server-sent event. JSON contains no raw line breaks, so `data` is always one line.
    pub(super) fn event(&self) -> String {
        format!("event: {}\ndata: {}\n\n", self.event, self.data)
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

/// Returns an object with the members of both objects.
fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut one, other) {
        all.extend(more);
    }
    one
}

/// The items of a publish, and gripd's receipt for them.
#[derive(Debug)]
pub(super) struct Publication {
    /// The published items.
    pub(super) items: Vec<Value>,
    /// The answer of the control port: a receipt, or only the text of another GRIP proxy as its `message`.
    pub(super) receipt: Value,
}

impl Publication {
    /// Returns the items and the receipt as JSON, which the page shows.
    pub(super) fn value(&self) -> Value {
        json!({"items": self.items, "receipt": self.receipt})
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

    fn here() -> Value {
        json!({"count": 1, "people": ["amy"]})
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
        assert!(told.starts_with("event: kicked\ndata: {") && told.contains(r#":"123""#));
        assert_eq!(message(&item)["event"], "kicked");
        assert_eq!(message(&item)["data"]["conversation"], "123");
        assert_eq!(answer(&item), json!({ "news": [message(&item)] }));
        assert!(!stream(&goodbye(&kick(true))).contains("\"conversation\":"));
        let [left, _] = items(&ChatEvent::kicked(&kick(false), here()));
        assert_eq!(message(&left)["data"], json!({"name": "bob", "by": "amy", "count": 1, "people": ["amy"]}));
    }

    #[test]
    fn streams_websockets_and_long_polls_are_told_the_same() {
        let [item, numbered] = items(&ChatEvent::joined(&name("amy"), here()));
        let data = json!({"name": "amy", "count": 1, "people": ["amy"]});
        assert_eq!(stream(&item), format!("event: joined\ndata: {data}\n\n"));
        assert_eq!(message(&item), json!({"event": "joined", "data": data}));
        assert_eq!(answer(&numbered), json!({"last": 8, "news": [message(&item)]}));
    }

    #[test]
    fn only_what_long_polls_get_has_its_place_in_an_order() {
        let event = ChatEvent::joined(&name("amy"), here());
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
        let line = SpokenLine { text: text.to_owned(), id: Some("a\n".to_owned()) };
        let [item, _] = items(&ChatEvent::message(&name("amy"), &line, 7));
        let body = stream(&item);
        assert!(body.starts_with("event: message\ndata: {") && body.ends_with("}\n\n"));
        assert_eq!(body.matches('\n').count(), 3);
        assert!(!body.contains('\r'));
        let data = body.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data, json!({"from": "amy", "text": text, "time": 7, "id": "a\n"}));
        assert_eq!(message(&item)["data"], data);
    }

    #[test]
    fn no_message_looks_like_a_control_message() {
        let line = SpokenLine { text: "c:{}".to_owned(), id: None };
        assert!(ChatEvent::message(&name("amy"), &line, 7).text().starts_with('{'));
    }
}
