//! Suggestions for misspelled words, such as `http-stream` for `http_stream`.

/// Returns the word of `known` that is most similar to `word`, or `None` if none is similar enough to be meant. Of
/// several words that are equally similar, it is the first.
///
/// The letter case makes no difference. Otherwise at most a third of the characters may be wrong, where a missing
/// character, an additional one, another one, and two neighbours in the wrong order each count as one.
///
/// The time is bounded by the lengths of the known words, even if `word` is long: a word is compared only if its length
/// is similar as well.
pub fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = known.into_iter().filter_map(|candidate| {
        let most = word.len().max(candidate.len()) / 3;
        if word.len().abs_diff(candidate.len()) > most {
            return None;
        }
        let wrong = strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
        (wrong <= most).then_some((wrong, candidate))
    });
    close.min_by_key(|(wrong, _)| *wrong).map(|(_, candidate)| candidate)
}

/// Returns the question whether the word of `known` that is most similar to `word` is meant, as errors end with it.
/// Returns `None` if no word is similar enough.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    similar(word, known).map(|meant| format!("did you mean '{meant}'?"))
}

#[cfg(test)]
mod tests {
    use super::similar;

    const FORMATS: [&str; 4] = ["http-stream", "http-response", "ws-message", "sse"];

    #[test]
    fn a_misspelled_word_finds_the_one_that_is_meant() {
        for (word, meant) in [
            ("http_stream", "http-stream"),
            ("httpstream", "http-stream"),
            ("HTTP-Stream", "http-stream"),
            ("http-respnose", "http-response"),
            ("ws-messages", "ws-message"),
            ("message", "ws-message"),
            ("see", "sse"),
        ] {
            assert_eq!(similar(word, FORMATS), Some(meant), "{word}");
        }
    }

    #[test]
    fn a_word_that_is_not_similar_finds_none() {
        let long = "http-stream".repeat(100_000);
        for word in ["", "xml", "stream", "fcm", "mqtt", long.as_str()] {
            assert_eq!(similar(word, FORMATS), None, "{word:.20}");
        }
        assert_eq!(similar("http-stream", []), None);
    }

    #[test]
    fn the_most_similar_word_is_taken_and_otherwise_the_first() {
        assert_eq!(similar("channel-s", ["channel", "channels"]), Some("channels"));
        assert_eq!(similar("cart", ["card", "care"]), Some("card"));
    }
}
