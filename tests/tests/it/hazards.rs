//! Hostile tensors, handles, tapes and functions: the cases `hazard_…` of `tests/conformance`, each row beside a canary whose
//! bits must stay the same, on a server that must hold as many bytes afterwards as before: none.
//!
//! `docs/hazards.md` says which test shows which row.

use std::{collections::BTreeSet, fs};

use gradtape_tests::{Server, canary::Canary, folder};

use crate::{
    conformance::{case_names, replay},
    oversight::scrape,
};

/// Replays the cases of a row.
async fn row(name: &str) {
    let server = Server::start_with(|config| {
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let mut canary = Canary::start(&server).await;
    let prefix = format!("hazard_{name}");
    let cases: Vec<_> = case_names().into_iter().filter(|case| case.starts_with(&prefix)).collect();
    assert!(!cases.is_empty(), "there is no case {prefix}");
    for case in cases {
        replay(&server, &case).await;
        canary.sings().await;
    }
    canary.ends().await;
    // An ended session is taken down by the thread that has it, a moment later.
    let taken_down = async { while scrape(&server).await.1["gradtape_memory_used_bytes"] > 0.0 {} };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, taken_down).await.expect("everything is given back");
}

macro_rules! rows {
    ($($name:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            row(stringify!($name)).await;
        }
    )*

    /// Every case of a hazard has its test.
    #[test]
    fn every_case_is_run() {
        let rows = [$(stringify!($name)),*];
        for case in case_names().iter().filter_map(|case| case.strip_prefix("hazard_")) {
            assert!(rows.iter().any(|row| case.starts_with(row)), "{case} belongs to no row");
        }
    }};
}

rows! {
    a01_shapes_overflow,
    a02_tensors_too_large,
    a03_memory_of_a_session,
    a04_broadcast_bombs,
    a05_huge_counts,
    a06_rank,
    a07_extents,
    a08_nothing_in_it,
    a09_axes,
    a10_indices,
    a11_segments,
    a12_slices,
    a13_windows,
    a14_integers,
    a15_numbers_without_meaning,
    a16_dtypes,
    a18_costly_ops,
    a19_equations,
    a20_many_inputs,
    a21_random_numbers,
    a22_casts,
    b03_handles,
    b05_tapes,
    b06_many_tapes,
    b09_jacobians,
    b10_functions_that_call_themselves,
    b14_assignments,
    b15_optimizer_steps,
    b16_values_do_not_change,
    b17_poison,
    b18_names,
}

/// `docs/hazards.md` has every row, and the tests that it names are there.
#[test]
fn the_table_names_tests_that_exist() {
    let table = folder("../docs/hazards.md");
    let table = fs::read_to_string(table).expect("the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| row "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let named: BTreeSet<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let expected = [('A', 23), ('B', 18), ('C', 23), ('D', 13), ('E', 15)];
    let expected = expected
        .into_iter()
        .flat_map(|(group, count)| (1..=count).map(move |number| format!("{group}{number}")));
    assert_eq!(named, expected.collect());
    for row in &rows {
        for test in row[2].split('`').skip(1).step_by(2) {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let path = folder("..").join(file);
            let source = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
            assert!(!name.is_empty() && source.contains(name), "{test} of {} is not there", row[0]);
        }
    }
}
