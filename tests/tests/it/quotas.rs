//! How much one principal may ask for, compute and hold, and what does not count as using a session.

use std::time::{Duration, Instant};

use gradtape_client::{Code, RestoreOptions, SaveOptions, proto::attribute::Value};
use gradtape_tests::{
    Server,
    access::Folder,
    canary::Canary,
    raw::{self, Raw, connection, constant, elements, error, fetch, op, reason},
};
use tonic::transport::Channel;

use crate::oversight::{quota, scrape};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_principal_asks_so_often_in_a_minute() {
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.max_requests_per_minute = 100;
    })
    .await;
    let hers = Raw::connect_as(&server, &ada).await.expect("a session");
    let mut stream = hers.stream().await.expect("a stream");
    let mut next_sequence = 1;
    // The rate fills the bucket while it is emptied, but never as fast as this.
    let end = loop {
        match stream.execute(next_sequence, vec![constant(next_sequence, &[1.0])]).await {
            Ok(_) => next_sequence += 1,
            Err(end) => break end,
        }
        assert!(next_sequence < 10_000, "nothing was refused");
    };
    quota(&end, "PRINCIPAL_REQUEST_RATE", 100);
    assert!(next_sequence > 50, "{next_sequence}");
    quota(&hers.position().await.unwrap_err(), "PRINCIPAL_REQUEST_RATE", 100);
    // Somebody else is not touched, and the session is still there.
    let his = Raw::connect_as(&server, &ben).await.expect("a session");
    his.execute(1, vec![constant(1, &[1.0])]).await.expect("an answer");
    let again = async {
        loop {
            if let Ok(position) = hers.position().await {
                break position;
            }
        }
    };
    let position = tokio::time::timeout(PATIENCE, again).await.expect("it may ask again");
    assert_eq!(position.next_sequence, next_sequence);
}

#[tokio::test]
async fn whoever_computes_too_much_in_a_minute_is_delayed_and_nobody_else() {
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.compute_per_minute = Duration::from_secs(1);
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let hers = Raw::connect_as(&server, &ada).await.expect("a session");
    let side = gradtape_client::proto::IntegerList { values: vec![384, 384] };
    let mut matrix = op("full", &[], 1);
    let attributes = [("shape", Value::IntsValue(side)), ("value", Value::DoubleValue(1.0))];
    if let Some(gradtape_client::proto::command::Kind::Op(op)) = &mut matrix.kind {
        op.attributes = attributes
            .map(|(name, value)| gradtape_client::proto::Attribute {
                name: name.into(),
                value: Some(value),
            })
            .into();
    }
    hers.execute(1, vec![matrix]).await.expect("a matrix");
    let began = Instant::now();
    let (mut sequence, mut computed) = (2, 0.0);
    let before_the_last = loop {
        hers.execute(sequence, vec![op("matmul", &[1, 1], sequence)]).await.expect("an answer");
        let before = computed;
        computed = scrape(&server).await.1["gradtape_compute_seconds_total"];
        sequence += 1;
        if before > 1.1 {
            break before;
        }
    };
    // The last product began when no more was left than a second, and a sixtieth of a second had leaked in each.
    let least = (before_the_last - 1.0) * 60.0;
    assert!(began.elapsed().as_secs_f64() >= least, "{:?} for {computed} s", began.elapsed());
    let his = Raw::connect_as(&server, &ben).await.expect("a session");
    let his = his.execute(1, vec![constant(1, &[7.0]), fetch(1)]);
    let reply = tokio::time::timeout(PATIENCE, his).await.expect("no delay").expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [7.0]);
}

