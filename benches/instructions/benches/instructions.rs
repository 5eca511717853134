//! Counts the instructions of each hot path by callgrind. Run by `cargo xtask test --only instructions`.
#![expect(clippy::unwrap_used, reason = "a workload that fails must not be counted")]
#![expect(missing_docs, reason = "the macros make items without any")]

use gradtape_instructions::Workload;
use gungraun::prelude::*;

// An op on small tensors: lookup, inference, pricing, kernel, result.
#[library_benchmark]
#[bench::thousand(Workload::new().unwrap())]
fn eager_dispatch(mut workload: Workload) -> Workload {
    workload.chain().unwrap();
    workload
}

// The same op while a tape records.
#[library_benchmark]
#[bench::thousand(Workload::taped().unwrap())]
fn tape_record(mut workload: Workload) -> Workload {
    workload.chain().unwrap();
    workload
}

// The gradient of what was recorded: the sweep, its program, and running it.
#[library_benchmark]
#[bench::thousand(Workload::recorded().unwrap())]
fn gradient_sweep(mut workload: Workload) -> Workload {
    workload.gradient().unwrap();
    workload
}

// A step of Adam for ten small variables.
#[library_benchmark]
#[bench::ten(Workload::optimizing().unwrap())]
fn optimizer_step(mut workload: Workload) -> Workload {
    workload.step().unwrap();
    workload
}

// Calls of a training step that is a function: its plan, and the optimizer around it.
#[library_benchmark]
#[bench::hundred(Workload::planned().unwrap())]
fn plan_step(mut workload: Workload) -> Workload {
    workload.calls().unwrap();
    workload
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [eager_dispatch, tape_record, gradient_sweep, optimizer_step, plan_step]
);

main!(library_benchmark_groups = hot_paths);
