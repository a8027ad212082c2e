//! Telling a conversation what happens: it is written down for those who ask
//! later, and published to those who are there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::chat::Conversation;
use super::chat_event::ChatEvent;
use super::log::Logs;
use super::publish::{Control, ControlError};

/// The lines of all conversations, and the publisher that tells them.
#[derive(Clone, Debug)]
pub(super) struct Board {
    control: Control,
    logs: Arc<Mutex<Logs>>,
}

impl Board {
    /// Returns a board on which nothing is written.
    pub(super) fn new(control: Control) -> Self {
        Self { control, logs: Arc::default() }
    }

    /// Publishes news to everybody in a conversation, after another item if there is one, and returns the receipt.
    pub(super) async fn tell(
        &self,
        conversation: &Conversation,
        event: ChatEvent,
        first: Option<Value>,
    ) -> Result<Value, ControlError> {
        let (board, conversation) = (self.clone(), conversation.clone());
        // A task of its own: what is written down is published even if whoever
        // said it does not wait for that.
        let telling = tokio::spawn(async move { board.publish(&conversation, &event, first).await });
        telling.await.unwrap_or_else(|error| Err(ControlError::from(error)))
    }

    async fn publish(
        &self,
        conversation: &Conversation,
        event: &ChatEvent,
        first: Option<Value>,
    ) -> Result<Value, ControlError> {
        // Before it is published: gripd may ask for it as soon as it has it.
        let place = self.logs().write(conversation, event.value(), now_ms());
        let items = first.into_iter().chain(event.items(conversation, place));
        let receipt = self.control.publish(items.collect()).await;
        if receipt.is_err() {
            self.logs().take_back(conversation, place.number);
        }
        receipt
    }

    /// Returns the number of the last news of a conversation.
    pub(super) fn last(&self, conversation: &Conversation) -> u64 {
        self.logs().last(conversation)
    }

    /// Returns the number of the last news, and all after those that were `seen`.
    pub(super) fn behind(&self, conversation: &Conversation, seen: u64) -> (u64, Vec<Value>) {
        let logs = self.logs();
        (logs.last(conversation), logs.behind(conversation, seen))
    }

    /// Returns the logs; each change to them is whole, as in the chat.
    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the time as pages know it.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