#[tokio::test]
async fn the_sessions_of_a_principal_share_its_memory() {
    let folder = Folder::new();
    let (ada, ben) = (folder.token("ada"), folder.token("ben"));
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.access.quota.memory_bytes = 1 << 20;
    })
    .await;
    // 600 KB.
    let numbers = vec![1.0_f32; 150_000];
    let first = Raw::connect_as(&server, &ada).await.expect("a session");
    let second = Raw::connect_as(&server, &ada).await.expect("a session");
    let his = Raw::connect_as(&server, &ben).await.expect("a session");
    let hold = async |raw: &Raw, sequence: u64| {
        let reply = raw.execute(sequence, vec![constant(sequence, &numbers)]).await;
        let replies = reply.expect("an answer").replies;
        replies.iter().map(error).next().cloned()
    };
    assert_eq!(hold(&first, 1).await, None);
    let refused = hold(&second, 1).await.expect("no room for both");
    assert_eq!(refused.reason, "MEMORY_LIMIT");
    assert!(refused.message.contains("principal") && refused.message.contains("1048576"));
    assert_eq!(hold(&his, 1).await, None);
    let release = gradtape_client::proto::Release { handles: vec![1] };
    let release = raw::command(gradtape_client::proto::command::Kind::Release(release));
    first.execute(2, vec![release]).await.expect("room again");
    assert_eq!(hold(&second, 2).await, None);
}

/// A connection that is kept alive by pings is not a session that is used.
#[tokio::test]
async fn c10_a_session_of_which_nothing_is_heard_but_pings_expires() {
    let server = Server::start_with(|config| {
        config.sessions.time_to_live = Duration::from_millis(500);
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let channel = Channel::from_shared(server.url())
        .expect("a URL")
        .http2_keep_alive_interval(Duration::from_millis(20))
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true);
    let channel = channel.connect().await.expect("a connection");
    let raw = Raw::over(connection(channel, None)).await.expect("a session");
    let expired = async { while scrape(&server).await.1["gradtape_sessions"] > 0.0 {} };
    tokio::time::timeout(PATIENCE, expired).await.expect("pings keep the session");
    let (_, numbers) = scrape(&server).await;
    assert_eq!(numbers["gradtape_connections"], 1.0, "the connection is there");
    let gone = raw.position().await.expect_err("it expired");
    assert_eq!((gone.code(), &reason(&gone)[..]), (Code::NotFound, "UNKNOWN_SESSION"));
}

/// What is saved is the state right after some command, however fast the session goes on and whoever else computes.
#[tokio::test]
async fn e05_a_checkpoint_of_a_session_that_goes_on_shows_a_prefix_of_its_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("a path in UTF-8").to_owned();
    let server = Server::start_with(|config| config.checkpoints.store = Some(place)).await;
    let mut canary = Canary::start(&server).await;
    let session = server.session().await;
    let (first, second) = (session.variable("first", 0.0f32), session.variable("second", 0.0f32));
    let going_on = {
        let (session, first, second) = (session.clone(), first.clone(), second.clone());
        tokio::spawn(async move {
            for _ in 0..400 {
                for _ in 0..10 {
                    first.assign_add(session.constant(1.0f32));
                    second.assign_add(session.constant(1.0f32));
                }
                session.sync().await.expect("nothing fails");
            }
        })
    };
    let mut shown = Vec::new();
    while !going_on.is_finished() {
        let options = SaveOptions::default().overwrite();
        session.checkpoints().save("moment", options).await.expect("saved");
        let other = server.session().await;
        let (a, b) = (other.variable("first", 0.0f32), other.variable("second", 0.0f32));
        let restored = other.checkpoints().restore("moment", RestoreOptions::default()).await;
        assert_eq!(restored.expect("restored").variables, 2);
        let a = a.scalar::<f32>().await.expect("a number");
        let b = b.scalar::<f32>().await.expect("a number");
        assert!(a == b || a == b + 1.0, "{a} and {b} were never there together");
        shown.push(a);
        other.close().await.expect("an end");
    }
    going_on.await.expect("it went on");
    assert!(shown.is_sorted() && shown.len() > 2, "{shown:?}");
    canary.sings().await;
    canary.ends().await;
}
