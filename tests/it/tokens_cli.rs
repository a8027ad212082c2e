//! The program with tokens of the control API: errors in the configuration, lines of the log, and `gripd publish`.

use crate::support::tokens::signed;
use crate::support::{Client, Gripd, get};
use crate::support::{Program, gripd, run};
use crate::tokens::{self, jwt, write};
use jsonwebtoken::{Algorithm, EncodingKey};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A route, which gripd needs in order to start. No test sends requests to it.
const ROUTE: &str = "--route=* localhost:1";

/// Returns the configuration of a token with these lines.
fn token(lines: &str) -> String {
    format!("[[control.token]]\nname = \"chat\"\n{lines}\n")
}

/// Runs `gripd check` with a configuration file of this name and text. Returns the exit code and standard error.
fn check(name: &str, file: &str) -> (i32, String) {
    let path = write(name, file);
    let (code, _, err) = run(&["check", "--config", path.to_str().unwrap(), ROUTE]);
    (code, err)
}

#[test]
fn every_error_of_a_token_is_reported_with_its_line_and_name() {
    let good = "secret = \"s3cret-one\"\nscopes = [\"admin\"]";
    write("empty.secret", " \n");
    let cases = [
        ("scopes = [\"admin\"]\nsecret = \"s3cret one\"", "'chat': secret: the value has characters"),
        ("scopes = [\"admin\"]\nsecret = \"base64:s3cret\"", "'chat': secret: the value must be text"),
        ("scopes = [\"admin\"]\nsecret = \"\"", "'chat': secret: the value is empty"),
        ("scopes = [\"admin\"]\nsecret = \"file:empty.secret\"", "'chat': secret: the value is empty"),
        ("scopes = [\"admin\"]\nsecret = \"file:no.such\"", "'chat': secret: no.such: "),
        ("scopes = [\"admin\"]\nsecret = \"env:GRIPD_NOT_SET\"", "the environment variable 'GRIPD_NOT_SET' is not set"),
        ("scopes = [\"admin\"]\niss = \"i\"\nkey = \"env:\"", "'chat': key: the environment variable '' is not set"),
        ("scopes = [\"admin\"]\nsecret = \"s3cret\"\niss = \"i\"", "'chat': iss is valid only with a key"),
        (
            "scopes = [\"admin\"]\nsecret = \"s3cret\"\nkey = \"s3cret\"",
            "'chat': the token has both a key and a secret",
        ),
        ("scopes = [\"admin\"]\niss = \"i\"", "'chat': the token has neither a key nor a secret"),
        ("scopes = [\"admin\"]\nkey = \"s3cret\"", "'chat': a token with a key must also have an iss"),
        ("scopes = [\"admin\"]\nkey = \"s3cret\"\niss = \"\"", "'chat': a token with a key must also have an iss"),
        ("scopes = [\"admin\"]\nkey = \"\"\niss = \"i\"", "'chat': key: the value is empty"),
        ("scopes = [\"admin\"]\nkey = \"base64:s3cret!\"\niss = \"i\"", "'chat': key: what follows 'base64:'"),
        ("scopes = []\nsecret = \"s3cret\"", "'chat': the token has no scopes"),
        ("secret = \"s3cret\"", "'chat': the token has no scopes"),
        ("scopes = [\"inspect\", \"fly\"]\nsecret = \"s3cret\"", "'chat': scopes: 'fly' is not a valid scope"),
        ("scopes = [\"publish\"]\nsecret = \"s3cret\"", "'chat': scopes: 'publish' must name channels"),
    ];
    for (index, (lines, why)) in cases.iter().enumerate() {
        let (code, err) = check("token_error.toml", &format!("shards = 1\n\n{}", token(lines)));
        assert_eq!(code, 78, "{index}: {err}");
        assert!(err.contains("token_error.toml:3: [[control.token]] ") && err.contains(why), "{lines}: {err}");
        assert!(!err.contains("s3cret"), "{err}");
    }
    let twice = token(good) + &token("secret = \"s3cret-two\"\nscopes = [\"admin\"]");
    let same = token(good) + &token(good).replace("chat", "other");
    for (file, why) in [
        (twice, "'chat': another token has the same name"),
        (same, "'other': the token has the same key or secret as 'chat'"),
    ] {
        let (code, err) = check("token_twice.toml", &file);
        assert!(code == 78 && err.contains("token_twice.toml:5: ") && err.contains(why), "{err}");
        assert!(!err.contains("s3cret"), "{err}");
    }
    // All errors of a file are reported.
    let (_, err) =
        check("token_many.toml", &(token("iss = \"i\"") + &token("scopes = [\"x\"]").replace("chat", "other")));
    assert_eq!(err.lines().count(), 4, "{err}");
}

