//! The content of streams, rendered as chunks once for all connections (RFC 9112 7.1).

use super::Framing;
use bytes::Bytes;

/// The chunk that ends a chunked body.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// The form in which the content of a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamForm {
    /// The content is sent as chunks (RFC 9112 7.1).
    Chunked,
    /// The content is sent as it is, until the connection or, in HTTP/2, the stream ends.
    Bare,
}

impl StreamForm {
    /// Returns the form for a body with this framing.
    pub const fn of(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked,
            Framing::Length(_) | Framing::UntilClose | Framing::None => Self::Bare,
        }
    }
}

impl StreamForm {
    /// Returns the end of the content in a piece of this form, without the line end that follows a chunk. If the piece
    /// is the head of a response, the result ends with a newline as well.
    pub fn content_of(self, piece: &[u8]) -> &[u8] {
        match self {
            Self::Chunked => piece.strip_suffix(b"\r\n").unwrap_or(piece),
            Self::Bare => piece,
        }
    }
}

/// A piece of stream content. Its chunk and its content without framing share one allocation.
#[derive(Clone, Debug)]
pub struct Chunk {
    framed: Bytes,
    content: Bytes,
}

impl Chunk {
    /// Renders `content` as a chunk. Empty content gives no bytes at all, because an empty chunk would end the body.
    pub fn new(content: &[u8]) -> Self {
        if content.is_empty() {
            return Self { framed: Bytes::new(), content: Bytes::new() };
        }
        let size = format!("{:x}\r\n", content.len());
        let framed = Bytes::from([size.as_bytes(), content, b"\r\n"].concat());
        let content = framed.slice(size.len()..size.len() + content.len());
        Self { framed, content }
    }

    /// Returns the chunk, for a response with `Transfer-Encoding: chunked`.
    pub const fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// Returns the content without framing, for a response that ends with its connection.
    pub const fn content(&self) -> &Bytes {
        &self.content
    }

    /// Returns the content as it is sent in this form.
    pub const fn select(&self, form: StreamForm) -> &Bytes {
        match form {
            StreamForm::Chunked => &self.framed,
            StreamForm::Bare => &self.content,
        }
    }

    /// Returns the number of bytes of the chunk, including its framing.
    pub const fn len(&self) -> usize {
        self.framed.len()
    }

    /// Returns whether the content is empty.
    pub const fn is_empty(&self) -> bool {
        self.framed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_content_does_not_end_the_body() {
        let chunk = Chunk::new(b"");
        assert!(chunk.is_empty() && chunk.framed().is_empty() && chunk.content().is_empty());
    }

    proptest! {
        #[test]
        fn a_chunk_is_its_size_its_content_and_two_line_ends(content in prop::collection::vec(any::<u8>(), 1..300)) {
            let chunk = Chunk::new(&content);
            prop_assert_eq!(&chunk.content()[..], &content[..]);
            let at = chunk.framed().windows(2).position(|w| w == b"\r\n").unwrap();
            let size = std::str::from_utf8(&chunk.framed()[..at]).unwrap();
            prop_assert_eq!(usize::from_str_radix(size, 16).unwrap(), content.len());
            prop_assert_eq!(&chunk.framed()[at + 2..], &[&content[..], b"\r\n"].concat()[..]);
        }
    }
}
