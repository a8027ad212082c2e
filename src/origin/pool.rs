//! One shard's connections to origins.

use super::connection_share::{ConnectionPermit, ConnectionShare};
use super::fair_queue::ClientNetwork;
use super::handshake::RelayedPermit;
use super::{Failure, FailureKind, Metrics, RequestBody, Settings};
use crate::net::{
    ClientDelay, DescriptorGuard, Descriptors, HttpConnection, READY_WAIT, SendResult, Transport, connect_to_one_of,
    is_shortage,
};
use crate::route::Address;
use crate::wire::is_public;
use hyper::Request;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

/// The destination of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) address: Address,
    /// Whether the connection must not lead to an address in a private network.
    pub(super) public_only: bool,
}

/// The connections of one shard, by their destination.
pub(super) struct Pool {
    /// The settings in use, which may be replaced.
    pub(super) settings: RefCell<Settings>,
    descriptors: Arc<Descriptors>,
    metrics: Arc<Metrics>,
    places: RefCell<HashMap<Destination, OriginConnections>>,
}

/// The connections to one origin.
struct OriginConnections {
    idle: VecDeque<IdleConnection>,
    share: Rc<ConnectionShare>,
    /// The number of WebSockets that are relayed to the origin.
    relayed: Rc<Cell<usize>>,
}

struct IdleConnection {
    connection: OriginConnection,
    since: Instant,
}

/// A connection to an origin.
type OriginConnection = HttpConnection<RequestBody>;

/// A connection to an origin that is used for one request. [`Lease::finish`] returns it to the pool. Otherwise it is
/// closed when the lease is dropped.
pub struct Lease {
    connection: OriginConnection,
    reused: bool,
    /// A handle to the body of the request that is sent on the connection.
    upload: Option<RequestBody>,
    to: Destination,
    pool: Rc<Pool>,
    permit: ConnectionPermit,
}

impl Lease {
    /// Returns whether the connection has served an earlier request, so that the origin may have closed it in the
    /// meantime.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Returns whether the connection was closed because its client was slow while other requests waited.
    pub fn gave_way(&self) -> bool {
        self.permit.gave_way()
    }

    /// Returns the record of how long gripd has waited for the client. The connection of a slow client is closed when
    /// other requests wait for a connection.
    pub fn delay(&self) -> &ClientDelay {
        self.permit.waiting()
    }

    /// Sends a request. The returned future gives the head of the response.
    pub(super) fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = SendResult<RequestBody>> {
        self.upload = Some(request.body().handle());
        self.connection.send(request)
    }

    /// Returns the connection to the pool after the response was read to its end. An origin may respond before it has
    /// read all of the request. Its connection is then still busy with the rest of the request, and is closed.
    pub fn finish(self) {
        let sent = self.upload.as_ref().is_none_or(RequestBody::is_whole);
        if sent && !self.connection.is_closed() {
            self.pool.put(&self.to, self.connection);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("to", &self.to.address.to_string())
            .field("reused", &self.reused)
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(settings: Settings, descriptors: Arc<Descriptors>, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { settings: RefCell::new(settings), descriptors, metrics, places: RefCell::default() })
    }

    /// Replaces the settings. Connections beyond a lower limit remain open until they are idle.
    pub(super) fn change_settings(&self, settings: Settings) {
        let shares: Vec<_> = self.places.borrow().values().map(|place| Rc::clone(&place.share)).collect();
        let most = settings.connections;
        *self.settings.borrow_mut() = settings;
        shares.iter().for_each(|share| share.set_limit(most));
    }

    /// Closes all idle connections, and returns the number of them. Does nothing as long as the connections to
    /// origins use no more descriptors than are reserved for origins, because closing them would not make room for
    /// clients then.
    pub(super) fn spare_idle(&self) -> usize {
        if !self.descriptors.origins_exceed_reserve() {
            return 0;
        }
        self.places.borrow_mut().values_mut().map(|place| place.idle.drain(..).count()).sum()
    }

    /// Returns a connection for a request of `source`: an idle one, or a new one if none is idle. If as many
    /// connections as allowed are in use, waits for one of them for at most `connection_wait`.
    pub(super) async fn lease(
        self: &Rc<Self>,
        to: &Destination,
        source: ClientNetwork,
        waiting: Rc<ClientDelay>,
    ) -> Result<Lease, Failure> {
        let share = self.place(to, |place| Rc::clone(&place.share));
        let permit = match share.free(source, &waiting) {
            Some(permit) => permit,
            // The future is boxed because few requests wait, and otherwise all requests would need memory for it.
            None => Box::pin(self.wait_for(&share, source, &waiting)).await?,
        };
        let deadline = Instant::now() + READY_WAIT;
        let mut idle = self.take(to);
        while let Some(connection) = &mut idle
            && !connection.is_ready(deadline).await
        {
            idle = self.take(to);
        }
        let reused = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => Box::pin(self.connect(to)).await?,
        };
        permit.is_used_by(connection.abort_handle());
        if permit.gave_way() {
            return Err(Failure::new(FailureKind::GaveWay));
        }
        Ok(Lease { connection, reused, upload: None, to: to.clone(), pool: Rc::clone(self), permit })
    }

