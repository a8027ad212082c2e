//! Response holds (long-polls): one item, or the timeout, answers the request.

use super::{Hold, Holds, answer};
use crate::grip::item::Response;
use crate::shard::{Event, Feed, Parked};
use crate::wire::Head;
use bytes::Bytes;
use tokio::net::TcpStream;

/// Holds a long-poll. Returns the connection when it may serve another request.
pub(super) async fn park(holds: &Holds, hold: Hold, socket: TcpStream, early: Bytes) -> Option<(TcpStream, Bytes)> {
    let mut parked = holds.subscribe(&hold.channels, socket, &early, Feed::Response);
    drop(early);
    parked.set_timer(hold.timeout);
    match parked.next().await {
        Event::Gone => None,
        Event::Item(response) => reply(parked, &hold, &overlay(&hold.head, &response), &response.body).await,
        Event::Timer | Event::Close => reply(parked, &hold, &hold.head, &hold.body).await,
    }
}

/// Answers the request and leaves the channels; then gives the connection back or ends it.
async fn reply(mut parked: Parked, hold: &Hold, head: &Head, body: &[u8]) -> Option<(TcpStream, Bytes)> {
    parked.unsubscribe();
    let last = !(hold.client.persistent && parked.may_return());
    parked.send(answer(head, body, hold.client, last));
    if last {
        parked.finish().await;
        return None;
    }
    parked.release().await
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
