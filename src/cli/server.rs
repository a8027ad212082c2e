//! The server to which `gripd publish` and `gripd close` send requests, and the credentials for it.

use super::publisher_args::ServerArgs;
use crate::grip::signature::{Key, Signer};
use crate::grip::{base64, form};
use crate::net::{HttpConnection, Peer, Transport, connect, connect_to_file};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The maximum size of a reply, in bytes. A larger reply is an error.
const MAX_REPLY: usize = 1 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The control API of a gripd process, and the credentials for it.
pub(super) struct ControlServer {
    place: ServerPlace,
    /// The path that precedes the paths of the control API. It has no slash at the end.
    path: String,
    proof: Option<Credential>,
}

/// The address of the control API.
#[derive(Debug, PartialEq, Eq)]
enum ServerPlace {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The credentials that are sent with a request.
enum Credential {
    /// The value of an `Authorization` header with a password or a token, which are valid until somebody changes
    /// them. Connections are not encrypted, so this is not sent to another machine.
    Lasting(String),
    /// The signer of a JWT that is valid for an hour. It may be sent to any machine, as GRIP libraries do.
    Jwt(Box<Signer>),
}

impl ControlServer {
    /// Reads the server from the arguments. Options take precedence over the URL.
    pub(super) fn of(args: &ServerArgs) -> Result<Self> {
        let (url, query) = args.spec.split_once('?').unwrap_or((&args.spec, ""));
        let (place, path) = match url.strip_prefix("unix:") {
            Some("") => return Err("'unix:' must name a file".into()),
            Some(file) => (ServerPlace::Unix(file.into()), String::new()),
            None => over_tcp(url)?,
        };
        let proof = match (&args.user, &args.bearer) {
            (Some(user), _) => Some(Credential::Lasting(format!("Basic {}", base64::encode(user.as_bytes())))),
            (None, Some(token)) => Some(Credential::Lasting(format!("Bearer {token}"))),
            (None, None) => of_query(query)?,
        };
        Ok(Self { place, path, proof })
    }

    /// Sends a publish request with this body to the server, and returns the body of the response.
    pub(super) async fn post(&self, body: String) -> Result<Bytes> {
        let transport = match &self.place {
            ServerPlace::Unix(file) => {
                connect_to_file(file).await.map_err(|e| format!("cannot connect to {self}: {e}"))?
            }
            ServerPlace::Tcp { host, port } => {
                let connected = connect(host.trim_matches(['[', ']']), *port).await;
                connected.map_err(|e| format!("cannot connect to {host}:{port}: {e}"))?
            }
        };
        self.exchange(transport, body).await
    }

