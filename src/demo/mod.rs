//! The built-in demo: a chat, served by an origin of its own.
//!
//! The demo runs when gripd is started without routes, and is an example of a GRIP backend: it uses no internals of
//! gripd. Its requests arrive through gripd, as at any origin. It publishes news to the people in the chat over HTTP,
//! through gripd's control port, and a webhook of gripd tells it who is here.
//!
//! | request | effect |
//! |---|---|
//! | `GET /` | returns the page |
//! | `GET /events?name=N&conversation=C` | asks gripd to hold a stream of events |
//! | `GET /poll?name=N&conversation=C&after=L` | returns the news after `L`, or asks gripd to hold the request |
//! | `POST /events?name=N&conversation=C` | answers the events of a WebSocket that gripd holds |
//! | `POST /say` | publishes a message to the conversation |
//! | `POST /kick` | closes a person's connections and keeps the person out |
//! | `GET /admission?name=N&conversation=C` | tells whether a person may join, and if not, why and how long |
//! | `POST /presence?secret=S` | takes the events of gripd's webhook |
//!
//! There are no passwords: anybody may take any name, used or not, and remove anybody. A real backend would first
//! check who sends a request.

mod admission;
mod board;
mod chat;
mod chat_event;
mod exchange;
mod log;
mod page;
mod poll;
mod presence;
mod publish;
mod socket;
mod web;
mod webhook;
mod woh;

pub use webhook::WebhookSecret;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use board::{Board, now_ms};
use chat::{Chat, ConversationId, Kick, PersonName, SpokenLine};
use chat_event::{ChatEvent, Publication};
use exchange::GripExchange;
use page::ChatPage;
use presence::{Presence, PresenceChange};
use publish::{ControlClient, ControlError};
use web::{DemoAnswer, DemoRefusal};

/// How long a connection may be idle between two requests. It is longer than gripd keeps idle connections, so that
/// gripd closes them and never sends a request on a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(120);
/// The keep-alive of a stream, a comment that is complete. If its end were missing, the first line of an event that
/// follows would belong to the comment.
const KEEP_ALIVE: HeaderValue = HeaderValue::from_static(r":\n\n; format=cstring; timeout=20");
/// The pause after a failed accept. Without it the loop would spin while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the demo on `listener` forever. It publishes to the gripd whose control port is at `control`, with `token`
/// if that gripd needs one. A webhook of this gripd must send the events `joined` and `left` of the channels
/// `conversation*-user-*` to the target of `webhook`. Without it, the chat works, but does not know who is here.
pub async fn serve(
    listener: TcpListener,
    control: SocketAddr,
    token: Option<String>,
    webhook: WebhookSecret,
) -> io::Result<()> {
    let demo = Arc::new(Demo::new(control, token, webhook));
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
    presence: Mutex<Presence>,
    board: Board,
    control: ControlClient,
    webhook: WebhookSecret,
    page: ChatPage,
}

