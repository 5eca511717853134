//! Every op stops soon after it was told to, and lets others compute as often.
//!
//! The samples are enlarged to some ten thousand elements, and in a hurry that counts as what takes long; so no time is
//! measured. That what counts as a while is short is for the bench `cancel` to show.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{
    aval::Shape,
    compute::{Cancel, Context, Crew, HURRY, Turns},
    op::Call,
};

/// Elements of the largest tensor of an enlarged sample, about.
const LARGE: usize = 1 << 13;

/// Sets the flag when it is looked at the second time; the first time is before the op begins.
#[derive(Debug)]
struct Second {
    looks: AtomicUsize,
    cancel: Cancel,
}

impl Turns for Second {
    fn is_over(&self) -> bool {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
        false
    }

    fn wait(self: Arc<Self>) {}
}

/// The shapes of a sample with all extents, or those of one axis, so many times as large; the smallest that is large enough.
fn enlarged(op: &'static OpDef, sample: &Sample, attrs: &Attrs) -> Option<Vec<Shape>> {
    let ways: [fn(usize, usize) -> bool; 3] =
        [|_, _| true, |axis, _| axis == 0, |axis, rank| axis + 1 == rank];
    let shapes = |way: fn(usize, usize) -> bool, factor: usize| -> Vec<Shape> {
        let enlarge = |shape: &[usize]| -> Shape {
            let rank = shape.len();
            let extents = shape.iter().enumerate();
            extents.map(|(i, &n)| if way(i, rank) { n * factor } else { n }).collect()
        };
        sample.inputs.iter().map(|input| enlarge(input.shape)).collect()
    };
    let fits = |shapes: &Vec<Shape>| {
        let avals = shapes.iter().enumerate();
        let avals: Vec<Aval> = avals
            .map(|(i, shape)| Aval::new(dtype_of(sample, i, DType::F32), shape.clone()))
            .collect();
        let call = Call { op, attrs, inputs: &avals };
        let Ok(outputs) = (op.infer)(&call) else { return false };
        let largest = outputs.iter().chain(&avals).map(|aval| aval.shape.elements()).max();
        let is_work = avals.is_empty() || avals.iter().any(|aval| aval.shape.elements() > 0);
        is_work && largest.is_some_and(|largest| (LARGE..16 * LARGE).contains(&largest))
    };
    let factors = (1..15).map(|power| 1 << power);
    ways.iter().find_map(|way| factors.clone().map(|f| shapes(*way, f)).find(fits))
}

#[test]
fn every_op_looks_at_the_flag() {
    HURRY.set(true);
    let (mut seen, mut blind) = (0, Vec::new());
    for &op in ops::ALL.iter() {
        let is_run =
            matches!(op.kernel, Kernel::Run(_) | Kernel::Fold(..) | Kernel::Elementwise(_));
        if !is_run || !op.dtypes.contains(DType::F32) {
            continue;
        }
        for sample in op.samples {
            let attrs = attrs(op, sample);
            let Some(shapes) = enlarged(op, sample, &attrs) else { continue };
            let inputs: Vec<Tensor> = shapes
                .iter()
                .enumerate()
                .map(|(i, shape)| {
                    let numbers: Vec<f64> = (0..shape.elements() as u64)
                        .map(|n| match sample.inputs[i].fill {
                            Fill::Uniform(low, high) => {
                                low + (high - low) * State::new(3, 0).uniform(n)
                            }
                            Fill::Index(low, _) => f64::from(i32::try_from(low).unwrap()),
                            Fill::Bool => f64::from(n % 2 == 0),
                            // A dominant diagonal.
                            Fill::Matrix { .. } => {
                                let side = u32::try_from(shape[shape.len() - 1]).unwrap();
                                let (row, column) = (n / u64::from(side), n % u64::from(side));
                                if row % u64::from(side) == column { f64::from(side) } else { 0.1 }
                            }
                        })
                        .collect();
                    tensor(dtype_of(sample, i, DType::F32), shape, &numbers)
                })
                .collect();
            let cancel = Cancel::default();
            let turns = Arc::new(Second { looks: AtomicUsize::new(0), cancel: cancel.clone() });
            let crew = Crew::new(1).unwrap();
            let context = Context { crew, cancel, turns: Some(turns) };
            let ledger = Ledger::new("test", 1 << 30);
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            seen += 1;
            match context.enter(|| exec::run(&ledger, op, &attrs, &inputs)) {
                Err(Error::Cancelled) => {}
                Err(error) => blind.push(format!("{}: {error}", op.name)),
                Ok(_) => blind.push(format!("{} of {shapes:?}", op.name)),
            }
        }
    }
    HURRY.set(false);
    assert!(seen > 100, "{seen}");
    assert!(blind.is_empty(), "{seen}, {}: {blind:#?}", blind.len());
}
