//! Copies of sessions, their loss and damage, and servers that believe to have the same session.

use object_store::path::Path;

use super::{
    bucket::{Bucket, Flaw},
    faults::Server,
    *,
};
use crate::{
    durable::portable::Portable,
    session::registry::{SessionId, Token},
};

type Credentials = (SessionId, Token);

fn open(bucket: &Arc<Bucket>) -> Arc<Portable> {
    Portable::new(Arc::clone(bucket) as _, Path::from("sessions"))
}

fn start(disk: &Arc<Disk>, bucket: &Arc<Bucket>) -> Server {
    Server::start_with(disk, Some(open(bucket)))
}

fn portable() -> v1::Command {
    reach(v1::Level::Portable, 0)
}

/// Level, and sequence numbers that are durable and portable.
fn reached(reply: &v1::Reply) -> (v1::Level, u64, u64) {
    match &reply.result {
        Some(v1::reply::Result::Sync(sync)) => {
            (sync.level(), sync.durable_sequence, sync.portable_sequence)
        }
        other => panic!("no level but {other:?}"),
    }
}

/// A variable, handle 1, that counts from 1. The next command is the fourth.
async fn count(server: &Server) -> Credentials {
    let session = server.create().await;
    let commands = vec![constant(2, &[1.0]), variable(1, 2), portable()];
    let reply = server.execute(&session, 1, commands).await.unwrap();
    assert_eq!(reached(&reply.replies[0]), (v1::Level::Portable, 3, 3));
    session
}

/// Counts on, as two commands.
async fn count_on(
    server: &Server,
    session: &Credentials,
    sequence: u64,
) -> Result<v1::Reply, ProtocolError> {
    let reply = server.execute(session, sequence, vec![add(1, 2), portable()]).await?;
    Ok(reply.replies[0].clone())
}

async fn value(server: &Server, session: &Credentials, sequence: u64) -> Vec<f32> {
    elements(&server.execute(session, sequence, vec![fetch(1)]).await.unwrap())
}

#[tokio::test]
async fn a_session_survives_the_loss_of_the_disk_and_says_what_it_lost() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = start(&disk, &bucket);
    let session = count(&server).await;
    count_on(&server, &session, 4).await.unwrap();
    // Durable, and no more.
    server.execute(&session, 6, vec![add(1, 2), durable()]).await.unwrap();
    let base = server.session(&session).await.unwrap().attach().unwrap().0.handle_base();
    drop(server);
    let other = Arc::<Disk>::default();
    let server = start(&other, &bucket);
    let found = server.session(&session).await.unwrap();
    assert_eq!(found.rewound_to(), Some(5));
    assert!(found.attach().unwrap().0.handle_base() > base, "handles do not meet");
    assert_eq!(value(&server, &session, 6).await, [2.0]);
    let reply = count_on(&server, &session, 7).await.unwrap();
    assert_eq!(reached(&reply), (v1::Level::Portable, 8, 8));
    // It is in the log of the new one, as if it had always been there.
    drop((server, found));
    other.lose_power();
    let server = start(&other, &bucket);
    assert_eq!(value(&server, &session, 9).await, [3.0]);
}

#[tokio::test]
async fn without_its_token_a_session_is_unknown_and_stays_where_it_is() {
    let bucket = Bucket::new();
    let server = start(&Arc::default(), &bucket);
    let (id, _) = count(&server).await;
    let (_, other) = server.create().await;
    drop(server);
    let server = start(&Arc::default(), &bucket);
    let before = bucket.named(".manifest").await;
    let refused = server.execute(&(id, other), 4, vec![fetch(1)]).await;
    assert_eq!(refused.unwrap_err(), ProtocolError::UnknownSession);
    assert_eq!(bucket.named(".manifest").await, before);
    assert!(server.registry.is_empty());
}

