//! The built-in demo: a chat, served by an origin of its own.
//!
//! The demo runs when gripd is started without routes, and is an example of a GRIP backend: it uses no internals of
//! gripd. Its requests arrive through gripd, as at any origin. It publishes news to the people in the chat over HTTP,
//! through gripd's control port.
//!
//! | request | effect |
//! |---|---|
//! | `GET /` | returns the page |
//! | `GET /events?name=N&conversation=C` | asks gripd to hold a stream of events |
//! | `GET /poll?name=N&conversation=C&after=L` | returns the news after `L`, or asks gripd to hold the request |
//! | `POST /events?name=N&conversation=C` | answers the events of a WebSocket that gripd holds |
//! | `POST /say` | publishes a message to the conversation |
//! | `POST /kick` | closes a person's connections and keeps the person out |
//! | `GET /who?conversation=C` | returns the people who are connected now |
//!
//! There are no passwords: anybody may take any name, used or not, and remove anybody. A real backend would first
//! check who sends a request.

mod board;
mod chat;
mod chat_event;
mod log;
mod poll;
mod publish;
mod socket;
mod web;
mod woh;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use board::{Board, now_ms};
use chat::{Chat, ConversationId, Kick, PersonName};
use chat_event::ChatEvent;
use publish::{ControlClient, ControlError};
use web::{DemoAnswer, DemoRefusal};

