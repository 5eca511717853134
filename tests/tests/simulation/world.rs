//! One run: a server, its disk, clients, a network between them, and what befalls them, all of it from a seed.

use std::{
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use gradtape_client::proto::{
    self, session_service_client::SessionServiceClient,
    session_service_server::SessionServiceServer, tape_service_server::TapeServiceServer,
};
use gradtape_engine::ledger::Ledger;
use gradtape_server::{
    accept::{self, Listener},
    config::{Config, access::Reflection},
    hands::{Hands, Pace},
    server::{Error, Ground, Server},
};
use tokio::time::sleep;
use turmoil::{
    Sim,
    net::{TcpListener, TcpStream},
};

use super::{
    disk::{Disk, Flaw},
    driver::{self, Company, KEEP_ALIVE, Life},
    middle::{Lie, Middle},
    program::Program,
};

/// The server's port.
const PORT: u16 = 50_051;

/// The steps of simulated time.
const TICK: Duration = Duration::from_millis(1);

/// From here on nothing goes wrong any more.
const HEALED: Duration = Duration::from_secs(2);

/// A run that has not ended by now never will.
const LONGEST: Duration = Duration::from_secs(90);

/// Most that the server may die in a run: a session that is taken along twice while it comes back is put aside, as it should be.
const MOST_DEATHS: u32 = 2;

/// What is wrong in a run that must be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) disk: Flaw,
    /// With a server in between.
    pub(crate) lie: Option<Lie>,
}

/// What befalls a run.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The server dies; it starts again after a while.
    ServerDies(Duration),
    /// Nothing gets through between a client and the server, and what is under way is lost.
    Partition(usize, Duration),
    /// Nothing gets through in one direction.
    Deaf(usize, Duration),
    Mute(usize, Duration),
    /// What is sent arrives later.
    Hold(usize, Duration),
    /// A client dies, and another goes on.
    ClientDies(usize, Duration),
    /// The disk has no room.
    DiskFull(Duration),
    /// The disk cannot say whether it has written.
    DiskFails,
    /// Messages are lost at random.
    Loss(Duration),
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
enum Relief {
    ServerStarts,
    Repair(usize),
    Release(usize),
    ClientStarts(usize),
    DiskHasRoom,
    NoLoss,
}

/// Sockets of the simulated network.
struct Doors(TcpListener);

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

impl Listener for Doors {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// The server, as those see it who are not on the network.
#[derive(Debug, Default)]
struct Machine {
    ledger: RefCell<Option<Arc<Ledger>>>,
    /// It ended because its store failed.
    has_ended: Cell<bool>,
}

/// Runs a seed. Gives what happened, or which promise was broken.
pub(crate) fn run(seed: u64, wrong: Wrong) -> Result<Vec<String>, String> {
    // The clients draw the lengths of their pauses from here.
    fastrand::seed(seed);
    let mut random = Rng::with_seed(seed);
    let company = match random.u8(0..4) {
        0 => Company::TakenOver,
        1 => Company::Contended,
        _ => Company::Alone,
    };
    let disk = Disk::new(wrong.disk);
    let machine = Rc::new(Machine::default());
    let mut sim = network(&mut random);
    host_server(&mut sim, &machine, &disk, random.u64(..));
    let gate = if let Some(lie) = wrong.lie {
        host_middle(&mut sim, lie);
        "middle"
    } else {
        "server"
    };
    let address = format!("http://{gate}:{PORT}");
    let (mut lives, mut hosts) = (Vec::new(), Vec::new());
    for number in 0..random.usize(1..3) {
        let program = Program::random(&mut random, 40);
        let company = if number == 0 { company } else { Company::Alone };
        let life = Life::new(program, &address, company);
        host_client(&mut sim, format!("client{number}"), &life, Duration::ZERO, random.u64(..));
        hosts.push(format!("client{number}"));
        if company != Company::Alone {
            let after = Duration::from_millis(random.u64(10..600));
            host_client(&mut sim, "rival".to_owned(), &life, after, random.u64(..));
            hosts.push("rival".to_owned());
        }
        lives.push(life);
    }
    sim.client("judge", judge(lives.clone(), Rc::clone(&machine)));
    let calm = company == Company::TakenOver;
    let faults = if calm { Vec::new() } else { faults(&mut random, hosts.len()) };
    let weather = Weather { gate, hosts, disk, machine, lives: lives.clone(), random };
    let outcome = weather.befall(&mut sim, faults);
    let diaries = lives.iter().flat_map(|life| life.diary.borrow().clone());
    if let Err(why) = outcome {
        let diary: Vec<_> = diaries.collect();
        return Err(format!("{}\n{why}", diary.join("\n")));
    }
    Ok(diaries.chain([format!("{:?}: the end", sim.elapsed())]).collect())
}

fn network(random: &mut Rng) -> Sim<'static> {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(random.u64(..))
        .simulation_duration(LONGEST)
        .tick_duration(TICK)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(random.u64(1..40)))
        .repair_rate(0.2);
    if random.bool() {
        builder.enable_random_order();
    }
    builder.build()
}

