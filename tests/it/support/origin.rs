//! An origin that answers as a test tells it to, byte for byte.

use super::DEADLINE;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) line: String,
    /// Header lines, in lower case.
    pub(crate) headers: String,
    /// The body, chunks resolved, trailers behind it.
    pub(crate) body: String,
    /// The body of a request with a length, byte for byte.
    pub(crate) raw: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
}

impl Asked {
    /// The path with the query.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
        self.headers.lines().filter_map(value).collect()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(": ").map(str::len);
        self.headers.lines().find_map(|line| value(line).map(|len| &line[line.len() - len..]))
    }
}

/// The headers of an answer that holds a stream of the channel `a`.
pub(crate) const HOLD_STREAM: &str = "Grip-Hold: stream\r\nGrip-Channel: a\r\n";

/// What to answer.
pub(crate) enum Answer {
    /// These bytes, and go on.
    Bytes(String),
    /// These bytes, which are no text, and go on.
    Raw(Vec<u8>),
    /// These bytes, then the end of the connection.
    Last(String),
    /// Whatever the function writes, then the end of the connection.
    Write(Box<dyn FnOnce(&mut TcpStream) + Send>),
}

impl Answer {
    /// 200 with a body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::with("", body)
    }

    /// 200 with further header lines, each ended by CRLF, and a body.
    pub(crate) fn with(headers: &str, body: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// 200 with further header lines, as `hold`, a `Grip-Link` and a body.
    pub(crate) fn linked(hold: &str, link: &str, body: &str) -> Self {
        Self::with(&format!("{hold}Grip-Link: {link}\r\n"), body)
    }

    /// A hold in `mode`, of `channels`, with the body "hello\n".
    pub(crate) fn hold(mode: &str, channels: &str) -> Self {
        Self::with(&format!("Grip-Hold: {mode}\r\nGrip-Channel: {channels}\r\n"), "hello\n")
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// An origin, and what it was asked.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Origin {
    /// Answers every request by `script`, for as long as the process runs.
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// The same, at this address.
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

    /// Holds everything: `/stream?CHANNELS` and `/poll?CHANNELS`.
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

    /// The table of a route "chat" to it, over HTTP for WebSockets, with further lines.
    pub(crate) fn route(&self, more: &str) -> String {
        format!("[[route]]\nid = \"chat\"\ntarget = \"{},over_http\"\n{more}\n", self.address)
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests for a path so far.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        let of_path = |asked: &Asked| asked.target().split('?').next() == Some(path);
        self.asked().into_iter().filter(of_path).collect()
    }

    /// The only request so far.
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
