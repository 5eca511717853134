//! A TCP proxy that cuts its connections when it is told to.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Never.
const NEVER: u64 = u64::MAX;

/// A proxy in front of a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    meter: Arc<Meter>,
    task: JoinHandle<()>,
}

/// Counts bytes in both directions together.
#[derive(Debug)]
struct Meter {
    passed: AtomicU64,
    cut_at: AtomicU64,
    /// The same number as `passed`, for whoever waits for it.
    told: watch::Sender<u64>,
    server: Mutex<SocketAddr>,
}

impl Proxy {
    /// Starts a proxy that passes everything on.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let meter = Arc::new(Meter {
            passed: AtomicU64::new(0),
            cut_at: AtomicU64::new(NEVER),
            told: watch::channel(0).0,
            server: Mutex::new(server),
        });
        let shared = Arc::clone(&meter);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let meter = Arc::clone(&shared);
                tokio::spawn(async move {
                    // However a connection ends, both its sides are closed by being dropped.
                    let _ = carry(client, &meter).await;
                });
            }
        });
        Ok(Self { address, meter, task })
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that have passed so far.
    pub fn passed(&self) -> u64 {
        self.meter.passed.load(Ordering::SeqCst)
    }

    /// Completes when so many bytes have passed in all.
    pub async fn reaches(&self, bytes: u64) {
        let mut told = self.meter.told.subscribe();
        told.wait_for(|passed| *passed >= bytes).await.expect("the meter is there");
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.meter.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Cuts the connection that carries it when so many more bytes have passed, once.
    pub fn cut_after(&self, bytes: u64) {
        self.meter.cut_at.store(self.passed() + bytes, Ordering::SeqCst);
    }

    /// Whether the cut has happened.
    pub fn has_cut(&self) -> bool {
        self.meter.cut_at.load(Ordering::SeqCst) == NEVER
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Meter {
    /// How many of these bytes may pass, and whether the connection is to be cut after them.
    fn admit(&self, bytes: usize) -> (usize, bool) {
        let before = self.passed.fetch_add(bytes as u64, Ordering::SeqCst);
        let cut_at = self.cut_at.load(Ordering::SeqCst);
        let after = before + bytes as u64;
        self.told.send_modify(|told| *told = after.max(*told));
        let unchanged = (Ordering::SeqCst, Ordering::SeqCst);
        let cut = after >= cut_at
            && self.cut_at.compare_exchange(cut_at, NEVER, unchanged.0, unchanged.1).is_ok();
        if !cut {
            return (bytes, false);
        }
        let passing = cut_at.saturating_sub(before);
        (usize::try_from(passing).unwrap_or(bytes).min(bytes), true)
    }
}

async fn carry(client: TcpStream, meter: &Meter) -> io::Result<()> {
    let server = *meter.server.lock().unwrap_or_else(PoisonError::into_inner);
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        ended = copy(client_in, server_out, meter) => ended,
        ended = copy(server_in, client_out, meter) => ended,
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    meter: &Meter,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let (passing, cut) = meter.admit(read);
        to.write_all(&buffer[..passing]).await?;
        if cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}
