//! What teachers and admins may do, and what everybody may know.

use std::collections::BTreeSet;

use gradtape_client::proto::{
    EndSessionRequest, GetServerInfoRequest, GetStatisticsRequest, ListSessionsRequest,
    admin_service_client::AdminServiceClient, session_service_client::SessionServiceClient,
};
use gradtape_server::principal::Role;
use gradtape_tests::{
    Server,
    access::{Folder, Provider, claims, holder},
    raw::{Connection, Raw, channel, connection, constant, reason},
};
use serde_json::json;
use tonic::Code;

/// A server with a class, and an admin service for each of the people around it.
struct School {
    server: Server,
    _folder: Folder,
    tokens: Vec<(&'static str, String)>,
}

impl School {
    async fn start() -> Self {
        use Role::{Admin, Teacher, User};
        let folder = Folder::new();
        let people = [
            ("ada", User, Some("7a")),
            ("ben", User, Some("7b")),
            ("teacher", Teacher, Some("7a")),
            ("admin", Admin, None),
        ];
        let tokens = people
            .map(|(name, role, class)| (name, folder.token_of(holder(name, role, class))))
            .to_vec();
        let server = Server::start_with(|config| folder.protect(config)).await;
        Self { server, _folder: folder, tokens }
    }

    async fn connection(&self, name: &str) -> Connection {
        let token = self.tokens.iter().find(|(known, _)| *known == name).expect("a known name");
        connection(channel(&self.server).await, Some(&token.1))
    }

    async fn admin(&self, name: &str) -> AdminServiceClient<Connection> {
        AdminServiceClient::new(self.connection(name).await)
    }

    async fn session(&self, name: &str) -> Raw {
        Raw::over(self.connection(name).await).await.expect("a session")
    }
}

#[tokio::test]
async fn each_role_sees_and_ends_what_is_its_own() {
    let school = School::start().await;
    let (ada, ben) = (school.session("ada").await, school.session("ben").await);
    ada.execute(1, vec![constant(1, &[1.0])]).await.expect("a command");
    let table = [
        ("ada", vec!["token:ada"]),
        ("ben", vec!["token:ben"]),
        ("teacher", vec!["token:ada"]),
        ("admin", vec!["token:ada", "token:ben"]),
    ];
    for (who, expected) in table {
        let request = ListSessionsRequest::default();
        let list = school.admin(who).await.list_sessions(request).await.expect("a list");
        let sessions = list.into_inner().sessions;
        let owners: BTreeSet<_> = sessions.iter().map(|session| &session.owner[..]).collect();
        assert_eq!(owners, expected.into_iter().collect(), "{who}");
        for session in sessions.iter().filter(|session| session.owner == "token:ada") {
            assert_eq!((session.applied_commands, session.handles), (1, 1), "{who}");
            assert_eq!(session.session_id, ada.credentials.session_id);
        }
    }
    let end = async |who: &str, raw: &Raw| {
        let session_id = raw.credentials.session_id.clone();
        school.admin(who).await.end_session(EndSessionRequest { session_id }).await.map(drop)
    };
    let status = end("teacher", &ben).await.unwrap_err();
    assert_eq!((status.code(), &reason(&status)[..]), (Code::NotFound, "UNKNOWN_SESSION"));
    let mut stream = ada.stream().await.expect("a stream");
    end("teacher", &ada).await.expect("a session of the class");
    assert_eq!(reason(&stream.failure().await), "SESSION_ENDED");
    end("admin", &ben).await.expect("any session");
    assert_eq!(ben.position().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn statistics_are_for_admins() {
    let school = School::start().await;
    let raw = school.session("ada").await;
    raw.execute(1, vec![constant(1, &[1.0]), constant(2, &[2.0])]).await.expect("two commands");
    for who in ["ada", "teacher"] {
        let status = school.admin(who).await.get_statistics(GetStatisticsRequest {}).await;
        let status = status.expect_err("statistics");
        assert_eq!((status.code(), &reason(&status)[..]), (Code::PermissionDenied, "ROLE_MISSING"));
    }
    let statistics = school.admin("admin").await.get_statistics(GetStatisticsRequest {}).await;
    let statistics = statistics.expect("statistics").into_inner();
    assert_eq!((statistics.sessions, statistics.sessions_created), (1, 1));
    assert_eq!(statistics.commands, 2);
    assert!(statistics.connections >= 2 && statistics.compute_threads >= 1);
    assert!(statistics.memory_used_bytes > 0);
    assert!(statistics.memory_used_bytes < statistics.memory_limit_bytes);
}

#[tokio::test]
async fn nobody_without_a_name_sees_sessions() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let mut admin = AdminServiceClient::new(channel(&server).await);
    let status = admin.list_sessions(ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let session_id = raw.credentials.session_id.clone();
    let status = admin.end_session(EndSessionRequest { session_id }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    raw.position().await.expect("the session is still there");
}

#[tokio::test]
async fn pages_of_sessions_are_the_sessions() {
    let school = School::start().await;
    let made: Vec<_> =
        [school.session("ada").await, school.session("ada").await, school.session("ben").await]
            .map(|raw| raw.credentials.session_id)
            .to_vec();
    let mut admin = school.admin("admin").await;
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSessionsRequest { page_size: 2, page_token };
        let page = admin.list_sessions(request).await.expect("a page").into_inner();
        assert!(page.sessions.len() <= 2);
        seen.extend(page.sessions.into_iter().map(|session| session.session_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made, "oldest first");
    for request in [
        ListSessionsRequest { page_size: -1, ..Default::default() },
        ListSessionsRequest { page_token: "x".into(), ..Default::default() },
    ] {
        let status = admin.list_sessions(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_jwt_may_name_a_role() {
    let (folder, provider) = (Folder::new(), Provider::new("key"));
    let server = Server::start_with(|config| folder.trust(config, &provider)).await;
    let mut claims = claims("root");
    for (role, code) in [("user", Code::PermissionDenied), ("admin", Code::Ok)] {
        claims["role"] = json!(role);
        let connection = connection(channel(&server).await, Some(&provider.sign(&claims)));
        let asked =
            AdminServiceClient::new(connection).get_statistics(GetStatisticsRequest {}).await;
        assert_eq!(asked.err().map_or(Code::Ok, |status| status.code()), code, "{role}");
    }
}

#[tokio::test]
async fn the_server_says_what_it_is_without_a_session() {
    let server = Server::start_with(|config| config.limits.max_batch_commands = 77).await;
    let mut sessions = SessionServiceClient::new(channel(&server).await);
    let info = sessions.get_server_info(GetServerInfoRequest {}).await.expect("an answer");
    let info = info.into_inner().server.expect("a description");
    assert!(!info.version.is_empty() && info.protocol_version >= 1);
    assert_eq!(info.limits.expect("limits").max_batch_commands, 77);
}
