//! Sessions: connecting, making values, ending.

use std::{panic::Location, sync::Arc, time::Duration};

use gradtape_proto::v1::{self as proto, command::Kind};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{
    Accumulator, Attribute, Checkpoints, DType, Error, Generator, Result, Tape, TapeOptions,
    Tensor, TensorData, Variable, VariableOptions,
    core::{Core, Handle},
    infer,
    level::{Level, Reached},
    limits::Limits,
    queue::{Queue, Recorder},
    remote::{Remote, Transport},
    security::Security,
    worker::{self, Afterwards, Worker},
};

/// The right to use a session: what another client needs to attach to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public identifier.
    pub session_id: String,
    /// The secret.
    pub session_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.session_id)
    }
}

/// How to connect. Made by [`Session::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct SessionBuilder {
    client: String,
    transport: Transport,
    patience: Duration,
    security: Security,
}

/// A session on a gradtape server; a cheap handle to clone.
///
/// Making values, applying ops and changing variables never waits: commands are enqueued and travel in batches.
/// Only asking for something waits. Without anything asked for, the queue grows as far as the program is ahead of
/// the server, so a loop that never asks should [`sync`](Self::sync) now and then.
///
/// If the connection breaks, the session attaches again and goes on; nothing is lost and nothing is done twice. With a server
/// that keeps logs of sessions this holds even if the server dies.
/// Dropping the last handle sends what is left and deletes the session, unless it was [attached to](SessionBuilder::attach).
#[derive(Debug, Clone)]
pub struct Session {
    core: Arc<Core>,
    scope: u32,
}

// === impl SessionBuilder ===

impl SessionBuilder {
    /// Sets the name that the server's log shows for this client.
    pub fn client(mut self, name: impl Into<String>) -> Self {
        self.client = name.into();
        self
    }

    /// Sets how long a connection may take to open. Default 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = timeout;
        self
    }

    /// Sets after how much silence the server is asked whether it is there, and how long its answer may take before the
    /// connection counts as broken. Default 30 and 20 seconds.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.transport.keep_alive_interval = interval;
        self.transport.keep_alive_timeout = timeout;
        self
    }

    /// Opens connections by a function of the program's own instead of over TCP: through a proxy, say, or over a Unix socket.
    /// It gets the host and port of the address.
    pub fn connect_by<F, D, S>(mut self, dial: F) -> Self
    where
        F: Fn(String) -> D + Send + Sync + 'static,
        D: Future<Output = std::io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.transport.dial = Some(Arc::new(move |place| {
            let dialing = dial(place);
            Box::pin(async move { dialing.await.map(|stream| Box::new(stream) as Box<_>) })
        }));
        self
    }

    /// Sets how long to try to attach again after a connection broke. Default 2 minutes.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Says who we are by a bearer token. Default: the variable `GRADTAPE_TOKEN`, if the address is encrypted or local.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.security.token = Some(token.into());
        self
    }

    /// Encrypts the connection, and trusts these certificates, in PEM, and no others. Default for an `https://` address:
    /// those in the file that the variable `GRADTAPE_CA` names, or else the machine's.
    pub fn tls(mut self, ca_certificates: impl Into<Vec<u8>>) -> Self {
        self.security.ca = Some(ca_certificates.into());
        self
    }

    /// Encrypts the connection, and says who we are by a certificate with its key, both in PEM.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.security.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Sets the name that the server's certificate must have. Default: the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.security.server_name = Some(name.into());
        self
    }

    /// Connects to a server and makes a session.
    ///
    /// The address is a URL such as `http://127.0.0.1:50051` or `https://tape.example:50051`, or a host and port.
    pub async fn connect(self, address: impl Into<String>) -> Result<Session> {
        let target = self.security.target(&address.into())?;
        let channel = Remote::channel(target, self.transport).await?;
        let credentials = Remote::create(channel.clone(), self.client).await?;
        let remote = Remote::new(channel, credentials, self.patience);
        Box::pin(Session::start(remote, Afterwards::Delete)).await
    }

    /// Attaches to a session that exists. An older attachment of the session ends.
    pub async fn attach(
        self,
        address: impl Into<String>,
        credentials: Credentials,
    ) -> Result<Session> {
        let target = self.security.target(&address.into())?;
        let channel = Remote::channel(target, self.transport).await?;
        let Credentials { session_id, session_token } = credentials;
        let credentials = proto::SessionCredentials { session_id, session_token };
        let remote = Remote::new(channel, credentials, self.patience);
        Box::pin(Session::start(remote, Afterwards::Keep)).await
    }
}

