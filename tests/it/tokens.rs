//! Access to the control API: tokens, their scopes, and requests that need no token.

use crate::support::{Client, Gripd, Origin, get};
use gripd::config::{Config, Overrides};
use gripd::grip::signature::{Key, Signer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");

/// The configuration of two tokens: one for a chat, and one for everything.
const CHAT: &str = r#"
[[control.token]]
name = "chat"
iss = "realm"
key = "chat's key"
scopes = ["publish conversation*", "close user*", "inspect"]

[[control.token]]
name = "ops"
secret = "s3cret"
scopes = ["admin"]
"#;

/// Writes a file for a test, and returns its path. The name must differ from those of all other tests.
pub(crate) fn write(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts a gripd in front of an origin that holds clients. The settings of the control API come from a file of this
/// name and text.
pub(crate) fn gripd(name: &str, file: &str) -> Gripd {
    let loaded = Config::load(Some(&write(name, file)), &Overrides { demo: true, ..Overrides::default() }).unwrap();
    Gripd::with(&Origin::holding(), "", |config| config.control = loaded.control)
}

fn now() -> u64 {
    gripd::origin::now()
}

/// Returns the key that this text is, or that is in the file which it names (`file:`).
fn key(text: &str) -> Key {
    Key::parse(text, |path| std::fs::read_to_string(path).map_err(|e| e.to_string())).unwrap()
}

/// Returns a JWT of this issuer that is signed with the key `with` at the time `at`, in seconds since 1970.
pub(crate) fn jwt(issuer: &str, with: &str, at: u64) -> String {
    Signer::new(issuer, &key(with)).unwrap().unwrap().sign(at).unwrap()
}

fn request(method: &str, path: &str, token: &str, body: &str) -> String {
    let token = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {length}\r\n\r\n{body}")
}

/// Sends a request to the control API. Returns the status, the head in lower case, and the body of the reply.
fn ask(gripd: &Gripd, method: &str, path: &str, token: &str, body: &str) -> (u16, String, String) {
    let (head, body) = gripd.ask(request(method, path, token, body));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
}

fn publish(gripd: &Gripd, token: &str, items: &Value) -> (u16, String) {
    let (status, _, body) = ask(gripd, "POST", "/publish", token, &json!({ "items": items }).to_string());
    (status, body)
}

fn content(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "formats": { "http-stream": { "content": text } } })
}