/// The page. `{{control}}` is replaced by the address of the control port.
const PAGE: &str = include_str!("page.html");
/// How long a connection may be idle between two requests. It is longer than gripd keeps idle connections, so that
/// gripd closes them and never sends a request on a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(120);
/// The pause after a failed accept. Without it the loop would spin while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the demo on `listener` forever. It publishes to the gripd whose control port is at `control`, with `token`
/// if that gripd needs one.
pub async fn serve(listener: TcpListener, control: SocketAddr, token: Option<String>) -> io::Result<()> {
    let demo = Arc::new(Demo::new(control, token));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(Arc::clone(&demo), stream));
            }
            Err(error) => {
                warn!("the demo could not accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(demo: Arc<Demo>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("the demo could not set TCP_NODELAY: {error}");
    }
    let service = service_fn(move |request| {
        let demo = Arc::clone(&demo);
        async move { Ok::<_, Infallible>(demo.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!("a connection to the demo ended early: {error}");
    }
}

/// The state that all connections to the demo share.
struct Demo {
    chat: Mutex<Chat>,
    board: Board,
    control: ControlClient,
    page: Bytes,
    /// The Content-Security-Policy of the page.
    policy: HeaderValue,
}

impl Demo {
    fn new(control: SocketAddr, token: Option<String>) -> Self {
        let page = PAGE.replace("{{control}}", &shown(control));
        let policy = web::policy_of(&page);
        let control = ControlClient::new(control, token);
        Self { chat: Mutex::default(), board: Board::new(control.clone()), control, page: page.into(), policy }
    }

    async fn answer(&self, request: Request<Incoming>) -> DemoAnswer {
        let answer = self.route(request).await;
        answer.unwrap_or_else(|refusal| web::text(refusal.status, &refusal.text))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<DemoAnswer, DemoRefusal> {
        let (head, body) = request.into_parts();
        if head.method == Method::POST && web::is_of_another_site(&head.headers) {
            return Err(DemoRefusal::new(StatusCode::FORBIDDEN, "requests from the pages of other sites are refused"));
        }
        let query = head.uri.query();
        match (head.uri.path(), head.method) {
            ("/", Method::GET | Method::HEAD) => Ok(self.page()),
            ("/events", Method::GET) => self.events(query),
            ("/events", Method::POST) if woh::is_carried_by(&head.headers) => {
                self.socket(query, &web::whole_body(body, woh::BODY_MAX).await?).await
            }
            ("/poll", Method::GET) => self.poll(query),
            ("/who", Method::GET) => self.who(query).await,
            ("/say", Method::POST) => self.say(&web::json_body(body).await?).await,
            ("/kick", Method::POST) => self.kick(&web::json_body(body).await?).await,
            ("/", _) => Ok(web::wrong_method("GET, HEAD")),
            ("/events" | "/poll" | "/who", _) => Ok(web::wrong_method("GET")),
            ("/say" | "/kick", _) => Ok(web::wrong_method("POST")),
            _ => Err(DemoRefusal::new(StatusCode::NOT_FOUND, "there is nothing here")),
        }
    }

    fn page(&self) -> DemoAnswer {
        let content_type = "text/html; charset=utf-8";
        let mut answer = web::answer(StatusCode::OK, content_type, self.page.clone());
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
    }

    /// Returns the response that makes gripd hold a stream, and announces the person to the conversation.
    fn events(&self, query: Option<&str>) -> Result<DemoAnswer, DemoRefusal> {
        let (name, conversation) = person_and_conversation(query)?;
        self.admit(&name, &conversation)?;
        let answer = stream(&name, &conversation)?;
        self.announce(name, &conversation);
        Ok(answer)
    }

    /// Announces to a conversation that a person has joined. This is done in a task of its own, so that the person's
    /// response does not wait for it.
    fn announce(&self, name: PersonName, conversation: &ConversationId) {
        let (board, conversation) = (self.board.clone(), conversation.clone());
        tokio::spawn(async move {
            if let Err(error) = board.tell(&conversation, ChatEvent::joined(&name), None).await {
                warn!("could not announce that {} joined: {error}", name.as_str());
            }
        });
    }

    async fn say(&self, body: &Value) -> Result<DemoAnswer, DemoRefusal> {
        let name = PersonName::parse("name", web::member(body, "name")?)?;
        let conversation = ConversationId::parse(web::member(body, "conversation")?)?;
        self.publish_line(&name, &conversation, web::member(body, "text")?).await?;
        Ok(web::no_content())
    }

    /// Publishes a message from a person to a conversation.
    ///
    /// # Errors
    /// The person was removed, the text is not valid, or gripd's control port has failed.
    async fn publish_line(
        &self,
        name: &PersonName,
        conversation: &ConversationId,
        text: &str,
    ) -> Result<(), DemoRefusal> {
        self.admit(name, conversation)?;
        let message = ChatEvent::message(name, chat::check_text(text)?, now_ms());
        self.board.tell(conversation, message, None).await?;
        Ok(())
    }

    async fn kick(&self, body: &Value) -> Result<DemoAnswer, DemoRefusal> {
        let kick = Kick {
            who: PersonName::parse("name", web::member(body, "name")?)?,
            by: PersonName::parse("by", web::member(body, "by")?)?,
            conversation: ConversationId::parse(web::member(body, "conversation")?)?,
            everywhere: body.get("everywhere") == Some(&Value::Bool(true)),
        };
        if kick.who == kick.by {
            return Err("you cannot remove yourself".to_owned().into());
        }
        self.admit(&kick.by, &kick.conversation)?;
        let (goodbye, left, conversation) =
            (chat_event::goodbye(&kick), ChatEvent::left(&kick), kick.conversation.clone());
        // The removal must be remembered before the connections close, because their pages reconnect at once.
        self.chat().kick(kick);
        let receipt = self.board.tell(&conversation, left, Some(goodbye)).await?;
        Ok(web::json(&receipt))
    }

    async fn who(&self, query: Option<&str>) -> Result<DemoAnswer, DemoRefusal> {
        let conversation = ConversationId::parse(&web::parameter(query, "conversation"))?;
        let held = self.control.held(&conversation.member_prefix()).await?;
        let people = held.into_iter().map(|held| json!({"name": held.rest, "connections": held.connections}));
        Ok(web::json(&json!({"people": people.collect::<Vec<_>>()})))
    }

    /// Returns an error if the person was removed from the conversation.
    fn admit(&self, name: &PersonName, conversation: &ConversationId) -> Result<(), DemoRefusal> {
        match self.chat().refusal(name, conversation) {
            Some(reason) => Err(DemoRefusal::new(StatusCode::FORBIDDEN, reason)),
            None => Ok(()),
        }
    }

    /// Returns the state of the chat. Every change to it is complete before anything can panic, so a poisoned lock is
    /// usable.
    fn chat(&self) -> MutexGuard<'_, Chat> {
        self.chat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ControlError> for DemoRefusal {
    fn from(error: ControlError) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, error.to_string())
    }
}

/// Returns the person and the conversation that a query names.
fn person_and_conversation(query: Option<&str>) -> Result<(PersonName, ConversationId), DemoRefusal> {
    let name = PersonName::parse("name", &web::parameter(query, "name"))?;
    let conversation = ConversationId::parse(&web::parameter(query, "conversation"))?;
    Ok((name, conversation))
}

/// Returns the response that makes gripd hold the connection as a stream.
fn stream(name: &PersonName, conversation: &ConversationId) -> Result<DemoAnswer, DemoRefusal> {
    let channels = conversation.channels_of(name).join(", ");
    let channels = HeaderValue::try_from(channels).map_err(|error| DemoRefusal::from(error.to_string()))?;
    let body = format!("retry: 1000\n{}", ChatEvent::hello(name, conversation).event());
    let mut answer = web::answer(StatusCode::OK, "text/event-stream", body);
    let headers = answer.headers_mut();
    headers.insert("grip-hold", HeaderValue::from_static("stream"));
    headers.insert("grip-channel", channels);
    // The keep-alive begins a comment in the event stream. Each published event ends the comment with a newline.
    headers.insert("grip-keep-alive", HeaderValue::from_static(":; timeout=20"));
    Ok(answer)
}

/// Returns the control port's address as somebody on this machine would type it.
fn shown(control: SocketAddr) -> String {
    let ip = control.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        return format!("localhost:{}", control.port());
    }
    control.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_asks_to_be_held_on_its_channels() {
        let name = PersonName::parse("name", "bob").unwrap();
        let conversation = ConversationId::parse("123").unwrap();
        let answer = stream(&name, &conversation).unwrap();
        let headers = answer.headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["grip-hold"], "stream");
        assert_eq!(headers["grip-channel"], "conversation123, user-bob, conversation123-user-bob");
    }

    #[test]
    fn the_page_names_the_control_port() {
        let demo = Demo::new(SocketAddr::from(([0, 0, 0, 0], 5561)), None);
        let page = String::from_utf8(demo.page.to_vec()).unwrap();
        assert!(page.contains("localhost:5561") && !page.contains("{{control}}"));
        assert_eq!(shown(SocketAddr::from(([10, 0, 0, 9], 80))), "10.0.0.9:80");
    }
}