// === impl Session ===

impl Session {
    /// Connects to a server with the default options and makes a session.
    ///
    /// The address is a URL such as `http://127.0.0.1:50051`, or a host and port.
    pub async fn connect(address: impl Into<String>) -> Result<Self> {
        Self::builder().connect(address).await
    }

    /// Options for connecting.
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            client: concat!("gradtape-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            transport: Transport::default(),
            patience: Duration::from_mins(2),
            security: Security::default(),
        }
    }

    async fn start(mut remote: Remote, afterwards: Afterwards) -> Result<Self> {
        let attached = worker::attach(&remote).await;
        let attached = attached.map_err(|status| Error::from_status(&status))?;
        let welcome = &attached.welcome;
        let limits = Limits::new(welcome.server.clone());
        remote.chunk_bytes = limits.chunk_bytes;
        let queue = Arc::new(Queue::new(limits, welcome));
        let (afterwards, receiver) = watch::channel(afterwards);
        let worker =
            Worker { queue: Arc::clone(&queue), remote: remote.clone(), afterwards: receiver };
        tokio::spawn(worker.run(attached));
        Ok(Self { core: Arc::new(Core::new(queue, remote, afterwards)), scope: 0 })
    }

    /// What another client needs to attach to this session.
    pub fn credentials(&self) -> Credentials {
        let proto::SessionCredentials { session_id, session_token } =
            self.core.remote.credentials.clone();
        Credentials { session_id, session_token }
    }

    /// The same session with a scope of its own: a tape sees only commands of the scope that opened it.
    ///
    /// An expression belongs to the scope of its first tensor; constants, variables, tapes and generators belong to
    /// the scope of the session handle that made them. Scope 0 is where everything begins.
    pub fn with_scope(&self, scope: u32) -> Self {
        Self { core: Arc::clone(&self.core), scope }
    }

    /// Makes a value from scalars, arrays, slices or [`TensorData`].
    #[track_caller]
    pub fn constant(&self, data: impl Into<TensorData>) -> Tensor {
        let data = data.into();
        let dtype = data.dtype();
        let id = self.record(Location::caller(), |r| r.constant(data));
        self.tensor(id, Some(dtype))
    }

    /// Makes a trainable variable. The name is for people and need not be unique.
    #[track_caller]
    pub fn variable(&self, name: &str, initial: impl Into<TensorData>) -> Variable {
        let initial = self.constant(initial);
        self.variable_with(name, &initial, VariableOptions::default())
    }

    /// Makes a variable from a value.
    #[track_caller]
    pub fn variable_with(
        &self,
        name: &str,
        initial: &Tensor,
        options: VariableOptions,
    ) -> Variable {
        Variable::create(&self.core, self.scope, name, initial, options)
    }

    /// Opens a one-shot tape, which records from now on and answers one gradient.
    #[track_caller]
    pub fn tape(&self) -> Tape {
        self.tape_with(TapeOptions::default())
    }

    /// Opens a tape that answers any number of gradients.
    #[track_caller]
    pub fn persistent_tape(&self) -> Tape {
        self.tape_with(TapeOptions { persistent: true, ..TapeOptions::default() })
    }

    /// Opens a tape.
    #[track_caller]
    pub fn tape_with(&self, options: TapeOptions) -> Tape {
        Tape::open(&self.core, self.scope, options)
    }

    /// Opens a forward accumulator, which computes tangents from now on, given those of some tensors or variables.
    ///
    /// ```
    /// # async fn example(session: &gradtape_client::Session) -> gradtape_client::Result<()> {
    /// let x = session.constant([1.0f32, 2.0]);
    /// let direction = session.constant([1.0f32, 0.0]);
    /// let accumulator = session.accumulator([(&x, &direction)]);
    /// let y = &x * &x;
    /// assert_eq!(accumulator.tangent(&y).value::<f32>().await?, [2.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn accumulator<P: AsRef<Tensor>, T: AsRef<Tensor>>(
        &self,
        directions: impl IntoIterator<Item = (P, T)>,
    ) -> Accumulator {
        Accumulator::open(&self.core, self.scope, directions)
    }

    /// Makes a random generator. The same seed gives the same numbers on every machine.
    #[track_caller]
    pub fn generator(&self, seed: i64) -> Generator {
        Generator::create(&self.core, self.scope, seed)
    }

    /// The checkpoints on the server: saved from this session, to be restored in any.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::of(self)
    }

    /// Applies an op with one result by its name in the catalogue, whether this client knows it or not.
    ///
    /// ```
    /// # async fn example(session: &gradtape_client::Session) -> gradtape_client::Result<()> {
    /// let x = session.constant([[1.0f32, 2.0], [3.0, 4.0]]);
    /// let rows = session.op("reduce_sum", [&x], [("axis", [1].into())]);
    /// assert_eq!(rows.value::<f32>().await?, [3.0, 7.0]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn op<'a>(
        &self,
        name: &str,
        inputs: impl IntoIterator<Item = &'a Tensor>,
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
    ) -> Tensor {
        self.op_with_outputs(name, inputs, attributes, 1).remove(0)
    }

    /// Applies an op with several results.
    #[track_caller]
    pub fn op_with_outputs<'a>(
        &self,
        name: &str,
        inputs: impl IntoIterator<Item = &'a Tensor>,
        attributes: impl IntoIterator<Item = (&'static str, Attribute)>,
        outputs: usize,
    ) -> Vec<Tensor> {
        let inputs: Vec<&Tensor> = inputs.into_iter().collect();
        let dtypes: Vec<Option<DType>> = inputs.iter().map(|input| input.dtype()).collect();
        let attributes: Vec<_> = attributes.into_iter().collect();
        let dtype = infer::result(name, &dtypes, &attributes);
        let inputs = inputs.into_iter().map(|input| input.id_in(&self.core)).collect();
        let attributes = attributes.into_iter().map(|(name, value)| value.named(name)).collect();
        let ids = self.record(Location::caller(), |recorder| {
            let ids: Vec<u64> = (0..outputs).map(|_| recorder.handle()).collect();
            let name = name.to_owned();
            recorder.push(Kind::Op(proto::Op { name, inputs, outputs: ids.clone(), attributes }));
            ids
        });
        ids.into_iter().map(|id| self.tensor(id, dtype)).collect()
    }

    /// Enqueues a command as it stands, for what this client has no word for.
    ///
    /// The command's handles are the caller's business: [`reserve`](Self::reserve) gives free ones. Its answer is what
    /// the server says about it, if anything; nobody has to wait for it.
    pub fn command(
        &self,
        command: &proto::Command,
    ) -> impl Future<Output = Result<proto::Reply>> + Send + use<> {
        let answer = self.core.queue.raw(command);
        let core = Arc::clone(&self.core);
        async move { core.answer(answer).await }
    }

    /// A handle that this client will not use for anything else.
    #[track_caller]
    pub fn reserve(&self) -> u64 {
        let record = |recorder: &mut Recorder<'_>| recorder.handle();
        self.record(Location::caller(), record)
    }

    /// Waits until everything enqueued so far is applied.
    ///
    /// Fails with the oldest failure that the program has not been told of, for example of an optimizer step whose
    /// result nobody waited for. The failures after it are kept for the next call.
    #[track_caller]
    pub fn sync(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let answer = self.record(Location::caller(), |recorder| {
            recorder.ask(Kind::Sync(proto::Sync::default()))
        });
        let core = Arc::clone(&self.core);
        async move {
            core.answer(answer).await?;
            core.queue.take_untold().map_or(Ok(()), Err)
        }
    }

    /// Waits until everything enqueued so far has reached a level, and says what was reached, also when the time is over.
    ///
    /// Fails as [`sync`](Self::sync) does, and with `LEVEL_UNAVAILABLE` if the server does not offer the level. At a server
    /// with a store of sessions everything survives its death, whether it was waited for or not: what the server lost, this
    /// client sends again. What is durable survives the death of this client too.
    ///
    /// What is portable survives the loss of the machine: this client goes on with the session at any server that has the same
    /// portable store and its address. What came after it is sent again unless it was durable, which this client does not keep;
    /// then the session has gone back further than the client can follow, and it fails. Another client may attach and go on
    /// from there. A portable store that fails is an error with the reason `PORTABLE_STORE_FAILED`, and nothing else is lost.
    #[track_caller]
    pub fn sync_to(
        &self,
        level: Level,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reached>> + Send + use<> {
        // Zero would stand for the default.
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let sync = proto::Sync { level: proto::Level::from(level).into(), timeout_ms };
        let answer = self.record(Location::caller(), |recorder| recorder.ask(Kind::Sync(sync)));
        let core = Arc::clone(&self.core);
        async move {
            let reply = core.answer(answer).await?;
            core.queue.take_untold().map_or(Ok(()), Err)?;
            Reached::from_reply(&reply)
        }
    }

    /// Cancels what is enqueued so far and not done: what computes fails with the reason `CANCELLED` and poisons its results.
    /// One that is being executed stops within some ten milliseconds; a sort or a decomposition of a large matrix runs to its
    /// end first. What takes no time, such as constants and variables, is done
    /// all the same, and what is enqueued from now on is not touched. [`sync`](Self::sync) does not tell of these failures.
    ///
    /// Not to wait any more, by dropping the future of an answer, cancels nothing.
    ///
    /// ```
    /// # async fn example(session: &gradtape_client::Session) -> gradtape_client::Result<()> {
    /// let x = session.op("full", [], [("shape", [4096, 4096].into()), ("value", 1.0.into())]);
    /// let y = x.matmul(&x);
    /// session.cancel().await?;
    /// assert!(y.value::<f32>().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let sequence = self.core.queue.cancel();
        let core = Arc::clone(&self.core);
        async move { core.remote.cancel(sequence).await }
    }

    /// How many commands are on their way: enqueued and, as far as is known, not applied.
    pub fn backlog(&self) -> usize {
        self.core.queue.backlog()
    }

    /// Sequence number of the next command: one more than how many commands the session has, enqueued or executed. Whoever
    /// [attaches](SessionBuilder::attach) to a session learns from it how far the one before came.
    pub fn next_sequence(&self) -> u64 {
        self.core.queue.next_sequence()
    }

    /// Sends what is left, deletes the session on the server, and fails as [`sync`](Self::sync) does.
    #[track_caller]
    pub fn close(self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.finish(Afterwards::Delete)
    }

    /// Sends what is left and leaves the session to whoever attaches to it with its
    /// [credentials](Self::credentials); fails as [`sync`](Self::sync) does.
    ///
    /// What this client made stays: forget its tensors and variables only afterwards.
    #[track_caller]
    pub fn detach(self) -> impl Future<Output = Result<()>> + Send + use<> {
        self.finish(Afterwards::Keep)
    }

    #[track_caller]
    fn finish(self, afterwards: Afterwards) -> impl Future<Output = Result<()>> + Send + use<> {
        let synced = self.sync();
        async move {
            let outcome = synced.await;
            self.core.afterwards.send_replace(afterwards);
            self.core.queue.close();
            self.core.afterwards.closed().await;
            outcome
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn scope(&self) -> u32 {
        self.scope
    }

    /// Enqueues commands that belong together.
    pub(crate) fn record<R>(
        &self,
        location: &'static Location<'static>,
        build: impl FnOnce(&mut Recorder<'_>) -> R,
    ) -> R {
        self.core.queue.record(self.scope, location, build)
    }

    /// Enqueues a command that makes something, and takes charge of it.
    pub(crate) fn make(
        &self,
        location: &'static Location<'static>,
        kind: impl FnOnce(u64) -> Kind,
    ) -> Arc<Handle> {
        Handle::make(&self.core, self.scope, location, kind)
    }

    pub(crate) fn from_handle(handle: &Handle) -> Self {
        Self { core: Arc::clone(&handle.core), scope: handle.scope }
    }

    /// Takes charge of a value that an enqueued command makes.
    pub(crate) fn tensor(&self, id: u64, dtype: Option<DType>) -> Tensor {
        Tensor::new(Handle::own(&self.core, self.scope, id), dtype)
    }
}
