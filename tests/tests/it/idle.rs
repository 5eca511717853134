//! Sessions of which nothing is heard: they leave memory, are warned, and end.

use std::{path::Path, sync::Arc, time::Duration};

use gradtape_client::proto::{self, command::Kind, notice, stream_request, stream_response};
use gradtape_server::config::Config;
use gradtape_tests::{
    Server,
    raw::{Raw, command, constant, elements, fetch, reason},
};

use crate::{
    conformance::{case_names, replay},
    oversight::scrape,
};

/// Sessions of this configuration leave memory as soon as nothing is asked of them.
fn restless(config: &mut Config, store: &Path) {
    config.durability.store = Some(store.to_owned());
    config.durability.hibernate_after = Some(Duration::ZERO);
    config.durability.max_log_bytes = 0;
    config.durability.max_replay = Duration::ZERO;
    config.sessions.max_sessions = 10_000;
    config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
}

fn variable(variable: u64, initial_value: u64) -> proto::Command {
    let name = "v".to_owned();
    let create = proto::CreateVariable { variable, name, initial_value, trainable: None };
    command(Kind::CreateVariable(create))
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_an_idle_stream_is_parked_with_notice_and_goes_on() {
    let store = tempfile::tempdir().expect("a folder");
    let server = Server::start_with(|config| restless(config, store.path())).await;
    let raw = Raw::connect(&server).await;
    let mut stream = raw.stream().await.expect("a stream");
    let commands = vec![constant(1, &[1.0; 1000]), variable(2, 1)];
    stream.execute(1, commands).await.expect("an answer");
    let notice = stream.notice().await.expect("a stream").expect("a notice");
    assert_eq!((notice.kind(), notice.remaining_ms), (notice::Kind::Parked, 0));
    let (_, numbers) = scrape(&server).await;
    assert_eq!(numbers["gradtape_memory_used_bytes"], 0.0);
    assert!(numbers["gradtape_sessions_hibernated_total"] >= 1.0);
    // The same stream wakes it, and so does a call.
    let reply = stream.execute(3, vec![fetch(2)]).await.expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [1.0; 1000]);
    stream.notice().await.expect("a stream").expect("a notice of another time");
    let reply = raw.execute(4, vec![fetch(1)]).await.expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [1.0; 1000]);
    // It does not have to come back for its stream to end.
    let hello = proto::Hello { credentials: Some(raw.credentials.clone()), notices: true };
    let (requests, mut responses) =
        raw.open(stream_request::Kind::Hello(hello)).await.expect("a stream");
    let mut requests = Some(requests);
    let (_, before) = scrape(&server).await;
    while let Some(response) = responses.message().await.expect("a good end") {
        if let Some(stream_response::Kind::Notice(_)) = response.kind {
            drop(requests.take());
        }
    }
    assert!(requests.is_none(), "it is parked once more");
    let (_, after) = scrape(&server).await;
    let back = "gradtape_sessions_recovered_total";
    assert!(after[back] <= before[back] + 1.0, "once for the stream's welcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_a_client_that_says_nothing_for_too_long_is_told_before_its_session_ends() {
    let server = Server::start_with(|config| {
        config.sessions.max_silence = Duration::from_millis(1500);
        config.sessions.silence_notice = Duration::from_millis(1300);
        config.sessions.time_to_live = Duration::from_secs(3);
    })
    .await;
    let raw = Raw::connect(&server).await;
    let mut stream = raw.stream().await.expect("a stream");
    let notice = stream.notice().await.expect("a stream").expect("a notice");
    assert_eq!(notice.kind(), notice::Kind::Expires);
    assert!((1..=1300).contains(&notice.remaining_ms), "{notice:?}");
    // Whoever uses it is told again, after another silence.
    stream.send(1, vec![constant(1, &[1.0])]);
    let notice = stream.notice().await.expect("a stream").expect("another notice");
    assert_eq!(notice.kind(), notice::Kind::Expires);
    let ended = stream.notice().await.expect_err("the end of the session");
    assert_eq!(reason(&ended), "SESSION_ENDED");
    let gone = raw.stream().await.expect_err("no session");
    assert_eq!(reason(&gone), "UNKNOWN_SESSION");
}

/// Whatever a session holds, it is the same when it comes back, and it comes back whenever something arrives.
#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds_while_sessions_leave_memory_all_the_time() {
    let store = tempfile::tempdir().expect("a folder");
    let server = Arc::new(Server::start_with(|config| restless(config, store.path())).await);
    for name in case_names() {
        replay(&server, &name).await;
    }
    let (_, numbers) = scrape(&server).await;
    assert!(numbers["gradtape_sessions_hibernated_total"] > 20.0, "{numbers:?}");
}
