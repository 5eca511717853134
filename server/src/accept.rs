//! Accepts connections within limits, encrypts them, and closes those that do not start to talk.
//!
//! tonic has neither a cap on connections nor a deadline for the handshake, and one failing `accept` must not end the loop.
//! Handshakes of TLS run beside the loop, so that a client that dawdles over its own delays nobody else's.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::{
    config::Transport,
    metrics::Metrics,
    principal::Principal,
    quota::{Place as Seat, Quotas},
    session::error::ProtocolError,
    tls::{self, Acceptor},
};

/// Bytes of an HTTP/2 client's preface and the header of the SETTINGS frame that must follow it.
const HANDSHAKE_BYTES: usize = 24 + 9;

/// Pause after an `accept` that failed: most likely there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from: the network, or a simulation of it.
pub trait Listener: fmt::Debug + Send + Sync + 'static {
    /// How bytes go over one of them.
    type Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static;

    /// The next connection, and where its other end is.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        failpoint!(Accept, Err(io::Error::other("no descriptors")));
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "set TCP_NODELAY");
        }
        Ok((stream, peer))
    }
}

/// The connections of a listener, encrypted if there is somebody to do it.
pub fn connections<L: Listener>(
    listener: L,
    config: &Transport,
    tls: Option<Arc<Acceptor>>,
    metrics: &Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection<L::Stream>>> + use<L> {
    let gate = Gate {
        permits: Arc::new(Semaphore::new(config.max_connections)),
        peers: Arc::default(),
        max_per_address: config.max_connections_per_address,
        handshake_timeout: config.handshake_timeout,
        metrics: Arc::clone(metrics),
    };
    let doors = Doors { listener, gate, tls, handshakes: JoinSet::new() };
    stream::unfold(doors, |mut doors| async {
        let connection = doors.next().await;
        Some((Ok(connection), doors))
    })
}

/// A listener and the handshakes that are under way; there are no more than places for connections.
#[derive(Debug)]
struct Doors<L: Listener> {
    listener: L,
    gate: Gate,
    tls: Option<Arc<Acceptor>>,
    handshakes: JoinSet<Option<Connection<L::Stream>>>,
}

impl<L: Listener> Doors<L> {
    async fn next(&mut self) -> Connection<L::Stream> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                entrant = self.gate.accept(&self.listener) => match &self.tls {
                    None => return entrant.plain(),
                    Some(tls) => {
                        self.handshakes.spawn(entrant.encrypted(Arc::clone(tls)));
                    }
                },
            }
        }
    }
}

/// How many connections each address has.
type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

#[derive(Debug)]
struct Gate {
    permits: Arc<Semaphore>,
    peers: Peers,
    max_per_address: usize,
    handshake_timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// The next connection that is within the limits. Those beyond are closed at once.
    async fn accept<L: Listener>(&self, listener: &L) -> Entrant<L::Stream> {
        let mut failing = false;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Said once, since whoever takes the descriptors must not fill the log as well.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.admit(peer) else {
                tracing::warn!(%peer, "refuse connection: too many");
                self.metrics.connections_refused.inc();
                continue;
            };
            return Entrant {
                stream,
                address: peer,
                deadline: Instant::now() + self.handshake_timeout,
                place,
                metrics: Arc::clone(&self.metrics),
            };
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<Place> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let address = peer.ip();
        if address.is_loopback() {
            return Some(Place { _permit: permit, counted: None });
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(address).or_default();
        if *count >= self.max_per_address {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, counted: Some((Arc::clone(&self.peers), address)) })
    }
}

/// A connection's place within the limits.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    counted: Option<(Peers, IpAddr)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((peers, address)) = &self.counted else { return };
        let mut peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                peers.remove(address);
            }
        }
    }
}

