//! The bytes of HTTP and WebSockets, without any I/O: the heads and chunks of held responses, the frames of
//! WebSockets, the responses that gripd itself makes, and the rules for headers and addresses that several parts use.

pub mod answer;
pub mod authority;
pub mod chunk;
pub mod cors;
pub mod deflate;
pub mod foreign;
pub mod head;
pub mod jsonp;
pub mod network;
pub mod proxies;
pub mod tokens;
pub mod websocket;

pub use answer::PlainAnswer;
pub use authority::{canonical_host, is_authority, is_same_authority, without_port};
pub use chunk::{Chunk, StreamForm};
pub use foreign::ForeignProtocol;
pub use head::{AnswerHead, Framing, HeaderLines, Persistence, ResponseHead};
pub use jsonp::{JsonpWrapper, is_callback};
pub use network::{Network, is_public};
pub use proxies::{ProxyHeader, RequestPath, RequestSender, TrustedProxies, X_FORWARDED_FOR};
pub use tokens::{names_token, tokens};
pub use websocket::{MessageForm, RenderedMessage};