#[test]
fn settings_that_cannot_be_read_are_reported_with_their_line() {
    for (lines, why) in [
        ("secrets = \"s3cret\"", "unknown setting 'secrets'"),
        ("secret = 12345678", "key and secret must be strings"),
        ("key = [\"s3cret\"]", "key and secret must be strings"),
        ("scopes = \"admin\"", "'control.token.scopes' must be a list"),
    ] {
        let (code, err) = check("token_read.toml", &token(lines));
        assert_eq!(code, 78, "{err}");
        assert!(err.contains("token_read.toml:3: ") && err.contains(why), "{lines}: {err}");
        assert!(!err.contains("s3cret") && !err.contains("12345678"), "{err}");
    }
    for (line, why) in [
        ("without_token = [\"everybody\"]", "unknown value 'everybody'"),
        ("unix_mode = \"0999\"", "octal digits"),
        ("unix_mode = \"01777\"", "octal digits"),
        ("unix_mode = 432", "must be a string in quotes, but is the number 432"),
    ] {
        let (code, err) = check("control_read.toml", &format!("[control]\n{line}\nunix = \"x.sock\"\n"));
        assert!(code == 78 && err.contains("control_read.toml:2: ") && err.contains(why), "{line}: {err}");
    }
    assert!(
        check("mode_only.toml", "control.unix_mode = \"0600\"\n")
            .1
            .contains("control.unix_mode is set, but control.unix is not")
    );
    assert!(check("unix_empty.toml", "control.unix = \"\"\n").1.contains("control.unix: must not be empty"));
}

#[test]
fn keys_and_secrets_may_be_in_the_environment() {
    write("in_env.secret", "from-a-file\n");
    let file = token("secret = \"env:GRIPD_TEST_ONE\"\nscopes = [\"inspect\"]")
        + "[[control.token]]\nname = \"jwt\"\niss = \"i\"\nkey = \"env:GRIPD_TEST_TWO\"\nscopes = [\"inspect\"]\n";
    let config = write("in_env.toml", &file);
    let addresses =
        ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config", config.to_str().unwrap(), ROUTE];
    for (one, shown) in [("as-it-is", "as-it-is"), ("file:in_env.secret", "from-a-file")] {
        let mut command = gripd(&addresses);
        command.env("GRIPD_TEST_ONE", one).env("GRIPD_TEST_TWO", "base64:Y2hhbmdlbWU=");
        let running = Program::of(command);
        for shown in [shown, &jwt("i", "changeme", gripd::origin::now())] {
            let request = format!("GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shown}\r\n\r\n");
            let (head, _) = Client::send(running.control.parse().unwrap(), request).answer();
            assert!(head.starts_with("http/1.1 200"), "{head}");
        }
    }
    let nested = gripd(&["check", "--config", config.to_str().unwrap()])
        .env("GRIPD_TEST_ONE", "env:GRIPD_TEST_TWO")
        .env("GRIPD_TEST_TWO", "x")
        .output()
        .unwrap();
    assert_eq!(nested.status.code(), Some(78));
}

