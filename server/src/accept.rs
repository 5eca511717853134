//! Accepts connections within limits, and closes those that do not start to talk.
//!
//! tonic has neither a cap on connections nor a deadline for the handshake, and one failing `accept` must not end the loop.

use std::{
    collections::HashMap,
    io,
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
    time::Sleep,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::config::Transport;

/// Bytes of an HTTP/2 client's preface and the header of the SETTINGS frame that must follow it.
const HANDSHAKE_BYTES: usize = 24 + 9;

/// Pause after an `accept` that failed: most likely there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of a listener.
pub fn connections(
    listener: TcpListener,
    config: &Transport,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let gate = Gate {
        permits: Arc::new(Semaphore::new(config.max_connections)),
        peers: Arc::default(),
        max_per_address: config.max_connections_per_address,
        handshake_timeout: config.handshake_timeout,
    };
    stream::unfold((listener, gate), |(listener, gate)| async {
        let connection = gate.accept(&listener).await;
        Some((Ok(connection), (listener, gate)))
    })
}

/// How many connections each address has.
type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

#[derive(Debug)]
struct Gate {
    permits: Arc<Semaphore>,
    peers: Peers,
    max_per_address: usize,
    handshake_timeout: Duration,
}

impl Gate {
    /// The next connection that is within the limits. Those beyond are closed at once.
    async fn accept(&self, listener: &TcpListener) -> Connection {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.admit(peer) else {
                tracing::warn!(%peer, "refuse connection: too many");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "set TCP_NODELAY");
            }
            let deadline = Box::pin(tokio::time::sleep(self.handshake_timeout));
            return Connection {
                stream,
                handshake: Some((deadline, HANDSHAKE_BYTES)),
                _place: place,
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

/// A TCP connection that must begin to speak HTTP/2 before a deadline.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The deadline, and how many bytes are still to come.
    handshake: Option<(Pin<Box<Sleep>>, usize)>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buffer) else {
            if let Some((deadline, _)) = &mut this.handshake {
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        };
        if let Some((_, missing)) = &mut this.handshake {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                this.handshake = None;
            }
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
