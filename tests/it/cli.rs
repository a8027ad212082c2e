//! The program `gripd`: its commands, exit codes, log and signals.

use crate::support::{Answer, Client, Origin, Program, eventually, get, gripd, run};
use gripd::net::ListenAddress;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use tracing::level_filters::LevelFilter;

fn write(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_commands_publish_and_close_reach_a_stream() {
    let origin = Origin::holding();
    let route = format!("* {}", origin.address);
    let mut running = Program::start(&["--route", &route, "--shards", "1"]);
    let mut client = Client::send(running.clients.parse().unwrap(), get("/stream?conversation123,user456"));
    client.read_until("hello\n\r\n");
    let spec = format!("http://{}", running.control);
    let (code, out, err) = run(&["publish", "--spec", &spec, "conversation123", "welcome"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "Published to 1 connection\n", ""));
    assert_eq!(client.read_until("welcome\n\r\n"), "8\r\nwelcome\n\r\n");
    let (code, out, _) = run(&["close", "user456", "--spec", &spec]);
    assert_eq!((code, out.as_str()), (0, "Closed 1 connection\n"));
    assert_eq!(client.rest(), "0\r\n\r\n");
    running.signal("TERM");
    let (code, log) = running.wait();
    assert_eq!(code, 0, "{log}");
    for expected in
        ["method=\"GET\"", "hold=\"stream\"", "channel=\"conversation123\"", "delivered=1", "closed=1", "stopped"]
    {
        assert!(log.contains(expected), "{expected} is missing: {log}");
    }
    assert!(!log.contains("changeme"));
}

#[test]
fn publish_sends_a_file_and_closes() {
    let origin = Origin::holding();
    let running = Program::start(&["--route", &format!("* {}", origin.address)]);
    let mut client = Client::send(running.clients.parse().unwrap(), get("/stream?user456"));
    client.read_until("hello\n\r\n");
    let file = write("goodbye", "from a file");
    let spec = format!("http://{}", running.control);
    let content = format!("@{}", file.display());
    assert_eq!(run(&["publish", "--close", "--spec", &spec, "user456", &content]).0, 0);
    assert_eq!(client.rest(), "b\r\nfrom a file\r\n0\r\n\r\n");
}

#[test]
fn a_signal_drains_and_a_second_one_ends_gripd_at_once() {
    let mut running = Program::start(&["--route", "* localhost:1"]);
    running.signal("TERM");
    assert_eq!(running.wait().0, 0);
    // A stream keeps the second gripd draining, until another signal ends it.
    let origin = Origin::holding();
    let config = write("slow-drain.toml", "drain = 60\n");
    let route = format!("* {}", origin.address);
    let mut running = Program::start(&["--config", config.to_str().unwrap(), "--route", &route]);
    let mut client = Client::send(running.clients.parse().unwrap(), get("/stream?a"));
    client.read_until("hello\n\r\n");
    let mut polling = Client::send(running.clients.parse().unwrap(), get("/poll?a"));
    running.signal("INT");
    // The long-poll is answered when the drain begins.
    assert_eq!(polling.answer().1, "hello\n");
    running.signal("TERM");
    assert_eq!(running.wait().0, 1);
}

#[test]
fn the_demo_serves_its_page_and_prints_commands_that_work() {
    let demo = Program::demo(&[]);
    let clients = demo.clients.parse().unwrap();
    let (head, page) = Client::send(clients, get("/")).answer();
    assert!(head.contains("text/html") && page.contains("EventSource") && page.contains("WebSocket"), "{head}");
    demo.prints(&format!("http://localhost:{}/", demo.clients.rsplit_once(':').unwrap().1));
    demo.prints("Ctrl-C");
    let join = || Client::send(clients, get("/events?name=bob&conversation=123"));
    let mut bob = join();
    bob.read_until("event: hello");
    let type_next = |command: &str| {
        let line = demo.prints(command);
        let done = Command::new("sh").args(["-c", &line]).env_remove("GRIP_URL").output().unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    };
    assert_eq!(type_next(" publish conversation123 hello"), "Published to 1 connection\n");
    bob.read_until("data: hello\n");
    assert_eq!(type_next(" close user-bob --deny-for 60"), "Closed 1 connection\n");
    bob.rest();
    assert!(join().head().starts_with("http/1.1 403"));
}

#[test]
fn without_routes_only_the_demo_starts() {
    let none = write("no-routes.toml", "shards = 1\n");
    let none = none.to_str().unwrap();
    write("empty-routes", "# none\n");
    let empty = write("empty-routes.toml", "routes = \"empty-routes\"\n");
    let empty = empty.to_str().unwrap();
    for args in
        [&["--config", none][..], &["check", "--config", none], &["--config", empty], &["check", "--config", empty]]
    {
        let (code, _, err) = run(args);
        assert_eq!(code, 78, "{args:?}: {err}");
        assert!(err.contains("-routes") && err.contains("there are no routes: add one, such as [[route]]"), "{err}");
    }
    let routed = write("routed.toml", "[[route]]\ntarget = \"localhost:1\"\n");
    let (code, _, err) = run(&["demo", "--config", routed.to_str().unwrap()]);
    assert!(code == 78 && err.contains("the demo serves only its own chat"), "{err}");
    // The options of the daemon are not taken before a command, where they would have no effect.
    assert_eq!(run(&["--config", none, "check"]).0, 2);
    Program::demo(&["--config", none]);
}

#[test]
fn the_example_configuration_is_valid_and_shows_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/gripd.toml");
    let (code, out, err) = run(&["check", "--config", example]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let load = |path: Option<&Path>| {
        let overrides = gripd::config::Overrides { demo: path.is_none(), ..Default::default() };
        let mut config = gripd::config::Config::load(path, &overrides).unwrap();
        // By default, the demo is served to this machine only, and logs only warnings.
        (config.routes, config.log) = (None, LevelFilter::INFO);
        config.written = Default::default();
        config.sources = Vec::new();
        let ListenAddress::Tcp(address) = &mut config.listen else { panic!("{:?}", config.listen) };
        address.set_ip([0, 0, 0, 0].into());
        format!("{config:?}")
    };
    assert_eq!(load(Some(Path::new(example))), load(None));
}

#[test]
fn every_error_of_a_configuration_is_reported_with_its_location() {
    let unknown = write("unknown.toml", "shards = 1\n\n[client]\nmax_chanels = 3\n");
    let (code, _, err) = run(&["check", "--config", unknown.to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(err.contains("unknown.toml:4") && err.contains("max_chanels"), "{err}");

    write("bad-routes", "* localhost:8000\n*,color=red localhost:1\nb\n");
    let many = write("many.toml", "routes = \"bad-routes\"\n[origin]\nsig_key = \"base64:?\"\n\n");
    for args in [["check", "--config", many.to_str().unwrap()], ["--config", many.to_str().unwrap(), "--shards=1"]] {
        let (code, _, err) = run(&args);
        assert_eq!(code, 78, "{err}");
        for expected in ["bad-routes:2", "color", "bad-routes:3", "sig_key"] {
            assert!(err.contains(expected), "{expected} is missing: {err}");
        }
    }
    assert_eq!(run(&["--config", "/does/not/exist"]).0, 78);
    for (line, why) in [
        ("shards = 70000", "threads"),
        ("drain = -1", "seconds"),
        ("delivery.close_grace = 0", "from a millisecond to a year"),
        ("delivery.close_grace = 1e19", "from a millisecond to a year"),
        ("delivery.close_grace = \"soon\"", "give a duration, such as 250ms"),
        ("client.max_channels = 0", "must be a whole number above 0"),
        ("client.max_chanels = 5", "did you mean 'max_channels'?"),
    ] {
        let file = write("value.toml", &format!("log = \"info\"\n{line}\n"));
        let (code, _, err) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(code, 78, "{line}");
        assert!(err.contains("value.toml:2") && err.contains(why), "{line}: {err}");
    }
    let good = write("good.toml", "shards = 1\n");
    assert_eq!(run(&["--config", good.to_str().unwrap(), "--route", "x"]).0, 2);
}

#[test]
fn one_check_reports_the_errors_of_all_kinds_at_once() {
    let text = "drain = \"soon\"\nshrads = 1\n\n[origin]\nsig_key = \"base64:?\"\n\n[[route]]\nhost = \"a\"\n\n\
                [[route]]\ntarget = \"localhost\"\n\n[[webhook]]\nurl = \"ftp://x\"\n\n[[control.token]]\nname = \"t\"\n\
                secret = \"s\"\nscopes = [\"fly\"]\n";
    let file = write("all-wrong.toml", text);
    let (code, out, err) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    for (line, why) in [
        (1, "'drain': give a duration"),
        (2, "unknown setting 'shrads': did you mean 'shards'?"),
        (5, "origin.sig_key"),
        (7, "the setting 'target' is missing"),
        (10, "the target 'localhost' has no port"),
        (13, "[[webhook]] 1: url"),
        (16, "'fly' is not a valid scope"),
    ] {
        let place = format!("all-wrong.toml:{line}: ");
        let found = err.lines().any(|error| error.contains(&place) && error.contains(why));
        assert!(found, "{place}{why} is missing: {err}");
    }
    assert_eq!(err.lines().count(), 7, "{err}");
}

#[test]
fn all_errors_of_one_route_and_of_one_webhook_are_reported() {
    let text = "[[route]]\ntarget = \"localhost:1,x=1\"\nlog_level = 9\nproto = \"q\"\n\n[[webhook]]\nurl = \"ftp://x\"\n\
                events = [\"x\"]\nsig_key = \"base64:?\"\n";
    let file = write("one-route.toml", text);
    let (code, _, err) = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 78, "{err}");
    for why in [
        "one-route.toml:1: unknown target option 'x'",
        "one-route.toml:1: log_level must be a number from 0 to 4",
        "one-route.toml:1: proto must be set to either 'http' or 'ws'",
        "one-route.toml:6: [[webhook]] 1: url: ",
        "one-route.toml:6: [[webhook]] 1: events: ",
        "one-route.toml:6: [[webhook]] 1: sig_key: ",
    ] {
        assert!(err.contains(why), "{why} is missing: {err}");
    }
    let (_, _, err) = run(&["check", "--route", "*,pathbeg=/a localhost:1,overhttp"]);
    assert!(err.contains("'pathbeg': did you mean 'path_beg'?"), "{err}");
    assert!(err.contains("'overhttp': did you mean 'over_http'?"), "{err}");
}

#[test]
fn check_tries_what_it_can_and_sums_up_what_would_run() {
    let origin = Origin::holding();
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let used = used.local_addr().unwrap().to_string();
    let state = crate::support::folder("check-state");
    let config = write(
        "tried.toml",
        &format!(
            "state_dir = {state:?}\n[[route]]\nid = \"chat\"\ntarget = \"{}\"\n[control]\nunix = \"tried.sock\"\n\
             [[control.token]]\nname = \"t\"\nsecret = \"s3cret\"\nscopes = [\"admin\"]\n[[webhook]]\nurl = \"http://127.0.0.1:1/\"\n",
            origin.address
        ),
    );
    let config = config.to_str().unwrap();
    let (code, out, err) = run(&["check", "--config", config, "--listen", &used, "--control", "0", "--shards", "3"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for expected in [
        "The configuration is valid: 1 route.",
        &format!("clients     {used}"),
        "publishers  127.0.0.1:0 (1 token)",
        "tried.sock",
        "threads     3",
        "check-state",
        "webhooks    1",
        &format!("route       chat -> {}", origin.address),
        &format!("Note: the address {used} for clients is in use"),
    ] {
        assert!(out.contains(expected), "{expected} is missing: {out}");
    }
    assert!(!out.contains("s3cret") && std::fs::read_dir(&state).unwrap().next().is_none());
    let away = ["check", "--route", "* 127.0.0.1:1", "--listen", "0", "--control", "0"];
    let (code, out, _) = run(&away);
    assert!(code == 0 && out.contains("Note: the origin 127.0.0.1:1 cannot be reached now: "), "{out}");
    let twice = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, _, err) = run(&["check", "--route", "* 127.0.0.1:1", "--listen", &twice, "--control", &twice]);
    assert!(code == 78 && err.contains("for publishers cannot be used: another setting has the same address"), "{err}");
    // Nobody has this address, and the folder does not exist.
    let unusable = write("unusable.toml", "state_dir = \"/proc/no/such\"\nlisten = \"unix:/proc/no/such.sock\"\n");
    let unusable =
        ["check", "--config", unusable.to_str().unwrap(), "--route", "* localhost:1", "--control", "192.0.2.1:1"];
    let (code, out, err) = run(&unusable);
    assert_eq!(code, 78, "{out}{err}");
    assert!(!out.contains("is valid"), "{out}");
    for expected in
        ["unix:/proc/no/such.sock for clients", "192.0.2.1:1 for publishers", "state_dir: the folder /proc/no/such"]
    {
        assert!(err.contains(expected), "{expected} is missing: {err}");
    }
}

/// Runs a program with variables in its environment. Returns the exit code, standard output and standard error.
fn with_environment(args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let done = gripd(args).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn every_setting_can_be_an_environment_variable() {
    let config = write("environment.toml", "shards = 5\n[client]\nidle_timeout = 70\n");
    let config = config.to_str().unwrap();
    let variables = [
        ("GRIPD_CONFIG", config),
        ("GRIPD_ROUTE", "a,id=one localhost:1\nb,id=two localhost:2,over_http"),
        ("GRIPD_LISTEN", "localhost:0"),
        ("GRIPD_CONTROL_LISTEN", "0"),
        ("GRIPD_SHARDS", "2"),
        ("GRIPD_CLIENT_PROXIES", "10.0.0.0/8, ::1"),
        ("GRIPD_DELIVERY_CLIENT_BUFFER", "1MiB"),
        ("GRIPD_WEBSOCKET_COMPRESSION", "true"),
        ("GRIPD_CONTROL_TOKEN", r#"[{ name = "t", secret = "s3cret", scopes = ["admin"] }]"#),
        // Other programs may use the same beginning, as Kubernetes does for a service with this name.
        ("GRIPD_PORT", "tcp://10.0.0.1:80"),
    ];
    let (code, out, err) = with_environment(&["check"], &variables);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for expected in ["2 routes", "127.0.0.1:0 (1 token)", "threads     2", "one -> localhost:1", "two -> localhost:2"] {
        assert!(out.contains(expected), "{expected} is missing: {out}");
    }
    let (_, out, _) = with_environment(&["check", "--shards", "4", "--route", "c localhost:3"], &variables);
    assert!(out.contains("threads     4") && out.contains("1 route.") && out.contains("localhost:3"), "{out}");
    // An empty variable counts as one that is not set, and one that is no setting is noted.
    let empty = [("GRIPD_SHARDS", ""), ("GRIPD_CONFIG", ""), ("GRIPD_ROUTE", ""), ("GRIPD_CLIENT_IDEL_TIMEOUT", "5")];
    let (code, out, err) =
        with_environment(&["check", "--route", "* localhost:1", "--listen", "0", "--control", "0"], &empty);
    assert!(
        code == 0 && out.contains("Note: the environment variable GRIPD_CLIENT_IDEL_TIMEOUT is no setting"),
        "{err}"
    );
    for (name, value, why) in [
        ("GRIPD_SHARDS", "many", "the environment variable GRIPD_SHARDS: 'shards' must be a whole number"),
        ("GRIPD_CLIENT_PROXIES", "nowhere", "the environment variable GRIPD_CLIENT_PROXIES: client.proxies: "),
        ("GRIPD_DRAIN", "soon", "the environment variable GRIPD_DRAIN: 'drain': give a duration"),
        ("GRIPD_ROUTE", "nonsense", "the environment variable GRIPD_ROUTE: line 1: "),
    ] {
        let (code, _, err) = with_environment(&["check", "--config", config], &[(name, value)]);
        assert!(code == 78 && err.contains(why), "{name}: {err}");
    }
}

#[test]
fn the_defaults_can_be_printed() {
    let (code, out, err) = run(&["config", "--defaults"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/gripd.toml")).unwrap());
    let file = write("printed.toml", &out);
    assert_eq!(run(&["check", "--config", file.to_str().unwrap(), "--listen", "0", "--control", "0"]).0, 0);
}

#[test]
fn wrong_arguments_exit_with_2_and_failures_with_1() {
    assert_eq!(run(&["--no-such-option"]).0, 2);
    let (code, _, err) = run(&["--route", "*"]);
    assert_eq!(code, 2);
    assert!(err.contains("must specify condition and at least one target"), "{err}");
    assert_eq!(run(&["publish", "channel"]).0, 2);
    let (code, _, err) = run(&["close", "user456", "--spec", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot connect"), "{err}");
    let running = Program::start(&["--route", "* localhost:1"]);
    let (code, _, err) = run(&["--route", "* localhost:1", "--listen", &running.clients, "--control", "127.0.0.1:0"]);
    assert_eq!(code, 1);
    assert!(err.contains(&running.clients) && err.contains("in use"), "{err}");
}

#[test]
fn a_route_sets_the_log_level_of_its_requests() {
    let origin = Origin::holding();
    let routes = ["quiet,log_level=1", "loud,log_level=2", "*"].map(|route| format!("{route} {}", origin.address));
    let mut args = Vec::new();
    routes.iter().for_each(|route| args.extend(["--route", route]));
    let logged = |clients: &str, running: &mut Program| {
        for host in ["quiet", "loud", "other"] {
            let request = format!("GET /at-{host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            Client::send(clients.parse().unwrap(), request).answer();
        }
        running.signal("TERM");
        let log = running.wait().1;
        ["quiet", "loud", "other"].map(|host| log.matches(&format!("uri=/at-{host}")).count())
    };
    let mut running = Program::start(&args);
    let clients = running.clients.clone();
    assert_eq!(logged(&clients, &mut running), [0, 1, 1]);
    // At the level `warn` the log does not say where gripd listens, so the test chooses the ports. No other test uses
    // this loopback address.
    let port = || std::net::TcpListener::bind("127.83.1.1:0").unwrap().local_addr().unwrap().to_string();
    let (clients, control) = (port(), port());
    let quiet = ["--log", "warn", "--listen", &clients, "--control", &control];
    let mut running = Program::start_at(&[&quiet, &args[..]].concat(), &clients, &control);
    eventually("gripd listens", || std::net::TcpStream::connect(&clients).is_ok());
    assert_eq!(logged(&clients, &mut running), [0, 1, 0]);
}

#[test]
fn routes_are_reloaded_while_gripd_runs() {
    let answer = |text: &'static str| Origin::start(move |_| Answer::ok(text));
    let (one, other) = (answer("one"), answer("other"));
    write("changing", &format!("* {}\n", one.address));
    let config = write("changing.toml", "routes = \"changing\"\ndrain = 0.1\n");
    let mut running = Program::start(&["--config", config.to_str().unwrap()]);
    let clients = running.clients.parse().unwrap();
    let ask = || Client::send(clients, get("/")).answer().1;
    assert_eq!(ask(), "one");
    // gripd looks for changes of the file once a second.
    write("changing", &format!("* {}\n\n", other.address));
    eventually("the changed file is in use", || ask() == "other");
    // A file with an error changes nothing.
    write("changing", "* nonsense\n");
    running.signal("HUP");
    running.says("changing:1: the target 'nonsense' has no port");
    assert_eq!(ask(), "other");
    // SIGHUP makes gripd read the file at once.
    write("changing", &format!("* {}\n", one.address));
    running.signal("HUP");
    eventually("the file is in use after the signal", || ask() == "one");
    running.signal("TERM");
    let (code, log) = running.wait();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("changing:1: the target 'nonsense' has no port"), "{log}");
    assert!(log.contains("the reload failed; the current configuration remains in effect"), "{log}");
}

#[test]
fn publish_takes_the_options_of_pushpin_publish() {
    let origin = Origin::start(|_| {
        Answer::with(
            "Grip-Hold: response\r\nGrip-Channel: a; filter=skip-self\r\nGrip-Set-Meta: user=me\r\n",
            "{\"n\":1}",
        )
    });
    let running = Program::start(&["--route", &format!("* {}", origin.address)]);
    let spec = format!("http://{}", running.control);
    let publish = |args: &[&str]| {
        let (code, out, err) = run(&[&["publish", "--spec", &spec, "a"], args].concat());
        assert!(code == 0 && out.starts_with("Published"), "{out}{err}");
    };
    let connections = || {
        let body = Client::send(running.control.parse().unwrap(), get("/channels/a")).answer().1;
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["connections"].as_u64().unwrap()
    };
    let poll = || {
        let client = Client::send(running.clients.parse().unwrap(), get("/"));
        eventually("the connection is held", || connections() == 1);
        client
    };
    let mut client = poll();
    publish(&["--sender", "me", "nothing for me"]);
    publish(&["--id", "2", "--prev-id", "1", "--code", "201", "-H", "X-A: b", "-M", "k=v", "--no-seq", "text"]);
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.1 201") && head.contains("x-a: b"), "{head}");
    assert_eq!(body, "text\n");
    let mut client = poll();
    publish(&["--no-eol", "text"]);
    assert_eq!(client.answer().1, "text");
    let mut client = poll();
    publish(&["--patch", "[{\"op\":\"replace\",\"path\":\"/n\",\"value\":2}]"]);
    assert_eq!(client.answer().1, "{\"n\":2}");
    let _client = poll();
    let before = origin.asked().len();
    publish(&["--hint"]);
    eventually("the origin is asked again", || origin.asked().len() > before);
    let (code, out, _) = run(&["publish", "--spec", &spec, "a", "-B", "token", "--close"]);
    assert_eq!((code, out.as_str()), (0, "Closed 1 connection\n"));
    assert_eq!(run(&["publish", "--spec", "https://localhost", "a", "x"]).0, 1);
    assert_eq!(run(&["publish", "a"]).0, 2);
    assert_eq!(run(&["publish", "-u", "a:b", "-B", "c", "a", "x"]).0, 2);
}

#[test]
fn user_signals_do_not_end_gripd() {
    let mut program = Program::start(&["--route", "* localhost:1"]);
    program.signal("USR1");
    program.says("SIGUSR1");
    program.signal("USR2");
    program.says("SIGUSR2");
    program.signal("TERM");
    assert_eq!(program.wait().0, 0);
}

#[test]
fn a_log_line_is_escaped_and_limited_in_length() {
    let origin = Origin::holding();
    let mut program = Program::start(&["--route", &format!("* {}", origin.address)]);
    let clients = program.clients.parse().unwrap();
    Client::send(clients, get(&format!("/{}", "x".repeat(20_000)))).head();
    program.says("bytes are left out)");
    let item = json!({ "channel": "\u{9b}31m\u{202e}", "http-stream": { "content": "x" } });
    let body = json!({ "items": [item] }).to_string();
    let request = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(Client::send(program.control.parse().unwrap(), request).head().starts_with("http/1.1 200"));
    program.says("202e");
    program.signal("TERM");
    let (_, log) = program.wait();
    assert!(log.contains("\\u{9b}31m\\u{202e}") && !log.contains('\u{9b}') && !log.contains('\u{202e}'), "{log}");
}