/// Starts a gripd that asks for tokens on every connection to the control API, even from loopback or a Unix socket.
fn asking(name: &str) -> Gripd {
    let table = |name: &str, proof: &str, scopes: &str| {
        format!("[[control.token]]\nname = \"{name}\"\n{proof}\nscopes = [{scopes}]\n")
    };
    let tokens = [
        table("chat", "iss = \"realm\"\nkey = \"chat's key\"", "\"publish a\""),
        table("ops", "secret = \"s3cret\"", "\"admin\""),
    ];
    let control = format!("[control]\nunix = \"{name}.sock\"\nwithout_token = []\n");
    tokens::gripd(&format!("{name}.toml"), &(control + &tokens.concat()))
}

#[test]
fn gripd_publish_uses_the_key_in_the_url() {
    let gripd = asking("cli");
    let mut client = gripd.stream("a");
    let socket = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli.sock");
    let (tcp, unix) = (format!("http://{}/", gripd.control), format!("unix:{}", socket.display()));
    for server in [&tcp, &unix] {
        for query in ["iss=realm&key=chat%27s+key", "iss=realm&key=base64:Y2hhdCdzIGtleQ==", "key=s3cret"] {
            let (code, out, err) = run(&["publish", "--spec", &format!("{server}?{query}"), "a", "x"]);
            assert_eq!((code, out.as_str(), err.as_str()), (0, "Published to 1 connection\n", ""), "{server} {query}");
            client.read_until("2\r\nx\n\r\n");
        }
        let refused = |args: &[&str], why: &str| {
            let (code, _, err) = run(args);
            assert!(code == 1 && err.contains(why) && !err.contains("s3cr"), "{args:?}: {err}");
        };
        refused(&["publish", "--spec", server, "a", "x"], "401 Unauthorized: Refused: no token");
        refused(&["publish", "--spec", &format!("{server}?key=s3cre"), "a", "x"], "unknown token");
        refused(&["publish", "--spec", &format!("{server}?iss=realm&key=s3cret"), "a", "x"], "wrong signature");
        refused(&["close", "--spec", &format!("{server}?iss=realm&key=chat%27s+key"), "a"], "403 Forbidden");
        // The option `-B` overrides the key in the URL.
        refused(&["publish", "--spec", &format!("{server}?key=s3cret"), "-B", "s3cr", "a", "x"], "unknown token");
    }
    let (code, out, err) = run(&["close", "--spec", &unix, "-B", "s3cret", "a"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "Closed 1 connection\n", ""));
}

#[test]
fn grip_url_names_the_server_and_no_error_shows_its_key() {
    let gripd_asking = asking("cli_env");
    let url = format!("http://{}/?iss=realm&key=chat's+key", gripd_asking.control);
    let published = gripd(&["publish", "a", "x"]).env("GRIP_URL", url).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    for url in
        ["http://127.0.0.1:1/?key=s3cret", "unix:/no/such?key=s3cret", "htp://h?key=s3cret", "http://h:x/?key=s3cret"]
    {
        let output = gripd(&["publish", "a", "x"]).env("GRIP_URL", url).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(!String::from_utf8(output.stderr).unwrap().contains("s3cret"), "{url}");
    }
}

#[test]
fn refusals_are_logged_without_the_token() {
    let config = write("logged.toml", &token("secret = \"s3cret\"\nscopes = [\"inspect\"]"));
    let mut running = Program::start(&[ROUTE, "--config", config.to_str().unwrap()]);
    let ask = |line: &str, token: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        Client::send(running.control.parse().unwrap(), request).answer();
    };
    ask("GET /channels?secretly", "wr0ng");
    ask("POST /recover", "s3cret");
    running.signal("TERM");
    let (code, log) = running.wait();
    assert_eq!(code, 0);
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
    assert_eq!(refusals.len(), 2, "{log}");
    assert!(
        refusals[0].contains("WARN") && refusals[0].contains("status=401") && refusals[0].contains("unknown token")
    );
    assert!(refusals[1].contains("status=403") && refusals[1].contains("the token 'chat' may not"), "{log}");
    assert!(refusals.iter().all(|line| line.contains("remote=127.0.0.1:")), "{log}");
    assert!(!log.contains("wr0ng") && !log.contains("s3cret") && !log.contains("secretly"), "{log}");
}