impl Demo {
    fn new(control: SocketAddr, token: Option<String>, webhook: WebhookSecret) -> Self {
        let page = ChatPage::new(control);
        let control = ControlClient::new(control, token);
        let board = Board::new(control.clone());
        Self { chat: Mutex::default(), presence: Mutex::default(), board, control, webhook, page }
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
            ("/", Method::GET | Method::HEAD) => Ok(self.page.answer()),
            ("/events", Method::GET) => self.events(query),
            ("/events", Method::POST) if woh::is_carried_by(&head.headers) => {
                self.socket(query, &web::whole_body(body, woh::BODY_MAX).await?).await
            }
            ("/poll", Method::GET) => self.poll(query),
            ("/admission", Method::GET) => self.admission(query).await,
            ("/say", Method::POST) => self.say(&web::json_body(body, web::BODY_MAX).await?).await,
            ("/kick", Method::POST) => self.kick(&web::json_body(body, web::BODY_MAX).await?).await,
            ("/presence", Method::POST) => {
                self.admit_webhook(query)?;
                Ok(self.presence(&web::json_body(body, webhook::BODY_MAX).await?).await)
            }
            ("/", _) => Ok(web::wrong_method("GET, HEAD")),
            ("/events" | "/poll" | "/admission", _) => Ok(web::wrong_method("GET")),
            ("/say" | "/kick" | "/presence", _) => Ok(web::wrong_method("POST")),
            _ => Err(DemoRefusal::new(StatusCode::NOT_FOUND, "there is nothing here")),
        }
    }

    /// Returns the response that makes gripd hold a stream.
    fn events(&self, query: Option<&str>) -> Result<DemoAnswer, DemoRefusal> {
        let (name, conversation) = person_and_conversation(query)?;
        self.admit(&name, &conversation)?;
        let instructions = stream_instructions(&name, &conversation);
        let target = format!("/events?{}", query.unwrap_or_default());
        let hello = self.hello(&name, &conversation, &GripExchange::of_get(&target, &instructions));
        let mut answer = web::answer(StatusCode::OK, "text/event-stream", format!("retry: 1000\n{}", hello.event()));
        answer.headers_mut().extend(instructions);
        Ok(answer)
    }

    /// Returns the event that greets a person, who counts as here although gripd has not reported it yet.
    fn hello(&self, name: &PersonName, conversation: &ConversationId, exchange: &GripExchange) -> ChatEvent {
        let here = self.here().listed(conversation, Some(name));
        ChatEvent::hello(name, conversation, here, exchange)
    }

    async fn say(&self, body: &Value) -> Result<DemoAnswer, DemoRefusal> {
        let name = PersonName::parse("name", web::member(body, "name")?)?;
        let conversation = ConversationId::parse(web::member(body, "conversation")?)?;
        let line =
            SpokenLine::of_json(body).ok_or_else(|| "the body must be JSON with a string \"text\"".to_owned())?;
        let publication = self.publish_line(&name, &conversation, &line).await?;
        Ok(web::json(&publication.value()))
    }

    /// Publishes a message from a person to a conversation.
    ///
    /// # Errors
    /// The person was removed, the text is not valid, or gripd's control port has failed.
    async fn publish_line(
        &self,
        name: &PersonName,
        conversation: &ConversationId,
        line: &SpokenLine,
    ) -> Result<Publication, DemoRefusal> {
        self.admit(name, conversation)?;
        line.check()?;
        Ok(self.board.tell(conversation, ChatEvent::message(name, line, now_ms()), None).await?)
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
            (chat_event::goodbye(&kick), self.without(&kick), kick.conversation.clone());
        // The removal must be remembered before the connections close, because their pages reconnect at once.
        self.chat().kick(kick);
        let publication = self.board.tell(&conversation, left, Some(goodbye)).await?;
        Ok(web::json(&publication.value()))
    }

    /// Takes a removed person out of the people who are here, and returns the event that tells the others.
    fn without(&self, kick: &Kick) -> ChatEvent {
        let (who, conversation) = (kick.who.clone(), kick.conversation.clone());
        let mut presence = self.here();
        // It does not matter if the person was not here: the removal is announced nevertheless.
        presence.apply(&PresenceChange { who, conversation, joined: false });
        ChatEvent::kicked(kick, presence.listed(&kick.conversation, None))
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

    /// Returns the people who are here. As with [`chat`](Self::chat), a poisoned lock is usable.
    fn here(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Returns the headers that make gripd hold the connection as a stream.
fn stream_instructions(name: &PersonName, conversation: &ConversationId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grip-hold", HeaderValue::from_static("stream"));
    headers.insert("grip-channel", channel_header(&conversation.channels_of(name).join(", ")));
    headers.insert("grip-keep-alive", KEEP_ALIVE);
    headers
}

/// Returns the value of a `Grip-Channel` header. GRIP proxies read it as UTF-8, so that names need no encoding.
fn channel_header(channels: &str) -> HeaderValue {
    // This cannot fail, because neither a name nor the identifier of a conversation contains a control character.
    HeaderValue::from_bytes(channels.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_asks_to_be_held_on_its_channels() {
        let name = PersonName::parse("name", "bob").unwrap();
        let conversation = ConversationId::parse("123").unwrap();
        let headers = stream_instructions(&name, &conversation);
        assert_eq!(headers["grip-hold"], "stream");
        assert_eq!(headers["grip-channel"], "conversation123, user-bob, conversation123-user-bob");
        // An event that follows the keep-alive must begin on a line of its own.
        assert!(headers["grip-keep-alive"].as_bytes().starts_with(br":\n\n; format=cstring"));
    }

    #[test]
    fn a_channel_is_named_in_utf_8() {
        let name = PersonName::parse("name", "प्रिया").unwrap();
        let headers = stream_instructions(&name, &ConversationId::parse("1").unwrap());
        let channels = "conversation1, user-प्रिया, conversation1-user-प्रिया";
        assert_eq!(headers["grip-channel"].as_bytes(), channels.as_bytes());
    }
}
