//! Puts the parts together: listener, layers, services, compute threads; and takes them down again in order.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use gradtape_proto::{
    DESCRIPTORS,
    v1::{
        admin_service_server::AdminServiceServer, catalog_service_server::CatalogServiceServer,
        checkpoint_service_server::CheckpointServiceServer,
        session_service_server::SessionServiceServer, tape_service_server::TapeServiceServer,
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{service::Routes, transport};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::{
    accept::{self, Listener},
    access::{self, Access},
    audit::{Audit, Event, Outcome},
    checkpoints::store::Store,
    clock::{Clock, SystemClock},
    config::{Config, Transport, access::Reflection},
    durable::{self, journal::Journals, portable::Portable, store::Folder},
    hands::Hands,
    ids,
    layers::{
        self, codes::CodesLayer, deadline::DeadlineLayer, metrics::MetricsLayer,
        principal::PrincipalLayer, request_id,
    },
    metrics::page,
    objects::OpenError,
    oversight::Oversight,
    services::{
        Context, admin::Admin, catalog::Catalog, checkpoint::Checkpoints, session::Sessions,
        tape::Tapes,
    },
    session::{
        allowance::Allowances,
        registry::Registry,
        turns::{Pool, ReadyQueue},
    },
    wire::server_info::server_info,
};

/// How often a server that anybody can reach says so in its log.
const INSECURE_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// A server that has its address and is not running yet.
#[derive(Debug)]
pub struct Server<L = TcpListener> {
    listener: L,
    address: SocketAddr,
    config: Arc<Config>,
    checkpoints: Option<Arc<Store>>,
    access: Arc<Access>,
    oversight: Arc<Oversight>,
    hands: Hands,
    pool: Pool,
    registry: Arc<Registry>,
    metrics: Option<TcpListener>,
}

/// What a server stands on: this machine, or a simulation of one.
#[derive(Debug)]
pub struct Ground<L> {
    /// Where connections come from.
    pub listener: L,
    /// The address of that.
    pub address: SocketAddr,
    /// Where the logs of sessions are, if they have any.
    pub sessions: Option<Arc<dyn durable::store::Store>>,
    /// Who computes and writes logs.
    pub hands: Hands,
}

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not loopback.
    #[error(
        "{0} can be reached from other machines, and that takes --tls-cert and --tls-key, and --token-file, --jwks or \
         --tls-client-ca; use a loopback address, or --insecure-bind if the network is trusted"
    )]
    InsecureAddress(SocketAddr),
    /// The address cannot be taken.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// Tokens, keys or certificates cannot be used.
    #[error("cannot tell who may come in")]
    Access(#[from] access::Error),
    /// The audit log cannot be written.
    #[error("cannot write the audit log")]
    Audit(#[source] std::io::Error),
    /// There are no threads left.
    #[error("cannot start compute threads")]
    Threads(#[source] std::io::Error),
    /// There is no place for checkpoints.
    #[error("cannot keep checkpoints")]
    Checkpoints(#[source] OpenError),
    /// The logs of sessions cannot be used.
    #[error("cannot keep sessions in {0}")]
    Sessions(String, #[source] std::io::Error),
    /// There is no place for copies of sessions.
    #[error("cannot keep copies of sessions")]
    Portable(#[source] OpenError),
    /// There is nothing that could be copied.
    #[error(
        "copies of sessions are copies of their logs: --portable-store takes a --session-store too, a folder on a local disk"
    )]
    PortableAlone,
    /// The logs of sessions can no longer be written; what they hold is found out by starting again.
    #[error("the store of sessions failed")]
    SessionStoreFailed,
    /// The descriptors of the schema are broken.
    #[error("cannot serve reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("cannot serve")]
    Transport(#[from] transport::Error),
}

impl Server {
    /// Takes the configured address, and opens the store of checkpoints.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let wanted = config.listen.address;
        let fit = wanted.ip().is_loopback() || config.access.is_fit_for_the_network();
        if !fit && !config.listen.insecure {
            return Err(Error::InsecureAddress(wanted));
        }
        let bind_error = |source| Error::Bind(wanted, source);
        let listener = TcpListener::bind(wanted).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let metrics = match config.access.metrics_address {
            None => None,
            Some(wanted) => {
                let bound = TcpListener::bind(wanted).await;
                Some(bound.map_err(|source| Error::Bind(wanted, source))?)
            }
        };
        let sessions = match &config.durability.store {
            None => None,
            Some(path) => {
                let opened = Folder::open(path);
                let failed = |source| Error::Sessions(path.display().to_string(), source);
                Some(Arc::new(opened.map_err(failed)?) as Arc<dyn durable::store::Store>)
            }
        };
        let hands = Hands::Threads(config.compute.thread_count());
        let server = Self::on(Ground { listener, address, sessions, hands }, config)?;
        Ok(Self { metrics, ..server })
    }

    /// The address of the metrics, if they are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl<L: Listener> Server<L> {
    /// A server on ground of the caller's choice. What the configuration says of the address and of the store of sessions is
    /// not looked at.
    pub fn on(ground: Ground<L>, config: Config) -> Result<Self, Error> {
        let Ground { listener, address, sessions, hands } = ground;
        let audit = Audit::open(config.access.audit.as_ref()).map_err(Error::Audit)?;
        let access = Access::open(&config.access, audit.clone())?;
        let oversight = Oversight::new(config.access.quota, audit);
        let checkpoints =
            Store::open(&config.checkpoints).map_err(Error::Checkpoints)?.map(Arc::new);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ready = Arc::new(ReadyQueue::default());
        let (queue, time) = (Arc::clone(&ready), Arc::clone(&clock));
        let metrics = Arc::clone(&oversight.metrics);
        let allowances = Allowances::new(config.access.quota.compute_per_minute);
        let pool =
            Pool::start(&hands, &config.compute, queue, time, Arc::clone(&metrics), allowances)
                .map_err(Error::Threads)?;
        metrics.compute_threads.set(i64::try_from(hands.count()).unwrap_or(i64::MAX));
        let registry = registry(&config, sessions, clock, ready, &oversight, &hands)?;
        Ok(Self {
            listener,
            address,
            config: Arc::new(config),
            checkpoints,
            access,
            oversight,
            hands,
            pool,
            registry,
            metrics: None,
        })
    }

    /// All its sessions.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The address, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then drains: readiness goes first, then nothing new is accepted, streams end
    /// after what they have sent, and what is not finished when the time is over is dropped.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Self {
            listener,
            address,
            config,
            checkpoints,
            access,
            oversight,
            hands,
            pool: _pool,
            registry,
            metrics: page,
        } = self;
        let metrics = Arc::clone(&oversight.metrics);
        let _sweeper = Background(tokio::spawn(Arc::clone(&registry).sweep_forever()));
        let open = !address.ip().is_loopback() && !config.access.is_fit_for_the_network();
        let _warning = open.then(|| Background(tokio::spawn(warn_insecure(address))));
        let _following = Background(tokio::spawn(Arc::clone(&access).follow()));
        let _page = page.map(|listener| {
            let page = page::serve(listener, Arc::clone(&oversight), Arc::clone(&registry));
            Background(tokio::spawn(page))
        });

        let context = Context {
            checkpoints,
            registry: Arc::clone(&registry),
            server_info: Arc::new(server_info(&config)),
            config: Arc::clone(&config),
            oversight: Arc::clone(&oversight),
            started: std::time::Instant::now(),
        };
        let (health, routes) = routes(context).await?;
        let connections = accept::connections(listener, &config.transport, access.tls(), &metrics);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serve = transport_server(&config.transport)
            // What every call passes, outermost first.
            .layer(request_id::set())
            .layer(request_id::propagate())
            .layer(layers::trace())
            .layer(MetricsLayer::new(metrics))
            .layer(PrincipalLayer { access, oversight: Arc::clone(&oversight) })
            .layer(CodesLayer)
            .layer(DeadlineLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, async { drop(stopped.await) });
        let drain = async {
            shutdown.await;
            tracing::info!("drain");
            oversight.audit.record(&Event::new("drain", Outcome::Done));
            set_not_serving(&health).await;
            registry.drain();
            failpoint!(Drain);
            // The receiver is gone only if serving ended by itself.
            let _ = stop.send(());
            tokio::time::sleep(config.drain.timeout).await;
            tracing::warn!("abort what is left after draining");
        };
        tracing::info!(%address, threads = hands.count(), "serve");
        tokio::select! {
            biased;
            served = serve => served?,
            () = drain => {}
            () = registry.store_failed() => return Err(Error::SessionStoreFailed),
        }
        // It blocks on the disk. It fails only if the runtime stops.
        let _ = tokio::task::spawn_blocking(move || registry.finish()).await;
        tracing::info!("stop");
        Ok(())
    }
}

/// All sessions, those that have a log included.
fn registry(
    config: &Config,
    store: Option<Arc<dyn durable::store::Store>>,
    clock: Arc<dyn Clock>,
    ready: Arc<ReadyQueue>,
    oversight: &Arc<Oversight>,
    hands: &Hands,
) -> Result<Arc<Registry>, Error> {
    let metrics = &oversight.metrics;
    let portable = config.durability.portable.as_deref().map(Portable::open);
    let portable = portable.transpose().map_err(Error::Portable)?;
    if portable.is_some() && store.is_none() {
        return Err(Error::PortableAlone);
    }
    let journals = store
        .map(|store| Journals::start(store, &config.durability, metrics, hands))
        .transpose()
        .map_err(Error::Threads)?
        .map(|journals| journals.with_portable(portable));
    let memory = config.sessions.server_memory();
    metrics.memory_limit_bytes.set(i64::try_from(memory).unwrap_or(i64::MAX));
    let (sessions, limits) = (config.sessions.clone(), config.limits.clone());
    let registry = Registry::new(sessions, limits, clock, ready, Arc::clone(oversight), journals);
    let failed = |source| Error::Sessions("the store".to_owned(), source);
    registry.take_in().map_err(failed)?;
    Ok(registry)
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Background(JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The services, with health and reflection.
async fn routes(context: Context) -> Result<(HealthReporter, Routes), Error> {
    let limit = context.config.transport.max_message_bytes;
    let (health, health_service) = health_reporter();
    health.set_serving::<SessionServiceServer<Sessions>>().await;
    health.set_serving::<TapeServiceServer<Tapes>>().await;
    health.set_serving::<CatalogServiceServer<Catalog>>().await;
    health.set_serving::<AdminServiceServer<Admin>>().await;
    health.set_serving::<CheckpointServiceServer<Checkpoints>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sessions = SessionServiceServer::new(Sessions(context.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let reflected = context.config.access.reflection != Reflection::Off;
    let checkpoints = CheckpointServiceServer::new(Checkpoints(context.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let admin = AdminServiceServer::new(Admin(context.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let tapes = TapeServiceServer::new(Tapes(context))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let catalog = CatalogServiceServer::new(Catalog)
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let mut routes = Routes::new(sessions)
        .add_service(tapes)
        .add_service(catalog)
        .add_service(admin)
        .add_service(checkpoints)
        .add_service(health_service);
    if reflected {
        routes =
            routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    }
    Ok((health, routes))
}

/// Says that this server takes no more work: the whole server and each service.
async fn set_not_serving(health: &HealthReporter) {
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    health.set_not_serving::<SessionServiceServer<Sessions>>().await;
    health.set_not_serving::<TapeServiceServer<Tapes>>().await;
    health.set_not_serving::<CatalogServiceServer<Catalog>>().await;
    health.set_not_serving::<AdminServiceServer<Admin>>().await;
    health.set_not_serving::<CheckpointServiceServer<Checkpoints>>().await;
}

/// Every setting of the transport, named: several of tonic's defaults mean "no limit".
fn transport_server(config: &Transport) -> transport::Server {
    transport::Server::builder()
        .accept_http1(false)
        .max_concurrent_streams(config.max_concurrent_streams)
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_frame_size(config.frame_bytes)
        .http2_adaptive_window(Some(false))
        .http2_max_header_list_size(config.max_header_list_bytes)
        .http2_max_local_error_reset_streams(Some(config.max_local_error_resets))
        .http2_max_pending_accept_reset_streams(Some(config.max_pending_accept_resets))
        .http2_keepalive_interval(Some(config.keepalive_interval))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .max_connection_age(jittered(config.max_connection_age))
        .max_connection_age_grace(config.max_connection_age_grace)
}

/// Up to a tenth less, so that servers started together do not lose their connections together.
fn jittered(age: Duration) -> Duration {
    let part = f64::from(u16::from_le_bytes(ids::random())) / f64::from(u16::MAX);
    age.mul_f64(1.0 - part / 10.0)
}

async fn warn_insecure(address: SocketAddr) {
    let mut ticks = tokio::time::interval(INSECURE_WARNING_INTERVAL);
    loop {
        ticks.tick().await;
        tracing::warn!(%address, "this address can be reached by others, without encryption or without authentication");
    }
}