    /// Counts one more WebSocket that is relayed to an origin. Returns an error if there are as many as allowed
    /// already.
    pub(super) fn relayed_place(&self, to: &Destination) -> Result<RelayedPermit, Failure> {
        let most = self.settings.borrow().websockets;
        let place = self.place(to, |place| RelayedPermit::take(&place.relayed, most));
        place.ok_or_else(|| {
            Failure::because(
                FailureKind::Busy,
                "the limit of WebSockets relayed to the origin is reached ([origin] websockets)",
            )
        })
    }

    async fn wait_for(
        &self,
        share: &Rc<ConnectionShare>,
        source: ClientNetwork,
        waiting: &Rc<ClientDelay>,
    ) -> Result<ConnectionPermit, Failure> {
        let limit = self.settings.borrow().connection_wait;
        match timeout(limit, share.permit(source, waiting)).await {
            Ok(Some(permit)) => Ok(permit),
            _ => Err(Failure::over_time(FailureKind::Busy, "connection_wait", limit)),
        }
    }

    /// Returns a lease with a new connection in place of a lost one. The new lease keeps the permit of the lost one.
    pub(super) async fn connect_instead(&self, lost: Lease) -> Result<Lease, Failure> {
        let connection = Box::pin(self.connect(&lost.to)).await?;
        lost.permit.is_used_by(connection.abort_handle());
        Ok(Lease { connection, reused: false, ..lost })
    }

    async fn connect(&self, to: &Destination) -> Result<OriginConnection, Failure> {
        let limit = self.settings.borrow().connect_timeout;
        let opened = timeout(limit, self.open(to)).await;
        let late = |_| Failure::over_time(FailureKind::Unreachable, "connect_timeout", limit);
        let (transport, counted) = opened.map_err(late)??;
        OriginConnection::new(transport, Some(counted)).await.map_err(Failure::from_hyper)
    }

    /// Connects to the address of the destination that answers first.
    async fn open(&self, to: &Destination) -> Result<(Transport, DescriptorGuard), Failure> {
        let unreachable = |error: io::Error| Failure::because(FailureKind::Unreachable, error);
        // `None` means that only the descriptors reserved for the control port are left. Idle connections may make
        // room.
        let mut counted = self.descriptors.origin();
        if counted.is_none() && self.spare_idle() > 0 {
            counted = self.descriptors.origin();
        }
        let counted = counted.ok_or(Failure::new(FailureKind::NoDescriptor))?;
        if let Some(server) = &self.settings.borrow().memory {
            return Ok((server.connect().into(), counted));
        }
        let addresses = lookup_host((to.address.host.as_str(), to.address.port)).await.map_err(unreachable)?;
        let addresses: Vec<_> = addresses.filter(|address| !to.public_only || is_public(address.ip())).collect();
        if to.public_only && addresses.is_empty() {
            return Err(unreachable(io::Error::new(io::ErrorKind::PermissionDenied, "Origin host/IP blocked.")));
        }
        match connect_to_one_of(addresses).await {
            Ok(transport) => Ok((transport, counted)),
            Err(error) if is_shortage(&error) => Err(Failure::because(FailureKind::NoDescriptor, error)),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// Removes and returns the idle connection that was used last. Closes those that were idle for longer than
    /// `idle_timeout`.
    fn take(&self, to: &Destination) -> Option<OriginConnection> {
        let idle_timeout = self.settings.borrow().idle_timeout;
        self.place(to, |place| {
            while place.idle.front().is_some_and(|idle| idle.since.elapsed() > idle_timeout) {
                place.idle.pop_front();
            }
            place.idle.pop_back().map(|idle| idle.connection)
        })
    }

    fn put(&self, to: &Destination, connection: OriginConnection) {
        self.place(to, |place| {
            place.idle.push_back(IdleConnection { connection, since: Instant::now() });
            while place.idle.len() > self.settings.borrow().idle_connections {
                place.idle.pop_front();
            }
        });
    }

    fn place<T>(&self, to: &Destination, f: impl FnOnce(&mut OriginConnections) -> T) -> T {
        let mut places = self.places.borrow_mut();
        match places.get_mut(to) {
            Some(place) => f(place),
            None => {
                let share = ConnectionShare::new(self.settings.borrow().connections, Arc::clone(&self.metrics));
                f(places.entry(to.clone()).or_insert(OriginConnections {
                    idle: VecDeque::new(),
                    share,
                    relayed: Rc::default(),
                }))
            }
        }
    }
}
