//! The WebSockets of people. gripd holds them, and sends their events here.

use hyper::StatusCode;
use serde_json::json;

use super::chat::{ConversationId, PersonName, SpokenLine};
use super::chat_event::{ChatEvent, KICKED};
use super::exchange::GripExchange;
use super::web::{DemoAnswer, DemoRefusal};
use super::woh::{self, DemoReply};
use super::{Demo, person_and_conversation};

impl Demo {
    /// Answers a request with events of a WebSocket. No state is kept between requests, because the query of each
    /// names the person and the conversation.
    pub(super) async fn socket(&self, query: Option<&str>, body: &[u8]) -> Result<DemoAnswer, DemoRefusal> {
        let (name, conversation) = person_and_conversation(query)?;
        let events = woh::decode(body)
            .ok_or_else(|| DemoRefusal::from("the body does not contain valid WebSocket events".to_owned()))?;
        let mut reply = DemoReply::default();
        for event in events {
            match event.kind {
                "OPEN" => {
                    self.admit(&name, &conversation)?;
                    self.welcome(&mut reply, query, &name, &conversation);
                }
                "TEXT" => {
                    let line = SpokenLine::of_socket(&String::from_utf8_lossy(event.content));
                    match self.publish_line(&name, &conversation, &line).await {
                        Ok(publication) => tell(&mut reply, &ChatEvent::published(&line, &publication)),
                        Err(refusal) if refusal.status == StatusCode::FORBIDDEN => {
                            see_off(&mut reply, &refusal.text);
                            break;
                        }
                        Err(refusal) => tell(&mut reply, &ChatEvent::refused(&line, &refusal.text)),
                    }
                }
                "PING" => reply.push("PONG", event.content),
                "CLOSE" => reply.push("CLOSE", event.content),
                // Other events need no answer.
                _ => {}
            }
        }
        Ok(reply.into_answer())
    }

    /// Accepts a WebSocket, subscribes it to its channels, and greets its page.
    fn welcome(&self, reply: &mut DemoReply, query: Option<&str>, name: &PersonName, conversation: &ConversationId) {
        reply.open();
        let mut shown = vec!["OPEN".to_owned()];
        for channel in conversation.channels_of(name) {
            let control = json!({"type": "subscribe", "channel": channel});
            shown.push(format!("TEXT c:{control}"));
            reply.control(&control);
        }
        // The keep-alive is a pong, because browsers would answer a ping, and gripd would send each answer here.
        reply.control(&json!({"type": "keep-alive", "message-type": "pong", "content": ":", "timeout": 20}));
        let target = format!("/events?{}", query.unwrap_or_default());
        let exchange = GripExchange::of_events(&target, &reply.headers(), &shown);
        tell(reply, &self.hello(name, conversation, &exchange));
    }
}

fn see_off(reply: &mut DemoReply, reason: &str) {
    tell(reply, &ChatEvent::removed(reason));
    reply.close(KICKED);
}

fn tell(reply: &mut DemoReply, event: &ChatEvent) {
    reply.push("TEXT", event.text().as_bytes());
}