#[test]
fn every_request_but_health_checks_needs_a_token() {
    let gripd = gripd("every_request.toml", CHAT);
    for path in ["/", "/healthz", "/readyz", "/healthz/"] {
        assert_eq!(ask(&gripd, "GET", path, "", "").0, 200, "{path}");
    }
    let close = json!({ "items": [{ "channel": "user1", "action": "close" }] }).to_string();
    let requests = [
        ("POST", "/publish"),
        ("POST", "/publish/"),
        ("GET", "/publish"),
        ("POST", "/recover"),
        ("GET", "/channels"),
        ("GET", "/channels/a"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("PUT", "/"),
        ("DELETE", "/healthzz"),
        ("GET", "//metrics"),
    ];
    for (method, path) in requests {
        let (status, head, body) = ask(&gripd, method, path, "", &close);
        let expected = if path == "/" { 200 } else { 401 };
        assert_eq!(status, expected, "{method} {path}: {body}");
        assert!(status == 200 || head.contains("\r\nwww-authenticate: bearer realm=\"gripd\"\r\n"), "{head}");
    }
    // A request without a token gets 401 and not 406, which would name the media types.
    assert!(gripd.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: x/y\r\n\r\n").0.starts_with("http/1.1 401"));
    let (_, _, metrics) = ask(&gripd, "GET", "/metrics", "s3cret", "");
    assert!(metrics.contains("\ngripd_control_refused_total 11\n"), "{metrics}");
    assert!(metrics.contains("\ngripd_closed_total 0\n"), "{metrics}");
}

#[test]
fn a_refusal_says_why() {
    let gripd = gripd("refusal.toml", CHAT);
    let good = jwt("realm", "chat's key", now());
    let (begin, end) = good.split_at(good.len() - 4);
    for (token, reason) in [
        ("nonsense", "unknown token"),
        ("a.b.c", "unknown token"),
        ("s3cre", "unknown token"),
        (&jwt("realm", "chat's key", now() - 3600), "the token is expired"),
        (&jwt("elsewhere", "chat's key", now()), "unknown issuer"),
        (&jwt("realm", "another key", now()), "wrong signature"),
        (&jwt("realm", &format!("file:{KEYS}ec.pem"), now()), "wrong signature"),
        (&format!("{begin}{}", if end == "AAAA" { "BBBB" } else { "AAAA" }), "wrong signature"),
    ] {
        let (status, head, body) = ask(&gripd, "GET", "/channels", token, "");
        assert_eq!(status, 401, "{reason}");
        let challenge = "\r\nwww-authenticate: bearer realm=\"gripd\", error=\"invalid_token\", error_description=\"";
        assert!(head.contains(&format!("{challenge}{reason}")), "{head}");
        assert!(body.starts_with(&format!("Refused: {reason}")) && !body.contains(token), "{body}");
    }
    let twice = "GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n\r\n";
    let (head, _) = gripd.ask(twice);
    assert!(head.starts_with("http/1.1 401") && head.contains("error=\"invalid_request\""), "{head}");
}

#[test]
fn each_kind_of_key_is_accepted() {
    let tokens = [
        ("text", "key = \"changeme\"".to_owned(), "changeme".to_owned()),
        ("base64", "key = \"base64:Y2hhbmdlbWUy\"".to_owned(), "changeme2".to_owned()),
        ("ec", format!("key = \"file:{KEYS}ec.public.pem\""), format!("file:{KEYS}ec.pem")),
        ("rsa", format!("key = \"file:{KEYS}rsa.public.pem\""), format!("file:{KEYS}rsa.pem")),
    ];
    // Tokens of the same issuer are distinguished by their keys.
    for same in [false, true] {
        let issuer = |name: &str| if same { "realm".to_owned() } else { name.to_owned() };
        let table = |(name, key, _): &(&str, String, String)| {
            let issuer = issuer(name);
            format!("[[control.token]]\nname = \"{name}\"\niss = \"{issuer}\"\n{key}\nscopes = [\"publish {name}\"]\n")
        };
        let gripd = gripd(&format!("each_kind_{same}.toml"), &tokens.iter().map(table).collect::<String>());
        for (name, _, with) in &tokens {
            let token = jwt(&issuer(name), with, now());
            assert_eq!(publish(&gripd, &token, &json!([content(name, "x")])), (200, "Published\n".into()));
            let (status, body) = publish(&gripd, &token, &json!([content("other", "x")]));
            assert_eq!(status, 403);
            assert!(body.contains(&format!("the token '{name}' may not publish \"other\"")), "{body}");
            let (status, _) = publish(&gripd, &jwt(&issuer(name), with, now() - 3601), &json!([content(name, "x")]));
            assert_eq!(status, 401);
        }
    }
}

#[test]
fn a_secret_in_a_file_is_a_token() {
    write("ops.token", "  s3cret-of-a-file\n");
    let table = "[[control.token]]\nname = \"ops\"\nsecret = \"file:ops.token\"\nscopes = [\"admin\"]\n";
    let gripd = gripd("secret_in_a_file.toml", table);
    assert_eq!(ask(&gripd, "POST", "/recover", "s3cret-of-a-file", "").0, 200);
    assert_eq!(ask(&gripd, "POST", "/recover", "file:ops.token", "").0, 401);
}

#[test]
fn a_token_does_what_its_scopes_say_and_no_more() {
    let gripd = gripd("scopes.toml", CHAT);
    let chat = jwt("realm", "chat's key", now());
    let mut client = gripd.stream("conversation1,user1");
    let refused = |items: Value, why: &str| {
        let (status, body) = publish(&gripd, &chat, &items);
        let told =
            format!("Refused: the token 'chat' may not {why}; it may: publish conversation*, close user*, inspect.");
        assert_eq!((status, body.trim_end()), (403, told.as_str()));
    };
    refused(json!([content("user1", "x")]), "publish \"user1\"");
    refused(json!([{ "channel": "user1", "action": "hint" }]), "publish \"user1\"");
    refused(json!([{ "channel": "conversation1", "action": "close" }]), "close \"conversation1\"");
    refused(
        json!([{ "channel": "conversation1", "formats": { "ws-message": { "action": "close" } } }]),
        "close \"conversation1\"",
    );
    let mut goodbye = content("user1", "x");
    goodbye["action"] = json!("close");
    refused(json!([goodbye]), "publish \"user1\"");
    for (method, path) in
        [("POST", "/recover"), ("DELETE", "/channels/a"), ("GET", "/nothing"), ("DELETE", "/connections/1")]
    {
        let (status, head, body) = ask(&gripd, method, path, &chat, "");
        assert_eq!(status, 403, "{method} {path}");
        assert!(head.contains("error=\"insufficient_scope\""), "{head}");
        assert!(body.contains("may not do this, which requires 'admin'"), "{body}");
    }
    for path in ["/channels", "/channels/user1", "/metrics"] {
        assert_eq!(ask(&gripd, "GET", path, &chat, "").0, 200, "{path}");
    }
    assert_eq!(ask(&gripd, "GET", "/publish", &chat, "").0, 405);
    assert_eq!(publish(&gripd, &chat, &json!([content("conversation1", "yes\n")])).0, 200);
    assert_eq!(publish(&gripd, &chat, &json!([{ "channel": "user1", "action": "close" }])).0, 200);
    assert_eq!(client.chunks(), "yes\n");
    // The token with the scope `admin` may do all of this.
    assert_eq!(ask(&gripd, "POST", "/recover", "s3cret", "").0, 200);
    assert_eq!(ask(&gripd, "GET", "/nothing", "s3cret", "").0, 404);
    assert_eq!(publish(&gripd, "s3cret", &json!([goodbye])).0, 200);
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let gripd = gripd("batch.toml", CHAT);
    let chat = jwt("realm", "chat's key", now());
    let mut client = gripd.stream("conversation1,user1");
    let (good, bad) = (content("conversation1", "no\n"), content("other", "x"));
    let close = json!({ "channel": "user1", "action": "close" });
    for batch in [json!([good, bad]), json!([bad, good]), json!([close, bad]), json!([good, close, bad, good])] {
        assert_eq!(publish(&gripd, &chat, &batch).0, 403);
    }
    assert_eq!(publish(&gripd, &chat, &json!([])).0, 200);
    assert_eq!(publish(&gripd, &chat, &json!([content("conversation1", "yes\n"), close])).0, 200);
    assert_eq!(client.chunks(), "yes\n");
}

#[test]
fn loopback_may_be_exempt_from_tokens() {
    let gripd = gripd("loopback.toml", &format!("control.without_token = [\"loopback\"]\n{CHAT}"));
    // The helpers of the tests send no token.
    let _client = gripd.stream("a");
    assert_eq!((gripd.connections("a"), gripd.say("a", "x"), gripd.metric("control_refused_total")), (1, 1, 0));
    assert_eq!(ask(&gripd, "POST", "/recover", "", "").0, 200);
    assert_eq!(ask(&gripd, "POST", "/recover", "wrong", "").0, 200);
    // Web pages are refused nevertheless.
    let page = "GET /channels HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n";
    assert!(gripd.ask(page).0.starts_with("http/1.1 403"));
}

#[test]
fn a_web_page_is_refused_even_with_a_token() {
    let gripd = gripd("page.toml", CHAT);
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        let request =
            format!("GET /channels HTTP/1.1\r\nHost: localhost\r\n{header}\r\nAuthorization: Bearer s3cret\r\n\r\n");
        assert!(gripd.ask(request).0.starts_with("http/1.1 403"), "{header}");
    }
}

#[test]
fn a_publisher_that_sends_much_gets_the_refusal() {
    let gripd = gripd("much.toml", CHAT);
    let body = "x".repeat(900_000);
    let mut publisher = Client::send(gripd.control, request("POST", "/publish", "wrong", &body));
    assert!(publisher.answer().0.starts_with("http/1.1 401"));
    // The connection serves the next request.
    publisher.write(request("GET", "/metrics", "s3cret", ""));
    assert!(publisher.answer().0.starts_with("http/1.1 200"));
    // A publisher that expects 100 Continue is refused before it sends the body.
    let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    assert!(gripd.ask(head).0.starts_with("http/1.1 401"));
}

#[test]
fn if_no_tokens_are_configured_nobody_needs_one() {
    let gripd = gripd("nobody.toml", "control.without_token = []\n");
    for token in ["", "whatever"] {
        assert_eq!(ask(&gripd, "POST", "/recover", token, "").0, 200);
    }
    assert!(gripd.ask(get("/nothing")).0.starts_with("http/1.1 404"));
}

#[test]
fn a_token_without_inspect_may_not_select_by_channels_of_others() {
    let token = |name: &str, scopes: &str| {
        format!("[[control.token]]\nname = \"{name}\"\nsecret = \"{name}\"\nscopes = [{scopes}]\n")
    };
    let gripd = gripd(
        "choosing.toml",
        &[
            token("room", "\"publish room*\", \"close room*\""),
            token("user", "\"publish room*\", \"close user*\""),
            token("inspect", "\"publish room*\", \"inspect\""),
        ]
        .concat(),
    );
    let _client = gripd.stream("room,user7");
    for choice in [json!({ "with": ["user7"] }), json!({ "except": ["user7"] })] {
        let mut item = content("room", "x");
        item.as_object_mut().unwrap().extend(choice.as_object().unwrap().clone());
        let (status, body) = publish(&gripd, "room", &json!([item]));
        assert!(
            status == 403
                && body.contains("may not select connections by the channel \"user7\", which requires 'inspect'"),
            "{body}"
        );
        assert_eq!(publish(&gripd, "user", &json!([item])).0, 200);
        assert_eq!(publish(&gripd, "inspect", &json!([item])).0, 200);
    }
}
