//! A request that gripd sent to the demo, and the part of the answer that speaks GRIP. The page shows both, so that its
//! readers see how a connection came to be held.

use hyper::header::HeaderMap;
use serde_json::{Value, json};

/// A request and the instructions in its answer, as lines of text.
#[derive(Debug)]
pub(super) struct GripExchange {
    request: Vec<String>,
    answer: Vec<String>,
}

impl GripExchange {
    /// Returns the exchange of a `GET` request for `target`, whose answer has these headers.
    pub(super) fn of_get(target: &str, headers: &HeaderMap) -> Self {
        Self { request: vec![format!("GET {target}")], answer: grip_lines(headers) }
    }

    /// Returns the exchange of a request with WebSocket events for `target`, whose answer has these headers and these
    /// events.
    pub(super) fn of_events(target: &str, headers: &HeaderMap, events: &[String]) -> Self {
        let answer = grip_lines(headers).into_iter().chain(events.iter().cloned()).collect();
        Self { request: vec![format!("POST {target}"), "OPEN".to_owned()], answer }
    }

    /// Returns the exchange as JSON.
    pub(super) fn value(&self) -> Value {
        json!({"request": self.request, "answer": self.answer})
    }
}

/// Returns the headers that make a GRIP proxy hold a connection, as they are usually written.
fn grip_lines(headers: &HeaderMap) -> Vec<String> {
    let names = ["Grip-Hold", "Grip-Channel", "Sec-WebSocket-Extensions"];
    let lines = names.iter().flat_map(|name| {
        let values = headers.get_all(*name).iter();
        values.map(move |value| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_the_headers_that_hold_a_connection_are_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/event-stream"));
        headers.insert("grip-channel", HeaderValue::from_bytes("user-Žofie".as_bytes()).unwrap());
        headers.insert("grip-hold", HeaderValue::from_static("stream"));
        let exchange = GripExchange::of_get("/events?name=b", &headers).value();
        let answer = ["Grip-Hold: stream", "Grip-Channel: user-Žofie"];
        assert_eq!(exchange, json!({"request": ["GET /events?name=b"], "answer": answer}));
    }
}