/// Limits that small programs reach.
fn config() -> Config {
    let mut config = Config::default();
    // A few steps make a log long enough to begin anew.
    config.durability.max_log_bytes = 8 << 10;
    config.sessions.server_memory_bytes = Some(1 << 30);
    config.transport.keepalive_interval = KEEP_ALIVE;
    config.transport.keepalive_timeout = KEEP_ALIVE;
    config.transport.max_connections_per_address = 64;
    // Building it takes longer than everything else.
    config.access.reflection = Reflection::Off;
    config.limits.max_unapplied_commands = 24;
    config.limits.retained_commands = 24;
    // A turn is one command.
    config.compute.slice = Duration::ZERO;
    config
}

fn host_server(sim: &mut Sim<'static>, machine: &Rc<Machine>, disk: &Arc<Disk>, seed: u64) {
    let (machine, disk) = (Rc::clone(machine), Arc::clone(disk));
    let pace = Mutex::new(Rng::with_seed(seed));
    let pace: Pace = Arc::new(move || {
        let mut random = pace.lock().unwrap_or_else(PoisonError::into_inner);
        // Most turns take no time, and some take long.
        Duration::from_micros(if random.u8(0..8) == 0 { random.u64(0..20_000) } else { 0 })
    });
    sim.host("server", move || {
        let (machine, disk, pace) = (Rc::clone(&machine), Arc::clone(&disk), Arc::clone(&pace));
        async move {
            let listener = Doors(TcpListener::bind(("0.0.0.0", PORT)).await?);
            let ground = Ground {
                listener,
                address: SocketAddr::from(([127, 0, 0, 1], PORT)),
                sessions: Some(Arc::new(disk.mount())),
                hands: Hands::Task(pace),
            };
            let server = Server::on(ground, config())?;
            *machine.ledger.borrow_mut() = Some(Arc::clone(server.registry().ledger()));
            match server.run(std::future::pending()).await {
                Err(Error::SessionStoreFailed) => machine.has_ended.set(true),
                ended => return Err(format!("the server ended: {ended:?}").into()),
            }
            // Its process is gone, and with it all its tasks, as soon as the weather sees it.
            std::future::pending().await
        }
    });
}

/// A server before the server.
fn host_middle(sim: &mut Sim<'static>, lie: Lie) {
    sim.host("middle", move || async move {
        let middle = Middle::new(driver::channel(&format!("http://server:{PORT}")), lie);
        let listener = Doors(TcpListener::bind(("0.0.0.0", PORT)).await?);
        let transport = config().transport;
        let connections = accept::connections(listener, &transport, None, &Arc::default());
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(SessionServiceServer::new(middle.clone()))
            .add_service(TapeServiceServer::new(middle))
            .serve_with_incoming(connections)
            .await?;
        Ok(())
    });
}

fn host_client(sim: &mut Sim<'static>, name: String, life: &Rc<Life>, after: Duration, seed: u64) {
    let (life, seeds) = (Rc::clone(life), RefCell::new(Rng::with_seed(seed)));
    let number = u32::from(name == "rival");
    sim.host(name, move || {
        let (life, random) = (Rc::clone(&life), seeds.borrow_mut().fork());
        async move {
            sleep(after).await;
            driver::drive(life, number, random).await?;
            // A client that ends takes what it sent last with it.
            std::future::pending().await
        }
    });
}

/// Waits for the ends of all programs, and looks at what is left.
async fn judge(lives: Vec<Rc<Life>>, machine: Rc<Machine>) -> turmoil::Result {
    while !lives.iter().all(|life| life.is_done.get()) {
        sleep(Duration::from_millis(20)).await;
    }
    for life in &lives {
        let credentials = life.credentials.borrow().clone();
        let end = life.program.commands.len() as u64 + 1;
        // Until the network lets it.
        loop {
            match look_and_delete(life, credentials.clone()).await {
                Ok(next) if next == end => break,
                Ok(next) => return Err(format!("it stands at {next} instead of {end}").into()),
                // An answer was lost, and it is deleted.
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(status) if driver::is_transient(&status) => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(status) => return Err(status.to_string().into()),
            }
        }
    }
    let ledger = machine.ledger.borrow().clone().ok_or("no server")?;
    for _ in 0..100 {
        if ledger.used() == 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("{} bytes are still in use", ledger.used()).into())
}

/// Where a session stands, before it is deleted.
async fn look_and_delete(
    life: &Life,
    credentials: Option<proto::SessionCredentials>,
) -> Result<u64, tonic::Status> {
    let mut sessions = SessionServiceClient::new(driver::channel(&life.address));
    let request = proto::GetSessionRequest { credentials: credentials.clone() };
    let next = sessions.get_session(request).await?.into_inner().next_sequence;
    sessions.delete_session(proto::DeleteSessionRequest { credentials }).await?;
    Ok(next)
}

