//! The outcome of a publish or a close in words, from the receipt in gripd's reply.

use super::publisher_args::{CloseArgs, PublishArgs, SelectionArgs};
use crate::control::{Outcome, Published};

/// The number of characters of an unknown reply that an error repeats.
const REPLY_SHOWN: usize = 200;

/// Returns the outcome of the first item in a reply, or `None` if the reply has no receipt. Pushpin's has none.
fn outcome(reply: &[u8]) -> Option<Outcome> {
    let published: Published = serde_json::from_slice(reply).ok()?;
    published.items.into_iter().next()
}

/// Returns the warnings in a reply, without control characters.
pub(super) fn warnings(reply: &[u8]) -> Vec<String> {
    let published: Option<Published> = serde_json::from_slice(reply).ok();
    let warnings = published.map(|published| published.warnings).unwrap_or_default();
    warnings.iter().map(|warning| warning.chars().filter(|c| !c.is_control()).collect()).collect()
}

/// Returns how many connections got the item of `gripd publish`, and why others did not.
pub(super) fn of_publish(args: &PublishArgs, reply: &[u8]) -> String {
    let Some(outcome) = outcome(reply) else { return "Published".to_owned() };
    let delivered = outcome.delivered.unwrap_or_default();
    let mut parts = Vec::new();
    if outcome.delivered.is_some() {
        parts.push(format!("Published to {}", connections(delivered)));
    }
    if let Some(closed) = outcome.closed {
        parts.push(format!("{} {}", if parts.is_empty() { "Closed" } else { "closed" }, connections(closed)));
    }
    let others = [
        (outcome.filtered, "left out by their filters"),
        (outcome.slow, "closed because they read too slowly"),
        (outcome.pending, "still being decided"),
    ];
    for (count, why) in others {
        parts.extend(count.filter(|count| *count > 0).map(|count| format!("{count} {why}")));
    }
    let mut text = if parts.is_empty() { "Published".to_owned() } else { parts.join(", ") };
    if outcome.duplicate.is_some() {
        text.push_str(": the channel has already had an item with this id");
    } else if outcome.waiting.is_some() {
        text.push_str(": the item waits for the one before it (--prev-id)");
    } else if parts.len() == 1 && outcome.delivered == Some(0) || outcome.closed == Some(0) && delivered == 0 {
        text.push_str(&format!(": {}", nobody(&args.channel, &args.selection, takers(args))));
    }
    text
}

/// Returns how many connections the item of `gripd close` has closed.
///
/// # Errors
/// The reply does not say it.
pub(super) fn of_close(args: &CloseArgs, reply: &[u8]) -> Result<String, String> {
    let counts = outcome(reply).and_then(|outcome| outcome.closed.zip(outcome.cut));
    let Some((closed, cut)) = counts else {
        let text = String::from_utf8_lossy(reply);
        let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(REPLY_SHOWN).collect();
        return Err(format!("the reply does not say how many connections were closed: {shown}"));
    };
    let mut text = format!("Closed {}", connections(closed));
    if cut > 0 {
        text.push_str(&format!(", {cut} of them cut"));
    }
    if closed == 0 {
        text.push_str(&format!(": {}", nobody(&args.channel, &args.selection, None)));
    }
    Ok(text)
}

/// Returns the kind of connections that take the item of `gripd publish`, or `None` if all kinds do.
const fn takers(args: &PublishArgs) -> Option<&'static str> {
    match (args.patch, args.sse) {
        (true, _) => Some("long-poll"),
        (_, true) => Some("event stream"),
        _ => None,
    }
}

/// Returns the reason why an item has reached nobody. `takers` is the kind of connections that take it, unless all
/// kinds do.
fn nobody(channel: &str, selection: &SelectionArgs, takers: Option<&str>) -> String {
    if selection.is_everybody() {
        let who = takers.map_or_else(|| "nobody".to_owned(), |kind| format!("no {kind}"));
        return format!("{who} holds '{channel}'");
    }
    format!("no {} that --with and --except select holds '{channel}'", takers.unwrap_or("connection"))
}

fn connections(count: u32) -> String {
    format!("{count} connection{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::args::{Args, Command};
    use super::*;
    use clap::Parser;

    /// Returns the outcome in words, for a command such as `publish a text` and this item of a receipt.
    fn words(command: &str, item: &str) -> String {
        let reply = format!(r#"{{"message":"Published","items":[{item}],"nodes":{{}}}}"#);
        say(command, &reply).unwrap()
    }

    fn say(command: &str, reply: &str) -> Result<String, String> {
        let args = Args::try_parse_from(["gripd"].into_iter().chain(command.split(' '))).unwrap();
        match args.command {
            Some(Command::Publish(args)) => Ok(of_publish(&args, reply.as_bytes())),
            Some(Command::Close(args)) => of_close(&args, reply.as_bytes()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_publish_says_who_got_the_item() {
        for (item, expected) in [
            (r#"{"delivered":2,"filtered":0,"slow":0}"#, "Published to 2 connections"),
            (r#"{"delivered":1,"filtered":0,"slow":0,"later":{"more":1}}"#, "Published to 1 connection"),
            (r#"{"delivered":0,"filtered":0,"slow":0}"#, "Published to 0 connections: nobody holds 'typo'"),
            (
                r#"{"delivered":0,"filtered":3,"slow":1,"pending":2}"#,
                "Published to 0 connections, 3 left out by their filters, 1 closed because they read too slowly, 2 \
                 still being decided",
            ),
            (
                r#"{"delivered":0,"filtered":0,"slow":0,"duplicate":1}"#,
                "Published to 0 connections: the channel has already had an item with this id",
            ),
            (
                r#"{"delivered":0,"filtered":0,"slow":0,"waiting":1}"#,
                "Published to 0 connections: the item waits for the one before it (--prev-id)",
            ),
            (
                r#"{"delivered":1,"filtered":0,"slow":0,"closed":1,"cut":0}"#,
                "Published to 1 connection, closed 1 connection",
            ),
            ("{}", "Published"),
        ] {
            assert_eq!(words("publish typo text", item), expected, "{item}");
        }
        assert_eq!(words("publish --close c", r#"{"closed":3,"cut":0}"#), "Closed 3 connections");
        assert_eq!(words("publish --close c", r#"{"closed":0,"cut":0}"#), "Closed 0 connections: nobody holds 'c'");
        let none = r#"{"delivered":0,"filtered":0,"slow":0}"#;
        assert_eq!(
            words("publish --with a c text", none),
            "Published to 0 connections: no connection that --with and --except select holds 'c'"
        );
        assert_eq!(words("publish --patch c []", none), "Published to 0 connections: no long-poll holds 'c'");
        assert_eq!(words("publish --sse c x", none), "Published to 0 connections: no event stream holds 'c'");
        assert_eq!(say("publish c text", "Published\n").unwrap(), "Published");
    }

    #[test]
    fn a_close_says_whom_it_closed() {
        assert_eq!(words("close c", r#"{"closed":1,"cut":0}"#), "Closed 1 connection");
        assert_eq!(words("close c", r#"{"closed":3,"cut":1}"#), "Closed 3 connections, 1 of them cut");
        assert_eq!(words("close c", r#"{"closed":0,"cut":0}"#), "Closed 0 connections: nobody holds 'c'");
        let none = "the reply does not say how many connections were closed: ";
        assert_eq!(say("close c", "Published\n"), Err(format!("{none}Published")));
        assert_eq!(say("close c", "\u{1b}[2J{\"items\":[]}"), Err(format!("{none}[2J{{\"items\":[]}}")));
    }
}
