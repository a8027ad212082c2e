//! JSON-P: responses wrapped into a script that passes them to a callback, as Pushpin does.

use super::head::{HeaderLines, ResponseHead};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Map, Value, json};

/// The way in which a response is wrapped into a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonpWrapper {
    /// The function that the script calls.
    pub callback: String,
    /// Whether the callback gets the status and the headers besides the body.
    pub extended: bool,
}

impl JsonpWrapper {
    /// Returns the response whose body is the script. Its status is always 200, because a browser does not run a
    /// script that comes with an error.
    pub fn wrap(&self, head: &ResponseHead, body: &Bytes) -> (ResponseHead, Bytes) {
        let argument = if self.extended { describe(head, body).into_bytes() } else { without_line_end(body).to_vec() };
        let script = [b"/**/", self.callback.as_bytes(), b"(", &argument, b");\n"].concat();
        let mut fields = HeaderLines::default();
        fields.push(&CONTENT_TYPE, b"application/javascript");
        // Without this header, a browser might guess the type of the body from its content, a part of which comes
        // from the URL.
        fields.push(&X_CONTENT_TYPE_OPTIONS, b"nosniff");
        for (name, value) in head.fields.iter().filter(|(name, _)| *name == CACHE_CONTROL.as_str().as_bytes()) {
            fields.push_raw(name, value);
        }
        (ResponseHead { status: 200, reason: None, fields }, script.into())
    }
}

/// The longest name of a callback, in bytes.
const LONGEST_CALLBACK: usize = 256;

/// Returns whether a text names a function, perhaps one within objects: `cb`, `app.cb`, `cbs[17]`. With any other
/// text, the author of a URL could put code into the script.
pub fn is_callback(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | b'[' | b']');
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$');
    text.len() <= LONGEST_CALLBACK && text.as_bytes().first().is_some_and(begins) && text.bytes().all(fits)
}

/// Returns the response as one line of JSON with sorted keys. Headers with the same name are combined.
fn describe(head: &ResponseHead, body: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers = Map::new();
    for (name, value) in head.fields.iter() {
        match headers.entry(text(name)).or_insert_with(|| Value::String(String::new())) {
            Value::String(all) if all.is_empty() => *all = text(value),
            Value::String(all) => *all = format!("{all}, {}", text(value)),
            _ => {}
        }
    }
    let usual = StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let reason = head.reason.as_deref().or(usual).unwrap_or("Undefined Reason");
    // JSON allows these two characters within strings, but JavaScript before ECMAScript 2019 does not.
    let json = json!({ "body": text(body), "code": head.status, "headers": headers, "reason": reason }).to_string();
    json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn without_line_end(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n")).unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, SET_COOKIE};

    fn wrap(extended: bool) -> (ResponseHead, String) {
        let mut fields = HeaderLines::default();
        fields.push(&SET_COOKIE, b"a");
        fields.push(&SET_COOKIE, b"b");
        fields.push(&CACHE_CONTROL, b"no-store");
        fields.push(&HeaderName::from_static("x-a"), b"1");
        let head = ResponseHead { status: 404, reason: None, fields };
        let (head, body) = JsonpWrapper { callback: "cb".into(), extended }.wrap(&head, &Bytes::from("{\"a\":1}\r\n"));
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_basic_script_hands_over_the_body() {
        let (head, script) = wrap(false);
        assert_eq!(script, "/**/cb({\"a\":1});\n");
        let fields: Vec<_> = head.fields.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"content-type", b"application/javascript"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ];
        assert_eq!((head.status, fields), (200, expected.map(|(n, v)| (n.to_vec(), v.to_vec())).to_vec()));
    }

    #[test]
    fn a_callback_is_a_name() {
        for name in ["cb", "$", "_x9", "jQuery34_17", "app.cbs[17].on"] {
            assert!(is_callback(name), "{name}");
        }
        let long = "x".repeat(257);
        for other in ["", "1", "<script>", "a(b)", "a;b", "a b", "a\r\nb", "a\0", "a//", "a=b", ".a", &long, "a'b"] {
            assert!(!is_callback(other), "{other}");
        }
    }

    #[test]
    fn an_extended_script_tells_all_of_the_answer() {
        let json = r#"{"body":"{\"a\":1}\r\n","code":404,"headers":{"cache-control":"no-store","set-cookie":"a, b","x-a":"1"},"reason":"Not Found"}"#;
        assert_eq!(wrap(true).1, format!("/**/cb({json});\n"));
    }
}