/// What befalls a run, and when.
fn faults(random: &mut Rng, hosts: usize) -> Vec<(Duration, Fault)> {
    let mut deaths = 0;
    let mut faults: Vec<_> = (0..random.usize(1..7))
        .map(|_| {
            let at = Duration::from_millis(random.u64(5..1_500));
            let long = Duration::from_millis(random.u64(5..400));
            let host = random.usize(0..hosts);
            let mut dies = |fault| {
                deaths += 1;
                if deaths > MOST_DEATHS { Fault::Partition(host, long) } else { fault }
            };
            let fault = match random.u8(0..14) {
                0..=3 => dies(Fault::ServerDies(long)),
                4 => dies(Fault::DiskFails),
                5 | 6 => Fault::Partition(host, long),
                7 => Fault::Deaf(host, long),
                8 => Fault::Mute(host, long),
                9 => Fault::Hold(host, long),
                10 | 11 => Fault::ClientDies(host, long),
                12 => Fault::DiskFull(long),
                _ => Fault::Loss(long),
            };
            (at, fault)
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Brings the faults about.
struct Weather {
    /// What clients connect to.
    gate: &'static str,
    hosts: Vec<String>,
    disk: Arc<Disk>,
    machine: Rc<Machine>,
    lives: Vec<Rc<Life>>,
    random: Rng,
}

impl Weather {
    /// Lets time pass until the judge has judged.
    fn befall(
        mut self,
        sim: &mut Sim<'static>,
        faults: Vec<(Duration, Fault)>,
    ) -> Result<(), String> {
        let mut faults = faults.into_iter().peekable();
        let mut reliefs: Vec<(Duration, Relief)> = Vec::new();
        let mut healed = false;
        loop {
            let now = sim.elapsed();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                if let Some((after, relief)) = self.bring(sim, fault) {
                    reliefs.push((now + after, relief));
                }
            }
            if self.machine.has_ended.take() {
                self.kill_server(sim);
                reliefs.push((now + Duration::from_millis(30), Relief::ServerStarts));
            }
            for (_, relief) in reliefs.extract_if(.., |(at, _)| *at <= now) {
                self.relieve(sim, relief);
            }
            if !healed && now >= HEALED {
                healed = true;
                for host in &self.hosts {
                    sim.repair(host.as_str(), self.gate);
                }
            }
            match sim.step() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn bring(&mut self, sim: &mut Sim<'static>, fault: Fault) -> Option<(Duration, Relief)> {
        let host = |number: usize| self.hosts[number].as_str();
        match fault {
            Fault::ServerDies(long) => {
                self.kill_server(sim);
                Some((long, Relief::ServerStarts))
            }
            Fault::Partition(number, long) => {
                sim.partition(host(number), self.gate);
                Some((long, Relief::Repair(number)))
            }
            Fault::Deaf(number, long) => {
                sim.partition_oneway(self.gate, host(number));
                Some((long, Relief::Repair(number)))
            }
            Fault::Mute(number, long) => {
                sim.partition_oneway(host(number), self.gate);
                Some((long, Relief::Repair(number)))
            }
            Fault::Hold(number, long) => {
                sim.hold(host(number), self.gate);
                Some((long, Relief::Release(number)))
            }
            Fault::ClientDies(number, long) => {
                sim.crash(host(number));
                for life in &self.lives {
                    life.client_died.set(true);
                }
                Some((long, Relief::ClientStarts(number)))
            }
            Fault::DiskFull(long) => {
                self.disk.set_full(true);
                Some((long, Relief::DiskHasRoom))
            }
            Fault::DiskFails => {
                self.disk.fail();
                None
            }
            Fault::Loss(long) => {
                sim.set_fail_rate(0.02);
                Some((long, Relief::NoLoss))
            }
        }
    }

    fn relieve(&self, sim: &mut Sim<'static>, relief: Relief) {
        match relief {
            Relief::ServerStarts => sim.bounce("server"),
            Relief::Repair(number) => sim.repair(self.hosts[number].as_str(), self.gate),
            Relief::Release(number) => sim.release(self.hosts[number].as_str(), self.gate),
            Relief::ClientStarts(number) => sim.bounce(self.hosts[number].as_str()),
            Relief::DiskHasRoom => self.disk.set_full(false),
            Relief::NoLoss => sim.set_fail_rate(0.0),
        }
    }

    /// What is on its way to the disk survives in part, as far as it goes.
    fn kill_server(&mut self, sim: &mut Sim<'static>) {
        let part = self.random.f64() * self.random.f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of it"
        )]
        self.disk.lose_power(|bytes| (bytes as f64 * part) as usize);
        for life in &self.lives {
            life.server_died.set(true);
        }
        sim.crash("server");
    }
}
