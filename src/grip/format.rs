//! The formats of an item, one for each kind of held connection.

/// A format in which an item can be delivered. Each held connection takes exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `http-response`: the response that ends a long-poll.
    HttpResponse,
    /// `http-stream`: bytes that are appended to a streaming response.
    HttpStream,
    /// `ws-message`: a WebSocket message.
    WsMessage,
}

impl Format {
    /// Every format, in the order in which the variants are declared.
    pub const ALL: [Self; 3] = [Self::HttpResponse, Self::HttpStream, Self::WsMessage];

    /// Returns the key of the format in an item's `formats`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpResponse => "http-response",
            Self::HttpStream => "http-stream",
            Self::WsMessage => "ws-message",
        }
    }
}

/// A set of formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats(u8);

impl Formats {
    /// No format.
    pub const NONE: Self = Self(0);
    /// Every format.
    pub const ALL: Self = Self(0b111);
    /// The formats of held HTTP responses. If such a connection has missed an item, the origin can be asked again for
    /// what is missing.
    pub const HTTP: Self = Self(0b011);

    /// Returns whether `format` is in the set.
    pub const fn contains(self, format: Format) -> bool {
        self.0 & (1 << format as u8) != 0
    }

    /// Adds `format`.
    pub const fn insert(&mut self, format: Format) {
        self.0 |= 1 << format as u8;
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
