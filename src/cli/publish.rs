//! `gripd publish` and `gripd close`: a publisher for the terminal.

use super::publisher_args::{CloseArgs, PublishArgs, ServerArgs};
use super::server::ControlServer;
use super::{FAILURE, OK, USAGE, item, outcome, say};
use bytes::Bytes;
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};

/// The maximum duration of a publish. It includes the time for which the batch waits for room and for connections to
/// close.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `gripd publish`. Returns the exit code.
pub(super) fn publish(args: &PublishArgs) -> u8 {
    let item = match item::of_publish(args) {
        Ok(item) => item,
        Err(error) => return fail(USAGE, error.as_ref()),
    };
    finish(post(&args.server, &item).map(|reply| outcome::of_publish(args, &reply)))
}

/// Runs `gripd close`. Returns the exit code.
pub(super) fn close(args: &CloseArgs) -> u8 {
    let reply = post(&args.server, &item::of_close(args));
    finish(reply.and_then(|reply| Ok(outcome::of_close(args, &reply)?)))
}

/// Prints the outcome or the error. Returns the exit code.
fn finish(outcome: Result<String, Box<dyn Error>>) -> u8 {
    match outcome {
        Ok(text) => {
            say(&format!("{text}\n"));
            OK
        }
        Err(error) => fail(FAILURE, error.as_ref()),
    }
}

fn fail(code: u8, error: &dyn Error) -> u8 {
    eprintln!("Error: {error}");
    code
}

/// Publishes one item, prints the warnings of the reply, and returns the reply.
fn post(server: &ServerArgs, item: &Value) -> Result<Bytes, Box<dyn Error>> {
    let server = ControlServer::of(server)?;
    let body = json!({ "items": [item] }).to_string();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let reply = runtime.block_on(async {
        let sent = tokio::time::timeout(TIMEOUT, server.post(body)).await;
        sent.map_err(|_| format!("{server} did not answer within {} seconds", TIMEOUT.as_secs()))?
    })?;
    outcome::warnings(&reply).iter().for_each(|warning| eprintln!("Warning: {warning}"));
    Ok(reply)
}
