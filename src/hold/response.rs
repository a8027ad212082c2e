//! Response holds (long-polls): one item, or the timeout, answers the request.

use super::{Hold, Holds, Waiting, answer};
use crate::grip::item::Response;
use crate::shard::{Event, Feed, Parked};
use crate::wire::Head;
use bytes::Bytes;
use std::time::SystemTime;
use tokio::net::TcpStream;

/// Holds a long-poll. Yields the connection when it may serve another request.
pub(super) fn park<'a>(holds: &'a Holds, mut hold: Box<Hold>, socket: TcpStream, early: &[u8]) -> Waiting<'a> {
    let mut parked = holds.subscribe(&hold.channels, socket, early, Feed::Response);
    hold.channels = Vec::new();
    parked.set_timer(hold.timeout);
    Box::pin(wait(parked, hold))
}

async fn wait(mut parked: Parked, hold: Box<Hold>) -> Option<(TcpStream, Bytes)> {
    let item = match parked.next().await {
        Event::Gone => return None,
        Event::Item(response) => Some(response),
        Event::Timer | Event::Close => None,
    };
    parked.unsubscribe();
    let last = !(hold.client.persistent && parked.may_return());
    let (mut head, body) = match &item {
        Some(response) => (overlay(&hold.head, response), &response.body),
        None => (hold.head.clone(), &hold.body),
    };
    head.date(SystemTime::now());
    parked.send(answer(&head, body, hold.client, last));
    if !last {
        return Box::pin(parked.release()).await;
    }
    Box::pin(parked.finish()).await;
    None
}

/// The head of a published answer: the instruct's fields, but for those that the publisher names.
fn overlay(instruct: &Head, response: &Response) -> Head {
    let mut head = Head {
        status: response.code,
        reason: response.reason.as_deref().map(Into::into),
        fields: instruct.fields.clone(),
    };
    for (name, _) in &response.headers {
        head.fields.remove(name);
    }
    for (name, value) in &response.headers {
        head.fields.push(name, value.as_bytes());
    }
    head
}
