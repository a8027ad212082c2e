//! An origin whose responses a test defines byte for byte.

use super::DEADLINE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The request line: method, target and version.
    pub(crate) line: String,
    /// The header lines, each as `name: value` with the name in lower case, and ended by a newline.
    pub(crate) headers: String,
    /// The body without the framing of its chunks. It is followed by the trailers, in lower case, if there are any.
    pub(crate) body: String,
    /// The body byte for byte, if the request has a `Content-Length`. Otherwise empty.
    pub(crate) raw: Vec<u8>,
    /// The number of the connection on which the request came, counted from 0.
    pub(crate) connection: usize,
}

impl Asked {
    /// Returns the target of the request: the path with the query.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// Returns all values of a header, whose name is given in lower case.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
        self.headers.lines().filter_map(value).collect()
    }

    /// Returns the first value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(": ").map(str::len);
        self.headers.lines().find_map(|line| value(line).map(|len| &line[line.len() - len..]))
    }
}

/// The headers of an answer that holds a stream of the channel `a`.
pub(crate) const HOLD_STREAM: &str = "Grip-Hold: stream\r\nGrip-Channel: a\r\n";

/// A response of the origin.
pub(crate) enum Answer {
    /// These bytes. The connection then serves the next request.
    Bytes(String),
    /// These bytes, which need not be text. The connection then serves the next request.
    Raw(Vec<u8>),
    /// These bytes, and then the end of the connection.
    Last(String),
    /// The bytes that the function writes, and then the end of the connection.
    Write(Box<dyn FnOnce(&mut TcpStream) + Send>),
}

impl Answer {
    /// Returns a response of 200 with a body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::with("", body)
    }

    /// Returns a response of 200 with further header lines, each ended by CRLF, and a body.
    pub(crate) fn with(headers: &str, body: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Returns a response of 200 with the header lines in `hold`, a `Grip-Link` and a body.
    pub(crate) fn linked(hold: &str, link: &str, body: &str) -> Self {
        Self::with(&format!("{hold}Grip-Link: {link}\r\n"), body)
    }

    /// Returns a response that holds the client in `mode` on `channels`, with the body "hello\n".
    pub(crate) fn hold(mode: &str, channels: &str) -> Self {
        Self::with(&format!("Grip-Hold: {mode}\r\nGrip-Channel: {channels}\r\n"), "hello\n")
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// An origin, and the requests that it got.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Origin {
    /// Starts an origin that answers every request by `script`, for as long as the process runs.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// Starts an origin at this address that answers every request by `script`, for as long as the process runs.
    pub(crate) fn start_at(address: SocketAddr, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Arc<Script>) = (Arc::clone(&asked), Arc::new(script));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || serve(stream.unwrap(), connection, &log, &*script));
            }
        });
        Self { address, asked }
    }

    /// Starts an origin that holds `/stream?CHANNELS` and `/poll?CHANNELS`, and answers other requests with "plain\n".
    pub(crate) fn holding() -> Self {
        Self::start(|asked| {
            let target = asked.line.split(' ').nth(1).unwrap();
            match target.split_once('?') {
                Some(("/stream", channels)) => Answer::hold("stream", channels),
                Some(("/poll", channels)) => Answer::hold("response", channels),
                _ => Answer::ok("plain\n"),
            }
        })
    }

    /// Returns the TOML table of a route "chat" to this origin, which takes part in WebSockets over HTTP. `more` is
    /// further lines of the table.
    pub(crate) fn route(&self, more: &str) -> String {
        format!("[[route]]\nid = \"chat\"\ntarget = \"{},over_http\"\n{more}\n", self.address)
    }

    /// Returns the requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns the requests so far for a path, with any query.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        let of_path = |asked: &Asked| asked.target().split('?').next() == Some(path);
        self.asked().into_iter().filter(of_path).collect()
    }

    /// Returns the only request so far. Panics if there is none, or more than one.
    pub(crate) fn asked_once(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }
}

fn serve(stream: TcpStream, connection: usize, log: &Mutex<Vec<Asked>>, script: &Script) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_request(&mut reader, &mut writer, connection) {
        log.lock().unwrap().push(asked.clone());
        match script(&asked) {
            Answer::Bytes(bytes) => {
                if writer.write_all(bytes.as_bytes()).is_err() {
                    return;
                }
            }
            Answer::Raw(bytes) => {
                if writer.write_all(&bytes).is_err() {
                    return;
                }
            }
            Answer::Last(bytes) => return drop(writer.write_all(bytes.as_bytes())),
            Answer::Write(write) => return write(&mut writer),
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream, connection: usize) -> Option<Asked> {
    let line = read_line(reader)?;
    let mut headers = String::new();
    loop {
        let header = read_line(reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        headers.push_str(&format!("{}: {}\n", name.to_ascii_lowercase(), value.trim()));
    }
    let mut asked = Asked { line, headers, body: String::new(), raw: Vec::new(), connection };
    if asked.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if asked.header("transfer-encoding").is_some() {
        asked.body = read_chunks(reader)?;
    } else if let Some(length) = asked.header("content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        asked.body = String::from_utf8_lossy(&body).into_owned();
        asked.raw = body;
    }
    Some(asked)
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut body = String::new();
    loop {
        let size = usize::from_str_radix(&read_line(reader)?, 16).unwrap();
        let mut content = vec![0; size];
        reader.read_exact(&mut content).ok()?;
        body.push_str(std::str::from_utf8(&content).unwrap());
        if size == 0 {
            break;
        }
        read_line(reader)?;
    }
    loop {
        let trailer = read_line(reader)?;
        if trailer.is_empty() {
            return Some(body);
        }
        body.push_str(&trailer.to_ascii_lowercase());
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(count) if count > 0 => Some(line.trim_end().to_owned()),
        _ => None,
    }
}
