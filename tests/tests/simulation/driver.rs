//! A program's client: sends the commands, and compares each answer with what an engine said that nothing disturbed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use fastrand::Rng;
use gradtape_client::{
    Error, Session,
    proto::{
        self, Reply, SessionCredentials, command::Kind, reply,
        session_service_client::SessionServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use turmoil::net::TcpStream;

use super::program::Program;

/// After so much silence a client asks whether the server is there, and waits as long again.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_millis(400);

/// So often a client looks whether all is durable, before it takes its session for one that another has taken over: longer than
/// it takes to send everything again.
const LOOKS: usize = 300;

/// A session, its program, and what its clients were promised.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) program: Program,
    /// Where its clients connect to.
    pub(crate) address: String,
    pub(crate) credentials: RefCell<Option<SessionCredentials>>,
    /// The last command that was said to be durable.
    durable: Cell<u64>,
    /// The last command that was answered.
    applied: Cell<u64>,
    /// Whether the server has died since the session began.
    pub(crate) server_died: Cell<bool>,
    /// Whether one of its clients has died.
    pub(crate) client_died: Cell<bool>,
    /// The newest attachment that a client knows of.
    newest: Cell<u64>,
    /// How its clients get on with each other.
    pub(crate) company: Company,
    pub(crate) is_done: Cell<bool>,
    /// What happened, to compare two runs of a seed.
    pub(crate) diary: RefCell<Vec<String>>,
}

/// How many clients a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// One at a time.
    Alone,
    /// Another takes the session over, on a network that loses nothing: the older one must be told.
    TakenOver,
    /// Two take it from each other again and again.
    Contended,
}

/// Why a client stops.
enum End {
    /// It may try again.
    Lost,
    /// Another has the session.
    Superseded,
    /// A promise was broken.
    Broken(String),
}

impl Life {
    pub(crate) fn new(program: Program, address: &str, company: Company) -> Rc<Self> {
        Rc::new(Self {
            program,
            address: address.to_owned(),
            credentials: RefCell::default(),
            durable: Cell::default(),
            applied: Cell::default(),
            server_died: Cell::default(),
            client_died: Cell::default(),
            newest: Cell::default(),
            company,
            is_done: Cell::default(),
            diary: RefCell::default(),
        })
    }

    fn note(&self, what: &str) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.diary.borrow_mut().push(format!("{now:?}: {what}"));
    }
}

/// Goes on with a program until it is done, or somebody else has the session for good.
pub(crate) async fn drive(life: Rc<Life>, name: u32, mut random: Rng) -> turmoil::Result {
    while !life.is_done.get() {
        match Box::pin(attempt(&life, name, &mut random)).await {
            Ok(()) => life.is_done.set(true),
            // Its rival was done before, and the session may be deleted by now.
            Err(_) if life.is_done.get() => break,
            Err(End::Broken(why)) => return Err(why.into()),
            Err(End::Superseded) if life.company == Company::TakenOver => break,
            Err(End::Lost | End::Superseded) => {
                sleep(Duration::from_millis(random.u64(1..200))).await;
            }
        }
    }
    Ok(())
}

async fn attempt(life: &Rc<Life>, name: u32, random: &mut Rng) -> Result<(), End> {
    let known = life.credentials.borrow().clone();
    let credentials = match known {
        Some(credentials) => credentials,
        None => create(life).await?,
    };
    let SessionCredentials { session_id, session_token } = credentials;
    let promised = life.promised();
    let session = Session::builder()
        .connect_by(TcpStream::connect)
        .connect_timeout(Duration::from_secs(1))
        .keep_alive(KEEP_ALIVE, KEEP_ALIVE)
        .patience(Duration::from_secs(20))
        .attach(&life.address, gradtape_client::Credentials { session_id, session_token })
        .await
        .map_err(|error| life.end_of(&error))?;
    let next = session.next_sequence();
    life.note(&format!("{name} attaches at {next}"));
    life.check_position(next, promised)?;
    // Each attachment has a range of handles, and later ones have later ranges.
    let attachment = session.reserve() >> 32;
    life.newest.set(life.newest.get().max(attachment));
    let commands = &life.program.commands;
    let mut place = usize::try_from(next - 1).unwrap_or(usize::MAX);
    while place < commands.len() {
        let count = random.usize(1..12).min(commands.len() - place);
        let was_newest = life.newest.get() == attachment;
        let sent = commands[place..place + count].iter();
        let answers: Vec<_> = sent.map(|command| session.command(command)).collect();
        for answer in answers {
            let answer = answer.await;
            life.check_answer(place, answer)?;
            if !was_newest && life.company == Company::TakenOver {
                return Err(End::Broken(format!("client {name} goes on after it was superseded")));
            }
            place += 1;
        }
        if random.u8(0..3) == 0 {
            sleep(Duration::from_millis(random.u64(1..60))).await;
        }
    }
    life.note(&format!("{name} is done"));
    durable(life).await
}

