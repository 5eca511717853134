//! What good clients send: the programs of the conformance cases.

use std::{fs, path::Path};

use gradtape_proto::v1;
use gradtape_tests::{
    case::{Names, list},
    folder,
};
use prost::Message;
use serde_json::Value;

/// Most commands of a program: a fuzzer shall do many things instead of one for long.
const MOST_COMMANDS: usize = 200;

/// The commands of each case that is not long.
pub fn programs() -> Vec<Vec<v1::Command>> {
    let folder = fs::read_dir(folder("conformance")).expect("the folder of the cases");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let programs: Vec<_> = paths.iter().filter_map(|path| program(path)).collect();
    assert!(programs.len() > 100, "the cases are missing");
    programs
}

/// The same as one batch each, encoded.
pub fn batches() -> Vec<Vec<u8>> {
    programs().into_iter().map(|commands| v1::Batch::new(1, commands).encode_to_vec()).collect()
}

fn program(path: &Path) -> Option<Vec<v1::Command>> {
    let text = fs::read_to_string(path).expect("a case");
    let case: Value = serde_json::from_str(&text).expect("JSON");
    let steps = list(&case["steps"]);
    let repeats = steps.iter().any(|step| !step["repeat"].is_null());
    if repeats || steps.len() > MOST_COMMANDS {
        return None;
    }
    let mut handles = 1..;
    let mut names = Names::new(|| handles.next().unwrap_or(u64::MAX));
    Some(steps.iter().map(|step| names.command(step)).collect())
}
