//! The messages that a session sends to its client at a set time: keep-alives and delayed messages.

use super::extras::SessionExtras;
use super::live::Session;
use crate::grip::KeepAliveMode;
use crate::grip::control::TimedMessage;
use crate::shard::TimerSpread;
use std::time::Duration;
use tokio::time::Instant;

impl Session<'_> {
    pub(super) fn extras(&mut self) -> &mut SessionExtras {
        self.extras.get_or_insert_default()
    }

    /// Sends the delayed message and the keep-alive, if they are due, and sets the time of the next keep-alive.
    pub(super) fn send_due(&mut self, now: Instant) {
        let Some(extras) = &mut self.extras else { return };
        if let Some((timed, _)) = extras.delayed.take_if(|(_, at)| *at <= now) {
            self.send_timed(&timed);
        }
        let Some((timed, _)) = self.extras().keep_alive.take_if(|(_, at)| *at <= now) else { return };
        let idle = match timed.mode {
            KeepAliveMode::Idle => self.parked.idle(),
            KeepAliveMode::Interval => timed.timeout,
        };
        let rest = if !TimerSpread::is_due(timed.timeout, idle) {
            self.sessions.spread.wait_until_due(timed.timeout, idle)
        } else {
            // Nothing is sent to a client that does not read, because more bytes would not keep its connection alive.
            // While a message is being relayed, its pieces serve as the keep-alive.
            if !self.parked.is_blocked() && !self.is_streaming() {
                self.send_timed(&timed);
            }
            self.sessions.spread.wait_until_due(timed.timeout, Duration::ZERO)
        };
        self.extras().keep_alive = Some((timed, now + rest));
    }

    /// Sends a keep-alive or a delayed message. If a message is being relayed in pieces, text and binary messages
    /// wait for its end, since only control frames may come between the pieces (RFC 6455 5.4).
    pub(super) fn send_timed(&mut self, timed: &TimedMessage) {
        if !self.is_streaming() || timed.kind.is_control() {
            self.send_message(timed.kind, &timed.content);
        } else {
            self.extras().late.push(timed.clone());
        }
    }

    /// Sends the messages that waited for the end of a relayed message.
    pub(super) fn send_late(&mut self) {
        let late = self.extras.as_mut().map(|extras| std::mem::take(&mut extras.late)).unwrap_or_default();
        late.iter().for_each(|timed| self.send_timed(timed));
    }
}
