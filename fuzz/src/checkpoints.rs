//! Checkpoints from bytes: the three ways in which a file is read agree, and what was read can be written and read again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use gradtape_engine::{array::Tensor, ledger::Ledger, session::Session, snapshot::Snapshot};
use gradtape_proto::v1;
use gradtape_server::{
    checkpoints::{
        contents::{self, Contents},
        file::{self, Encoded, Header, Passing},
    },
    session::uploads::Uploads,
    wire::decode,
};

use crate::seeds;

/// Memory for the tensors of a file.
const BYTES: u64 = 1 << 20;

/// Files of the sessions that the programs leave.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = seeds::programs().iter().filter_map(|program| file(program)).collect();
    files.sort();
    files.dedup();
    files
}

fn file(program: &[v1::Command]) -> Option<Vec<u8>> {
    let ledger = Ledger::new("session", BYTES);
    let mut session = Session::new(Arc::clone(&ledger));
    let uploads = Uploads::new(1);
    let context = decode::Context {
        ledger: &ledger,
        uploads: &uploads,
        max_inline_bytes: 1 << 16,
        has_log: false,
        is_portable: false,
    };
    for (sequence, command) in (1..).zip(program) {
        let tag = decode::tag(command).into();
        match decode::command(&context, &mut command.clone(), &tag) {
            Ok(command) => drop(session.apply(sequence, command)),
            Err(rejected) => drop(session.reject(sequence, rejected)),
        }
    }
    let snapshot = session.snapshot(&[]).ok()?;
    let (tensors, metadata) = contents::write(snapshot, 1, BTreeMap::new()).ok()?;
    (!tensors.is_empty()).then(|| encoded(&Encoded::new(tensors, metadata).expect("a file")))
}

fn encoded(file: &Encoded) -> Vec<u8> {
    file.parts.concat()
}

/// Reads a file in each way that there is.
pub fn read(bytes: &[u8]) {
    let header = Header::read(bytes, bytes.len() as u64);
    let passed = pass(bytes);
    let Ok(header) = header else {
        assert!(!passed, "a file without a header passed");
        return;
    };
    let elements = &bytes[header.length..];
    let ledger = Ledger::new("session", BYTES);
    let tensors = file::read_all(&header, elements, &ledger);
    assert!(tensors.is_err() || passed, "a file that can be read was refused on its way");
    // One that was changed gets a new checksum, so that what is behind it is reached too.
    let mut unsigned = header.clone();
    unsigned.checksum = None;
    if let Ok(adopted) = Encoded::adopt(&unsigned, &Bytes::copy_from_slice(bytes)) {
        let bytes = encoded(&adopted);
        assert!(pass(&bytes), "a file of ours does not pass");
        let header = Header::read(&bytes, bytes.len() as u64).expect("a header of ours");
        let elements = &bytes[header.length..];
        if let Ok(tensors) = file::read_all(&header, elements, &ledger) {
            understand(&header, tensors);
        }
    }
    drop(tensors);
    assert_eq!(ledger.used(), 0, "what was read is still paid for");
}

/// Whether a file passes when it comes in pieces.
fn pass(bytes: &[u8]) -> bool {
    let mut passing = Passing::new(bytes.len() as u64);
    !bytes.is_empty() && bytes.chunks(100).all(|chunk| passing.pass(chunk).is_ok())
}

fn understand(header: &Header, tensors: Vec<(String, Tensor)>) {
    let Ok(contents) = Contents::read(header) else { return };
    let Ok(snapshot) = contents.assemble(tensors) else { return };
    let Snapshot { variables, optimizers, generators } = snapshot.clone();
    let counts = (variables.len(), optimizers.len(), generators.len());
    let Ok((tensors, metadata)) = contents::write(snapshot, 1, BTreeMap::new()) else { return };
    // Keys that meet when they are written anew are refused.
    let Ok(file) = Encoded::new(tensors, metadata) else { return };
    let bytes = encoded(&file);
    let header = Header::read(&bytes, bytes.len() as u64).expect("a header of ours");
    let ledger = Ledger::new("session", 2 * BYTES);
    let tensors = file::read_all(&header, &bytes[header.length..], &ledger).expect("our tensors");
    let Ok(contents) = Contents::read(&header) else { return };
    let Ok(again) = contents.assemble(tensors) else { return };
    let again = (again.variables.len(), again.optimizers.len(), again.generators.len());
    assert_eq!(again, counts, "a snapshot that was written is another");
}
