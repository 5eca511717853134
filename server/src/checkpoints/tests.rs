//! Files that are not what they should be, and a store that has no room.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use gradtape_engine::{array::Tensor, aval::Aval, dtype::DType, ledger::Ledger};
use proptest::prelude::*;

use super::{
    contents::Contents,
    file::{Encoded, Header, MAX_HEADER, Passing},
    store::{Name, Store},
};
use crate::{config, principal::Principal, session::error::ProtocolError};

fn tensor(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    let ledger = Ledger::new("test", 1 << 20);
    Tensor::from_bytes(&ledger, &Aval::new(dtype, shape), bytes).unwrap()
}

/// A small file of ours.
fn file() -> Vec<u8> {
    let tensors = vec![
        ("w".to_owned(), tensor(DType::F32, &[2], &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("on".to_owned(), tensor(DType::Bool, &[], &[1])),
        ("nothing".to_owned(), tensor(DType::F64, &[0, 3], &[])),
    ];
    let remarks = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
    Encoded::new(tensors, remarks).unwrap().parts.concat()
}

/// What reading a file as a download does, in parts of `size` bytes.
fn verified(file: &[u8], size: usize) -> Result<(), ProtocolError> {
    let mut passing = Passing::new(file.len() as u64);
    file.chunks(size).try_for_each(|part| passing.pass(part))
}

/// A file with this header and so many bytes of elements.
fn with_header(json: &str, elements: usize) -> Vec<u8> {
    let length = (json.len() as u64).to_le_bytes();
    [&length, json.as_bytes(), &vec![0; elements]].concat()
}

#[test]
fn the_library_reads_our_files() {
    let file = file();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["epoch"], "3");
    let read = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(read.tensor("w").unwrap().data(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(read.tensor("on").unwrap().dtype(), safetensors::Dtype::BOOL);
    assert_eq!(read.tensor("nothing").unwrap().shape(), [0, 3]);
    for size in [1, 7, file.len()] {
        verified(&file, size).unwrap();
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let file = file();
    for bit in 0..8 * file.len() {
        let mut broken = file.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let error = verified(&broken, 1 << 20);
        assert!(matches!(error, Err(ProtocolError::InvalidCheckpoint { .. })), "bit {bit}");
    }
}

#[test]
fn no_missing_byte_goes_unnoticed() {
    let file = file();
    for length in 0..file.len() {
        let header = Header::read(&file[..length], length as u64);
        assert!(matches!(header, Err(ProtocolError::InvalidCheckpoint { .. })), "{length} bytes");
    }
}

#[test]
fn hostile_headers_are_refused_with_a_reason() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let cases: &[(&str, usize, &str)] = &[
        ("", 0, "header"),
        ("[]", 0, "header"),
        (&deep, 0, "recursion limit"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, "it has"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, "it has"),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12, "header"),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "header"),
        (r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8, "header"),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
            0,
            "header",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#,
            0,
            "tensor \"a\"",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#, 4, "rank 9"),
        (r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[8,4]}}"#, 4, "header"),
        (r#"{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, 2, "dtype I8"),
        (r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8, "header"),
        (
            r#"{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#,
            1,
            "header",
        ),
        (r#"{"__metadata__":{"x":1}}"#, 0, "header"),
        (r#"{"__metadata__":{"gradtape.checksum":"12"}}"#, 0, "32 hexadecimal"),
        (r#"{"__metadata__":{"gradtape.format":"2"}}"#, 0, "gradtape.format"),
        (r#"{"__metadata__":{"gradtape.format":"1"}}"#, 0, "gradtape.optimizers is missing"),
        (
            r#"{"__metadata__":{"gradtape.format":"1","gradtape.optimizers":"{","gradtape.generators":"[]"}}"#,
            0,
            "gradtape.optimizers",
        ),
        (
            r#"{"__metadata__":{"gradtape.format":"1","gradtape.optimizers":"{}","gradtape.generators":"[\"g\"]"}}"#,
            0,
            "\"g\" is missing",
        ),
        (
            r#"{"__metadata__":{"gradtape.format":"1","gradtape.optimizers":"{\"o\":{\"name\":\"sgd\",\"hyperparameters\":{},\"schedule\":null}}","gradtape.generators":"[]"}}"#,
            0,
            "o.iterations",
        ),
    ];
    for (json, elements, why) in cases {
        let file = with_header(json, *elements);
        let refused = Header::read(&file, file.len() as u64)
            .and_then(|header| Contents::read(&header))
            .unwrap_err();
        let ProtocolError::InvalidCheckpoint { why: found } = &refused else { panic!("{refused}") };
        assert!(found.contains(why), "{json}: {found}");
    }
    let long = with_header(&" ".repeat(MAX_HEADER + 1), 0);
    assert!(Header::read(&long, long.len() as u64).unwrap_err().to_string().contains("at most"));
    let endless = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(Header::read(&endless, 10).is_err());
}

#[test]
fn a_file_without_a_checksum_gets_one_and_keeps_its_elements() {
    let json =
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut file = with_header(json, 4);
    let end = file.len();
    file[end - 4..].copy_from_slice(&1.5_f32.to_le_bytes());
    let file = Bytes::from(file);
    let header = Header::read(&file, file.len() as u64).unwrap();
    let adopted = Encoded::adopt(&header, &file).unwrap().parts.concat();
    verified(&adopted, 5).unwrap();
    let read = safetensors::SafeTensors::deserialize(&adopted).unwrap();
    assert_eq!(read.tensor("a").unwrap().data(), 1.5_f32.to_le_bytes());
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&adopted).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    // With one it stays as it is, to the byte.
    let again = Bytes::from(adopted);
    let header = Header::read(&again, again.len() as u64).unwrap();
    assert_eq!(Encoded::adopt(&header, &again).unwrap().parts.concat(), again);
}

#[test]
fn names_are_file_names_everywhere() {
    let longest = "x".repeat(128);
    for name in ["a", "7", "epoch-12.step_3", &longest] {
        assert!(Name::parse(name).is_ok(), "{name}");
    }
    let too_long = "x".repeat(129);
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "_x",
        "../up",
        "a/b",
        "a\\b",
        "/etc/passwd",
        "a b",
        "a%2Fb",
        "é",
        "a\0",
        "a\n",
        "a#1",
        "a:b",
        &too_long,
    ] {
        assert!(matches!(Name::parse(name), Err(ProtocolError::Malformed { .. })), "{name:?}");
    }
}

/// A store in a folder that goes with it.
fn store(change: impl FnOnce(&mut config::Checkpoints)) -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config::Checkpoints {
        store: Some(folder.path().to_str().unwrap().to_owned()),
        ..config::Checkpoints::default()
    };
    change(&mut config);
    let store = Store::open(&config).unwrap().unwrap();
    (folder, Arc::new(store))
}

fn encoded(value: f32) -> Encoded {
    let tensors = vec![("w".to_owned(), tensor(DType::F32, &[], &value.to_le_bytes()))];
    Encoded::new(tensors, BTreeMap::new()).unwrap()
}

#[tokio::test]
async fn a_write_that_fails_leaves_what_was_there() {
    let size = encoded(0.0).bytes();
    let (folder, store) = store(|config| {
        config.max_checkpoint_bytes = size;
        config.max_checkpoints = 2;
        config.max_principal_bytes = 2 * size;
    });
    let owner = Principal::anonymous();
    let [a, b, c] = ["a", "b", "c"].map(|name| Name::parse(name).unwrap());
    store.put(&owner, &a, encoded(1.0), false).await.unwrap();
    let before = std::fs::read(folder.path().join("anonymous/a.safetensors")).unwrap();

    let exists = store.put(&owner, &a, encoded(2.0), false).await;
    assert_eq!(exists, Err(ProtocolError::CheckpointExists { name: "a".to_owned() }));
    let tensors = vec![("w".to_owned(), tensor(DType::F64, &[99], &[0; 792]))];
    let larger = Encoded::new(tensors, BTreeMap::new()).unwrap();
    let too_large = store.put(&owner, &a, larger, true).await;
    assert!(matches!(too_large, Err(ProtocolError::CheckpointTooLarge { .. })), "{too_large:?}");
    store.put(&owner, &b, encoded(3.0), false).await.unwrap();
    let too_many = store.put(&owner, &c, encoded(4.0), false).await;
    assert_eq!(too_many, Err(ProtocolError::TooManyCheckpoints { limit: 2 }));
    assert_eq!(std::fs::read(folder.path().join("anonymous/a.safetensors")).unwrap(), before);
    let names: Vec<_> = store.list(&owner).await.unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["a", "b"]);
    // What is replaced makes room for itself.
    store.put(&owner, &a, encoded(5.0), true).await.unwrap();
    assert_ne!(std::fs::read(folder.path().join("anonymous/a.safetensors")).unwrap(), before);
}

#[tokio::test]
async fn all_checkpoints_together_have_a_limit() {
    let size = encoded(0.0).bytes();
    let (_folder, store) = store(|config| config.max_principal_bytes = 2 * size - 1);
    let (owner, name) = (Principal::anonymous(), |name| Name::parse(name).unwrap());
    store.put(&owner, &name("a"), encoded(1.0), false).await.unwrap();
    let full = store.put(&owner, &name("b"), encoded(1.0), false).await;
    assert!(matches!(full, Err(ProtocolError::CheckpointSpace { .. })), "{full:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Whatever they are, nothing panics.
        let _ = Header::read(&bytes, bytes.len() as u64);
        let _ = verified(&bytes, 16);
    }

    #[test]
    fn arbitrary_changes_of_a_header_are_noticed(
        position in 0_usize..400, byte in any::<u8>(), size in 1_usize..300,
    ) {
        let file = file();
        let mut changed = file.clone();
        let position = position % changed.len();
        changed[position] = byte;
        prop_assert_eq!(verified(&changed, size).is_ok(), changed == file);
    }
}
