//! The responses of next links.

use crate::admission::UnderstoodAnswer;
use crate::grip::{HoldMode, Instruct};
use crate::origin::{CollectedAnswer, Failure, FailureKind};
use bytes::Bytes;

/// Returns the response of a link if its status is 2xx, and otherwise a failure.
pub(super) fn successful(collected: CollectedAnswer) -> Result<CollectedAnswer, Failure> {
    if collected.status.is_success() {
        return Ok(collected);
    }
    Err(Failure::because(FailureKind::Unusable, format!("the status of the response is {}", collected.status.as_u16())))
}

/// Returns the instruct of a link's response, and the body to append to the stream.
///
/// # Errors
/// The response cannot be used. The text says why, in Pushpin's words where Pushpin has them.
pub(super) fn read(collected: &CollectedAnswer, max_channels: usize) -> Result<(Instruct, Bytes), String> {
    let CollectedAnswer { headers, status, body, rest, .. } = collected;
    let read = UnderstoodAnswer::begin(headers).and_then(|instruct| {
        UnderstoodAnswer::of(instruct, headers, status.as_u16(), (body, rest.is_none()), max_channels)
    });
    let UnderstoodAnswer { instruct, body, .. } = read.map_err(|unusable| unusable.to_string())?;
    if instruct.hold == Some(HoldMode::Response) {
        return Err("Next link returned non-stream hold.".to_owned());
    }
    Ok((instruct, body))
}
