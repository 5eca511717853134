//! Batches from bytes, through the decoder of each command, a session, and the encoder of its replies.

use gradtape_engine::{ledger::Ledger, session::Session};
use gradtape_proto::v1;
use gradtape_server::{
    config::Limits,
    session::{core::SessionCore, uploads::Uploads},
};
use prost::Message;

/// Memory of a session.
const SESSION_BYTES: u64 = 1 << 20;

/// Most commands that are taken from one input: what a batch may hold would take too long.
const MOST_COMMANDS: usize = 256;

/// A session of the server without the server.
pub fn core(ledger: &std::sync::Arc<Ledger>) -> (SessionCore, std::sync::Arc<Uploads>) {
    let limits = Limits { max_batch_commands: MOST_COMMANDS, ..Limits::default() };
    let uploads = Uploads::new(1);
    let session = Session::new(ledger.child("session", SESSION_BYTES));
    (SessionCore::new(session, uploads.clone(), &limits), uploads)
}

/// Whatever the bytes are, a session takes them or refuses them, says the same again when it is asked again, and leaves nothing.
pub fn batch(bytes: &[u8]) {
    let Ok(batch) = v1::Batch::decode(bytes) else { return };
    let commands = batch.commands.iter().filter_map(|bytes| v1::Command::decode(&**bytes).ok());
    if commands.into_iter().any(|command| is_endless(&command)) {
        return;
    }
    let ledger = Ledger::new("server", 2 * SESSION_BYTES);
    let (mut core, _uploads) = core(&ledger);
    if let Ok(reply) = core.apply(batch.clone()) {
        let sequence = core.next_sequence();
        if let Ok(again) = core.apply(batch) {
            assert!(reply.encode_to_vec() == again.encode_to_vec(), "{reply:?}\nand {again:?}");
        }
        assert_eq!(core.next_sequence(), sequence, "a command was executed twice");
    }
    drop(core);
    assert_eq!(ledger.used(), 0, "a session that ended left bytes behind");
}

/// A loop runs until it is stopped, and here nobody stops it.
fn is_endless(command: &v1::Command) -> bool {
    use v1::command::Kind;
    match &command.kind {
        Some(Kind::RunLoop(m)) => m.steps > 1000,
        Some(Kind::WhileLoop(m)) => m.maximum_iterations.is_none_or(|most| most > 1000),
        Some(Kind::Scan(m)) => m.length > 1000,
        _ => false,
    }
}
