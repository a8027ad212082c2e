//! The requests of gripd's webhook, which tell the demo who is here.

use std::fmt;
use std::io;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use hyper::StatusCode;
use serde_json::Value;
use tracing::debug;

use super::Demo;
use super::chat_event::ChatEvent;
use super::presence::PresenceChange;
use super::web::{self, DemoAnswer, DemoRefusal};

/// The largest body of a webhook's request, in bytes. A request has at most 100 events.
pub(super) const BODY_MAX: usize = 256 * 1024;

/// The secret in the URL of the webhook. A client of gripd reaches every path of the demo, but does not know the
/// secret, so it cannot report people who are not here.
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// Returns a new secret of 32 random bytes.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| io::Error::other("cannot get random bytes for the demo's webhook"))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the path and the query to which the webhook must send its events. The secret is in the query, because
    /// gripd's log shows only the path of a webhook.
    pub fn target(&self) -> String {
        format!("/presence?secret={}", self.0)
    }

    fn is(&self, text: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), text.as_bytes()).is_ok()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSecret").finish_non_exhaustive()
    }
}

impl Demo {
    /// Checks that a request for [`WebhookSecret::target`] comes from the webhook.
    ///
    /// # Errors
    /// The query does not contain the secret.
    pub(super) fn admit_webhook(&self, query: Option<&str>) -> Result<(), DemoRefusal> {
        if self.webhook.is(&web::parameter(query, "secret")) {
            return Ok(());
        }
        Err(DemoRefusal::new(StatusCode::FORBIDDEN, "only gripd's webhook may report who is here"))
    }

    /// Notes who has come and who has gone, and tells the others in their conversations.
    pub(super) async fn presence(&self, body: &Value) -> DemoAnswer {
        let events = body.get("events").and_then(Value::as_array);
        for change in events.into_iter().flatten().filter_map(PresenceChange::of_webhook) {
            if let Some(event) = self.note(&change) {
                // A failure is no reason to ask for the events again. The next event lists everybody anyway.
                if let Err(error) = self.board.tell(&change.conversation, event, None).await {
                    debug!("the demo could not announce who came or went: {error}");
                }
            }
        }
        web::no_content()
    }

    /// Notes a change, and returns the event that announces it, unless the change is known already.
    fn note(&self, change: &PresenceChange) -> Option<ChatEvent> {
        let mut presence = self.here();
        if !presence.apply(change) {
            return None;
        }
        let here = presence.listed(&change.conversation, None);
        let new = if change.joined { ChatEvent::joined } else { ChatEvent::left };
        Some(new(&change.who, here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_do_not_appear_in_the_log() {
        let [one, other] = [WebhookSecret::random().unwrap(), WebhookSecret::random().unwrap()];
        assert!(one.is(&one.0) && !one.is(&other.0) && !one.is(""));
        assert_eq!(one.target(), format!("/presence?secret={}", one.0));
        assert!(!format!("{one:?}").contains(&one.0));
    }
}