#[test]
fn the_debug_log_names_the_publisher() {
    let file = token("secret = \"s3cret\"\nscopes = [\"publish a\"]")
        + "[[control.token]]\nname = \"jwt\"\niss = \"realm\"\nkey = \"a key\"\nscopes = [\"admin\"]\n";
    let config = write("publisher.toml", &file);
    let mut running = Program::start(&[ROUTE, "--config", config.to_str().unwrap(), "--log", "debug"]);
    let claims = serde_json::json!({ "iss": "realm", "sub": "moderator 7", "exp": gripd::origin::now() + 60 });
    let key = EncodingKey::from_secret(b"a key");
    for shown in ["s3cret", &signed(Algorithm::HS256, None, &key, &claims)] {
        let body = r#"{"items": [{"channel": "a", "action": "hint"}, {"channel": "a", "action": "hint"}]}"#;
        let head = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {shown}\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let (head, _) = Client::send(running.control.parse().unwrap(), request).answer();
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }
    running.signal("TERM");
    let (_, log) = running.wait();
    let accepted: Vec<&str> = log.lines().filter(|line| line.contains("accepted")).collect();
    assert_eq!(accepted.len(), 2, "{log}");
    assert!(accepted.iter().all(|line| line.contains("remote=127.0.0.1:") && line.contains("items=2")), "{log}");
    assert!(accepted[0].contains("token=\"chat\"") && !accepted[0].contains("subject"), "{log}");
    assert!(accepted[1].contains("token=\"jwt\"") && accepted[1].contains("subject=\"moderator 7\""), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_control_port_that_everybody_can_use_causes_a_warning() {
    let with_token = write("warned.toml", &token("secret = \"s3cret\"\nscopes = [\"inspect\"]"));
    let with_token = ["--config", with_token.to_str().unwrap()];
    let everybody = [ROUTE, "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0"];
    let here = [ROUTE, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
    for (args, warned) in [(&[&everybody[..]][..], true), (&[&everybody, &with_token], false), (&[&here], false)] {
        let mut running = Program::of(gripd(&args.concat()));
        running.signal("TERM");
        let (code, log) = running.wait();
        assert_eq!((code, log.contains("can publish messages and close connections")), (0, warned), "{args:?}: {log}");
    }
}

#[test]
fn a_socket_in_use_is_an_error_and_a_socket_is_removed_at_the_end() {
    let socket = Path::new(env!("CARGO_TARGET_TMPDIR")).join("program.sock");
    let _ = std::fs::remove_file(&socket);
    let config = write("program.toml", "control.unix = \"program.sock\"\n");
    let config = [ROUTE, "--config", config.to_str().unwrap()];
    let mut running = Program::start(&config);
    assert!(socket.exists());
    let addresses = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
    let mut second = Program::silent(gripd(&[&addresses, &config[..]].concat()));
    second.says("program.sock: the socket is in use");
    assert_eq!(second.end().code(), Some(1));
    running.signal("TERM");
    assert_eq!(running.wait().0, 0);
    assert!(!socket.exists());
    // A program that was killed leaves its socket behind. The next program replaces it.
    let mut running = Program::start(&config);
    running.signal("KILL");
    running.end();
    assert!(socket.exists());
    let _running = Program::start(&config);
    assert!(UnixStream::connect(&socket).is_ok());
}

#[test]
fn the_demo_has_a_token_of_its_own() {
    let config = write("demo_tokens.toml", &token("secret = \"s3cret\"\nscopes = [\"admin\"]"));
    let running = Program::demo(&["--config", config.to_str().unwrap()]);
    let clients = running.clients.parse().unwrap();
    let line = r#"{"name":"amy","conversation":"123","text":"hi"}"#;
    let head =
        format!("POST /say HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}", line.len());
    let said = Client::send(clients, format!("{head}\r\n\r\n{line}")).head();
    assert!(said.starts_with("http/1.1 2"), "{said}");
    let control = running.control.parse().unwrap();
    assert!(Client::send(control, get("/channels")).answer().0.starts_with("http/1.1 401"));
}