    /// Sends a publish request with this body over a connection, and returns the body of the response.
    async fn exchange(&self, transport: Transport, body: String) -> Result<Bytes> {
        let reach = match transport.peer() {
            Some(Peer::Unix | Peer::Memory) => ServerReach::ThisMachine,
            Some(Peer::Tcp { remote, .. }) if remote.ip().to_canonical().is_loopback() => ServerReach::ThisMachine,
            Some(Peer::Tcp { .. }) | None => ServerReach::Network,
        };
        let authorization = self.authorization(reach)?;
        let mut connection = HttpConnection::new(transport, None).await?;
        let host = match &self.place {
            ServerPlace::Tcp { host, port } => format!("{host}:{port}"),
            ServerPlace::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::post(format!("{}/publish/", self.path))
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let sent = connection.send(request.body(Full::new(Bytes::from(body)))?).await;
        let response = sent.map_err(|failed| failed.into_error())?;
        let status = response.status();
        let reply = Limited::new(response.into_body(), MAX_REPLY).collect().await;
        let reply = reply.map_err(|e| e.to_string())?.to_bytes();
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&reply).trim()).into());
        }
        Ok(reply)
    }

    /// Returns the value of the `Authorization` header, or `None` if there are no credentials.
    ///
    /// # Errors
    /// The credentials must not be sent to another machine, or they do not fit a header.
    fn authorization(&self, reach: ServerReach) -> Result<Option<HeaderValue>> {
        let value = match &self.proof {
            None => return Ok(None),
            Some(Credential::Lasting(_)) if reach == ServerReach::Network => {
                return Err("a password or token is not sent to another machine without TLS: run this command on \
                    that machine, or use key=KEY and iss=NAME in the server's URL to send a JWT"
                    .into());
            }
            Some(Credential::Lasting(value)) => value.clone(),
            Some(Credential::Jwt(signer)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                format!("Bearer {}", signer.sign(now).ok_or("cannot sign a JWT with the key in the server's URL")?)
            }
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| "the token or key contains characters that are not allowed in an HTTP header")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The part of the network that a request to the server crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerReach {
    /// The server is on this machine, so nobody else can read the request.
    ThisMachine,
    /// The server is on another machine, so others can read the request on its way.
    Network,
}

/// Returns the host and the port of an `http` URL, and its path without a slash at the end. Errors do not quote the
/// URL, because it may contain a password.
fn over_tcp(url: &str) -> Result<(ServerPlace, String)> {
    let uri: Uri = url.parse().map_err(|e| format!("the server's URL cannot be read: {e}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("the server's URL must begin with http:// or unix:; other schemes are not supported yet".into());
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("the server's URL has no host")?.to_owned();
    let place = ServerPlace::Tcp { host, port: uri.port_u16().unwrap_or(80) };
    Ok((place, uri.path().trim_end_matches('/').to_owned()))
}

/// Reads the credentials from the query of a URL, as GRIP libraries write them.
fn of_query(query: &str) -> Result<Option<Credential>> {
    let value = |name| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| form::decode(value))
            .filter(|value| !value.is_empty())
    };
    let Some(key) = value("key") else { return Ok(None) };
    // Base64 contains plus signs, which the decoding of the query has turned into spaces.
    let key = if key.starts_with("base64:") { key.replace(' ', "+").into() } else { key };
    let no_files = |_: &str| Err(String::new());
    let key = Key::parse(&key, no_files).map_err(
        |_| "the key in the server's URL must be plain text, or 'base64:' followed by base64; it cannot name a file",
    )?;
    match (value("iss"), key) {
        (Some(issuer), key) => Ok(Signer::new(&issuer, &key)?.map(|signer| Credential::Jwt(Box::new(signer)))),
        (None, Key::Secret(secret)) => {
            let secret = String::from_utf8(secret).map_err(|_| "the key in the server's URL is not UTF-8 text")?;
            Ok(Some(Credential::Lasting(format!("Bearer {secret}"))))
        }
        (None, Key::Pem(_)) => Err("the key in the server's URL is a PEM key, which can only be used to sign \
            JWTs: add iss=NAME, the name of their issuer"
            .into()),
    }
}

impl fmt::Display for ControlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            ServerPlace::Tcp { host, port } => write!(f, "http://{host}:{port}{}", self.path),
            ServerPlace::Unix(file) => write!(f, "{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(spec: &str) -> Result<ControlServer> {
        ControlServer::of(&ServerArgs { spec: spec.to_owned(), user: None, bearer: None })
    }

    /// Returns the server as it is displayed, and the `Authorization` header that it gets on this machine.
    fn read(spec: &str) -> (String, Option<String>) {
        let server = server(spec).unwrap();
        let shown =
            server.authorization(ServerReach::ThisMachine).unwrap().map(|value| value.to_str().unwrap().to_owned());
        (server.to_string(), shown)
    }

    #[test]
    fn a_server_is_a_url_or_a_file() {
        assert_eq!(read("http://h:1"), ("http://h:1".into(), None));
        assert_eq!(read("http://[::1]/a/"), ("http://[::1]:80/a".into(), None));
        assert_eq!(read("unix:/run/gripd.sock"), ("/run/gripd.sock".into(), None));
        for wrong in ["", "unix:", "https://h", "h:1", "/run/gripd.sock", "http://"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_shown_and_with_an_issuer_a_jwt() {
        let bearer = |spec| read(spec).1;
        assert_eq!(bearer("http://h/?key=s3cret"), Some("Bearer s3cret".into()));
        assert_eq!(bearer("http://h/?key=base64:Pz8/Pz8+"), Some("Bearer ?????>".into()));
        assert_eq!(bearer("unix:/s?key=a%2Bb"), Some("Bearer a+b".into()));
        assert_eq!(bearer("http://h/?iss=realm&verify-key=x&key="), None);
        let jwt = bearer("http://h/?iss=realm&key=base64:Y2hhbmdlbWU%3D").unwrap();
        let verifier = crate::grip::signature::ProxyVerifier::new(&Key::Secret(b"changeme".to_vec())).unwrap().unwrap();
        let claims: serde_json::Value = verifier.claims(jwt.strip_prefix("Bearer ").unwrap()).unwrap();
        assert_eq!(claims["iss"], "realm");
    }

    #[test]
    fn what_lasts_does_not_leave_the_machine_and_no_error_tells_it() {
        let far = |spec: &str| server(spec).and_then(|server| server.authorization(ServerReach::Network));
        assert!(far("http://h/?iss=realm&key=s3cret").unwrap().is_some());
        assert!(far("http://h/?key=s3cret").is_err());
        for wrong in [
            "http://h/?key=s3cret%0A",
            "http://h/?key=base64:s3cret!",
            "http://h/?key=file:s3cret",
            "ftp://h/?key=s3cret",
            "http://s3cret@:x/",
            "s3cret",
        ] {
            let error = server(wrong)
                .and_then(|server| server.authorization(ServerReach::ThisMachine))
                .unwrap_err()
                .to_string();
            assert!(!error.contains("s3cret"), "{wrong}: {error}");
        }
    }
}
