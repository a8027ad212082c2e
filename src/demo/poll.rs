//! The long-polls of people. Each request names the news that the page has seen last, and is answered once there is
//! more. Until then gripd holds it.

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::chat::{ConversationId, PersonName};
use super::chat_event::{ChatEvent, poll_body};
use super::exchange::GripExchange;
use super::web::{self, DemoAnswer, DemoRefusal};
use super::{Demo, channel_header, person_and_conversation};

/// The seconds after which gripd answers a long-poll without news (`Grip-Timeout`).
const TIMEOUT: HeaderValue = HeaderValue::from_static("25");

impl Demo {
    /// Answers a long-poll with news, or asks gripd to hold it. The first request of a page names no number, and gets
    /// no earlier news.
    pub(super) fn poll(&self, query: Option<&str>) -> Result<DemoAnswer, DemoRefusal> {
        let (name, conversation) = person_and_conversation(query)?;
        self.admit(&name, &conversation)?;
        let Some(seen) = seen(query)? else {
            let last = self.board.last(&conversation);
            return Ok(answer(last, &[self.poll_hello(query, &name, &conversation, last).value()]));
        };
        match self.board.behind(&conversation, seen) {
            (last, news) if news.is_empty() => Ok(hold(&name, &conversation, last)),
            (last, news) => Ok(answer(last, &news)),
        }
    }

    /// Returns the event that greets a page. It shows the next exchange, because this one is not held.
    fn poll_hello(
        &self,
        query: Option<&str>,
        name: &PersonName,
        conversation: &ConversationId,
        last: u64,
    ) -> ChatEvent {
        let query = query.unwrap_or_default().trim_end_matches("&after=");
        let target = format!("/poll?{query}&after={last}");
        let exchange = GripExchange::of_get(&target, &instructions(name, conversation, last));
        self.hello(name, conversation, &exchange)
    }
}

/// Returns the number of the news that the page has seen last, or `None` if the query names none.
///
/// # Errors
/// The parameter `after` is not a number.
fn seen(query: Option<&str>) -> Result<Option<u64>, DemoRefusal> {
    let after = web::parameter(query, "after");
    if after.is_empty() {
        return Ok(None);
    }
    after.parse().map(Some).map_err(|_| DemoRefusal::from("after must be a number".to_owned()))
}

fn answer(last: u64, news: &[Value]) -> DemoAnswer {
    web::answer(StatusCode::OK, "application/json", poll_body(Some(last), news))
}

/// Returns the response that makes gripd hold the request until something follows the news with the number `last`. If
/// that has happened meanwhile, gripd asks again at once.
fn hold(name: &PersonName, conversation: &ConversationId, last: u64) -> DemoAnswer {
    let mut answer = answer(last, &[]);
    answer.headers_mut().extend(instructions(name, conversation, last));
    answer
}

/// Returns the headers that make gripd hold a request.
fn instructions(name: &PersonName, conversation: &ConversationId, last: u64) -> HeaderMap {
    let channels = conversation.channels_of(name).join(", ");
    let channels = format!("{channels}, {}; prev-id={last}", conversation.polls());
    let mut headers = HeaderMap::new();
    headers.insert("grip-hold", HeaderValue::from_static("response"));
    headers.insert("grip-channel", channel_header(&channels));
    headers.insert("grip-timeout", TIMEOUT);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_asks_to_be_held_behind_what_was_seen() {
        let name = PersonName::parse("name", "bob").unwrap();
        let conversation = ConversationId::parse("123").unwrap();
        let answer = hold(&name, &conversation, 7);
        let headers = answer.headers();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!((&headers["grip-hold"], &headers["grip-timeout"]), (&"response".parse().unwrap(), &TIMEOUT));
        let channels = "conversation123, user-bob, conversation123-user-bob, conversation123-polls; prev-id=7";
        assert_eq!(headers["grip-channel"], channels);
    }

    #[test]
    fn what_was_seen_is_a_number_or_nothing() {
        assert_eq!(seen(Some("name=bob")).unwrap(), None);
        assert_eq!(seen(Some("after=1795426800123")).unwrap(), Some(1_795_426_800_123));
        for bad in ["after=x", "after=-1", "after=1.5", "after=99999999999999999999"] {
            assert_eq!(seen(Some(bad)).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
