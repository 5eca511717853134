//! Logs, their damage, and disks that fail, without sockets. `tests/tests/it/durable.rs` kills the real server.

mod bucket;
mod disk;
mod faults;
mod portable;
mod records;
mod replays;
mod simulation;
mod snapshots;

use std::{sync::Arc, time::Duration};

use gradtape_engine::{ledger::Ledger, session::Session as Engine};
use gradtape_proto::v1::{self, command::Kind};

use self::disk::Disk;
use super::{
    entry::{Opened, numerics},
    journal::{Journal, Journals},
    recovery::Recovery,
    store::Store,
};
use crate::{
    config::{Durability, Limits},
    hands::Hands,
    session::{core::SessionCore, error::ProtocolError, registry::SessionId, uploads::Uploads},
};

/// The session of these tests.
fn id() -> SessionId {
    SessionId::parse(&"ab".repeat(16)).unwrap()
}

fn opened_by(owner: &str) -> Opened {
    Opened {
        session: id().bytes().to_vec(),
        token: vec![7; 32],
        owner: owner.to_owned(),
        role: "user".to_owned(),
        class: None,
        numerics: numerics(),
        snapshot: None,
    }
}

/// A session's state and its journal, without a server around them.
struct Life {
    core: SessionCore,
    journal: Arc<Journal>,
    journals: Journals,
}

fn journals(disk: &Arc<Disk>) -> Journals {
    let store = Arc::clone(disk) as Arc<dyn Store>;
    // Whatever took a moment is reason enough for a log to begin anew.
    let config = Durability { max_replay: Duration::ZERO, ..Durability::default() };
    Journals::start(store, &config, &Arc::default(), &Hands::Threads(1)).unwrap()
}

fn core(memory: u64) -> (SessionCore, Arc<Uploads>) {
    let limits = Limits::default();
    let uploads = Uploads::new(limits.max_uploads);
    let engine = Engine::new(Ledger::new("session", memory));
    (SessionCore::new(engine, Arc::clone(&uploads), &limits), uploads)
}

impl Life {
    /// A new session.
    fn begin(disk: &Arc<Disk>, memory: u64) -> Self {
        let journals = journals(disk);
        let (journal, _written) = journals.create(id(), &opened_by("somebody"));
        let (mut core, _) = core(memory);
        core.tell(Arc::clone(&journal));
        Self { core, journal, journals }
    }

    /// The session as it comes back from its log.
    fn again(disk: &Arc<Disk>, memory: u64) -> Result<Self, ProtocolError> {
        let journals = journals(disk);
        let (mut core, uploads) = core(memory);
        let mut recovery = Recovery::new(Arc::clone(disk) as Arc<dyn Store>, id());
        // Each look at the clock is the end of a slice.
        let recovered = loop {
            if let Some(recovered) = recovery.proceed(&mut core, &uploads, || true)? {
                break recovered;
            }
        };
        let journal = journals.reopen(id(), opened_by("somebody"));
        journal.resume(recovered.tail, recovered.snapshot, recovered.sequence);
        core.tell(Arc::clone(&journal));
        Ok(Self { core, journal, journals })
    }

    fn apply(&mut self, commands: Vec<v1::Command>) -> v1::BatchReply {
        let first_sequence = self.core.next_sequence();
        let batch = v1::Batch::new(first_sequence, commands);
        self.core.apply(batch).unwrap()
    }

    /// Lets the log begin anew, if it can.
    fn shorten(&self) {
        self.journal.worked(Duration::from_mins(1));
        self.core.shorten_log();
    }

    /// Everything is written, and the process ends.
    fn end(self) {
        self.journals.finish();
    }
}

fn command(kind: Kind) -> v1::Command {
    v1::Command { kind: Some(kind), ..v1::Command::default() }
}

fn constant(output: u64, elements: &[f32]) -> v1::Command {
    let data: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = vec![i64::try_from(elements.len()).unwrap()];
    let tensor = v1::Tensor { dtype: v1::DataType::Float32.into(), shape, data: data.into() };
    let source = Some(v1::constant::Source::Tensor(tensor));
    command(Kind::Constant(v1::Constant { output, source }))
}

fn variable(variable: u64, initial_value: u64) -> v1::Command {
    let name = "v".to_owned();
    command(Kind::CreateVariable(v1::CreateVariable {
        variable,
        name,
        initial_value,
        trainable: None,
    }))
}

fn add(variable: u64, value: u64) -> v1::Command {
    let mode = v1::AssignMode::Add.into();
    command(Kind::AssignVariable(v1::AssignVariable { variable, value, mode }))
}

fn op(name: &str, inputs: &[u64], output: u64) -> v1::Command {
    command(Kind::Op(v1::Op {
        name: name.to_owned(),
        inputs: inputs.to_vec(),
        outputs: vec![output],
        attributes: Vec::new(),
    }))
}

fn fetch(value: u64) -> v1::Command {
    command(Kind::Fetch(v1::Fetch { value }))
}

fn durable() -> v1::Command {
    reach(v1::Level::Durable, 0)
}

fn reach(level: v1::Level, timeout_ms: u32) -> v1::Command {
    command(Kind::Sync(v1::Sync { level: level.into(), timeout_ms }))
}

/// The elements in the last reply.
fn elements(reply: &v1::BatchReply) -> Vec<f32> {
    match reply.replies.last().map(|reply| &reply.result) {
        Some(Some(v1::reply::Result::Tensor(tensor))) => tensor
            .data
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect(),
        other => panic!("no tensor but {other:?}"),
    }
}

fn reason(reply: &v1::Reply) -> &str {
    match &reply.result {
        Some(v1::reply::Result::Error(error)) => &error.reason,
        other => panic!("no error but {other:?}"),
    }
}
