//! Kernels, one op at a time, in the engine without the network. `peers/with_torch.py` has the same rows.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use gradtape_engine::{
    array::Tensor,
    attrs::{Attr, Attrs},
    aval::Aval,
    command::{Command, Handle, Kind},
    compute::{Cancel, Context, Crew},
    dtype::DType,
    ledger::Ledger,
    op::OpDef,
    ops,
    session::Session,
};
use smallvec::smallvec;

use super::{Contender, Setting, numbers};
use crate::results::Values;

/// What a row costs at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Additions and multiplications, where they bound it.
    Arithmetic(f64),
    /// Bytes read and written, where they bound it.
    Memory(f64),
}

const COLUMNS: usize = 256;
const ROWS: [usize; 3] = [4, 256, 16_384];
/// Ops on matrices of rows and columns, and how many such matrices they read.
const MATRICES: [(&str, usize); 7] = [
    ("add", 2),
    ("exp", 1),
    ("tanh", 1),
    ("gelu", 1),
    ("reduce_sum", 1),
    ("softmax", 1),
    ("layer_normalization", 1),
];
const PRODUCTS: [usize; 3] = [64, 256, 1024];
/// Side, input and output channels; the batch is 64 and the filter 3x3.
const CONVOLUTIONS: [(usize, usize, usize); 2] = [(28, 1, 32), (14, 32, 64)];
const IMAGES: usize = 64;

/// An op that is measured.
struct Case {
    row: String,
    op: &'static str,
    inputs: Vec<Vec<usize>>,
    attributes: Vec<(String, Attr)>,
    work: Work,
}

/// What a row costs at least, if it is one of this sweep.
pub(crate) fn work(row: &str) -> Option<Work> {
    cases().into_iter().find(|case| case.row == row).map(|case| case.work)
}

/// The engine with all cores, as the server runs it.
pub(super) fn engine(setting: &Setting) -> Result<Contender> {
    let mut bench = Engine::new()?;
    let mut calls = Vec::new();
    let least = if setting.quick { 0.01 } else { 0.05 };
    for case in cases() {
        let prepared = bench.prepare(&case)?;
        bench.call(&prepared)?;
        // A few calls decide how many make up a sample.
        let start = Instant::now();
        for _ in 0..3 {
            bench.call(&prepared)?;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let count = (3.0 * least / start.elapsed().as_secs_f64()).max(1.0) as u32;
        calls.push((case.row, prepared, count));
    }
    let sample = move |_: &Setting| {
        let mut values = Values::new();
        for (row, prepared, count) in &calls {
            let start = Instant::now();
            for _ in 0..*count {
                bench.call(prepared)?;
            }
            values.insert(row.clone(), start.elapsed().as_secs_f64() / f64::from(*count));
        }
        Ok(values)
    };
    Ok(Contender::new("in process, all cores, dispatch and allocation included", sample))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (op, reads) in MATRICES {
        for rows in ROWS {
            let matrix = vec![rows, COLUMNS];
            let mut inputs = vec![matrix.clone(); reads];
            if op == "layer_normalization" {
                inputs.extend([vec![COLUMNS], vec![COLUMNS]]);
            }
            let writes = usize::from(op != "reduce_sum");
            let bytes = (reads + writes) * rows * COLUMNS * size_of::<f32>();
            cases.push(Case {
                row: format!("{op} {rows}x{COLUMNS}"),
                op,
                inputs,
                attributes: vec![],
                work: Work::Memory(bytes as f64),
            });
        }
    }
    for n in PRODUCTS {
        cases.push(Case {
            row: format!("matmul {n}x{n}"),
            op: "matmul",
            inputs: vec![vec![n, n]; 2],
            attributes: vec![],
            work: Work::Arithmetic((2 * n * n * n) as f64),
        });
    }
    for (side, inputs, outputs) in CONVOLUTIONS {
        let operations = 2 * IMAGES * side * side * 9 * inputs * outputs;
        cases.push(Case {
            row: format!("convolution {side}x{side}x{inputs} to {outputs}"),
            op: "convolution",
            inputs: vec![vec![IMAGES, side, side, inputs], vec![3, 3, inputs, outputs]],
            attributes: vec![("padding".to_owned(), Attr::Text("SAME".into()))],
            work: Work::Arithmetic(operations as f64),
        });
    }
    cases
}

/// A session of the engine.
struct Engine {
    session: Session,
    ledger: Arc<Ledger>,
    sequence: u64,
    next_handle: Handle,
    context: Context,
}

/// An op with its inputs in the session.
struct Prepared {
    op: &'static OpDef,
    attrs: Attrs,
    inputs: Vec<Handle>,
}

impl Engine {
    /// Where results go, one at a time.
    const OUTPUT: Handle = 1;

    fn new() -> Result<Self> {
        let ledger = Ledger::new("bench", 4 << 30);
        let session = Session::new(Arc::clone(&ledger));
        let crew = Crew::new(std::thread::available_parallelism()?.get())?;
        let context = Context { crew, cancel: Cancel::default(), turns: None };
        Ok(Self { session, ledger, sequence: 0, next_handle: Self::OUTPUT + 1, context })
    }

    fn apply(&mut self, kind: Kind) -> Result<()> {
        self.sequence += 1;
        let command = Command { kind, tag: "".into(), scope: 0, source: None };
        let Self { session, sequence, context, .. } = self;
        let outcome = context.enter(|| session.apply(*sequence, command));
        outcome.result.map_err(|failure| failure.error)?;
        Ok(())
    }

    fn prepare(&mut self, case: &Case) -> Result<Prepared> {
        let op = ops::find(case.op).with_context(|| format!("there is no op {}", case.op))?;
        let attrs = Attrs::check(op.attrs, case.attributes.clone())?;
        let mut inputs = Vec::new();
        for shape in &case.inputs {
            let extents = shape.iter().map(|&n| i64::try_from(n)).collect::<Result<Vec<_>, _>>()?;
            let data = numbers::uniform(1, &extents, 1.0);
            let aval = Aval::new(DType::F32, &shape[..]);
            let value = Tensor::from_bytes(&self.ledger, &aval, data.bytes())?;
            let output = self.next_handle;
            self.next_handle += 1;
            self.apply(Kind::Constant { output, value })?;
            inputs.push(output);
        }
        Ok(Prepared { op, attrs, inputs })
    }

    fn call(&mut self, prepared: &Prepared) -> Result<()> {
        let outputs = smallvec![Self::OUTPUT];
        let (op, attrs) = (prepared.op, prepared.attrs.clone());
        self.apply(Kind::Op { op, attrs, inputs: prepared.inputs[..].into(), outputs })?;
        self.apply(Kind::Release { handles: vec![Self::OUTPUT] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_called() {
        let mut engine = Engine::new().expect("an engine");
        for case in cases().into_iter().filter(|case| case.inputs[0][0] <= 256) {
            let prepared = engine.prepare(&case).expect(&case.row);
            engine.call(&prepared).expect(&case.row);
        }
    }

    /// 2 n³ for a product; a sum reads and an addition reads twice and writes.
    #[test]
    fn work_is_what_the_shapes_say() {
        assert_eq!(work("matmul 64x64"), Some(Work::Arithmetic(524_288.0)));
        assert_eq!(work("reduce_sum 4x256"), Some(Work::Memory(4096.0)));
        assert_eq!(work("add 4x256"), Some(Work::Memory(12288.0)));
        assert_eq!(work("peak memory"), None);
    }
}
