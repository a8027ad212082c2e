//! A person's long-polls: each says what was seen last, and is answered as
//! soon as there is more. gripd holds it until then.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::Value;

use super::chat::{Conversation, Name};
use super::chat_event::{ChatEvent, told};
use super::web::{self, Answer, Refusal};
use super::{Demo, seat};

/// Seconds after which a long-poll is answered that there is no news.
const TIMEOUT: HeaderValue = HeaderValue::from_static("25");

impl Demo {
    /// Answers a long-poll, or asks gripd to hold it. The first of a page has
    /// seen nothing yet, and is not told what came before it.
    pub(super) fn poll(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let (name, conversation) = seat(query)?;
        self.admit(&name, &conversation)?;
        let Some(seen) = seen(query)? else {
            let hello = ChatEvent::hello(&name, &conversation).value();
            let answer = answer(self.board.last(&conversation), &[hello]);
            self.announce(name, &conversation);
            return Ok(answer);
        };
        match self.board.behind(&conversation, seen) {
            (last, news) if news.is_empty() => hold(&name, &conversation, last),
            (last, news) => Ok(answer(last, &news)),
        }
    }
}

/// Returns the number that was seen last, if the query has one.
fn seen(query: Option<&str>) -> Result<Option<u64>, Refusal> {
    let after = web::parameter(query, "after");
    if after.is_empty() {
        return Ok(None);
    }
    after.parse().map(Some).map_err(|_| Refusal::from("after must be a number".to_owned()))
}

fn answer(last: u64, news: &[Value]) -> Answer {
    web::answer(StatusCode::OK, "application/json", told(Some(last), news))
}

/// Returns the answer that makes gripd hold the request; or ask again at once, if something other than `last` was published
/// meanwhile.
fn hold(name: &Name, conversation: &Conversation, last: u64) -> Result<Answer, Refusal> {
    let channels = conversation.channels_of(name).join(", ");
    let channels = format!("{channels}, {}; prev-id={last}", conversation.polls());
    let channels = HeaderValue::try_from(channels).map_err(|error| Refusal::from(error.to_string()))?;
    let mut answer = answer(last, &[]);
    let headers = answer.headers_mut();
    headers.insert("grip-hold", HeaderValue::from_static("response"));
    headers.insert("grip-channel", channels);
    headers.insert("grip-timeout", TIMEOUT);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_asks_to_be_held_behind_what_was_seen() {
        let name = Name::parse("name", "bob").unwrap();
        let conversation = Conversation::parse("123").unwrap();
        let answer = hold(&name, &conversation, 7).unwrap();
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
