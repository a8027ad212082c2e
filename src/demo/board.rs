//! The publication of news in a conversation. Each piece of news is written to a log, for long-polls that ask later,
//! and published to everybody who is connected.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::chat::ConversationId;
use super::chat_event::{ChatEvent, Publication};
use super::log::ChatLogs;
use super::publish::{ControlClient, ControlError};

/// The logs of all conversations, and the control port through which news is published.
#[derive(Clone, Debug)]
pub(super) struct Board {
    control: ControlClient,
    logs: Arc<Mutex<ChatLogs>>,
}

impl Board {
    /// Returns a board with empty logs.
    pub(super) fn new(control: ControlClient) -> Self {
        Self { control, logs: Arc::default() }
    }

    /// Publishes news to everybody in a conversation, and returns the items with the receipt. If `first` is given, that
    /// item is published before the news, in the same request.
    pub(super) async fn tell(
        &self,
        conversation: &ConversationId,
        event: ChatEvent,
        first: Option<Value>,
    ) -> Result<Publication, ControlError> {
        let (board, conversation) = (self.clone(), conversation.clone());
        // The news is published in a task of its own, so that it is published even if the request that caused it is
        // dropped.
        let telling = tokio::spawn(async move { board.publish(&conversation, &event, first).await });
        telling.await.unwrap_or_else(|error| Err(ControlError::from(error)))
    }

    async fn publish(
        &self,
        conversation: &ConversationId,
        event: &ChatEvent,
        first: Option<Value>,
    ) -> Result<Publication, ControlError> {
        // The log is written first, because gripd may ask for the news as soon as it has the item.
        let place = self.logs().write(conversation, event.value(), now_ms());
        let items: Vec<Value> = first.into_iter().chain(event.items(conversation, place)).collect();
        match self.control.publish(&items).await {
            Ok(receipt) => Ok(Publication { items, receipt }),
            Err(error) => {
                self.logs().take_back(conversation, place.number);
                Err(error)
            }
        }
    }

    /// Returns the number of the last news of a conversation.
    pub(super) fn last(&self, conversation: &ConversationId) -> u64 {
        self.logs().last(conversation)
    }

    /// Returns the number of the last news in a conversation, and all news after number `seen`.
    pub(super) fn behind(&self, conversation: &ConversationId, seen: u64) -> (u64, Vec<Value>) {
        let logs = self.logs();
        (logs.last(conversation), logs.behind(conversation, seen))
    }

    /// Returns the logs. Every change to them is complete before anything can panic, so a poisoned lock is usable.
    fn logs(&self) -> MutexGuard<'_, ChatLogs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the milliseconds since 1970, as JavaScript counts time.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
