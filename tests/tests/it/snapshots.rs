//! Sessions that go on from a snapshot of their state give the same answers to the last bit, whatever they hold.

use std::{fs, sync::Arc};

use gradtape_client::proto::{Batch, Command, PlanReply, Reply, reply};
use gradtape_engine::{ledger::Ledger, session::Session as Engine};
use gradtape_server::{
    config::{Durability, Limits},
    durable::{
        entry::Opened,
        journal::{Journal, Journals},
        state::{Loading, State},
        store::Folder,
    },
    hands::Hands,
    session::{core::SessionCore, registry::SessionId, uploads::Uploads},
};
use gradtape_tests::{
    case::{Names, list},
    folder,
};
use prost::Message;
use serde_json::Value;

use crate::conformance::{case_names, unroll};

/// Snapshots of one case: some have thousands of commands that are alike.
const MOST: usize = 40;

/// A session without memory of anything.
fn empty(journal: &Arc<Journal>) -> SessionCore {
    let limits = Limits::default();
    let engine = Engine::new(Ledger::new("session", 1 << 30));
    let mut core = SessionCore::new(engine, Uploads::new(limits.max_uploads), &limits);
    core.tell(Arc::clone(journal));
    core
}

/// Another session of the same state, by way of the bytes that a log would hold; nothing if it cannot be written now.
fn anew(core: &SessionCore, journal: &Arc<Journal>) -> Option<SessionCore> {
    let captured = core.state()?;
    let state = State::decode(&*captured.state.encode_to_vec()).expect("a message");
    let mut other = empty(journal);
    let mut loading = Loading::new(state, other.engine().ledger()).expect("memory");
    for buffer in &captured.buffers {
        loading.take(buffer).expect("elements");
    }
    other.become_as(loading).expect("a state");
    Some(other)
}

/// What a session answers to commands, one after the other.
fn answers(
    commands: &[Command],
    journal: &Arc<Journal>,
    mut between: impl FnMut(&mut SessionCore),
) -> Vec<Reply> {
    let mut core = empty(journal);
    let mut replies = Vec::new();
    for (i, command) in commands.iter().enumerate() {
        let batch = Batch::new(i as u64 + 1, [command]);
        replies.extend(core.apply(batch).expect("a batch in its order").replies);
        between(&mut core);
    }
    for reply in &mut replies {
        // How something is computed may differ: what is kept to be faster comes again.
        if let Some(reply::Result::Plan(plan)) = &mut reply.result {
            *plan = PlanReply::default();
        }
    }
    replies
}

#[test]
fn every_case_goes_on_from_a_snapshot_after_any_command() {
    let store = tempfile::tempdir().expect("a folder");
    let journals = Journals::start(
        Arc::new(Folder::open(store.path()).expect("a store")),
        &Durability::default(),
        &Arc::default(),
        &Hands::Threads(1),
    );
    let journals = journals.expect("a thread");
    let id = SessionId::parse(&"ab".repeat(16)).expect("an id");
    // It is told, so that functions keep what they were made from.
    let (journal, _) = journals.create(id, &Opened::default());
    let mut taken = 0;
    for name in case_names() {
        let path = folder("conformance").join(&name).with_extension("json");
        let case: Value =
            serde_json::from_str(&fs::read_to_string(path).expect("a case")).expect("JSON");
        let mut steps = Vec::new();
        unroll(list(&case["steps"]), &mut steps);
        let mut next = 0;
        let mut names = Names::new(move || {
            next += 1;
            next
        });
        let commands: Vec<Command> = steps.iter().map(|step| names.command(step)).collect();
        let expected = answers(&commands, &journal, |_| {});
        let mut here = 0;
        let found = answers(&commands, &journal, |core| {
            if here < MOST
                && let Some(other) = anew(core, &journal)
            {
                *core = other;
                here += 1;
            }
        });
        taken += here;
        for (one, other) in expected.iter().zip(&found) {
            assert_eq!(one, other, "{name}");
        }
        assert_eq!(expected.len(), found.len(), "{name}");
    }
    assert!(taken > 2000, "only {taken} snapshots");
}
