//! Disks that are full and disks that fail, seen by a client.

use super::*;
use crate::{
    audit::Audit,
    clock::{Clock, SystemClock},
    config::{Compute, Sessions, access::Quota},
    durable::portable::Portable,
    oversight::Oversight,
    principal::Principal,
    session::{
        allowance::Allowances,
        inbox::Session,
        registry::{Registry, Token},
        turns::{Pool, ReadyQueue},
    },
};

/// A server without sockets.
pub(super) struct Server {
    pub(super) registry: Arc<Registry>,
    _pool: Pool,
}

impl Server {
    pub(super) fn start(disk: &Arc<Disk>) -> Self {
        Self::start_with(disk, None)
    }

    pub(super) fn start_with(disk: &Arc<Disk>, portable: Option<Arc<Portable>>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let ready = Arc::new(ReadyQueue::default());
        let oversight = Oversight::new(Quota::default(), Audit::default());
        let metrics = Arc::clone(&oversight.metrics);
        let (queue, time) = (Arc::clone(&ready), Arc::clone(&clock));
        let (hands, compute) = (Hands::Threads(1), Compute::default());
        let allowances = Allowances::default();
        let pool = Pool::start(&hands, &compute, queue, time, metrics, allowances).unwrap();
        let sessions = Sessions { server_memory_bytes: Some(1 << 30), ..Sessions::default() };
        let journals = Some(journals(disk).with_portable(portable));
        let limits = Limits::default();
        let registry = Registry::new(sessions, limits, clock, ready, oversight, journals);
        registry.take_in().unwrap();
        Self { registry, _pool: pool }
    }

    /// The session, as a service finds it.
    pub(super) async fn session(
        &self,
        (id, token): &(SessionId, Token),
    ) -> Result<Arc<Session>, ProtocolError> {
        let (id, token) = (id.to_string(), token.reveal());
        let nobody = Principal::anonymous();
        self.registry.fetch_if_absent(&id, &token, &nobody).await?;
        let session = self.registry.authenticate(&id, &token, &nobody)?;
        session.journal().expect("it has a log").confirm().await?;
        session.ready().await?;
        Ok(session)
    }

    pub(super) async fn execute(
        &self,
        credentials: &(SessionId, Token),
        first_sequence: u64,
        commands: Vec<v1::Command>,
    ) -> Result<v1::BatchReply, ProtocolError> {
        let session = self.session(credentials).await?;
        session.execute(v1::Batch::new(first_sequence, commands)).await
    }

    pub(super) async fn create(&self) -> (SessionId, Token) {
        let (session, token) =
            self.registry.create_kept(&Principal::anonymous()).await.expect("a session");
        (session.id(), token)
    }
}

#[tokio::test]
async fn a_full_disk_is_told_in_band_and_room_is_found_again_without_a_restart() {
    let disk = Arc::new(Disk::default());
    let server = Server::start(&disk);
    let session = server.create().await;
    disk.lock().full = true;
    let reply = server.execute(&session, 1, vec![constant(1, &[1.0]), durable(), fetch(1)]).await;
    let reply = reply.unwrap();
    assert_eq!(reason(&reply.replies[0]), "STORE_FULL");
    assert_eq!(elements(&reply), [1.0], "everything is applied all the same");
    let refused = server.registry.create_kept(&Principal::anonymous()).await.unwrap_err();
    assert!(refused.to_string().contains("full"), "{refused}");
    disk.lock().full = false;
    // It is tried again within a second.
    let health = || async {
        let reply = server.execute(&session, 4, vec![durable()]).await.unwrap();
        matches!(&reply.replies[0].result, Some(v1::reply::Result::Sync(sync))
            if sync.level() == v1::Level::Durable && sync.durable_sequence >= 4)
    };
    while !health().await {}
    drop(server);
    disk.lose_power();
    let server = Server::start(&disk);
    let reply = server.execute(&session, 5, vec![fetch(1)]).await.unwrap();
    assert_eq!(elements(&reply), [1.0]);
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_server_and_promises_nothing() {
    let disk = Arc::new(Disk::default());
    let server = Server::start(&disk);
    let session = server.create().await;
    server.execute(&session, 1, vec![constant(1, &[1.0]), durable()]).await.unwrap();
    disk.lock().fails = true;
    let outcome = server.execute(&session, 3, vec![constant(2, &[2.0]), durable()]).await;
    assert_eq!(outcome.unwrap_err(), ProtocolError::SessionStoreFailed);
    server.registry.store_failed().await;
    drop(server);
    disk.lose_power();
    let server = Server::start(&disk);
    let reply = server.execute(&session, 3, vec![fetch(1)]).await.unwrap();
    assert_eq!(elements(&reply), [1.0]);
    assert_eq!(reply.durable_sequence, Some(2));
}

#[tokio::test]
async fn one_damaged_session_is_lost_to_its_owner_and_no_other() {
    let disk = Arc::new(Disk::default());
    let server = Server::start(&disk);
    let (good, bad) = (server.create().await, server.create().await);
    for session in [&good, &bad] {
        server.execute(session, 1, vec![constant(1, &[1.0]), durable()]).await.unwrap();
        server.execute(session, 3, vec![constant(2, &[1.0]), durable()]).await.unwrap();
    }
    drop(server);
    disk.lose_power();
    let mut log = disk.log(bad.0);
    let middle = log.len() * 2 / 3;
    log[middle] ^= 1;
    disk.set_log(bad.0, log);
    let server = Server::start(&disk);
    let outcome = server.execute(&bad, 5, vec![fetch(1)]).await.unwrap_err();
    assert!(matches!(outcome, ProtocolError::SessionDamaged { .. }), "{outcome:?}");
    server.registry.sweep();
    let again = server.execute(&bad, 5, vec![fetch(1)]).await.unwrap_err();
    assert_eq!(again, outcome, "it is told each time");
    assert_eq!(elements(&server.execute(&good, 5, vec![fetch(1)]).await.unwrap()), [1.0]);
}