/// Waits until all of a program is durable: until then its client must be there to send it again.
async fn durable(life: &Rc<Life>) -> Result<(), End> {
    let end = life.program.commands.len() as u64 + 1;
    for _ in 0..LOOKS {
        let request = proto::GetSessionRequest { credentials: life.credentials.borrow().clone() };
        let mut sessions = SessionServiceClient::new(channel(&life.address));
        let promised = life.promised();
        let position = match sessions.get_session(request).await {
            Ok(response) => response.into_inner(),
            // The session goes on meanwhile: to attach now would be to take it away from itself.
            Err(status) if is_transient(&status) => {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(status) => return Err(End::Broken(status.to_string())),
        };
        life.check_position(position.next_sequence, promised)?;
        if position.durable_sequence() + 1 == end {
            life.durable.set(end - 1);
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Whoever was the last to send is gone.
    Err(End::Lost)
}

/// Makes the session. If the answer is lost, another is made.
async fn create(life: &Rc<Life>) -> Result<SessionCredentials, End> {
    let channel = channel(&life.address);
    let request = proto::CreateSessionRequest { client: "simulation".into(), protocol_version: 1 };
    let made = SessionServiceClient::new(channel).create_session(request).await;
    let made = made.map_err(|status| end_of_call(&status))?.into_inner();
    let credentials = made.credentials.ok_or_else(|| End::Broken("no credentials".to_owned()))?;
    // Another client may have been quicker.
    Ok(life.credentials.borrow_mut().get_or_insert(credentials).clone())
}

/// A connection over the simulated network, which opens when it is needed.
pub(crate) fn channel(address: &str) -> Channel {
    let dial = tower::service_fn(|uri: Uri| async move {
        let place = uri.authority().map(ToString::to_string).unwrap_or_default();
        TcpStream::connect(place).await.map(TokioIo::new)
    });
    Endpoint::from_shared(address.to_owned())
        .expect("a URL")
        .connect_timeout(Duration::from_secs(1))
        .timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .connect_with_connector_lazy(dial)
}

impl Life {
    /// What was promised so far: the last durable command, and the last that was answered.
    fn promised(&self) -> (u64, u64) {
        (self.durable.get(), self.applied.get())
    }

    /// A session goes on behind all that was promised before it was asked for, and not behind what it cannot know.
    fn check_position(&self, next: u64, (durable, applied): (u64, u64)) -> Result<(), End> {
        let floor = if self.server_died.get() { durable } else { applied };
        if next <= floor {
            return Err(End::Broken(format!("{floor} was promised, and it goes on at {next}")));
        }
        if next > self.program.commands.len() as u64 + 1 {
            return Err(End::Broken(format!("it goes on at {next}, which nobody sent")));
        }
        Ok(())
    }

    /// Compares an answer with the one that it must be.
    fn check_answer(&self, place: usize, answer: Result<Reply, Error>) -> Result<(), End> {
        let expected = &self.program.answers[place];
        let sequence = place as u64 + 1;
        let differs = |what: String| {
            let command = &self.program.commands[place];
            End::Broken(format!(
                "command {sequence}, {command:?}, is answered by {what} instead of {expected:?}"
            ))
        };
        let is_sync = matches!(self.program.commands[place].kind, Some(Kind::Sync(_)));
        match answer {
            Ok(reply) if is_sync => {
                let Some(reply::Result::Sync(sync)) = &reply.result else {
                    return Err(differs(format!("{reply:?}")));
                };
                if sync.level() == proto::Level::Durable {
                    self.durable.set(self.durable.get().max(sequence));
                }
            }
            // The disk was full.
            Err(Error::Command(failure)) if is_sync && failure.reason == "STORE_FULL" => {}
            Ok(reply) if reply == *expected => {}
            Ok(reply) => return Err(differs(format!("{reply:?}"))),
            Err(Error::Command(failure)) => {
                let said =
                    (failure.code.into(), &failure.reason, &failure.message, failure.sequence);
                let told = (failure.root_sequence, &failure.tag, &failure.root_tag);
                let same = match &expected.result {
                    Some(reply::Result::Error(e)) => {
                        said == (e.code, &e.reason, &e.message, e.sequence)
                            && told == (e.root_sequence, &e.tag, &e.root_tag)
                    }
                    _ => false,
                };
                if !same {
                    return Err(differs(format!("{failure:?}")));
                }
            }
            Err(error) => return Err(self.end_of(&error)),
        }
        self.applied.set(self.applied.get().max(sequence));
        self.note(&format!("answer to {sequence}"));
        Ok(())
    }

    /// What a session's error means.
    fn end_of(&self, error: &Error) -> End {
        // What a client that is dead sent last may arrive after what the next one sent.
        let rivals = self.company != Company::Alone || self.client_died.get();
        match error {
            Error::Transport(_) => End::Lost,
            Error::Refused(refusal) if refusal.reason == "SUPERSEDED" && rivals => End::Superseded,
            // What was only applied is lost with the client that sent it and the server that executed it; another client, which
            // saw it applied, has to begin anew.
            Error::Protocol(_) if self.client_died.get() && self.server_died.get() => End::Lost,
            // What the other has done is not this client's to ask for.
            Error::Protocol(_) | Error::Refused(_) if self.company == Company::Contended => {
                self.note(&error.to_string());
                End::Lost
            }
            error => End::Broken(format!("a session ends with {error:?}")),
        }
    }
}

/// What the failure of a call means.
fn end_of_call(status: &Status) -> End {
    if is_transient(status) { End::Lost } else { End::Broken(status.to_string()) }
}

/// Whether a call may be tried again: the network failed, or the disk has no room.
pub(crate) fn is_transient(status: &Status) -> bool {
    use tonic::Code::{
        Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown,
    };
    matches!(
        status.code(),
        Unavailable | Unknown | Internal | Cancelled | DeadlineExceeded | ResourceExhausted
    )
}
