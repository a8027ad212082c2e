//! gripd is a reverse proxy that makes any web backend realtime, by the protocol GRIP.
//!
//! It forwards each request to the *origin*. Where the origin's answer carries `Grip-Hold` and `Grip-Channel`,
//! it holds the client's connection, subscribed to those channels, and the origin's part is over. Whoever may
//! publish then POSTs *items* to the control port, and gripd writes them to every connection of the channel, or
//! closes exactly the connections of one channel. It speaks as Pushpin does.
//!
//! # Parts
//!
//! ```text
//! client ── front ── origin            a request: route it, forward it, read the answer
//!              │
//!          admission                   the answer holds: what does it say, and may this client hold that?
//!              │
//!              └─ hold | session       park the connection in the shard's registry
//!                    │
//! publisher ── control ── cluster ── hub ── shard ── outlet ── transport   an item: accept, order, render, enqueue, flush
//! ```
//!
//! The control API speaks to the [`cluster`], which stands for all nodes. gripd is alone today, so it passes everything on to
//! the hub of this node.
//!
//! gripd runs one [`shard`] per core: a thread with its own runtime, listener, connections and registry. The
//! [`hub`] takes every item once, orders it, renders each format once, hands it to the shards that hold the
//! channel, and gathers their counts into a receipt. Acceptance is one short critical section: it is the order of
//! every channel.
//!
//! Delivery has two steps that are never mixed. *Enqueue*: a round of items is appended to the outlets of the
//! connections that take them. *Flush*: each of those connections is written to, once. An item costs a stream or a WebSocket
//! one append and a share of one write; it wakes no task. A *command*, which closes connections or has them hold other
//! channels, has a queue of its own and overtakes what waits: what was accepted before it is appended first, to whom it means.
//!
//! hyper serves requests; it is not where a connection waits for hours. When an answer holds, the connection
//! leaves hyper, and gripd keeps its *transport* and little else. A transport ([`net::Transport`]) is a TCP connection, a
//! connection to a Unix socket, or one in memory, for tests. It need not be a whole connection of HTTP/1: one that carries a
//! single answer takes the answer's head apart from its bytes, and its end as a mark.
//!
//! # WebSockets
//!
//! A handshake is the origin's to accept; then the connection leaves hyper before its 101 and is a *session*: on one side the
//! client's connection, parked as any other, on the other the *line* to the origin. An origin that speaks WebSocket is
//! relayed. To one that has the session over HTTP, what the client does goes as events, one request at a time; while it
//! answers, the client says on, up to a bound. Frames go through one decoder without I/O; it keeps 72 bytes between
//! messages and no buffer, as what is read of a socket is taken apart at once. What an origin says to gripd, and not to
//! the client, changes the connection's channels and terms.
//!
//! An item is rendered as a frame once, and compressed once, for all who take it so: messages to clients are compressed each on
//! its own. It never falls within a message that is being relayed piece by piece: it waits for the end. A WebSocket that is
//! too slow drops what it has not begun to send, and says 1013 in its place.
//!
//! # Who misses nothing, and who gets what
//!
//! Items may have ids, and name the one before them: the hub has them wait for it, a while, and drops what comes twice.
//! A connection may know ids, too, and have filters: its *terms*. The shard judges each item on them when it appends it.
//! Where an item is missing, the hold asks the origin again (*refresh*): a stream by its next link, while what arrives
//! waits in a queue of the connection's own; a long-poll by going back to hyper with its request in front of the socket.
//! A connection whose filters ask somebody has its items one at a time from that same queue. What few connections need of
//! this stands behind one box.
//!
//! Streams that ask the same link for the same share one request, over all shards; links are spread over their period,
//! and a bounded number to one origin are in flight.
//!
//! # Who may hold what, and who may do what
//!
//! Who a client is, its request says (a token, or a trusted proxy's header), or its origin: that makes its *rights*. A name
//! that an origin gives to a channel must be admitted by the route's rule and by the client's token; the user's own channel
//! is held besides. A hold enters through the shard's *ledger*, which is the hub: it answers that a channel is *denied*, or
//! what was accepted last. Denials and changed rules are few, stand behind the hub's lock, and are written to disk by
//! whoever waits for that, never by a shard. The same ledger tells webhooks ([`notify`]) who came, who left and why, into
//! bounded queues. The control port asks publishers for tokens with scopes, if there are any.
//!
//! # The contract of a close
//!
//! 1. Items accepted before the close reach the connection before it ends, if the socket takes them within the
//!    grace.
//! 2. Nothing accepted after the close is ever sent to it.
//! 3. A client that does not read is cut when the grace is over.
//! 4. A burst elsewhere does not delay it.
//! 5. Every kind of hold ends, and the connection with it: a stream by its end mark, a long-poll by its timeout answer, a
//!    WebSocket by a Close frame.
//! 6. Everyone else's connections are untouched.
//! 7. The reply, asked for as JSON, says how many connections were really ended.
//!
//! A connection ends *cleanly*: last bytes, end mark, FIN, then whatever the client still sends is read and
//! discarded until its own FIN. Closing a socket with unread bytes would make the kernel reset it and lose the
//! last words. Or it is *cut*: reset, unsent bytes discarded.
//!
//! # Invariants
//!
//! 1. A shard's state is touched by its own thread only.
//! 2. The hub never waits for a socket; no thread but the log's writes a log line out.
//! 3. An item is rendered at most once per format and wire form; only filters, patches and a held answer's own headers
//!    make bytes for one connection.
//! 4. Every queue has a bound in bytes or items, a policy when full, and a counter; nothing is dropped silently.
//! 5. A subscription ends with its connection; a channel leaves the registry with its last subscription. Its last id
//!    lingers in the hub, bounded.
//! 6. A connection is subscribed before the first byte of its answer leaves.
//! 7. Hostile input is an error value, never a panic.
//! 8. `Grip-*` from a client never reaches the origin, and `Grip-*` from the origin never reaches a client; but towards a
//!    trusted GRIP proxy, and on routes that have no GRIP.
//! 9. Only [`wire`] invents answers to clients, but for requests that hyper cannot parse.
//! 10. `unsafe` is forbidden.
//!
//! # Words
//!
//! *Channel* (GRIP's only), *item* (what is published), *format*, *instruct* (the origin's answer that holds),
//! *hold* (*response* or *stream*), *session* (a WebSocket), *line* (from a session to
//! its origin), *event* and *message* (of a WebSocket), *route*, *origin*, *client*, *subscription*, *delivery* (an item on its way to
//! many), *outlet* (where a connection's bytes wait), *receipt* (what a publish did), *filter*, *terms* (of a connection:
//! ids and filters), *refresh* (asking the origin again), *rights* (of a client: who it is and what it may hold),
//! *command* (what is done to connections), *ledger* (what a shard tells of them), *cluster* (all nodes that belong together: this
//! one, today), *publisher* (the one who sends a batch).

pub mod admission;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod front;
pub mod grip;
pub mod hold;
pub mod hub;
pub mod net;
pub mod notify;
pub mod origin;
pub mod route;
pub mod session;
pub mod shard;
pub mod telemetry;
pub mod wire;