/// A TCP connection that has a place and has said nothing yet.
#[derive(Debug)]
struct Entrant<S> {
    stream: S,
    address: SocketAddr,
    /// For everything up to the first frames of HTTP/2.
    deadline: Instant,
    place: Place,
    metrics: Arc<Metrics>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Entrant<S> {
    fn plain(self) -> Connection<S> {
        let Self { stream, address, deadline, place, metrics } = self;
        Connection::new(Transit::Plain(stream), Peer::new(address, None), deadline, place, metrics)
    }

    /// Does the handshake of TLS, in time or not at all.
    async fn encrypted(self, tls: Arc<Acceptor>) -> Option<Connection<S>> {
        let Self { stream, address, deadline, place, metrics } = self;
        match tokio::time::timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certified = tls::principal(stream.get_ref().1.peer_certificates());
                let transit = Transit::Encrypted(Box::new(stream));
                let peer = Peer::new(address, certified);
                Some(Connection::new(transit, peer, deadline, place, metrics))
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %address, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(peer = %address, "TLS handshake takes too long");
                None
            }
        }
    }
}

/// The other end of a connection, as requests know it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerState>);

#[derive(Debug)]
struct PeerState {
    address: SocketAddr,
    certified: Option<Principal>,
    /// Who has called over this connection, and so counts it as one of theirs. One, unless it is a proxy's.
    seats: Mutex<Vec<(Principal, Seat)>>,
}

impl Peer {
    fn new(address: SocketAddr, certified: Option<Principal>) -> Self {
        Self(Arc::new(PeerState { address, certified, seats: Mutex::default() }))
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Who its certificate says it is.
    pub fn certified(&self) -> Option<&Principal> {
        self.0.certified.as_ref()
    }

    /// Counts the connection as one of a principal's. Returns whether it is the principal's first call over it.
    pub fn seat(&self, principal: &Principal, quotas: &Quotas) -> Result<bool, ProtocolError> {
        let mut seats = self.0.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.iter().any(|(seated, _)| seated == principal) {
            return Ok(false);
        }
        let seat = quotas.connection(principal)?;
        seats.push((principal.clone(), seat));
        Ok(true)
    }
}

/// How bytes go over a connection.
#[derive(Debug)]
enum Transit<S> {
    Plain(S),
    Encrypted(Box<TlsStream<S>>),
}

/// Does something with either kind of stream, pinned.
macro_rules! with_stream {
    ($transit:expr, $stream:ident => $body:expr) => {
        match $transit {
            Transit::Plain(stream) => {
                let $stream = Pin::new(stream);
                $body
            }
            Transit::Encrypted(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $body
            }
        }
    };
}

/// A connection that must begin to speak HTTP/2 before a deadline.
#[derive(Debug)]
pub struct Connection<S> {
    transit: Transit<S>,
    peer: Peer,
    /// The deadline, and how many bytes are still to come.
    handshake: Option<(Pin<Box<Sleep>>, usize)>,
    metrics: Arc<Metrics>,
    _place: Place,
}

impl<S> Connection<S> {
    fn new(
        transit: Transit<S>,
        peer: Peer,
        deadline: Instant,
        place: Place,
        metrics: Arc<Metrics>,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        let handshake = Some((deadline, HANDSHAKE_BYTES));
        metrics.connections.inc();
        Self { transit, peer, handshake, metrics, _place: place }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = with_stream!(&mut this.transit, stream => stream.poll_read(cx, buffer));
        let Poll::Ready(result) = read else {
            if let Some((deadline, _)) = &mut this.handshake {
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        };
        let count = buffer.filled().len() - before;
        this.metrics.received_bytes.inc_by(count as u64);
        if let Some((_, missing)) = &mut this.handshake {
            *missing = missing.saturating_sub(count);
            if *missing == 0 {
                failpoint!(Handshake, Poll::Ready(Err(io::ErrorKind::TimedOut.into())));
                this.handshake = None;
            }
        }
        Poll::Ready(result)
    }
}

impl<S> Connection<S> {
    fn count_sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.metrics.sent_bytes.inc_by(*count as u64);
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = with_stream!(&mut self.transit, stream => stream.poll_write(cx, bytes));
        self.count_sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written =
            with_stream!(&mut self.transit, stream => stream.poll_write_vectored(cx, slices));
        self.count_sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transit {
            Transit::Plain(stream) => stream.is_write_vectored(),
            Transit::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(&mut self.transit, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_stream!(&mut self.transit, stream => stream.poll_shutdown(cx))
    }
}