#[tokio::test]
async fn a_store_that_tears_is_found_out_and_forgiven() {
    for torn in [".part", ".manifest"] {
        let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
        let server = start(&disk, &bucket);
        let session = count(&server).await;
        bucket.be(Flaw::Tears(torn));
        for sequence in [4, 6] {
            let said = count_on(&server, &session, sequence).await.unwrap();
            assert_eq!(reason(&said), "PORTABLE_STORE_FAILED", "{torn}");
        }
        bucket.be(Flaw::None);
        let reply = count_on(&server, &session, 8).await.unwrap();
        assert_eq!(reached(&reply), (v1::Level::Portable, 9, 9), "{torn}");
        drop(server);
        let server = start(&Arc::default(), &bucket);
        assert_eq!(value(&server, &session, 10).await, [4.0], "{torn}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_told_in_band_and_sessions_stay_durable() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = start(&disk, &bucket);
    let session = count(&server).await;
    bucket.be(Flaw::Down);
    let commands = vec![add(1, 2), portable(), durable(), fetch(1)];
    let reply = server.execute(&session, 4, commands).await.unwrap();
    assert_eq!(reason(&reply.replies[0]), "PORTABLE_STORE_FAILED");
    assert_eq!(reached(&reply.replies[1]), (v1::Level::Durable, 7, 3));
    assert_eq!(elements(&reply), [2.0]);
    // The session comes back all the same.
    drop(server);
    disk.lose_power();
    let server = start(&disk, &bucket);
    assert_eq!(value(&server, &session, 8).await, [2.0]);
    // One that may be in the store may be there later.
    let absent = Server::start_with(&Arc::default(), Some(open(&bucket)));
    let refused = absent.execute(&session, 8, vec![fetch(1)]).await.unwrap_err();
    assert!(matches!(refused, ProtocolError::PortableStoreFailed { .. }), "{refused:?}");
    bucket.be(Flaw::None);
    let reply = count_on(&server, &session, 9).await.unwrap();
    assert_eq!(reached(&reply), (v1::Level::Portable, 10, 10));
}

#[tokio::test]
async fn when_the_time_is_over_the_level_is_what_was_reached() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = start(&disk, &bucket);
    let session = count(&server).await;
    bucket.be(Flaw::Hangs);
    let commands = vec![add(1, 2), reach(v1::Level::Portable, 1)];
    // A session's journal may be behind at first, so that even that level takes another question.
    let reply = server.execute(&session, 4, commands).await.unwrap();
    assert_eq!(reached(&reply.replies[0]).2, 3);
    let reply = server.execute(&session, 6, vec![durable()]).await.unwrap();
    assert_eq!(reached(&reply.replies[0]), (v1::Level::Durable, 6, 3));
    bucket.be(Flaw::None);
    let reply = count_on(&server, &session, 7).await.unwrap();
    assert_eq!(reached(&reply), (v1::Level::Portable, 8, 8));
}

#[tokio::test]
async fn an_older_owner_is_fenced_however_far_the_newer_one_is() {
    for copies in 0..4 {
        let bucket = Bucket::new();
        let (old, new) = (start(&Arc::default(), &bucket), start(&Arc::default(), &bucket));
        let session = count(&old).await;
        let held = old.session(&session).await.unwrap();
        assert_eq!(value(&new, &session, 4).await, [1.0]);
        for copy in 0..copies {
            count_on(&new, &session, 5 + 2 * copy).await.unwrap();
        }
        let manifests = bucket.named(".manifest").await;
        let refused = held.execute(v1::Batch::new(4, vec![add(1, 2), portable()])).await;
        assert_eq!(refused.unwrap_err(), ProtocolError::SessionFenced, "after {copies}");
        assert!(held.is_fenced(), "its streams have ended");
        assert_eq!(bucket.named(".manifest").await, manifests, "it changed nothing");
        // The newer one goes on.
        count_on(&new, &session, 5 + 2 * copies).await.unwrap();
    }
}

#[tokio::test]
async fn an_older_owner_does_not_bring_back_what_has_ended() {
    let bucket = Bucket::new();
    let (old, new) = (start(&Arc::default(), &bucket), start(&Arc::default(), &bucket));
    let session = count(&old).await;
    let held = old.session(&session).await.unwrap();
    new.registry.delete(&new.session(&session).await.unwrap());
    while !bucket.named("").await.is_empty() {
        tokio::task::yield_now().await;
    }
    let refused = held.execute(v1::Batch::new(4, vec![add(1, 2), portable()])).await;
    assert_eq!(refused.unwrap_err(), ProtocolError::SessionFenced);
    assert_eq!(bucket.named("").await, []);
}

#[tokio::test]
async fn a_session_goes_back_and_forth_between_servers() {
    let bucket = Bucket::new();
    let disks = [Arc::<Disk>::default(), Arc::default()];
    let servers = disks.each_ref().map(|disk| start(disk, &bucket));
    let session = count(&servers[0]).await;
    for turn in 0..6_u16 {
        let (server, sequence) = (&servers[usize::from(turn % 2)], 4 + 2 * u64::from(turn));
        if let Err(left) = server.session(&session).await {
            assert_eq!(left, ProtocolError::SessionFenced);
            sweep(server).await;
        }
        count_on(server, &session, sequence).await.unwrap();
        assert_eq!(value(server, &session, sequence + 2).await, [f32::from(turn) + 2.0]);
        // That one was not copied.
        let next = server.session(&session).await.unwrap().position().next_sequence;
        assert_eq!(next, sequence + 3);
    }
}

/// Forgets the sessions that other servers have.
async fn sweep(server: &Server) {
    while !server.registry.is_empty() {
        server.registry.sweep();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_machine_that_comes_back_takes_the_session_as_the_other_server_left_it() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = start(&disk, &bucket);
    let session = count(&server).await;
    server.execute(&session, 4, vec![add(1, 2), add(1, 2), durable()]).await.unwrap();
    drop(server);
    let other = start(&Arc::default(), &bucket);
    count_on(&other, &session, 4).await.unwrap();
    drop(other);
    disk.lose_power();
    let server = start(&disk, &bucket);
    let refused = server.execute(&session, 6, vec![fetch(1)]).await.unwrap_err();
    assert_eq!(refused, ProtocolError::SessionFenced);
    assert!(!disk.log(session.0).is_empty(), "what it has is not thrown away");
    sweep(&server).await;
    assert_eq!(value(&server, &session, 6).await, [2.0]);
}

#[tokio::test]
async fn a_disk_from_a_backup_does_not_overwrite_what_came_later() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = start(&disk, &bucket);
    let session = count(&server).await;
    let backup = disk.log(session.0);
    count_on(&server, &session, 4).await.unwrap();
    drop(server);
    disk.lose_power();
    disk.set_log(session.0, backup);
    let server = start(&disk, &bucket);
    let refused = count_on(&server, &session, 4).await.unwrap_err();
    assert_eq!(refused, ProtocolError::SessionFenced);
}

#[tokio::test]
async fn two_copies_are_kept_and_none_of_a_session_that_has_ended() {
    let bucket = Bucket::new();
    let (server, other) = (start(&Arc::default(), &bucket), start(&Arc::default(), &bucket));
    let (session, moved) = (count(&server).await, count(&server).await);
    for copy in 0..5 {
        count_on(&server, &session, 4 + 2 * copy).await.unwrap();
    }
    let held = [&session, &moved].map(|session| server.session(session));
    let held = futures::future::try_join_all(held).await.unwrap();
    value(&other, &moved, 4).await;
    let of = |suffix: &str| {
        let (bucket, id, suffix) = (Arc::clone(&bucket), session.0.to_string(), suffix.to_owned());
        async move {
            let all = bucket.named(&suffix).await;
            all.into_iter().filter(|path| path.as_ref().contains(&id)).count()
        }
    };
    assert_eq!((of(".manifest").await, of(".part").await), (2, 2));
    for session in &held {
        server.registry.delete(session);
    }
    while of("").await > 0 {
        tokio::task::yield_now().await;
    }
    // The other session is not this server's to remove.
    assert_eq!(value(&other, &moved, 5).await, [1.0]);
    let refused = other.execute(&session, 14, vec![fetch(1)]).await.unwrap_err();
    assert_eq!(refused, ProtocolError::UnknownSession);
}

#[tokio::test]
async fn what_does_not_change_is_not_written_again() {
    let bucket = Bucket::new();
    let disk = Arc::<Disk>::default();
    let portable_store = open(&bucket);
    let server = Server::start_with(&disk, Some(portable_store));
    let session = server.create().await;
    // More than a part, and then a little.
    let elements = vec![1.0; 200_000];
    for sequence in 1..=12 {
        server.execute(&session, sequence, vec![constant(sequence, &elements)]).await.unwrap();
    }
    server.execute(&session, 13, vec![portable()]).await.unwrap();
    let parts = || {
        let written = bucket.written.lock().unwrap();
        written.iter().filter(|path| path.extension() == Some("part")).count()
    };
    let (before, log) = (parts(), disk.log(session.0));
    assert!(before >= 2, "{before} parts of {} bytes", log.len());
    server.execute(&session, 14, vec![portable()]).await.unwrap();
    let grew = disk.log(session.0).starts_with(&log);
    assert_eq!(parts() - before, if grew { 1 } else { before });
}

#[tokio::test]
async fn damage_in_the_store_is_data_loss() {
    for damaged in [".part", ".manifest"] {
        let bucket = Bucket::new();
        let server = start(&Arc::default(), &bucket);
        let session = count(&server).await;
        drop(server);
        let path = bucket.named(damaged).await.pop().unwrap();
        let server = start(&Arc::default(), &bucket);
        let lost = |outcome: Result<_, ProtocolError>| {
            let error = outcome.map(|_: v1::BatchReply| ()).unwrap_err();
            assert!(matches!(error, ProtocolError::SessionDamaged { .. }), "{damaged}: {error:?}");
        };
        bucket.damage(&path).await;
        lost(server.execute(&session, 4, vec![fetch(1)]).await);
        // Longer than was written, and longer than anything may be.
        bucket.put_instead(&path, vec![0; 17 << 20]).await;
        lost(server.execute(&session, 4, vec![fetch(1)]).await);
        assert_eq!(bucket.named(".manifest").await.len(), 1, "it was not claimed");
    }
}

#[tokio::test]
async fn a_store_that_cannot_keep_servers_apart_is_refused() {
    let bucket = Bucket::new();
    bucket.be(Flaw::Overwrites);
    let server = start(&Arc::default(), &bucket);
    let session = server.create().await;
    let reply = server.execute(&session, 1, vec![portable()]).await.unwrap();
    assert_eq!(reason(&reply.replies[0]), "PORTABLE_STORE_FAILED");
    assert_eq!(bucket.named("").await, []);
    assert!(bucket.written.lock().unwrap().iter().all(|path| path.extension() == Some("try")));
}

#[tokio::test]
async fn an_old_list_leads_to_no_older_state() {
    let bucket = Bucket::new();
    let server = start(&Arc::default(), &bucket);
    let session = count(&server).await;
    count_on(&server, &session, 4).await.unwrap();
    drop(server);
    bucket.be(Flaw::Forgets);
    let server = start(&Arc::default(), &bucket);
    let refused = server.execute(&session, 6, vec![fetch(1)]).await.unwrap_err();
    assert_eq!(refused, ProtocolError::RecoveryPostponed);
    bucket.be(Flaw::None);
    assert_eq!(value(&server, &session, 6).await, [2.0]);
}

#[tokio::test]
async fn a_level_that_was_or_was_not_there_is_the_same_when_commands_are_repeated() {
    let (disk, bucket) = (Arc::<Disk>::default(), Bucket::new());
    let server = Server::start(&disk);
    let session = server.create().await;
    let reply = server.execute(&session, 1, vec![portable(), durable()]).await.unwrap();
    assert_eq!(reason(&reply.replies[0]), "LEVEL_UNAVAILABLE");
    drop(server);
    disk.lose_power();
    let server = start(&disk, &bucket);
    let reply = server.execute(&session, 3, vec![portable()]).await.unwrap();
    assert_eq!(reached(&reply.replies[0]), (v1::Level::Portable, 3, 3));
    drop(server);
    disk.lose_power();
    let server = Server::start(&disk);
    let reply = server.execute(&session, 4, vec![portable()]).await.unwrap();
    assert_eq!(reason(&reply.replies[0]), "LEVEL_UNAVAILABLE");
}
