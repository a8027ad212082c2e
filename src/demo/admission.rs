//! The question of a page whether a person may join, and if not, why and for how long. A browser does not tell a page
//! why a stream or a WebSocket was refused.

use serde_json::{Value, json};
use tracing::debug;

use super::chat::{ConversationId, PersonName};
use super::web::{self, DemoAnswer, DemoRefusal};
use super::{Demo, person_and_conversation};

impl Demo {
    /// Returns the `reason` why a person may not join now, and in how many `seconds` they may. Both are null if the
    /// person may join. The seconds are null as well if a member of the chat has removed the person.
    pub(super) async fn admission(&self, query: Option<&str>) -> Result<DemoAnswer, DemoRefusal> {
        let (name, conversation) = person_and_conversation(query)?;
        let removed = self.chat().refusal(&name, &conversation);
        let answer = match removed {
            Some(reason) => json!({"reason": reason, "seconds": null}),
            None => self.denial(&name, &conversation).await,
        };
        Ok(web::json(&answer))
    }

    /// Asks gripd whether it keeps a channel of the person closed.
    async fn denial(&self, name: &PersonName, conversation: &ConversationId) -> Value {
        let channels = conversation.channels_of(name);
        let mut longest: Option<(u64, &str)> = None;
        for channel in &channels {
            match self.control.denied(channel, &channels).await {
                Ok(seconds) => longest = longest.max(seconds.map(|seconds| (seconds, channel.as_str()))),
                // Other GRIP proxies have no denials.
                Err(error) => debug!("the demo could not ask for denials: {error}"),
            }
        }
        match longest {
            Some((seconds, channel)) => {
                let reason = format!("The channel {channel} was closed through gripd's control port");
                json!({"reason": reason, "seconds": seconds})
            }
            None => json!({"reason": null, "seconds": null}),
        }
    }
}
